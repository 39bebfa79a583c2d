"""``canvod-launch status``: the clusters of this host, and how they are."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from canvod.launch.cli.options import JsonOption

if TYPE_CHECKING:
    from canvod.launch.host.clusters import ClusterInfo

INTERVAL_S = 2.0
"""How long ``--watch`` waits between two looks."""


def status(
    name: Annotated[str | None, typer.Option(metavar="NAME", help="Only this cluster.")] = None,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Look again every two seconds, until Ctrl-C.")
    ] = False,
    json_output: JsonOption = False,
) -> None:
    """Show the clusters of this host: state, cores, memory limits, memory, tasks, uptime.

    up: all workers are there. degraded: some are missing. starting: some are on their way. silent: the
    scheduler does not answer. stopped: it does not run. Memory is that of now, and the most that there was.

    Examples
    --------
    $ canvod-launch status
    $ canvod-launch status --name lab --watch
    $ canvod-launch status --json | jq -r '.[].state'
    """
    from canvod.launch.cli.session import engine

    with _display(watch=watch, as_json=json_output) as show, engine() as client:
        from canvod.launch.detached.status import cluster_status
        from canvod.launch.docker.discovery import choose_cluster, find_clusters

        pause = threading.Event()
        while True:
            clusters = find_clusters(client)
            chosen = clusters if name is None else [choose_cluster(clusters, name)]
            show([cluster_status(client, cluster) for cluster in chosen])
            if not watch:
                return
            pause.wait(INTERVAL_S)


@contextmanager
def _display(*, watch: bool, as_json: bool) -> Iterator[Callable[[list[ClusterInfo]], None]]:
    """Give what shows clusters; on a terminal that is watched something is there before the first answer."""
    if as_json:
        # While watching, one line for each look.
        indent = None if watch else 2
        yield lambda found: typer.echo(json.dumps([cluster.as_json() for cluster in found], indent=indent))
        return
    from rich.console import Group
    from rich.live import Live
    from rich.text import Text

    from canvod.launch.cli.console import results
    from canvod.launch.cli.status_view import draw_clusters

    console = results()
    if not (watch and console.is_interactive):
        yield lambda found: console.print(draw_clusters(found), end="\n\n" if watch else "\n")
        return
    heading = Text(f"Clusters of this host, every {INTERVAL_S:g} s until Ctrl-C\n", style="dim")
    first = Group(heading, Text("asking the Docker engine …"))
    with Live(first, console=console, auto_refresh=False) as live:
        yield lambda found: live.update(Group(heading, draw_clusters(found)), refresh=True)
