"""What an ingest tells about its progress while it runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping

MemoryProbe = Callable[[], Mapping[str, int]]
"""Gives the memory in bytes that each worker uses now."""


class IngestProgress:
    """Is called as an ingest goes on, and ignores it all: derive from it to show something."""

    def watch(self, memory: MemoryProbe) -> None:
        """Take what gives the workers' memory from now on; it may be called from any thread."""

    def begin(self, title: str, total: int, unit: str) -> None:
        """Begin a phase of so many steps; the one before it has ended."""

    def advance(self, steps: int = 1) -> None:
        """Count steps of the phase."""

    def say(self, text: str) -> None:
        """Tell something that happens rarely."""

    def fail(self, path: str, reason: str) -> None:
        """Tell that a file cannot be stored; there may be thousands, and the report names each."""

    def close(self) -> None:
        """End; may be called again."""
