"""Clusters and their containers, as tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from canvod.launch.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import RenderableType

    from canvod.launch.host.clusters import ClusterInfo

_STYLES = {"up": "bold green", "starting": "bold cyan", "degraded": "bold yellow"}
_KINDS = {"detached": "canvod-launch up", "ephemeral": "one job", "compose": "docker compose"}
_NOTHING = "-"


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
    return Group(*(part for cluster in clusters for part in _parts(cluster, first=cluster is clusters[0])))


def _parts(cluster: ClusterInfo, *, first: bool) -> Iterator[RenderableType]:
    if not first:
        yield Text()
    owner = f" of {cluster.user}" if cluster.user else ""
    yield Text.assemble(
        (cluster.name, "bold"),
        "  ",
        (cluster.state or "", _STYLES.get(cluster.state or "", "bold red")),
        f"  {len(cluster.registered)} of {cluster.target} workers, {_KINDS[cluster.kind]}{owner}",
    )
    scheduler, dashboard = cluster.scheduler_address or _NOTHING, cluster.dashboard_link or _NOTHING
    yield Text(f"scheduler {scheduler}, dashboard {dashboard}")
    tasks = ", ".join(f"{count} {state}" for state, count in sorted(cluster.tasks.items()))
    yield Text(f"tasks: {tasks or 'none'}\n")
    yield _containers(cluster)
    if cluster.state == "degraded" and cluster.kind == "detached":
        command = f"canvod-launch scale {cluster.target} --name {cluster.name}"
        yield Text(f"To bring the workers back: {command}")


def _containers(cluster: ClusterInfo) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for heading in ("container", "state", "cores"):
        table.add_column(heading, overflow="fold")
    for heading in ("limit", "memory", "peak", "tasks", "uptime"):
        table.add_column(heading, justify="right", no_wrap=True)
    for container in cluster.containers:
        sizes = (container.memory_limit_bytes, container.memory_bytes, container.peak_bytes)
        table.add_row(
            container.name,
            container.state,
            container.cores or _NOTHING,
            *(_NOTHING if size is None else format_bytes(size) for size in sizes),
            _NOTHING if container.tasks is None else str(container.tasks),
            _NOTHING if container.uptime_s is None else format_uptime(container.uptime_s),
        )
    return table


def format_uptime(seconds: int) -> str:
    """Write a length of time for people, with its two largest units.

    Parameters
    ----------
    seconds : int
        The time.

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
