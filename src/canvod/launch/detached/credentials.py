"""How to reach a cluster that somebody else has started: its address, its keys and its plan.

A detached cluster's scheduler keeps all of it in its own memory (a tmpfs), and gives it to who may use the
engine: they are root on this host anyway. Here it becomes files of this user alone.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from canvod.launch.cluster.tls import ClusterKeys, KeyFolder
from canvod.launch.docker.engine import read_in_container, translate
from canvod.launch.errors import ClusterError, ClusterNotFoundError, EngineError
from canvod.launch.host.labels import OWNER_LABEL
from canvod.launch.host.owner import owner_mark
from canvod.launch.plan.model import KEYS_PATH, ClusterPlan
from canvod.launch.runtime.keys import CONFIRM, STATE

if TYPE_CHECKING:
    from canvod.launch.docker.discovery import ClusterInfo
    from canvod.launch.docker.engine import Client

CONFIRM_GRACE_S = 30.0
"""How much longer than its start may take a cluster waits to hear that the start is finished."""


@dataclass(frozen=True, repr=False)
class ClusterState:
    """What the scheduler of a detached cluster keeps for those who come later. Never printed."""

    keys: ClusterKeys
    plan: ClusterPlan

    def as_json(self) -> dict[str, Any]:
        """All of it, for the scheduler."""
        plan = self.plan.model_dump(mode="json", exclude_defaults=True, exclude={"notes"})
        # Longer than who starts it waits for its workers.
        limit = self.plan.start_timeout_s + CONFIRM_GRACE_S
        return {"keys": self.keys.as_json(), "plan": plan, CONFIRM: limit}

    @classmethod
    def from_json(cls, kept: dict[str, Any]) -> ClusterState:
        """Take back what `as_json` gave."""
        return cls(ClusterKeys.from_json(kept["keys"]), ClusterPlan.model_validate(kept["plan"]))


def read_state(client: Client, cluster: ClusterInfo) -> ClusterState:
    """Ask a detached cluster for its keys and its plan.

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
        If it is not one of ``canvod-launch up``.
    ClusterError
        If it does not give an answer that can be understood.
    """
    scheduler = cluster.scheduler
    if cluster.kind != "detached" or scheduler is None:
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


def client_keys(client: Client, cluster: ClusterInfo) -> KeyFolder:
    """Get a client's keys of a cluster into files of this user, where they stay as long as the cluster.

    Parameters
    ----------
    client : docker.DockerClient
        The engine.
    cluster : ClusterInfo
        The cluster; of a cluster with a lease, keys are to be had for the user who started it.

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
        launcher = cluster.scheduler.labels.get(OWNER_LABEL, "")
        if (folder := KeyFolder.existing(cluster.name, launcher)) is not None:
            return folder
    mark = scheduler_mark(client, cluster)
    folder = KeyFolder.existing(cluster.name, mark)
    return folder or KeyFolder(cluster.name, read_state(client, cluster).keys, mark=mark)


def scheduler_mark(client: Client, cluster: ClusterInfo) -> str:
    """Mark the scheduler's own process, with which a detached cluster and its keys live and die.

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
    return owner_mark(pid)


def _why_not(cluster: ClusterInfo) -> str:
    if cluster.scheduler is None:
        return f"The scheduler of cluster {cluster.name} does not run."
    if cluster.kind == "compose":
        return f"Cluster {cluster.name} belongs to docker compose, which has its keys."
    return f"Cluster {cluster.name} belongs to the process that started it, and ends with it."


def _instead(cluster: ClusterInfo) -> str:
    if cluster.kind == "compose":
        return "get them from its service keys: docker compose cp keys:/keys/client ./client-keys"
    return "start one that stands: canvod-launch up"
