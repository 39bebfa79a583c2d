"""``canvod-launch down``: stop a detached cluster, and remove all that belongs to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from canvod.launch.cli.options import JsonOption, NameArgument

if TYPE_CHECKING:
    from canvod.launch.docker.engine import Client


def down(name: NameArgument = None, json_output: JsonOption = False) -> None:
    """Stop a cluster at once, and remove its containers, network, volumes and keys.

    Where there is no cluster of this name, or none of yours where no name is given, there is nothing to do,
    and the exit status is 0. It is 1 where several could be meant, or the cluster is not yours to stop.

    Examples
    --------
    $ canvod-launch down
    $ canvod-launch down lab
    $ canvod-launch down lab --json
    """
    from canvod.launch.cli.console import print_json
    from canvod.launch.cli.session import engine
    from canvod.launch.detached.lifecycle import stop_cluster
    from canvod.launch.errors import ClusterNotFoundError

    stopped: str | None = name
    removed: list[str] = []
    with engine() as client:
        try:
            stopped, removed = stop_cluster(client, name)
            result = f"cluster {stopped} is removed"
        except ClusterNotFoundError:
            others = _others(client, name)
            if others is None:
                raise
            result = f"no cluster {name or 'of yours'} on this host{others}; nothing to do"
    if json_output:
        print_json({"name": stopped, "removed": removed})
        return
    for item in removed:
        typer.echo(f"removed {item}")
    typer.echo(result)


def _others(client: Client, name: str | None) -> str | None:
    """Name the clusters that there are besides the one that is meant; None if it may be among them."""
    from canvod.launch.docker.discovery import find_clusters

    clusters = find_clusters(client)
    if name is None:
        meant = [cluster for cluster in clusters if cluster.kind != "ephemeral" and cluster.mine]
    else:
        meant = [cluster for cluster in clusters if cluster.name == name]
    if meant:
        return None
    return f" (there are: {', '.join(cluster.name for cluster in clusters)})" if clusters else ""
