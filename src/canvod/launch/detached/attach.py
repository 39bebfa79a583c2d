"""Using a cluster that another process has started; nothing is started, and nothing is stopped at the end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from canvod.launch.detached.credentials import client_keys, read_state
from canvod.launch.docker.discovery import choose_cluster, find_clusters
from canvod.launch.docker.engine import connect
from canvod.launch.errors import EngineError

if TYPE_CHECKING:
    from canvod.launch.cluster.tls import KeyFolder
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
        """Environment variables with which a bare ``distributed.Client()`` connects."""
        return {"DASK_SCHEDULER_ADDRESS": self.cluster.scheduler_address, **self.keys.environment()}


def attach_by_name(name: str | None, client: Client | None = None) -> Attachment:
    """Find a cluster by its name.

    Parameters
    ----------
    name : str or None
        Its name; None means the only detached one of this user.
    client : docker.DockerClient, optional
        The engine; it is looked for by default.

    Returns
    -------
    Attachment
        How to use it.

    Raises
    ------
    ClusterNotFoundError
        If there is no such cluster; the message has the names that there are.
    EngineError
        If no engine answers.
    ClusterError, KeysError
        If its keys cannot be had.
    """
    engine = client or connect(timeout_s=ENGINE_TIMEOUT_S)
    try:
        return _attach(engine, choose_cluster(find_clusters(engine), name))
    finally:
        if client is None:
            engine.close()


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
    ClusterNotFoundError, ClusterError, KeysError
        If it is one of this host, and its keys cannot be had.
    """
    if not address.startswith("tls://"):
        return None
    try:
        engine = connect(timeout_s=ENGINE_TIMEOUT_S)
    except EngineError:
        return None
    try:
        for cluster in find_clusters(engine):
            if cluster.scheduler_address == address and cluster.kind != "compose":
                return _attach(engine, cluster)
    finally:
        engine.close()
    return None


def _attach(engine: Client, cluster: ClusterInfo) -> Attachment:
    state = read_state(engine, cluster)
    return Attachment(cluster, client_keys(engine, cluster, state), state.plan)
