"""What a command writes: its result on standard output, everything else on standard error."""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console


@cache
def messages() -> Console:
    """Return the console of all messages: one for all of them, so that none breaks into a progress bar."""
    from rich.console import Console

    return Console(stderr=True, soft_wrap=True, highlight=False)


def results() -> Console:
    """Return a console for the result of a command, on standard output."""
    from rich.console import Console

    return Console(highlight=False)


def say(text: str) -> None:
    """Write a step of the work on standard error, dimmed.

    Parameters
    ----------
    text : str
        A line; its first letter becomes a capital.
    """
    from rich.text import Text

    messages().print(Text(text[:1].upper() + text[1:], style="dim"))


def warn(text: str) -> None:
    """Write a warning on standard error.

    Parameters
    ----------
    text : str
        The warning.
    """
    from rich.text import Text

    messages().print(Text.assemble(("warning: ", "bold yellow"), text))


def print_json(values: Any) -> None:
    """Print the result of a command as JSON.

    Parameters
    ----------
    values : Any
        Plain values.
    """
    typer.echo(json.dumps(values, indent=2))
