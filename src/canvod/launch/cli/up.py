"""``canvod-launch up``: start a detached cluster."""

from __future__ import annotations

from contextlib import closing
from typing import Annotated

import typer

from canvod.launch.cli.console import print_result, say
from canvod.launch.cli.options import (
    DEFAULT_NAME,
    ConfigOption,
    IdleTimeoutOption,
    JsonOption,
    MemoryOption,
    ReadOnlyOption,
    WorkersOption,
    WritableOption,
    read_settings,
    require_paths,
)


def up(
    name: Annotated[str, typer.Option(metavar="NAME", help="Name of the cluster.")] = DEFAULT_NAME,
    config: ConfigOption = None,
    workers: WorkersOption = None,
    memory: MemoryOption = None,
    read_only: ReadOnlyOption = None,
    writable: WritableOption = None,
    idle_timeout: IdleTimeoutOption = None,
    json_output: JsonOption = False,
) -> None:
    """Start a detached cluster, which runs until canvod-launch down.

    It survives this command, the terminal and the login. The command returns when all workers are there.
    Whatever interrupts the start, and a restart of the engine or of the host, leaves nothing.

    Examples
    --------
    $ canvod-launch up
    $ canvod-launch up --name lab --config lab.yaml --read-only /data --writable /data/stores
    $ canvod-launch up --workers 2 --memory 8 --idle-timeout 3600
    $ canvod-launch connect; canvod-launch status; canvod-launch down
    """
    require_paths(read_only, writable)
    from canvod.launch.cli.progress_bars import show_build
    from canvod.launch.cli.status import draw_clusters
    from canvod.launch.cluster.host_paths import make_mounts
    from canvod.launch.cluster.preparation import StartRequest
    from canvod.launch.detached.cluster_status import cluster_status
    from canvod.launch.detached.lifecycle import start_detached
    from canvod.launch.docker.engine import connect

    settings = read_settings(config, workers=workers, memory=memory)
    with show_build() as build_progress:
        request = StartRequest(
            settings=settings,
            name=name,
            detached=True,
            idle_timeout_s=idle_timeout,
            mounts=make_mounts(read_only or (), writable or ()),
            progress=say,
            build_progress=build_progress,
        )
        cluster = start_detached(request)
    with closing(connect()) as client:
        found = cluster_status(client, cluster)
    print_result(found.as_json(), draw_clusters([found]), as_json=json_output)
    if not json_output:
        option, argument = ("", "") if name == DEFAULT_NAME else (f" --name {name}", f" {name}")
        typer.echo(
            f"\nUse it:      canvod-launch connect{argument}\n"
            f"Look at it:  canvod-launch status{option}\n"
            f"Stop it:     canvod-launch down{argument}"
        )
