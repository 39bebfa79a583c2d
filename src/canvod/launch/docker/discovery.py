"""The clusters of this host, as the engine's labels tell: no other state of them is kept anywhere."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from canvod.launch.docker.engine import translate
from canvod.launch.errors import ClusterExistsError, ClusterNotFoundError
from canvod.launch.host.labels import (
    CLUSTER_LABEL,
    DETACHED_LABEL,
    LABEL_PREFIX,
    OWNER_LABEL,
    ROLE_LABEL,
    UID_LABEL,
)
from canvod.launch.host.owner import owner_lives
from canvod.launch.plan.model import DASHBOARD_PORT, SCHEDULER_PORT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from canvod.launch.docker.engine import Client

type Kind = Literal["detached", "ephemeral", "compose"]
"""Started by ``canvod-launch up``, for the length of one job, or by ``docker compose up``."""

COMPOSE_LABEL: Final = "com.docker.compose.project"
COMPOSE_NUMBER_LABEL: Final = "com.docker.compose.container-number"


@dataclass(frozen=True)
class ContainerInfo:
    """One container of a cluster.

    Attributes
    ----------
    id, name : str
        By which the engine, and people, know it.
    role : str
        ``scheduler`` or ``worker``.
    dask_name : str
        Name of the worker in Dask, or ``scheduler``; of a replica of ``docker compose``, its number.
    state : str
        The engine's word, such as ``running``.
    address : str
        Its address on the cluster's network; empty where it has none.
    dashboard_port : int or None
        Port of the host that leads to its dashboard.
    created_s : float
        When it was made, in seconds since 1970.
    labels : dict
        All its labels.
    """

    id: str
    name: str
    role: str
    dask_name: str
    state: str
    address: str
    dashboard_port: int | None
    created_s: float
    labels: dict[str, str]

    @property
    def runs(self) -> bool:
        """Whether it runs."""
        return self.state == "running"


@dataclass(frozen=True)
class ClusterInfo:
    """The containers of one cluster.

    Attributes
    ----------
    name : str
        Its name.
    containers : tuple of ContainerInfo
        The scheduler first, then the workers by number.
    """

    name: str
    containers: tuple[ContainerInfo, ...]

    @property
    def kind(self) -> Kind:
        """Who started it, and for how long."""
        if any(COMPOSE_LABEL in container.labels for container in self.containers):
            return "compose"
        detached = any(container.labels.get(DETACHED_LABEL) == "true" for container in self.containers)
        return "detached" if detached else "ephemeral"

    @property
    def uid(self) -> int | None:
        """Whose it is, where a label says so."""
        uids = {container.labels.get(UID_LABEL, "") for container in self.containers}
        return next((int(uid) for uid in sorted(uids) if uid.isdecimal()), None)

    @property
    def mine(self) -> bool:
        """Whether it belongs to this user: to root, and where nobody knows, everything does."""
        return self.uid is None or os.getuid() in {0, self.uid}

    @property
    def scheduler(self) -> ContainerInfo | None:
        """The scheduler's container, where it runs."""
        return next((item for item in self.containers if item.role == "scheduler" and item.runs), None)

    @property
    def workers(self) -> tuple[ContainerInfo, ...]:
        """The workers' containers, in whatever state."""
        return tuple(item for item in self.containers if item.role == "worker")

    @property
    def owner_lives(self) -> bool:
        """Whether a process that started some of it is still there."""
        marks = {container.labels.get(OWNER_LABEL, "") for container in self.containers}
        return any(owner_lives(mark) for mark in marks)

    @property
    def scheduler_address(self) -> str:
        """Where Dask's clients reach it from this host; empty where its scheduler does not run."""
        scheduler = self.scheduler
        if scheduler is None or not scheduler.address:
            return ""
        return f"tls://{scheduler.address}:{SCHEDULER_PORT}"

    @property
    def dashboard_link(self) -> str:
        """Address of the dashboard, which can be reached from this host only; empty where there is none."""
        scheduler = self.scheduler
        if scheduler is None:
            return ""
        if scheduler.dashboard_port is not None:
            return f"http://127.0.0.1:{scheduler.dashboard_port}/status"
        return f"http://{scheduler.address}:{DASHBOARD_PORT}/status" if scheduler.address else ""


def find_clusters(client: Client) -> list[ClusterInfo]:
    """Find every cluster of the engine that has containers, of whoever and in whatever state.

    Parameters
    ----------
    client : docker.DockerClient
        The engine.

    Returns
    -------
    list of ClusterInfo
        In the order of their names.

    Raises
    ------
    EngineError
        If the engine does not answer.
    """
    with translate("list the clusters"):
        answer = client.api.containers(all=True, filters={"label": CLUSTER_LABEL})
    clusters: dict[str, list[ContainerInfo]] = {}
    for item in answer:
        container = _read(item)
        if container.role in {"scheduler", "worker"}:
            clusters.setdefault(container.labels[CLUSTER_LABEL], []).append(container)
    return [ClusterInfo(name, tuple(sorted(found, key=_order))) for name, found in sorted(clusters.items())]


def choose_cluster(clusters: Sequence[ClusterInfo], name: str | None) -> ClusterInfo:
    """Choose the cluster that is meant.

    Parameters
    ----------
    clusters : sequence of ClusterInfo
        What there is.
    name : str or None
        Its name; None means the only one of this user's that stands.

    Returns
    -------
    ClusterInfo
        It.

    Raises
    ------
    ClusterNotFoundError
        If there is none, or more than one; the message has the names that there are.
    """
    if name is not None:
        for cluster in clusters:
            if cluster.name == name:
                return cluster
        names = ", ".join(cluster.name for cluster in clusters)
        raise ClusterNotFoundError(
            f"There is no cluster {name} on this host; "
            + (f"there are: {names}." if names else "there is none at all."),
            hint="name one of these" if names else f"start it: canvod-launch up --name {name}",
        )
    detached = [cluster for cluster in clusters if cluster.kind != "ephemeral" and cluster.mine]
    if not detached:
        raise ClusterNotFoundError("No cluster of yours stands on this host.", hint="canvod-launch up")
    if len(detached) > 1:
        names = ", ".join(cluster.name for cluster in detached)
        raise ClusterNotFoundError(
            f"It is not clear which cluster is meant; {len(detached)} stand: {names}.",
            hint=f"name one: --name {detached[0].name}",
        )
    return detached[0]


def refuse_second(client: Client, name: str) -> None:
    """Refuse a name that a cluster has already.

    Parameters
    ----------
    client : docker.DockerClient
        The engine.
    name : str
        Name of a cluster that is to be started.

    Raises
    ------
    ClusterExistsError
        If there is one, of whoever; says what to do.
    """
    for cluster in find_clusters(client):
        if cluster.name == name:
            running = sum(container.runs for container in cluster.containers)
            owner = "" if cluster.mine else f" of the user with uid {cluster.uid}"
            raise ClusterExistsError(
                f"There is a cluster {name}{owner} already: {running} of its "
                f"{len(cluster.containers)} containers run.",
                hint=f"look at it: canvod-launch status --name {name}; use it: canvod-launch connect {name}; "
                "or take another name",
            )


def _read(item: dict[str, Any]) -> ContainerInfo:
    labels: dict[str, str] = item["Labels"] or {}
    name = (item.get("Names") or [item["Id"]])[0].lstrip("/")
    role = labels.get(ROLE_LABEL, "")
    number = labels.get(f"{LABEL_PREFIX}.worker") or labels.get(COMPOSE_NUMBER_LABEL)
    networks = (item.get("NetworkSettings") or {}).get("Networks") or {}
    ports = (
        port["PublicPort"]
        for port in item.get("Ports") or ()
        if port.get("PrivatePort") == DASHBOARD_PORT and port.get("PublicPort")
    )
    return ContainerInfo(
        id=item["Id"],
        name=name,
        role=role,
        dask_name=role if role == "scheduler" else f"worker-{number}" if number is not None else name,
        state=item["State"],
        address=next((net["IPAddress"] for net in networks.values() if net.get("IPAddress")), ""),
        dashboard_port=next(ports, None),
        created_s=float(item["Created"]),
        labels=labels,
    )


def _order(container: ContainerInfo) -> tuple[bool, int, str]:
    number = container.dask_name.rpartition("-")[2]
    return container.role != "scheduler", int(number) if number.isdecimal() else 0, container.name
