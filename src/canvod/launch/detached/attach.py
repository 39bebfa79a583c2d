"""How to use a cluster that another process has started: its keys and its plan.

A cluster's scheduler keeps both in its own memory (a tmpfs), and gives them to who may use the engine: they
are root on this host anyway. Here the keys become files of this user alone. Nothing is started, and nothing
is stopped at the end.
"""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from canvod.launch.cluster.cluster_state import ClusterState
from canvod.launch.cluster.tls import ROLES, KeyFolder, key_folders
from canvod.launch.docker.discovery import choose_cluster, find_clusters
from canvod.launch.docker.engine import connect, read_in_container, translate
from canvod.launch.errors import ClusterError, ClusterNotFoundError, EngineError
from canvod.launch.host.labels import OWNER_LABEL
from canvod.launch.host.owner import owner_lives, owner_mark, owner_pid
from canvod.launch.plan.model import KEYS_PATH
from canvod.launch.runtime.keys import STATE

if TYPE_CHECKING:
    from canvod.launch.docker.engine import Client
    from canvod.launch.host.clusters import ClusterInfo
    from canvod.launch.plan.model import ClusterPlan

ENGINE_TIMEOUT_S = 30.0


@dataclass(frozen=True, repr=False)
class Attachment:
    """How to use a cluster that another process has started.

    Attributes
    ----------
    cluster : ClusterInfo
        The cluster.
    keys : KeyFolder
        A client's keys; they stay as long as the cluster.
    plan : ClusterPlan
        What was started.
    """

    cluster: ClusterInfo
    keys: KeyFolder
    plan: ClusterPlan

    def environment(self) -> dict[str, str]:
        """Environment variables with which a bare ``distributed.Client()`` connects.

        Returns
        -------
        dict of str to str
            The scheduler's address, and the paths of a client's keys.
        """
        return {"DASK_SCHEDULER_ADDRESS": self.cluster.scheduler_address, **self.keys.environment()}


def attach_by_name(name: str | None) -> Attachment:
    """Find a cluster by its name.

    Parameters
    ----------
    name : str or None
        Its name; None means the only detached one of this user.

    Returns
    -------
    Attachment
        How to use it.

    Raises
    ------
    ClusterNotFoundError
        If there is no such cluster, or it runs in processes; the message has the names that there are.
    EngineError
        If no engine answers.
    ClusterError, KeysError
        If its keys cannot be had.
    """
    try:
        with closing(connect(timeout_s=ENGINE_TIMEOUT_S)) as client:
            return _attach(client, choose_cluster(find_clusters(client), name))
    except (ClusterNotFoundError, EngineError):
        if name is not None:
            _refuse_processes(name)
        raise


def _refuse_processes(name: str) -> None:
    """Raise where this user has a cluster of the name in processes, whose plan only its own program has."""
    for mark in key_folders().values():
        # All roles' keys are on this host only where scheduler and workers are processes of it.
        if mark is not None and KeyFolder(name, ROLES, mark=mark).exists and owner_lives(mark):
            raise ClusterNotFoundError(
                f"Cluster {name} runs in processes of the program with process ID {owner_pid(mark)}, and no "
                "other program can use it by its name.",
                hint="use manager.client there, or pass manager.environment() on to the other program; a "
                "cluster that any program of yours uses: canvod-launch up",
            )


def attach_by_address(address: str) -> Attachment | None:
    """Find out whether a scheduler is that of a cluster of this host, and how to use it then.

    Parameters
    ----------
    address : str
        Address of the scheduler.

    Returns
    -------
    Attachment or None
        None where it is not: Dask's own settings have to have the keys then.

    Raises
    ------
    ClusterNotFoundError, ClusterError, KeysError, EngineError
        If it is one of this host, and its keys cannot be had.
    """
    if not address.startswith("tls://"):
        return None
    try:
        engine = connect(timeout_s=ENGINE_TIMEOUT_S)
    except EngineError:
        return None
    with closing(engine) as client:
        for cluster in find_clusters(client):
            if cluster.scheduler_address == address and cluster.kind != "compose":
                return _attach(client, cluster)
    return None


def _attach(client: Client, cluster: ClusterInfo) -> Attachment:
    state = read_state(client, cluster)
    return Attachment(cluster, client_keys(client, cluster, state), state.plan)


def read_state(client: Client, cluster: ClusterInfo) -> ClusterState:
    """Read a cluster's keys and plan from its scheduler.

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
        If they cannot be read, or not be understood.
    """
    if cluster.kind == "compose":
        raise ClusterNotFoundError(
            f"Cluster {cluster.name} belongs to docker compose, which has its keys.",
            hint="get them from its service keys: docker compose cp keys:/keys/client ./client-keys",
        )
    if (scheduler := cluster.scheduler) is None:
        raise _not_running(cluster)
    try:
        answer = read_in_container(client, scheduler.id, ["cat", f"{KEYS_PATH}/{STATE}"])
        return ClusterState.from_json(json.loads(answer))
    except (EngineError, ValueError, KeyError, TypeError) as error:
        raise ClusterError(
            f"The keys of cluster {cluster.name} cannot be read from its scheduler: "
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
        What its scheduler keeps, where the caller has read that already; read here by default, if the files
        are not there yet.

    Returns
    -------
    KeyFolder
        The files.

    Raises
    ------
    ClusterNotFoundError
        If ``docker compose`` runs the cluster, or its scheduler does not run.
    ClusterError
        If the keys cannot be read, or not be understood.
    KeysError
        If they cannot be written.
    EngineError
        If the engine does not answer.
    """
    if cluster.kind == "ephemeral" and cluster.scheduler is not None:
        owner = cluster.scheduler.labels.get(OWNER_LABEL, "")
        folder = KeyFolder(cluster.name, mark=owner)
        if folder.exists:
            return folder
    folder = KeyFolder(cluster.name, mark=scheduler_mark(client, cluster))
    if not folder.exists:
        folder.write((state or read_state(client, cluster)).keys)
    return folder


def scheduler_mark(client: Client, cluster: ClusterInfo) -> str:
    """Return the mark of the scheduler's own process, with which a cluster and the copies of its keys end.

    Parameters
    ----------
    client : docker.DockerClient
        The engine.
    cluster : ClusterInfo
        The cluster.

    Returns
    -------
    str
        The mark, as `canvod.launch.host.owner.owner_mark` makes it.

    Raises
    ------
    ClusterNotFoundError
        If its scheduler does not run.
    EngineError
        If the engine does not answer.
    """
    if (scheduler := cluster.scheduler) is None:
        raise _not_running(cluster)
    with translate(f"look at the container {scheduler.name}"):
        pid = int(client.api.inspect_container(scheduler.id)["State"]["Pid"])
    if pid == 0:  # it has just ended
        raise _not_running(cluster)
    return owner_mark(pid)


def _not_running(cluster: ClusterInfo) -> ClusterNotFoundError:
    return ClusterNotFoundError(
        f"The scheduler of cluster {cluster.name} does not run.",
        hint=f"remove what is left of it: canvod-launch down {cluster.name}",
    )
