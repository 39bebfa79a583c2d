"""What a command writes: its result on standard output, everything else on standard error."""

from __future__ import annotations

import json
import logging
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

UNFOLDED_WIDTH = 10_000
"""Columns for text that is not to be folded."""

NOTHING = "-"
"""What a table shows for no value."""


@cache
def messages() -> Console:
    """Give the console of all messages: one for all of them, so that none breaks into a progress bar.

    Returns
    -------
    rich.console.Console
        It writes to standard error.
    """
    return Console(stderr=True, soft_wrap=True, highlight=False)


def results() -> Console:
    """Make a console for the result of a command.

    Returns
    -------
    rich.console.Console
        It writes to standard output.
    """
    return Console(highlight=False)


def tell(
    event: str,
    text: Text | None = None,
    *,
    level: Literal["info", "warning", "error"] = "info",
    **fields: Any,
) -> None:
    """Write a message on standard error: text for people, or a line of the log where the log is JSON.

    Parameters
    ----------
    event : str
        The message.
    text : rich.text.Text, optional
        The message for people, where that is more.
    level : {"info", "warning", "error"}, default: "info"
        Its level in the log.
    **fields : Any
        What else the line of a log has.
    """
    if any(getattr(handler, "writes_json", False) for handler in logging.getLogger().handlers):
        from canvod.launch.logs import get_logger

        getattr(get_logger("canvod.launch"), level)(event, **fields)
    else:
        messages().print(text or Text(event))


def say(text: str) -> None:
    """Write a step of the work on standard error, dimmed.

    Parameters
    ----------
    text : str
        A line; its first letter becomes a capital.
    """
    tell(text, Text(text[:1].upper() + text[1:], style="dim"))


def warn(text: str) -> None:
    """Write a warning on standard error.

    Parameters
    ----------
    text : str
        The warning.
    """
    tell(text, Text.assemble(("warning: ", "bold yellow"), text), level="warning")


def print_json(values: Any) -> None:
    """Print plain values as JSON on standard output.

    Parameters
    ----------
    values : Any
        What JSON can hold.
    """
    typer.echo(json.dumps(values, indent=2))


def print_result(values: Any, text: RenderableType, *, as_json: bool, fold: bool = True) -> None:
    """Print the result of a command.

    Parameters
    ----------
    values : Any
        It as plain values.
    text : rich renderable
        It for people; a string is printed as it is.
    as_json : bool
        Print JSON instead of text.
    fold : bool, default: True
        Fold what is wider than the terminal; else it stays in one line, so that it can be copied.
    """
    if as_json:
        print_json(values)
    elif isinstance(text, str):
        typer.echo(text)
    else:
        console = results() if fold else Console(highlight=False, width=UNFOLDED_WIDTH)
        console.print(text)


def make_table(
    texts: Sequence[str], figures: Sequence[str], rows: Sequence[Sequence[str]] = (), title: str | None = None
) -> Table:
    """Make a table: texts on the left, which are folded where they are too long, and figures on the right.

    Parameters
    ----------
    texts, figures : sequence of str
        Headings of the columns.
    rows : sequence of sequence of str
        Cells; an empty one is shown as ``-``.
    title : str, optional
        Stands above the table.

    Returns
    -------
    rich.table.Table
        The table, to which rows can be added.
    """
    table = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        show_edge=False,
    )
    for heading in texts:
        table.add_column(heading, overflow="fold")
    for heading in figures:
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*(cell or NOTHING for cell in row))
    return table
