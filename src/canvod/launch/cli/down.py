"""``canvod-launch down``: stop a detached cluster, and remove all that belongs to it."""

from __future__ import annotations

from contextlib import closing

from canvod.launch.cli.console import print_result
from canvod.launch.cli.options import JsonOption, NameArgument


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
    from canvod.launch.detached.lifecycle import stop_cluster
    from canvod.launch.docker.discovery import find_clusters
    from canvod.launch.docker.engine import connect
    from canvod.launch.errors import ClusterNotFoundError

    stopped, removed = name, list[str]()
    with closing(connect()) as client:
        try:
            stopped, removed = stop_cluster(client, name)
            result = f"cluster {stopped} is removed"
        except ClusterNotFoundError:
            clusters = find_clusters(client)
            if name is None:
                meant = [each for each in clusters if each.kind == "detached" and each.mine]
            else:
                meant = [each for each in clusters if each.name == name]
            if meant:
                raise
            names = ", ".join(cluster.name for cluster in clusters)
            others = f" (there are: {names})" if names else ""
            result = f"no cluster {name or 'of yours'} on this host{others}; nothing to do"
    lines = [f"removed {item}" for item in removed] + [result]
    print_result({"name": stopped, "removed": removed}, "\n".join(lines), as_json=json_output)
