"""``canvod-launch store``: show what a store holds, draw it, remove what no snapshot needs."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from canvod.launch.cli.options import JsonOption

StoreArgument = Annotated[Path, typer.Argument(metavar="PATH", help="Folder of the store.")]


def show(path: StoreArgument, json_output: JsonOption = False) -> None:
    """Show the groups of a store, and its newest snapshots.

    Of each group its variables, chunks, sizes, time span and signals.

    Examples
    --------
    $ canvod-launch store show /data/store
    $ canvod-launch store show /data/store --json | jq .groups
    """
    from canvod.launch.cli.console import print_json, results
    from canvod.launch.cli.store_view import draw_store
    from canvod.launch.ingest.inspect import store_tree

    tree = store_tree(path)
    if json_output:
        print_json(tree.as_json())
    else:
        results().print(draw_store(tree), soft_wrap=True)


def plot(
    path: StoreArgument,
    group: Annotated[
        str | None,
        typer.Option(
            metavar="GROUP",
            help="Group, such as rosalia/reference_01; else the only one of the store.",
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
        ),
    ] = None,
) -> None:
    """Draw the mean SNR of each kind of signal over time, in the terminal or as a PNG file.

    Examples
    --------
    $ canvod-launch store plot /data/store
    $ canvod-launch store plot /data/store --group rosalia/canopy_01 --output snr.png
    """
    from canvod.launch.cli.console import results
    from canvod.launch.cli.plot import draw_heatmap, make_heatmap, require_matplotlib, save_png
    from canvod.launch.cli.progress import delayed_bar
    from canvod.launch.ingest.read import open_arrays

    if output is not None:
        require_matplotlib()
    console = results()
    bins = 400 if output is not None else max(20, min(console.width, 160) - 12)
    with delayed_bar("reading", "blocks") as progress:
        heatmap = make_heatmap(open_arrays(path, group), variable, bins=bins, progress=progress)
    if output is not None:
        console.print(f"Written: {save_png(heatmap, output)}", soft_wrap=True)
    else:
        color, ascii_only = console.color_system is not None, console.options.ascii_only
        console.print(draw_heatmap(heatmap, color=color, ascii_only=ascii_only), soft_wrap=True)


def gc(
    path: StoreArgument,
    older_than: Annotated[
        float,
        typer.Option(
            metavar="HOURS",
            min=0.0,
            help="Keep younger objects: a program that does not use the lock may commit them.",
        ),
    ] = 1.0,
    json_output: JsonOption = False,
) -> None:
    """Remove what interrupted runs have left behind: objects that no snapshot needs.

    Snapshots stay.

    Examples
    --------
    $ canvod-launch store gc /data/store
    $ canvod-launch store gc /data/store --older-than 0
    """
    from canvod.launch.cli.console import print_json
    from canvod.launch.ingest.store import clean_store
    from canvod.launch.units import format_bytes

    garbage = clean_store(path, older_than=timedelta(hours=older_than), now=datetime.now(UTC))
    if json_output:
        print_json(asdict(garbage))
    else:
        typer.echo(f"Removed {garbage.objects} objects, {format_bytes(garbage.bytes)}")
