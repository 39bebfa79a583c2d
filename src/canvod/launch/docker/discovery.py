"""The clusters of this host, as the engine's labels tell: no other state of them is kept anywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from canvod.launch.docker.engine import translate
from canvod.launch.errors import ClusterExistsError, ClusterNotFoundError
from canvod.launch.host.clusters import ClusterInfo, ContainerInfo
from canvod.launch.host.labels import CLUSTER_LABEL, COMPOSE_NUMBER_LABEL, LABEL_PREFIX, ROLE_LABEL
from canvod.launch.plan.model import DASHBOARD_PORT, SCHEDULER_PORT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from canvod.launch.docker.engine import Client


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
        answer: list[dict[str, Any]] = client.api.containers(all=True, filters={"label": CLUSTER_LABEL})
    clusters: dict[str, list[dict[str, Any]]] = {}
    for item in answer:
        if item["Labels"].get(ROLE_LABEL) in {"scheduler", "worker"}:
            clusters.setdefault(item["Labels"][CLUSTER_LABEL], []).append(item)
    return [_read_cluster(name, items) for name, items in sorted(clusters.items())]


def choose_cluster(clusters: Sequence[ClusterInfo], name: str | None) -> ClusterInfo:
    """Choose the cluster that is meant.

    Parameters
    ----------
    clusters : sequence of ClusterInfo
        What there is.
    name : str or None
        Its name; None means the only detached one of this user.

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
        raise ClusterNotFoundError("You have no detached cluster on this host.", hint="canvod-launch up")
    if len(detached) > 1:
        names = ", ".join(cluster.name for cluster in detached)
        raise ClusterNotFoundError(
            f"It is not clear which cluster is meant; there are {len(detached)}: {names}.",
            hint="name one of them",
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
    EngineError
        If the engine does not answer.
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


def scheduler_address(address: str) -> str:
    """Give the address for Dask of a scheduler's container.

    Parameters
    ----------
    address : str
        Address of the container on its network; empty where it has none.

    Returns
    -------
    str
        Such as ``tls://172.18.0.2:8786``; empty where the container has no address.
    """
    return f"tls://{address}:{SCHEDULER_PORT}" if address else ""


def dashboard_link(address: str, port: int | None) -> str:
    """Give the address of a dashboard, which can be reached from this host only.

    Parameters
    ----------
    address : str
        Address of the scheduler's container on its network; empty where it has none.
    port : int or None
        Port of 127.0.0.1 that leads to the dashboard, where one is published.

    Returns
    -------
    str
        An address for a browser; empty where the dashboard cannot be reached.
    """
    if port is not None:
        return f"http://127.0.0.1:{port}/status"
    return f"http://{address}:{DASHBOARD_PORT}/status" if address else ""


def _read_cluster(name: str, items: list[dict[str, Any]]) -> ClusterInfo:
    """Read the engine's list of the containers of one cluster."""
    containers = tuple(sorted((_read_container(item) for item in items), key=_order))
    for item in items:
        if item["Labels"][ROLE_LABEL] == "scheduler" and item["State"] == "running":
            networks = (item.get("NetworkSettings") or {}).get("Networks") or {}
            address = next((net["IPAddress"] for net in networks.values() if net.get("IPAddress")), "")
            ports = (
                int(port["PublicPort"])
                for port in item.get("Ports") or ()
                if port.get("PrivatePort") == DASHBOARD_PORT and port.get("PublicPort")
            )
            link = dashboard_link(address, next(ports, None))
            return ClusterInfo(name, containers, scheduler_address(address), link)
    return ClusterInfo(name, containers)


def _read_container(item: dict[str, Any]) -> ContainerInfo:
    labels: dict[str, str] = item["Labels"]
    container = (item.get("Names") or [item["Id"]])[0].lstrip("/")
    role = labels[ROLE_LABEL]
    number = labels.get(f"{LABEL_PREFIX}.worker") or labels.get(COMPOSE_NUMBER_LABEL)
    return ContainerInfo(
        name=role if role == "scheduler" else f"worker-{number}" if number is not None else container,
        role=role,
        state=item["State"],
        id=item["Id"],
        container=container,
        created_s=float(item["Created"]),
        labels=labels,
    )


def _order(container: ContainerInfo) -> tuple[bool, int, str]:
    number = container.name.rpartition("-")[2]
    return container.role != "scheduler", int(number) if number.isdecimal() else 0, container.container
