"""What a reader gives back, how it refuses, and the interface that every reader has."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

VARIABLES: Final[Mapping[str, npt.DTypeLike]] = MappingProxyType(
    {"SNR": np.float32, "Pseudorange": np.float64, "Phase": np.float64, "Doppler": np.float32}
)
"""The variables that can be read, with the dtypes in which they are kept."""


class UnreadableFileError(Exception):
    """A file that cannot be read, with the reason in one line.

    The reason is the only argument, so that the error crosses processes of different Python versions.

    Parameters
    ----------
    reason : str
        What is wrong with the file: the line where it is known, what was expected and what was found.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class NoReaderError(Exception):
    """The reader that was asked for is not installed, or fails to import; the message says what to do."""


@dataclass(frozen=True, eq=False)
class Observations:
    """The observations of one file.

    Attributes
    ----------
    epoch : numpy.ndarray
        Shape (n_epoch,), int64: nanoseconds since 1970-01-01 in GPS time, strictly increasing.
    sid : tuple of str
        Signals ``sv|band|code`` (``C02|B1I|I``), sorted; each has a finite value of at least one variable.
    variables : dict of str to numpy.ndarray
        Shape (n_epoch, n_sid) each, of the dtypes in `VARIABLES`; SNR in dB-Hz, Pseudorange in m, Phase in
        cycles, Doppler in Hz; NaN where there is no observation.
    station : str
        Name of the station as the file has it (MARKER NAME of RINEX); empty where it has none.
    notes : tuple of str
        What was left out of the file although it was read, each kind with its count and its first line.
    digest : str or None
        SHA-256 of the file's bytes in hexadecimal digits, where the reader has taken it while it read.
    """

    epoch: npt.NDArray[np.int64]
    sid: tuple[str, ...]
    variables: dict[str, npt.NDArray[np.floating[Any]]]
    station: str = ""
    notes: tuple[str, ...] = ()
    digest: str | None = None


class Reader(Protocol):
    """Reads one observation file; a function of this signature is a reader.

    A package offers one by an entry point of the group ``canvod.launch.readers``; its name is then a value of
    ``ingest.reader``. It is called in worker processes, in any thread, and writes nothing to standard output.
    """

    def __call__(self, path: str, variables: Sequence[str], /) -> Observations:
        """Read a file.

        Parameters
        ----------
        path : str
            The file.
        variables : sequence of str
            What to read: one or more of `VARIABLES`.

        Returns
        -------
        Observations
            With each of the variables, NaN throughout where the file does not have it.

        Raises
        ------
        UnreadableFileError
            If nothing of the file can be used, with the reason in one line.
        OSError
            If the file cannot be opened or read.
        """
        ...


def one_line(text: str, limit: int = 200) -> str:
    """Return a text on one line of printable characters.

    Parameters
    ----------
    text : str
        Any text, such as a part of a file.
    limit : int
        Length in characters beyond which it is cut, and ended by ``...``.

    Returns
    -------
    str
        The text, with one blank for each run of blanks, line ends and characters that cannot be printed.
    """
    flat = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return flat if len(flat) <= limit else flat[: limit - 3] + "..."
