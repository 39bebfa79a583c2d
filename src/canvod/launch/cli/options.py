"""Options that several commands share, and the shape of their help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        metavar="FILE",
        help="Settings file; else ./config/processing.yaml where it is there.",
        show_default=False,
    ),
]
"""The settings file of a command."""

JsonOption = Annotated[
    bool, typer.Option("--json", help="Print JSON on standard output, also of an error.", show_default=False)
]
"""JSON instead of text for people."""


def lines(*texts: str) -> str:
    """Text for an ``epilog`` whose lines stay lines.

    Parameters
    ----------
    *texts : str
        Lines, with rich's markup.

    Returns
    -------
    str
        The text; spaces at the beginning of a line are kept.
    """
    return "\n".join(texts)


def examples(*commands: str) -> str:
    """Examples for the ``epilog`` of a command.

    Parameters
    ----------
    *commands : str
        Command lines without prompt.

    Returns
    -------
    str
        The heading and one line for each.

    Examples
    --------
    >>> examples("canvod-launch plan").splitlines()
    ['[bold]Examples[/]', '$ canvod-launch plan']
    """
    return lines("[bold]Examples[/]", *(f"$ {command}".replace("[", "\\[") for command in commands))
