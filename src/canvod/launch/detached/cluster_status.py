"""How a cluster is: what the engine sees of its containers, and what its scheduler says."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from canvod.launch.cluster.scheduler_connection import SchedulerConnection
from canvod.launch.detached.attach import client_keys
from canvod.launch.docker.container_memory import container_memory
from canvod.launch.docker.engine import translate
from canvod.launch.errors import ClusterError, ClusterNotFoundError, EngineError, KeysError
from canvod.launch.host.clusters import ContainerInfo
from canvod.launch.threads import in_threads

if TYPE_CHECKING:
    from canvod.launch.docker.engine import Client
    from canvod.launch.host.clusters import ClusterInfo, State


def cluster_status(client: Client, cluster: ClusterInfo) -> ClusterInfo:
    """Find out how a cluster is, from the engine and from its scheduler.

    Parameters
    ----------
    client : docker.DockerClient
        The engine.
    cluster : ClusterInfo
        The cluster.

    Returns
    -------
    ClusterInfo
        The same with its state, its registered workers, their tasks, and limits and memory of its containers.
        Of other users' clusters, and of those of ``docker compose``, only what the engine says.
    """
    answer, asked = _ask(client, cluster)
    measured: dict[str, ContainerInfo] = {}

    def measure(container: ContainerInfo) -> None:
        measured[container.id] = _measure(client, container)

    in_threads(measure, cluster.containers)
    containers = [measured[container.id] for container in cluster.containers]
    if answer is None:
        registered = tuple(container.name for container in cluster.workers if container.runs)
        target = len(cluster.workers)
    else:
        registered = tuple(answer["workers"])
        target = answer["target"]
        if target is None:
            target = max(len(cluster.workers), len(registered))
        containers = [_with_tasks(container, answer["workers"]) for container in containers]
    if cluster.kind == "detached":
        names = {container.name for container in containers}
        planned = (f"worker-{index}" for index in range(target))
        containers += [ContainerInfo(name, "worker") for name in planned if name not in names]
    complete = len(registered) >= target
    return replace(
        cluster,
        containers=tuple(containers),
        registered=registered,
        target=target,
        tasks={} if answer is None else answer["tasks"],
        state=_state(cluster, asked=asked, answers=answer is not None, complete=complete),
    )


def _ask(client: Client, cluster: ClusterInfo) -> tuple[dict[str, Any] | None, bool]:
    """Ask the scheduler; tell what it says, and whether its keys were to be had at all."""
    try:
        security = client_keys(client, cluster).security()
        with closing(SchedulerConnection(cluster.scheduler_address, security)) as connection:
            return connection.ask(), True
    except ClusterError:
        return None, True
    except (ClusterNotFoundError, KeysError, EngineError):
        return None, False


def _state(cluster: ClusterInfo, *, asked: bool, answers: bool, complete: bool) -> State:
    if cluster.scheduler is None:
        return "stopped"
    if (asked and not answers) or not complete:
        if cluster.owner_lives:
            return "starting"
        return "degraded" if answers or not asked else "silent"
    return "up"


def _with_tasks(container: ContainerInfo, workers: dict[str, Any]) -> ContainerInfo:
    """Add what the scheduler knows of a worker, which calls a replica of Compose as the engine does."""
    if container.role != "worker":
        return container
    worker = workers.get(container.name) or workers.get(container.container)
    if worker is not None:
        return replace(container, tasks=worker["tasks"])
    return replace(container, state="not registered") if container.runs else container


def _measure(client: Client, container: ContainerInfo) -> ContainerInfo:
    limits: dict[str, Any] = {}
    memory = peak = None
    try:
        with translate(f"look at the container {container.container}"):
            limits = client.api.inspect_container(container.id)["HostConfig"]
        if container.runs:
            memory, peak = container_memory(client, container.id)
    except EngineError:
        pass  # it has just gone
    return replace(
        container,
        cores=limits.get("CpusetCpus", ""),
        memory_limit_bytes=limits.get("Memory") or None,
        memory_bytes=memory,
        peak_bytes=peak,
    )
