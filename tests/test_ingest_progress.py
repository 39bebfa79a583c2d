"""Progress of an ingest where there is no terminal."""

from __future__ import annotations

from io import StringIO
from typing import TYPE_CHECKING

from rich.console import Console

from canvod.launch.ingest import progress as module
from canvod.launch.ingest.progress import LineProgress

if TYPE_CHECKING:
    import pytest


class Clock:
    """A clock that stands until it is set."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_log_gets_a_line_after_two_seconds_and_then_every_ten(monkeypatch: pytest.MonkeyPatch) -> None:
    """And none of what takes no longer, or is over."""
    monkeypatch.setattr(module, "SAMPLE_INTERVAL_S", 3600.0)  # the test takes the samples
    clock, out = Clock(), StringIO()
    with LineProgress(Console(file=out, width=200), clock) as progress:

        def lines_at(second: float) -> list[str]:
            clock.now = second
            progress._tick()
            said = out.getvalue().splitlines()
            out.seek(out.truncate(0))
            return said

        assert lines_at(5) == []  # no phase yet
        progress.begin("reading", 10, "files")
        assert lines_at(6.9) == []
        progress.advance(4)
        assert lines_at(7) == ["reading: 4/10 files, 2.0 files/s, 3 s left"]
        assert lines_at(16.9) == []
        assert lines_at(17) == ["reading: 4/10 files, 0.3 files/s, 18 s left"]
        progress.begin("writing", 3, "chunks")
        assert lines_at(18) == []
        assert lines_at(19) == ["writing: 0/3 chunks"]
        progress.advance(3)
        assert lines_at(60) == []
