"""``canvod-launch store``: look at a store, draw what it holds, clean it up."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from canvod.launch.cli.options import JsonOption, examples

StoreArgument = Annotated[
    Path, typer.Argument(metavar="PATH", help="Folder of the store.", show_default=False)
]


def register(app: typer.Typer) -> None:
    """Add the commands to the application.

    Parameters
    ----------
    app : typer.Typer
        The application.
    """
    group = typer.Typer(no_args_is_help=True, rich_markup_mode="rich")
    group.command(
        "show",
        help="Show the groups of a store with their variables, chunks, sizes, time span and signals, and its "
        "newest snapshots.",
        epilog=examples(
            "canvod-launch store show /data/store", "canvod-launch store show /data/store --json | jq .groups"
        ),
    )(show)
    group.command(
        "plot",
        help="Draw the mean SNR of each kind of signal over time, in the terminal or as a PNG file.",
        epilog=examples(
            "canvod-launch store plot /data/store",
            "canvod-launch store plot /data/store --group rosalia/canopy_01 --output snr.png",
        ),
    )(plot)
    group.command(
        "gc",
        help="Remove what interrupted runs have left behind: objects that no snapshot needs. Snapshots stay.",
        epilog=examples(
            "canvod-launch store gc /data/store", "canvod-launch store gc /data/store --older-than 0"
        ),
    )(collect)
    app.add_typer(group, name="store", help="Look at a store, draw what it holds, clean it up.")


def show(path: StoreArgument, json_output: JsonOption = False) -> None:
    """Show what a store holds."""
    from rich.console import Console

    from canvod.launch.ingest.inspect import store_tree

    tree = store_tree(path)
    if json_output:
        typer.echo(tree.to_json())
    else:
        Console(highlight=False, soft_wrap=True).print(tree)


def plot(
    path: StoreArgument,
    group: Annotated[
        str | None,
        typer.Option(
            metavar="GROUP",
            help="Group, such as rosalia/reference_01; else the only one of the store.",
            show_default=False,
        ),
    ] = None,
    variable: Annotated[str, typer.Option(metavar="NAME", help="Variable to draw.")] = "SNR",
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Write a PNG instead (needs matplotlib).",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Draw a variable over time."""
    from rich.console import Console

    from canvod.launch.cli.plot import make_picture, render_picture, require_matplotlib, save_png
    from canvod.launch.cli.progress import delayed_bar
    from canvod.launch.ingest.read import open_arrays

    if output is not None:
        require_matplotlib()
    console = Console(highlight=False, soft_wrap=True)
    bins = 400 if output is not None else max(20, min(console.width, 160) - 12)
    with delayed_bar("reading", "blocks") as progress:
        picture = make_picture(open_arrays(path, group), variable, bins=bins, progress=progress)
    if output is not None:
        console.print(f"Written: {save_png(picture, output)}")
    else:
        color, ascii_only = console.color_system is not None, console.options.ascii_only
        console.print(render_picture(picture, color=color, ascii_only=ascii_only))


def collect(
    path: StoreArgument,
    older_than: Annotated[
        float,
        typer.Option(
            metavar="HOURS",
            min=0.0,
            help="Leave younger objects alone: a program that does not know the lock may commit them.",
        ),
    ] = 1.0,
    json_output: JsonOption = False,
) -> None:
    """Remove objects that no snapshot needs."""
    from canvod.launch.ingest.store import clean_store
    from canvod.launch.units import format_bytes

    garbage = clean_store(path, older_than=timedelta(hours=older_than), now=datetime.now(UTC))
    if json_output:
        typer.echo(json.dumps(asdict(garbage)))
    else:
        typer.echo(f"Removed {garbage.objects} objects, {format_bytes(garbage.bytes)}")
