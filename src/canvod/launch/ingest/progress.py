"""Progress of an ingest on stderr: a bar on a terminal, else a line now and then."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Task as RichTask
from rich.text import Text

from canvod.launch.units import format_bytes

if TYPE_CHECKING:
    from types import TracebackType

FIRST_LINE_S = 2.0
LINE_INTERVAL_S = 10.0
SAMPLE_INTERVAL_S = 1.0

MemoryProbe = Callable[[], Mapping[str, int]]
"""Memory in bytes that each worker uses now."""


class IngestProgress:
    """Progress that says nothing: the base of those that do, and what a library user gets."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def watch(self, memory: MemoryProbe) -> None:
        """Show what the workers use, from now on."""

    def begin(self, title: str, total: int, unit: str) -> None:
        """Begin a phase of so many steps; the one before it is over."""

    def advance(self, steps: int = 1) -> None:
        """Count steps of the phase."""

    def say(self, text: str) -> None:
        """Show a line that stays."""

    def close(self) -> None:
        """Stop showing anything; may be called again."""


class _Sampled(IngestProgress):
    """Samples the workers' memory, and calls `_tick`, from a thread of its own."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._memory: MemoryProbe | None = None
        self._used_bytes = 0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="ingest-progress", daemon=True)
        self._thread.start()

    def watch(self, memory: MemoryProbe) -> None:
        self._memory = memory

    def _sample(self) -> None:
        while not self._stopped.wait(SAMPLE_INTERVAL_S):
            probe = self._memory
            if probe is not None:
                try:
                    self._used_bytes = sum(probe().values())
                except Exception:  # noqa: BLE001 - a figure for display; the run reports what is wrong
                    self._used_bytes = 0
            self._tick()

    def _tick(self) -> None:
        """Called after each sample."""

    def say(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        self._memory = None
        self._stopped.set()
        self._thread.join(timeout=SAMPLE_INTERVAL_S)


class TerminalProgress(_Sampled):
    """A bar with steps done, steps a second, the time that is left, and the memory of all workers."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description:<8}"),
            BarColumn(),
            MofNCompleteColumn(),
            _RateColumn(""),
            TimeRemainingColumn(),
            TextColumn("{task.fields[memory]}"),
            console=console,
            transient=True,
        )
        self._task: TaskID | None = None
        super().__init__(console)
        self._progress.start()

    def begin(self, title: str, total: int, unit: str) -> None:
        """Begin a phase; see `IngestProgress.begin`."""
        if self._task is not None:
            self._progress.remove_task(self._task)
        self._task = self._progress.add_task(title, total=total, unit=unit, memory=self._shown_memory())

    def advance(self, steps: int = 1) -> None:
        """Count steps of the phase."""
        if self._task is not None:
            self._progress.advance(self._task, steps)

    def _shown_memory(self) -> str:
        return f"workers {format_bytes(self._used_bytes)}" if self._used_bytes else ""

    def _tick(self) -> None:
        if self._task is not None:
            self._progress.update(self._task, memory=self._shown_memory())

    def close(self) -> None:
        """Stop showing anything; may be called again."""
        super().close()
        self._progress.stop()


class _RateColumn(TextColumn):
    def render(self, task: RichTask) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.1f} {task.fields['unit']}/s" if speed else "")


class LineProgress(_Sampled):
    """A plain line after the first 2 s of a phase and every 10 s from then on, for logs."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._title, self._unit, self._total, self._done = "", "", 0, 0
        self._started = clock()
        self._due = self._started + FIRST_LINE_S
        super().__init__(console)

    def begin(self, title: str, total: int, unit: str) -> None:
        """Begin a phase; see `IngestProgress.begin`."""
        self._title, self._total, self._unit, self._done = title, total, unit, 0
        self._started = self._clock()
        self._due = self._started + FIRST_LINE_S

    def advance(self, steps: int = 1) -> None:
        """Count steps of the phase."""
        self._done += steps

    def _tick(self) -> None:
        now = self._clock()
        if self._done < self._total and now >= self._due:
            self._due = now + LINE_INTERVAL_S
            self.say(self.line())

    def line(self) -> str:
        """The state of the phase in one line."""
        elapsed = self._clock() - self._started
        text = f"{self._title}: {self._done}/{self._total} {self._unit}"
        if self._done and elapsed > 0:
            rate = self._done / elapsed
            text += f", {rate:.1f} {self._unit}/s, {(self._total - self._done) / rate:.0f} s left"
        if self._used_bytes:
            text += f", workers use {format_bytes(self._used_bytes)}"
        return text


def make_progress(console: Console | None = None) -> IngestProgress:
    """Progress on stderr, as fits it.

    Parameters
    ----------
    console : rich.console.Console, optional
        Where to show it; stderr by default.
    """
    console = console if console is not None else Console(stderr=True)
    return TerminalProgress(console) if console.is_terminal else LineProgress(console)
