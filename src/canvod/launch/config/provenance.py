"""Where each value of the settings came from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

OriginKind = Literal["default", "file", "environment", "override", "value"]
"""A default, a line of a file, an environment variable, an option of a command, a value given in Python."""


@dataclass(frozen=True)
class Origin:
    """Where one value came from.

    Parameters
    ----------
    kind : {"default", "file", "environment", "override", "value"}
        The kind of place.
    place : str, optional
        ``file:line``, ``environment variable NAME`` or the like; None for a default.
    given : str, optional
        The value as it was written there.
    file : str, optional
        The file, as the caller named it.
    line : int, optional
        Line of the file, counted from 1.
    """

    kind: OriginKind
    place: str | None = None
    given: str | None = None
    file: str | None = None
    line: int | None = None

    def __str__(self) -> str:
        return self.place or "default"


DEFAULT = Origin("default")
"""The origin of a value that nobody gave."""


@dataclass(frozen=True)
class Provenance:
    """Origins by dotted field (``processing.cpu_affinity``, ``launch.read_only.0``).

    Two provenances always compare equal: settings are equal when their values are, wherever they came from.
    """

    origins: Mapping[str, Origin] = field(default_factory=dict, compare=False)
    source: str | None = field(default=None, compare=False)
    """The file that was read, as the caller named it; None without one."""
    notes: tuple[str, ...] = field(default=(), compare=False)
    """Warnings that arose while reading."""

    def of(self, name: str) -> Origin:
        """Origin of a field, or of the nearest part above it that was given.

        Parameters
        ----------
        name : str
            Dotted field.

        Returns
        -------
        Origin
            :data:`DEFAULT` where nothing was given. A section's own line is never taken for its fields.
        """
        parts = name.split(".")
        for length in range(len(parts), 1, -1):
            found = self.origins.get(".".join(parts[:length]))
            if found is not None:
                return found
        return DEFAULT
