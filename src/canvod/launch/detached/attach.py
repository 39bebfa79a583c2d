"""Joining a cluster that stands already; nothing is started, and nothing is stopped at the end."""

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
    from canvod.launch.plan.model import ClusterPlan

ENGINE_TIMEOUT_S = 30.0


@dataclass(frozen=True, repr=False)
class Attachment:
    """How to use a cluster that somebody else has started.

    Attributes
    ----------
    name : str
        Its name.
    scheduler_address, dashboard_link : str
        Where it is reached from this host.
    keys : KeyFolder
        A client's keys; they stay as long as the cluster.
    plan : ClusterPlan or None
        What was started; None where that is not to be had.
    """

    name: str
    scheduler_address: str
    dashboard_link: str
    keys: KeyFolder
    plan: ClusterPlan | None

    def environment(self) -> dict[str, str]:
        """Environment variables with which a bare ``distributed.Client()`` connects."""
        return {"DASK_SCHEDULER_ADDRESS": self.scheduler_address, **self.keys.environment()}


def attach_by_name(name: str | None, client: Client | None = None) -> Attachment:
    """Find a detached cluster by its name.

    Parameters
    ----------
    name : str or None
        Its name; None means the only one of this user's that stands.
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
        cluster = choose_cluster(find_clusters(engine), name)
        keys = client_keys(engine, cluster)
        plan = read_state(engine, cluster).plan if cluster.kind == "detached" else None
    finally:
        if client is None:
            engine.close()
    return Attachment(cluster.name, cluster.scheduler_address, cluster.dashboard_link, keys, plan)


def attach_by_address(address: str) -> Attachment | None:
    """Find out whether a scheduler is that of a cluster of this host, and how to use it then.

    Parameters
    ----------
    address : str
        Address of the scheduler.

    Returns
    -------
    Attachment or None
        None where it is somebody else's business: Dask's own settings have to have the keys then.

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
                return attach_by_name(cluster.name, engine)
    finally:
        engine.close()
    return None
