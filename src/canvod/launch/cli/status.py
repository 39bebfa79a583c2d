"""``canvod-launch status``: the clusters of this host, and how they are."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Group
from rich.text import Text

from canvod.launch.cli.console import NOTHING, make_table, results
from canvod.launch.cli.options import JsonOption
from canvod.launch.units import format_bytes

if TYPE_CHECKING:
    from rich.console import RenderableType

    from canvod.launch.host.clusters import ClusterInfo, ContainerInfo

INTERVAL_S = 2.0
"""How long ``--watch`` waits between two looks."""

_STYLES = {"up": "bold green", "starting": "bold cyan", "degraded": "bold yellow"}
_KINDS = {"detached": "canvod-launch up", "ephemeral": "one job", "compose": "docker compose"}


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
    with _display(watch=watch, as_json=json_output) as show:
        from canvod.launch.detached.cluster_status import cluster_status
        from canvod.launch.docker.discovery import choose_cluster, find_clusters
        from canvod.launch.docker.engine import connect

        with closing(connect()) as client:
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
    console = results()
    if as_json:
        # While watching, one line for each look.
        indent = None if watch else 2
        yield lambda found: typer.echo(json.dumps([cluster.as_json() for cluster in found], indent=indent))
    elif watch and console.is_interactive:
        from rich.live import Live

        heading = Text(f"Clusters of this host, every {INTERVAL_S:g} s until Ctrl-C\n", style="dim")
        first = Group(heading, Text("asking the Docker engine …"))
        with Live(first, console=console, auto_refresh=False) as live:
            yield lambda found: live.update(Group(heading, draw_clusters(found)), refresh=True)
    else:
        yield lambda found: console.print(draw_clusters(found), end="\n\n" if watch else "\n")


def draw_clusters(clusters: Sequence[ClusterInfo]) -> RenderableType:
    """Draw clusters: for each a heading, and a table of its containers.

    Parameters
    ----------
    clusters : sequence of ClusterInfo
        The clusters; there may be none.

    Returns
    -------
    rich renderable
        As wide as the console allows.
    """
    if not clusters:
        return Text("No cluster is on this host. Start one: canvod-launch up")
    parts = [part for cluster in clusters for part in (Text(), *_draw_cluster(cluster))]
    return Group(*parts[1:])


def _draw_cluster(cluster: ClusterInfo) -> Iterator[RenderableType]:
    state = cluster.state or ""
    owner = f" of {cluster.user}" if cluster.user else ""
    yield Text.assemble(
        (cluster.name, "bold"),
        "  ",
        (state, _STYLES.get(state, "bold red")),
        f"  {len(cluster.registered)} of {cluster.target} workers, {_KINDS[cluster.kind]}{owner}",
    )
    scheduler, dashboard = cluster.scheduler_address or NOTHING, cluster.dashboard_link or NOTHING
    yield Text(f"scheduler {scheduler}, dashboard {dashboard}")
    tasks = ", ".join(f"{count} {state}" for state, count in sorted(cluster.tasks.items()))
    yield Text(f"tasks: {tasks or 'none'}\n")
    yield make_table(
        ("container", "state", "cores"),
        ("limit", "memory", "peak", "tasks", "uptime"),
        [_cells(container) for container in cluster.containers],
    )
    if state == "degraded" and cluster.kind == "detached":
        command = f"canvod-launch scale {cluster.target} --name {cluster.name}"
        yield Text(f"To bring the workers back: {command}")


def _cells(container: ContainerInfo) -> list[str]:
    sizes = (container.memory_limit_bytes, container.memory_bytes, container.peak_bytes)
    return [
        container.name,
        container.state,
        container.cores,
        *("" if size is None else format_bytes(size) for size in sizes),
        "" if container.tasks is None else str(container.tasks),
        "" if container.uptime_s is None else format_uptime(container.uptime_s),
    ]


def format_uptime(seconds: int) -> str:
    """Write a length of time for people, with its two largest units.

    Parameters
    ----------
    seconds : int
        The length of time in seconds.

    Returns
    -------
    str
        Such as ``3 h 1 min``.

    Examples
    --------
    >>> [format_uptime(s) for s in (5, 65, 3 * 3600 + 60, 2 * 86400)]
    ['5 s', '1 min 5 s', '3 h 1 min', '2 d 0 h']
    """
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
