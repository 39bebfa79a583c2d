"""How to reach a cluster that another process has started: its keys and its plan.

A cluster's scheduler keeps both in its own memory (a tmpfs), and gives them to who may use the engine: they
are root on this host anyway. Here the keys become files of this user alone.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from canvod.launch.cluster.cluster_state import ClusterState
from canvod.launch.cluster.tls import KeyFolder
from canvod.launch.docker.engine import read_in_container, translate
from canvod.launch.errors import ClusterError, ClusterNotFoundError, EngineError
from canvod.launch.host.labels import OWNER_LABEL
from canvod.launch.host.owner import owner_mark
from canvod.launch.plan.model import KEYS_PATH
from canvod.launch.runtime.keys import STATE

if TYPE_CHECKING:
    from canvod.launch.docker.engine import Client
    from canvod.launch.host.clusters import ClusterInfo


def read_state(client: Client, cluster: ClusterInfo) -> ClusterState:
    """Ask a cluster for its keys and its plan.

    Parameters
    ----------
    client : docker.DockerClient
        The engine.
    cluster : ClusterInfo
        The cluster.

    Returns
    -------
    ClusterState
        What it keeps.

    Raises
    ------
    ClusterNotFoundError
        If ``docker compose`` runs it, or its scheduler does not run.
    ClusterError
        If it does not give an answer that can be understood.
    """
    scheduler = cluster.scheduler
    if cluster.kind == "compose" or scheduler is None:
        raise ClusterNotFoundError(_why_not(cluster), hint=_instead(cluster))
    try:
        return ClusterState.from_json(
            json.loads(read_in_container(client, scheduler.id, ["cat", f"{KEYS_PATH}/{STATE}"]))
        )
    except (EngineError, ValueError, KeyError, TypeError) as error:
        raise ClusterError(
            f"The cluster {cluster.name} does not tell its keys: "
            f"{error.message if isinstance(error, EngineError) else 'what it keeps cannot be understood'}",
            hint="it may be starting, or of another version of canvod-launch: try again, or "
            f"canvod-launch down {cluster.name}",
        ) from error


def client_keys(client: Client, cluster: ClusterInfo, state: ClusterState | None = None) -> KeyFolder:
    """Get a client's keys of a cluster into files of this user, where they stay as long as the cluster.

    Parameters
    ----------
    client : docker.DockerClient
        The engine.
    cluster : ClusterInfo
        The cluster.
    state : ClusterState, optional
        What it keeps, where that is known; it is asked where its keys are needed by default.

    Returns
    -------
    KeyFolder
        The files.

    Raises
    ------
    ClusterNotFoundError
        If the cluster's keys are not to be had.
    ClusterError
        If it does not give an answer that can be understood.
    KeysError
        If they cannot be written.
    """
    if cluster.kind == "ephemeral" and cluster.scheduler is not None:
        owner = cluster.scheduler.labels.get(OWNER_LABEL, "")
        if (folder := KeyFolder.existing(cluster.name, owner)) is not None:
            return folder
    mark = scheduler_mark(client, cluster)
    folder = KeyFolder.existing(cluster.name, mark)
    if folder is None:
        state = state or read_state(client, cluster)
        folder = KeyFolder(cluster.name, state.keys, mark=mark)
    return folder


def scheduler_mark(client: Client, cluster: ClusterInfo) -> str:
    """Mark the scheduler's own process, with which a cluster and the copies of its keys end.

    Parameters
    ----------
    client : docker.DockerClient
        The engine.
    cluster : ClusterInfo
        The cluster.
    """
    scheduler = cluster.scheduler
    if scheduler is None:
        raise ClusterNotFoundError(_why_not(cluster), hint=_instead(cluster))
    with translate(f"look at the container {scheduler.name}"):
        pid = int(client.api.inspect_container(scheduler.id)["State"]["Pid"])
    if pid == 0:
        raise ClusterNotFoundError(
            f"The scheduler of cluster {cluster.name} has just ended.", hint=_instead(cluster)
        )
    return owner_mark(pid)


def _why_not(cluster: ClusterInfo) -> str:
    if cluster.scheduler is None:
        return f"The scheduler of cluster {cluster.name} does not run."
    return f"Cluster {cluster.name} belongs to docker compose, which has its keys."


def _instead(cluster: ClusterInfo) -> str:
    if cluster.kind == "compose":
        return "get them from its service keys: docker compose cp keys:/keys/client ./client-keys"
    return f"remove what is left of it: canvod-launch down {cluster.name}"
