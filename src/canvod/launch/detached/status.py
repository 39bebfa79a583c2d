"""How a cluster is: what the engine sees of its containers, and what its scheduler says."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from canvod.launch.cluster.scheduler_rpc import ask_scheduler
from canvod.launch.detached.credentials import client_keys
from canvod.launch.docker.engine import read_in_container, translate
from canvod.launch.errors import ClusterError, ClusterNotFoundError, EngineError, KeysError
from canvod.launch.host.clusters import ContainerInfo
from canvod.launch.threads import in_threads

if TYPE_CHECKING:
    from canvod.launch.docker.engine import Client
    from canvod.launch.host.clusters import ClusterInfo, State

_PEAK_FILE: Final = "/sys/fs/cgroup/memory.peak"
"""The most memory that a container ever had, under cgroup v2 and Linux 5.19 or newer."""


def cluster_status(client: Client, cluster: ClusterInfo) -> ClusterInfo:
    """Look at a cluster.

    Parameters
    ----------
    client : docker.DockerClient
        The engine.
    cluster : ClusterInfo
        The cluster.

    Returns
    -------
    ClusterInfo
        The same with its state, and what is to be seen from here. Of other people's clusters, and of those of
        ``docker compose``, that is what the engine says.
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
        containers = [_with_tasks(container, answer["workers"]) for container in containers]
        target = answer["target"]
        if target is None:
            target = max(len(cluster.workers), len(registered))
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
    if cluster.scheduler is None:
        return None, False
    try:
        security = client_keys(client, cluster).security()
    except (ClusterNotFoundError, KeysError, EngineError):
        return None, False
    except ClusterError:
        return None, True
    try:
        return ask_scheduler(cluster.scheduler_address, security), True
    except ClusterError:
        return None, True


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
            memory, peak = _memory(client, container)
    except EngineError:
        pass  # it has just gone
    return replace(
        container,
        cores=limits.get("CpusetCpus", ""),
        memory_limit_bytes=limits.get("Memory") or None,
        memory_bytes=memory,
        peak_bytes=peak,
    )


def _memory(client: Client, container: ContainerInfo) -> tuple[int | None, int | None]:
    with translate(f"measure the container {container.container}"):
        answer: Any = client.api.stats(container.id, stream=False, one_shot=True)
    memory, peak = read_memory(answer.get("memory_stats") or {})
    if peak is None:
        try:
            peak = int(read_in_container(client, container.id, ["cat", _PEAK_FILE]))
        except (EngineError, ValueError):
            peak = None
    return memory, peak


def read_memory(stats: dict[str, Any]) -> tuple[int | None, int | None]:
    """Read the memory of a container out of the engine's statistics, as ``docker stats`` does.

    Parameters
    ----------
    stats : dict
        ``memory_stats`` of the engine's answer.

    Returns
    -------
    tuple of two int or None
        Memory now without inactive files, and the most that it ever had, in bytes. The engine tells the
        second under cgroup v1 only.

    Examples
    --------
    >>> read_memory({"usage": 900, "max_usage": 1000, "stats": {"total_inactive_file": 100}})
    (800, 1000)
    >>> read_memory({"usage": 900, "stats": {"inactive_file": 100}})
    (800, None)
    """
    usage = stats.get("usage")
    if usage is None:
        return None, None
    details = stats.get("stats") or {}
    inactive = details.get("total_inactive_file", details.get("inactive_file", 0))
    return max(0, int(usage) - int(inactive)), stats.get("max_usage") or None
