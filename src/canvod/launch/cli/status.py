"""``canvod-launch status``: the clusters of this host, and how they are."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from canvod.launch.cli.options import JsonOption, examples

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.console import RenderableType

    from canvod.launch.detached.status import ClusterStatus
    from canvod.launch.docker.engine import Client

INTERVAL_S = 2.0
"""How long ``--watch`` waits between two looks."""

_STYLES = {"up": "bold green", "starting": "bold cyan", "degraded": "bold yellow"}
_KINDS = {"detached": "canvod-launch up", "ephemeral": "one job", "compose": "docker compose"}
_NOTHING = "-"


def register(app: typer.Typer) -> None:
    """Add the command to the application.

    Parameters
    ----------
    app : typer.Typer
        The application.
    """
    app.command(
        "status",
        help="Show the clusters of this host: state, cores, caps, memory now and at its peak, tasks, uptime. "
        "up: all workers are there. degraded: some are missing. starting: some are on their way. silent: the "
        "scheduler does not answer. stopped: it does not run.",
        epilog=examples(
            "canvod-launch status",
            "canvod-launch status --name lab --watch",
            "canvod-launch status --json | jq -r '.[].state'",
        ),
    )(status)


def status(
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only this cluster.", show_default=False)
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Look again every two seconds, until Ctrl-C.")
    ] = False,
    json_output: JsonOption = False,
) -> None:
    """Show the clusters of this host."""
    from canvod.launch.cli.session import engine

    with engine() as client:
        if not watch:
            found = look(client, name)
            if json_output:
                typer.echo(json.dumps([one.as_json() for one in found], indent=2))
            else:
                print_status(found)
        elif json_output:
            _watch(client, name, lambda found: typer.echo(json.dumps([one.as_json() for one in found])))
        else:
            _watch_screen(client, name)


def look(client: Client, name: str | None) -> list[ClusterStatus]:
    """Look at one cluster, or at all of them.

    Parameters
    ----------
    client : docker.DockerClient
        The engine.
    name : str or None
        Its name; None means all.

    Returns
    -------
    list of ClusterStatus
        In the order of their names.
    """
    from canvod.launch.detached.status import cluster_status
    from canvod.launch.docker.discovery import choose_cluster, find_clusters

    clusters = find_clusters(client)
    chosen = clusters if name is None else [choose_cluster(clusters, name)]
    return [cluster_status(client, cluster) for cluster in chosen]


def print_status(found: Sequence[ClusterStatus]) -> None:
    """Print clusters for people.

    Parameters
    ----------
    found : sequence of ClusterStatus
        What was found.
    """
    from rich.console import Console

    Console(highlight=False).print(_screen(found))


def _screen(found: Sequence[ClusterStatus]) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    if not found:
        return Text("No cluster is on this host. Start one: canvod-launch up")
    parts: list[RenderableType] = []
    for one in found:
        parts += [Text(), *_one(one)] if parts else _one(one)
    return Group(*parts)


def _one(one: ClusterStatus) -> list[RenderableType]:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    tasks = ", ".join(f"{count} {state}" for state, count in sorted(one.tasks.items()))
    owner = f" of {one.user}" if one.user else ""
    head = Text.assemble(
        (one.name, "bold"),
        "  ",
        (one.state, _STYLES.get(one.state, "bold red")),
        f"  {one.workers} of {one.workers_wanted} workers, {_KINDS[one.kind]}{owner}",
    )
    facts = Text(f"scheduler {one.scheduler_address or _NOTHING}, dashboard {one.dashboard_link or _NOTHING}")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("container", overflow="fold")
    table.add_column("state", overflow="fold")
    table.add_column("cores", overflow="fold")
    for heading in ("cap", "memory", "peak", "tasks", "uptime"):
        table.add_column(heading, justify="right", no_wrap=True)
    for container in one.containers:
        table.add_row(
            container.name,
            container.state,
            container.cores or _NOTHING,
            *(_bytes(size) for size in (container.cap_bytes, container.memory_bytes, container.peak_bytes)),
            _NOTHING if container.tasks is None else str(container.tasks),
            _NOTHING if container.uptime_s is None else format_uptime(container.uptime_s),
        )
    parts: list[RenderableType] = [head, facts, Text(f"tasks: {tasks or 'none'}"), Text(), table]
    if one.state == "degraded" and one.kind == "detached":
        parts.append(
            Text(f"To bring the workers back: canvod-launch scale {one.workers_wanted} --name {one.name}")
        )
    return parts


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


def _bytes(size: int | None) -> str:
    from canvod.launch.units import format_bytes

    return _NOTHING if size is None else format_bytes(size)


def _watch(client: Client, name: str | None, show: Callable[[list[ClusterStatus]], None]) -> None:
    import threading

    pause = threading.Event()
    while True:
        show(look(client, name))
        pause.wait(INTERVAL_S)


def _watch_screen(client: Client, name: str | None) -> None:
    from rich.console import Console
    from rich.live import Live

    with Live(console=Console(highlight=False), auto_refresh=False) as live:
        _watch(client, name, lambda found: live.update(_screen(found), refresh=True))
