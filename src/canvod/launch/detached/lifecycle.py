"""Start and stop of detached clusters: they outlive the command that starts them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from canvod.launch.cluster.orphans import prune_keys
from canvod.launch.cluster.preparation import prepare
from canvod.launch.cluster.tls import KeyFolder
from canvod.launch.detached.attach import scheduler_mark
from canvod.launch.docker.discovery import choose_cluster, find_clusters
from canvod.launch.docker.removal import cluster_label, list_objects, remedy, remove_objects
from canvod.launch.errors import ClusterError, ForeignClusterError
from canvod.launch.host.clusters import ClusterInfo, ContainerInfo
from canvod.launch.runtime.operations import TARGET
from canvod.launch.termination import exit_on_signals, shielded

if TYPE_CHECKING:
    from canvod.launch.cluster.preparation import StartRequest
    from canvod.launch.docker.engine import Client


def start_detached(request: StartRequest) -> ClusterInfo:
    """Start a cluster that runs until it is stopped.

    Parameters
    ----------
    request : StartRequest
        What is wanted; its ``detached`` is true.

    Returns
    -------
    ClusterInfo
        The cluster as it is now; all its workers have registered.

    Raises
    ------
    ClusterExistsError
        If there is a cluster of this name.
    ConfigError, PlanError
        If the settings cannot be used.
    EngineError, ImageError, VersionMismatchError
        If the engine or the images cannot be had.
    ClusterError
        If the cluster does not come up; what was started has been removed, as it is when a signal interrupts
        the start, or when this process is killed.
    KeysError
        If keys cannot be written.
    ValueError
        If the request is not one of a detached cluster.
    """
    exit_on_signals()
    started = prepare(request)
    with started.stopped_on_error():
        for info in started.start():
            request.report(info)
        if started.connection is None or started.engine is None or started.state is None:
            raise ValueError("the cluster has not been started")
        with shielded():
            name = started.plan.name
            started.connection.ask(TARGET, workers=len(started.plan.workers))
            found = choose_cluster(find_clusters(started.engine), name)
            # From now on the keys belong to the cluster, and no more to this process.
            KeyFolder(name, mark=scheduler_mark(started.engine, found)).write(started.state.keys)
            started.release()
            return found


def stop_cluster(client: Client, name: str | None) -> tuple[str, list[str]]:
    """Remove a cluster, whatever state it is in.

    Parameters
    ----------
    client : docker.DockerClient
        The engine.
    name : str or None
        Its name; None means the only detached one of this user.

    Returns
    -------
    name : str
        Its name.
    removed : list of str
        What was removed: kind and name of each object of the engine.

    Raises
    ------
    ClusterNotFoundError
        If there is nothing of that name.
    ForeignClusterError
        If ``docker compose`` runs it, or it belongs to another user.
    ClusterError
        If something could not be removed; the message names it, and the command that removes it.
    EngineError
        If the engine does not answer.
    """
    clusters = find_clusters(client)
    # Of a cluster that ended by itself a network may be left.
    if name is not None and all(cluster.name != name for cluster in clusters):
        remains = list_objects(client, cluster_label(name))
        if remains:
            parts = tuple(ContainerInfo(item.name, item.kind, labels=item.labels) for item in remains)
            clusters.append(ClusterInfo(name, parts))
    if name is None:  # nobody means one of Compose, which is not stopped from here
        clusters = [each for each in clusters if each.kind != "compose"]
    cluster = choose_cluster(clusters, name)
    require_own(cluster)
    name = cluster.name
    keys = None if cluster.scheduler is None else KeyFolder(name, mark=scheduler_mark(client, cluster))
    objects = [str(item) for item in list_objects(client, cluster_label(name))]
    with shielded():
        left = remove_objects(client, name)
        if keys is not None:
            keys.remove()
        prune_keys()
    if left:
        raise ClusterError(f"Cluster {name} is not removed entirely: {'; '.join(left)}.", hint=remedy(name))
    return name, objects


def require_own(cluster: ClusterInfo) -> None:
    """Refuse a cluster that canvod-launch does not manage for this user.

    Parameters
    ----------
    cluster : ClusterInfo
        The cluster.

    Raises
    ------
    ForeignClusterError
        If ``docker compose`` runs it, or it belongs to another user.
    """
    if cluster.kind == "compose":
        raise ForeignClusterError(
            f"Cluster {cluster.name} belongs to docker compose.",
            hint="docker compose down, in the folder that it was started from",
        )
    if not cluster.mine:
        raise ForeignClusterError(
            f"Cluster {cluster.name} belongs to the user with uid {cluster.uid}.",
            hint=f"ask them; or as root: sudo canvod-launch down {cluster.name}",
        )
