"""Progress of an ingest on standard error: on a terminal, and where there is none."""

from __future__ import annotations

import io
import logging
import re
import sys
from contextlib import closing

import pytest
import structlog

from canvod.launch.cli import progress_bars as module
from canvod.launch.cli.console import messages
from canvod.launch.cli.progress_bars import IngestDisplay, show_build
from canvod.launch.images.build_log import BuildEvent
from canvod.launch.logs import configure_logging, get_logger
from eventually import eventually


class Clock:
    """A clock that shows what it was set to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def samples_on_demand(monkeypatch: pytest.MonkeyPatch):
    """The test takes the samples, and the console is its own."""
    monkeypatch.setattr(module, "SAMPLE_INTERVAL_S", 3600.0)
    messages.cache_clear()
    yield
    messages.cache_clear()


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]):
    """Return a function that gives the lines written to standard error since it was last called."""

    def lines() -> list[str]:
        return capsys.readouterr().err.splitlines()

    return lines


def test_a_log_has_a_line_for_each_twentieth_of_the_files(said) -> None:
    """The first after five seconds, then at most one in five seconds and at least one a minute."""
    clock = Clock()
    with closing(IngestDisplay(clock)) as progress:

        def at(second: float, done: float) -> list[str]:
            clock.now = second
            for _ in range(int(done - sum(task.completed for task in progress._bar.tasks))):
                progress.advance()
            progress._refresh()
            return said()

        assert at(5, 0) == []  # nothing has begun
        progress.begin(1000)
        assert at(9.9, 40) == []
        assert at(10, 40) == ["reading: 40/1000 files, 8.0 files/s, 120 s left"]
        assert at(14.9, 900) == []
        assert at(15, 900) == ["reading: 900/1000 files, 90.0 files/s, 1 s left"]
        assert at(74.9, 949) == []
        assert len(at(75, 949)) == 1
        assert len(at(80, 999)) == 1
        assert at(200, 1000) == []


def test_thousands_of_files_that_fail_do_not_fill_a_log(said) -> None:
    """One is named every five seconds, all are counted; the report has the others."""
    clock = Clock()
    with closing(IngestDisplay(clock)) as progress:
        progress.begin(5000)
        for number in range(1000):
            clock.now = number / 100
            progress.fail(f"/data/{number}.rnx", "no epochs")
            progress.advance()
        assert said() == ["failed: /data/0.rnx: no epochs", "failed: /data/500.rnx: no epochs"]
        progress._refresh()
        assert said() == ["reading: 1000/5000 files, 100.1 files/s, 40 s left, 1000 failed"]


def test_days_that_are_stored_are_told(said) -> None:
    """Of those that files are known to have."""
    clock = Clock()
    with closing(IngestDisplay(clock)) as progress:
        progress.begin(96)
        progress.days(0, 1)
        clock.now = 5
        progress._refresh()
        assert said() == ["reading: 0/96 files, 0 of 1 day stored"]
        progress.days(3, 12)
        assert progress._extras() == "3 of 12 days stored"


def test_memory_of_the_workers_is_shown_where_it_can_be_had(said, monkeypatch) -> None:
    """A cluster that does not answer costs the figure, and nothing else."""
    monkeypatch.setattr(module, "SAMPLE_INTERVAL_S", 0.001)

    def refuse():
        raise OSError

    with closing(IngestDisplay(Clock())) as progress:
        for probe, limit, told in (
            (lambda: {"a": 2**30, "b": 2**31}, None, "workers use up to 2 GiB"),
            (lambda: {"a": 2**30, "b": 2**29}, 2**32, "workers use up to 1 GiB of 4 GiB"),
            (refuse, 2**32, ""),
        ):
            progress.watch(probe, limit)
            assert eventually(lambda told=told: progress._extras() == told)
    assert said() == []


def test_a_log_gets_a_line_for_each_step_of_a_build(said) -> None:
    """Where no terminal is, steps appear once, and the many lines within a step do not."""
    with show_build() as progress:
        progress(BuildEvent("w", "Step 1/2 : RUN a", 1, 2))
        for _ in range(50):
            progress(BuildEvent("w", "noise", 1, 2))
        progress(BuildEvent("w", "Step 2/2 : RUN b", 2, 2))
    assert said() == ["w: step 1 of 2: RUN a", "w: step 2 of 2: RUN b"]
    with show_build(quiet=True) as progress:
        progress(BuildEvent("w", "Step 1/2 : RUN a", 1, 2))
    assert said() == []


def test_a_terminal_gets_a_bar_for_each_image_that_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is removed at the end, and nothing is shown where nothing is built."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with show_build():
        pass
    assert terminal.getvalue() == ""
    with show_build() as progress:
        progress(BuildEvent("worker", "[not markup]", 1, 2))
    assert "worker" in terminal.getvalue()
    assert "[not markup]" in terminal.getvalue()
    assert terminal.getvalue().endswith("\x1b[2K")


@pytest.fixture
def logging_as_before():
    """Undo what a command sets up for the log of its process."""
    root, ours = logging.getLogger(), logging.getLogger("canvod")
    handlers, level = root.handlers[:], ours.level
    yield
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()
    root.handlers[:] = handlers
    ours.setLevel(level)


@pytest.mark.usefixtures("logging_as_before")
def test_log_lines_do_not_break_into_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is on a line of its own, above the bar, which is removed at the end."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    configure_logging("json", "info")
    with closing(IngestDisplay()) as progress:
        progress.begin(10)
        progress._bar.refresh()
        get_logger("canvod.launch").warning("from_structlog")
        logging.getLogger("distributed").warning("from a library")
        progress.fail("/data/a.rnx", "no epochs")
        progress._refresh()
    shown = terminal.getvalue()
    assert "━" in shown
    assert "1 failed" in shown
    # What a terminal puts on one line lies between line feeds and the sequences that erase a line.
    pieces = [re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", piece) for piece in re.split(r"\n|\x1b\[2K", shown)]
    for text in ("from_structlog", "from a library", "failed: /data/a.rnx: no epochs"):
        (line,) = (piece.strip() for piece in pieces if text in piece)
        assert line.startswith("{")
        assert line.endswith("}")
    assert shown.endswith("\x1b[2K")
