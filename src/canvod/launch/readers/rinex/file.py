"""One RINEX observation file as arrays."""

from __future__ import annotations

from collections.abc import Sequence

from canvod.launch.readers.observations import Observations, UnreadableFileError


def read(path: str, variables: Sequence[str], /) -> Observations:
    """Read a RINEX observation file; see `canvod.launch.readers.Reader`."""
    raise UnreadableFileError(f"{path}: not yet {variables}")
