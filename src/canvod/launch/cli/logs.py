"""``canvod-launch logs``: what the containers of a cluster write."""

from __future__ import annotations

from contextlib import closing
from typing import Annotated

import typer

from canvod.launch.cli.options import NameOption


def logs(
    name: NameOption = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Continue until the cluster ends, or Ctrl-C.")
    ] = False,
    tail: Annotated[
        int | None, typer.Option(metavar="N", min=0, help="Only the last N lines of each container.")
    ] = None,
) -> None:
    """Show what scheduler and workers of a cluster have written, in the order of time.

    The output of a container that has ended is removed with it.

    Examples
    --------
    $ canvod-launch logs
    $ canvod-launch logs --name lab --tail 20 --follow
    """
    from canvod.launch.docker.container_logs import follow_output, read_output
    from canvod.launch.docker.discovery import choose_cluster, find_clusters
    from canvod.launch.docker.engine import connect

    with closing(connect()) as client:
        cluster = choose_cluster(find_clusters(client), name)
        width = max(len(container.name) for container in cluster.containers)

        def write(who: str, line: str) -> None:
            typer.echo(f"{who:<{width}} | {line}")

        if follow:
            follow_output(client, cluster, write, tail)
        else:
            for who, line in read_output(client, cluster, tail):
                write(who, line)
