"""Progress on standard error: bars on a terminal, else single lines."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, override

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from canvod.launch.cli.console import messages, tell
from canvod.launch.images.build_log import StepLines
from canvod.launch.ingest.progress import IngestProgress
from canvod.launch.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from canvod.launch.images.build_log import BuildEvent
    from canvod.launch.images.build_log import Progress as BuildProgress
    from canvod.launch.ingest.progress import MemoryProbe

BAR_AFTER_S: Final = 2.0
"""The bar of `delayed_bar` appears when the work takes longer than this."""

SAMPLE_INTERVAL_S: Final = 1.0
"""How often the workers' memory is asked for."""

LINE_INTERVAL_S: Final = 5.0
"""Least time between two lines about a phase, or about files that failed."""
LINE_SHARE: Final = 0.05
"""Least part of a phase between two lines."""
LONGEST_SILENCE_S: Final = 60.0
"""After this time there is a line, however little was done."""


@contextmanager
def show_build(*, quiet: bool = False) -> Iterator[BuildProgress]:
    """Show how images are built: bars on a terminal from the first step on, else a line for each step.

    Parameters
    ----------
    quiet : bool, default: False
        Show nothing.

    Yields
    ------
    callable
        To be called with each event of a build.
    """
    if quiet:
        yield lambda _event: None
        return
    if not messages().is_interactive:
        yield StepLines(tell)
        return
    bars = _bars(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        TimeElapsedColumn(),
        TextColumn("{task.fields[line]}", style="dim", markup=False),
    )
    tasks: dict[str, TaskID] = {}

    def update(event: BuildEvent) -> None:
        if event.image not in tasks:
            tasks[event.image] = bars.add_task(event.image, total=None, line="")
            bars.start()
        # The bar counts the steps that are done, and this one has only begun.
        done = event.step - 1 if event.step is not None else None
        width = max(messages().width - len(event.image) - 40, 10)
        bars.update(tasks[event.image], total=event.steps, completed=done, line=event.line[:width])

    try:
        yield update
    finally:
        bars.stop()


@contextmanager
def delayed_bar(title: str, unit: str) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar on a terminal once the work takes longer than two seconds.

    Parameters
    ----------
    title : str
        What is done.
    unit : str
        What is counted, in the plural.

    Yields
    ------
    callable
        To be called with how many are done, and how many there are.
    """
    bar = _bar()
    task = bar.add_task(title, total=None, unit=unit, extras="")
    began = time.monotonic()

    def advance(done: int, total: int) -> None:
        bar.update(task, completed=done, total=total)
        if time.monotonic() - began > BAR_AFTER_S:
            bar.start()

    try:
        yield advance
    finally:
        bar.stop()


class IngestDisplay(IngestProgress):
    """Shows an ingest, until it is closed.

    A terminal has a bar with files that were read, their rate, the time that is left, days that are stored,
    files that failed, and the memory of the fullest worker; log lines are written above it. Elsewhere the
    same is a line after 5 s, and then for each 5 % of the files: at most every 5 s, at least every minute.

    Parameters
    ----------
    clock : callable, optional
        Gives a time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._bar = _bar(clock)
        self._task = self._bar.add_task("reading", total=None, unit="", extras="", visible=False)
        self._memory: MemoryProbe | None = None
        self._used_bytes = 0
        self._limit_bytes: int | None = None
        self._days = ""
        self._failed = 0
        self._next_failure_s = 0.0
        self._line_s, self._line_done = 0.0, 0.0
        self._stopped = threading.Event()
        # Not in the thread that draws: it would hold up every log line while the cluster does not answer.
        self._thread = threading.Thread(target=self._sample, name="ingest-progress", daemon=True)
        self._thread.start()
        self._bar.start()

    @override
    def watch(self, memory: MemoryProbe, limit_bytes: int | None) -> None:
        self._memory, self._limit_bytes = memory, limit_bytes

    @override
    def begin(self, files: int) -> None:
        self._line_s, self._line_done = self._clock(), 0.0
        self._bar.reset(self._task, total=files, visible=True, unit="files", extras=self._extras())

    @override
    def advance(self) -> None:
        self._bar.advance(self._task)

    @override
    def days(self, stored: int, found: int) -> None:
        self._days = f"{stored} of {found} day{'s' if found != 1 else ''} stored"

    @override
    def say(self, text: str) -> None:
        tell(text)

    @override
    def fail(self, path: str, reason: str) -> None:
        self._failed += 1
        if (now := self._clock()) >= self._next_failure_s:
            self._next_failure_s = now + LINE_INTERVAL_S
            tell(f"failed: {path}: {reason}", level="warning")

    @override
    def close(self) -> None:
        self._memory = None
        self._stopped.set()
        self._thread.join(timeout=SAMPLE_INTERVAL_S)
        self._bar.stop()

    def _sample(self) -> None:
        while not self._stopped.wait(SAMPLE_INTERVAL_S):
            if (probe := self._memory) is not None:
                try:
                    self._used_bytes = max(probe().values(), default=0)
                except Exception:  # noqa: BLE001 - a figure for display; the run reports what is wrong
                    self._used_bytes = 0
            self._refresh()

    def _refresh(self) -> None:
        self._bar.update(self._task, extras=self._extras())
        (task,) = self._bar.tasks
        if self._bar.disable and task.visible and not task.finished:
            self._write_line(task)

    def _extras(self) -> str:
        """Days that are stored, files that failed, and memory, in words."""
        failed = f"{self._failed} failed" if self._failed else ""
        limit = f" of {format_bytes(self._limit_bytes)}" if self._limit_bytes else ""
        memory = f"workers use up to {format_bytes(self._used_bytes)}{limit}" if self._used_bytes else ""
        return ", ".join(filter(None, (self._days, failed, memory)))

    def _write_line(self, task: Task) -> None:
        """Write how far a phase is, where that is due."""
        total, elapsed_s = task.total or 0.0, task.elapsed or 0.0
        silence_s = self._clock() - self._line_s
        is_first = silence_s >= elapsed_s
        due = is_first or task.completed - self._line_done >= LINE_SHARE * total
        if silence_s < (LINE_INTERVAL_S if due else LONGEST_SILENCE_S):
            return
        self._line_s, self._line_done = self._clock(), task.completed
        unit = task.fields["unit"]
        parts = [f"{task.description}: {task.completed:.0f}/{total:.0f} {unit}"]
        if task.completed:
            rate = task.completed / elapsed_s
            parts += [f"{rate:.1f} {unit}/s", f"{(total - task.completed) / rate:.0f} s left"]
        self.say(", ".join(filter(None, (*parts, self._extras()))))


class _RateColumn(TextColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.1f} {task.fields['unit']}/s" if speed else task.fields["unit"])


def _bar(clock: Callable[[], float] = time.monotonic) -> Progress:
    return _bars(
        TextColumn("{task.description:<8}"),
        BarColumn(),
        MofNCompleteColumn(),
        _RateColumn(""),
        TimeRemainingColumn(),
        TextColumn("{task.fields[extras]}"),
        get_time=clock,
    )


def _bars(*columns: ProgressColumn, **options: Any) -> Progress:
    """Make bars that log lines do not break, and that go at their end; only a terminal shows them."""
    # Standard output may lead elsewhere than the terminal that has the bars.
    return Progress(
        *columns,
        console=messages(),
        transient=True,
        redirect_stdout=False,
        disable=not messages().is_interactive,
        **options,
    )
