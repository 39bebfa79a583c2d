"""Draw how the making of an image goes on."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from canvod.launch.images.build_log import StepLines

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from canvod.launch.images.build_log import BuildEvent
    from canvod.launch.images.build_log import Progress as Callback


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
    >>> from canvod.launch.images.build_log import BuildEvent
    >>> with shown(Console(width=60)) as progress:
    ...     progress(BuildEvent("worker", "Step 1/2 : FROM base", 1, 2))
    worker: step 1 of 2: FROM base
    """
    if not console.is_terminal:
        yield StepLines(lambda line: console.print(Text(line), soft_wrap=True))
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
            # The bar counts the steps that are done, and this one has only begun.
            done = event.step - 1 if event.step is not None else None
            width = max(console.width - len(event.image) - 40, 10)
            bar.update(tasks[event.image], total=event.steps, completed=done, line=event.line[:width])

        yield update
