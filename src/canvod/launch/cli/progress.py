"""A progress bar for commands that may take long."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

AFTER_S = 2.0
"""The bar appears when the work takes longer than this."""


@contextmanager
def delayed_bar(title: str, unit: str) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar on a terminal's standard error once the work takes longer than two seconds.

    Parameters
    ----------
    title : str
        What is done.
    unit : str
        What is counted, in the plural.

    Yields
    ------
    callable
        To be told how many are done, and how many there are.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    bar = Progress(
        TextColumn(title),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    task = bar.add_task(title, total=None)
    began = time.monotonic()

    def advance(done: int, total: int) -> None:
        bar.update(task, completed=done, total=total)
        if time.monotonic() - began > AFTER_S:
            bar.start()

    try:
        yield advance
    finally:
        bar.stop()
