"""Show people how the making of an image goes on."""

from __future__ import annotations

import textwrap
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from canvod.launch.images.build_events import BuildEvent
    from canvod.launch.images.build_events import Progress as Callback

QUIET_S = 15.0
"""Seconds between two lines where no terminal shows every one, so that a log stays short and yet alive."""

WIDTH = 120
"""Characters of a line that a log shows; a step's instruction may be a whole script."""


@contextmanager
def shown(console: Console) -> Iterator[Callback]:
    """Show the events of a build on a console.

    Parameters
    ----------
    console : rich.console.Console
        Where to: a terminal gets a bar that vanishes at the end, anything else a line for each step.

    Yields
    ------
    callable
        What to hand to a function as its `progress`.

    Examples
    --------
    >>> from rich.console import Console
    >>> from canvod.launch.images.build_events import BuildEvent
    >>> with shown(Console(width=60)) as progress:
    ...     progress(BuildEvent("worker", "Step 1/2 : FROM base", 1, 2))
    worker: step 1 of 2: FROM base
    """
    if not console.is_terminal:
        yield _Lines(console)
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        TimeElapsedColumn(),
        TextColumn("{task.fields[line]}", style="dim", markup=False),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        tasks: dict[str, TaskID] = {}

        def update(event: BuildEvent) -> None:
            if event.image not in tasks:
                tasks[event.image] = bar.add_task(event.image, total=None, line="")
            # The bar counts what is done, and the step in the news has only begun.
            done = event.step - 1 if event.step is not None else None
            width = max(console.width - len(event.image) - 40, 10)
            bar.update(tasks[event.image], total=event.steps, completed=done, line=event.line[:width])

        yield update


class _Lines:
    """One line for each step, and one now and then while a step takes long."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._step: tuple[str, int | None] | None = None
        self._last = 0.0

    def __call__(self, event: BuildEvent) -> None:
        step = (event.image, event.step)
        now = time.monotonic()
        if step == self._step and now - self._last < QUIET_S:
            return
        if step != self._step and event.step is not None:
            text = f"step {event.step} of {event.steps}: {event.line.partition(' : ')[2] or event.line}"
        else:
            text = event.line
        self._step, self._last = step, now
        short = textwrap.shorten(text, WIDTH, placeholder=" …")
        self._console.print(Text(f"{event.image}: {short}"), soft_wrap=True)
