"""``canvod-launch up``: start a cluster that stands until somebody stops it."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from canvod.launch.cli.options import (
    DEFAULT_NAME,
    ConfigOption,
    IdleTimeoutOption,
    JsonOption,
    ReadOnlyOption,
    WorkersOption,
    WritableOption,
    examples,
)


def register(app: typer.Typer) -> None:
    """Add the command to the application.

    Parameters
    ----------
    app : typer.Typer
        The application.
    """
    app.command(
        "up",
        help="Start a cluster that stands until canvod-launch down: it survives this command, the terminal "
        "and the login. The command returns when all workers are there. Whatever interrupts the start, and a "
        "restart of the engine or of the host, leaves nothing.",
        epilog=examples(
            "canvod-launch up",
            "canvod-launch up --name lab --config lab.yaml --read-only /data --writable /data/stores",
            "canvod-launch up --workers 2 --idle-timeout 3600",
            "canvod-launch connect; canvod-launch status; canvod-launch down",
        ),
    )(up)


def up(
    name: Annotated[str, typer.Option(metavar="NAME", help="Name of the cluster.")] = DEFAULT_NAME,
    config: ConfigOption = None,
    workers: WorkersOption = None,
    read_only: ReadOnlyOption = None,
    writable: WritableOption = None,
    idle_timeout: IdleTimeoutOption = None,
    json_output: JsonOption = False,
) -> None:
    """Start a cluster that stands."""
    from rich.console import Console

    from canvod.launch.cli.session import engine, read_settings, say, workers_fields
    from canvod.launch.cli.status import print_status
    from canvod.launch.cluster.host_paths import make_mounts
    from canvod.launch.detached.lifecycle import start_detached
    from canvod.launch.detached.status import cluster_status
    from canvod.launch.images.build_progress import shown

    settings = read_settings(config, workers_fields(workers))
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    with engine() as client:
        with shown(console) as build_progress:
            found = start_detached(
                client,
                settings,
                name,
                idle_timeout_s=idle_timeout,
                mounts=make_mounts(read_only or (), writable or ()),
                progress=lambda line: say(console, line),
                build_progress=build_progress,
            )
        status = cluster_status(client, found)
    if json_output:
        typer.echo(json.dumps(status.as_json(), indent=2))
        return
    print_status([status])
    option = "" if name == DEFAULT_NAME else f" --name {name}"
    argument = "" if name == DEFAULT_NAME else f" {name}"
    typer.echo(
        f"\nUse it:      canvod-launch connect{argument}\n"
        f"Look at it:  canvod-launch status{option}\n"
        f"Stop it:     canvod-launch down{argument}"
    )
