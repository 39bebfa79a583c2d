"""What an ingest tells about its progress while it runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping

MemoryProbe = Callable[[], Mapping[str, int]]
"""Gives the memory in bytes that each worker uses now."""


class IngestProgress:
    """Is called as an ingest goes on, and ignores it all: derive from it to show something."""

    def watch(self, memory: MemoryProbe) -> None:
        """Take what gives the workers' memory from now on.

        Parameters
        ----------
        memory : callable
            Gives bytes by the name of a worker; may be called from any thread.
        """

    def begin(self, title: str, total: int, unit: str) -> None:
        """Begin a phase; the one before it has ended.

        Parameters
        ----------
        title : str
            What is done, such as ``storing``.
        total : int
            Number of its steps.
        unit : str
            What is counted, such as ``files``.
        """

    def advance(self, steps: int = 1) -> None:
        """Count steps of the phase.

        Parameters
        ----------
        steps : int
            How many more are done.
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
