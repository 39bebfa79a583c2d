"""Options that several commands share, and the shape of their help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

DEFAULT_NAME: Final = "canvod"
"""Name of a detached cluster that was given none."""

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

BackendOption = Annotated[
    str | None,
    typer.Option(metavar="auto|docker|process", help="Containers or processes.", show_default=False),
]
"""What carries a new cluster out."""

WorkersOption = Annotated[
    int | None,
    typer.Option(metavar="N", help="Number of workers; makes the mode manual.", show_default=False),
]
"""How many workers a new cluster has."""

ReadOnlyOption = Annotated[
    list[Path] | None,
    typer.Option(metavar="PATH", help="Path that workers may read; may be repeated.", show_default=False),
]
"""What the workers of a new cluster see."""

WritableOption = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="PATH", help="Path that workers may read and write; may be repeated.", show_default=False
    ),
]
"""What the workers of a new cluster see and change."""

IdleTimeoutOption = Annotated[
    float | None,
    typer.Option(
        metavar="SECONDS", min=1, help="End after so long without a task; else never.", show_default=False
    ),
]
"""How long a detached cluster may have nothing to do."""

JsonOption = Annotated[
    bool, typer.Option("--json", help="Print JSON on standard output, also of an error.", show_default=False)
]
"""JSON instead of text for people."""

NameOption = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="The cluster; else the only one that stands.", show_default=False),
]
"""The detached cluster of a command."""

NameArgument = Annotated[
    str | None,
    typer.Argument(metavar="[NAME]", help="The cluster; else the only one that stands.", show_default=False),
]
"""The same, behind the command."""


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
