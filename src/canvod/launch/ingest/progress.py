"""What an ingest tells about its progress while it runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping

MemoryProbe = Callable[[], Mapping[str, int]]
"""Gives the memory in bytes that each worker uses now."""


class IngestProgress:
    """Is called as an ingest goes on, and ignores it all: derive from it to show something."""

    def watch(self, memory: MemoryProbe, limit_bytes: int | None) -> None:
        """Take what gives the workers' memory from now on.

        Parameters
        ----------
        memory : callable
            Gives bytes by the name of a worker; may be called from any thread.
        limit_bytes : int or None
            Memory that each worker may use; None where there is no limit.
        """

    def begin(self, files: int) -> None:
        """Begin to read.

        Parameters
        ----------
        files : int
            How many are not known already.
        """

    def advance(self) -> None:
        """Count a file that was read, or that failed."""

    def days(self, stored: int, found: int) -> None:
        """Tell how many days are stored.

        Parameters
        ----------
        stored : int
            Days whose files are committed.
        found : int
            Days that files are known to have.
        """

    def say(self, text: str) -> None:
        """Tell something that happens rarely.

        Parameters
        ----------
        text : str
            One line.
        """

    def fail(self, path: str, reason: str) -> None:
        """Tell that a file cannot be stored; there may be thousands, and the report names each.

        Parameters
        ----------
        path : str
            The file.
        reason : str
            Why, in one line.
        """

    def close(self) -> None:
        """End; may be called again."""
