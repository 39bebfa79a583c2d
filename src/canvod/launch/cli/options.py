"""Options that several commands share."""

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
    ),
]
"""The settings file of a command."""

BackendOption = Annotated[
    str | None,
    typer.Option(metavar="auto|docker|process", help="Containers or processes."),
]
"""What a new cluster is made of."""

WorkersOption = Annotated[
    int | None,
    typer.Option(metavar="N", help="Number of workers; makes the mode manual."),
]
"""How many workers a new cluster has."""

MemoryOption = Annotated[
    float | None,
    typer.Option(
        metavar="GIB",
        help="Memory limit of all workers together, in GiB (processing.max_memory_gb).",
    ),
]
"""How much memory the workers of a new cluster may use."""

ReadOnlyOption = Annotated[
    list[Path] | None,
    typer.Option(metavar="PATH", help="Path that workers may read; may be repeated."),
]
"""What the workers of a new cluster see."""

WritableOption = Annotated[
    list[Path] | None,
    typer.Option(metavar="PATH", help="Path that workers may read and write; may be repeated."),
]
"""What the workers of a new cluster see and change."""

IdleTimeoutOption = Annotated[
    float | None,
    typer.Option(metavar="SECONDS", min=1, help="Stop after so long without a task; else never."),
]
"""How long a detached cluster may have nothing to do."""

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on standard output, also of an error.")]
"""JSON instead of text for people."""

NameOption = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Name of the cluster; else your only one."),
]
"""The detached cluster of a command."""

NameArgument = Annotated[
    str | None,
    typer.Argument(metavar="NAME", help="Name of the cluster; else your only one."),
]
"""The same, as an argument."""
