"""``canvod-launch down``: stop a detached cluster, and remove all that belongs to it."""

from __future__ import annotations

import json

import typer

from canvod.launch.cli.options import JsonOption, NameArgument, examples


def register(app: typer.Typer) -> None:
    """Add the command to the application.

    Parameters
    ----------
    app : typer.Typer
        The application.
    """
    app.command(
        "down",
        help="Stop a cluster at once, and remove its containers, network, volumes and keys.",
        epilog=examples("canvod-launch down", "canvod-launch down lab", "canvod-launch down lab --json"),
    )(down)


def down(name: NameArgument = None, json_output: JsonOption = False) -> None:
    """Stop a detached cluster."""
    from canvod.launch.cli.session import engine
    from canvod.launch.detached.lifecycle import stop_cluster

    with engine() as client:
        stopped, removed = stop_cluster(client, name)
    if json_output:
        typer.echo(json.dumps({"name": stopped, "removed": removed}, indent=2))
        return
    for item in removed:
        typer.echo(f"removed {item}")
    typer.echo(f"{stopped} is gone")
