"""The state of a cluster: what the engine sees of its containers, and what its scheduler says."""

from __future__ import annotations

import pwd
import time
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from canvod.launch.cluster.scheduler_rpc import ask_scheduler
from canvod.launch.detached.credentials import client_keys
from canvod.launch.docker.engine import read_in_container, translate
from canvod.launch.docker.removal import in_threads
from canvod.launch.errors import ClusterError, ClusterNotFoundError, EngineError, KeysError

if TYPE_CHECKING:
    from canvod.launch.docker.discovery import ClusterInfo, ContainerInfo
    from canvod.launch.docker.engine import Client

type State = Literal["up", "degraded", "starting", "silent", "stopped"]
"""All workers are there; some are missing; some are on their way; the scheduler does not answer; it does not
run."""

_PEAK_FILE = "/sys/fs/cgroup/memory.peak"
"""The most memory that a container ever had, under cgroup v2 and Linux 5.19 or newer."""


@dataclass(frozen=True)
class ContainerStatus:
    """One container.

    Attributes
    ----------
    name : str
        Name in Dask.
    container : str
        Name on the engine; empty where it is gone.
    state : str
        The engine's word, such as ``running``; ``gone`` where it is missing, ``not registered`` where it runs
        and the scheduler does not know it.
    cores : str
        Its cpuset, such as ``0-3``.
    cap_bytes : int or None
        Kernel cap of its memory.
    memory_bytes, peak_bytes : int or None
        Memory now, without files that are only cached, and the most that it ever had, with them.
    tasks : int or None
        Tasks that it runs now.
    uptime_s : int or None
        Since it was made.
    """

    name: str
    container: str = ""
    state: str = "gone"
    cores: str = ""
    cap_bytes: int | None = None
    memory_bytes: int | None = None
    peak_bytes: int | None = None
    tasks: int | None = None
    uptime_s: int | None = None


@dataclass(frozen=True)
class ClusterStatus:
    """One cluster.

    Attributes
    ----------
    name : str
        Its name.
    kind : str
        ``detached``, ``ephemeral`` or ``compose``.
    user : str
        Whose it is; empty where unknown.
    state : str
        ``up``, ``degraded``, ``starting``, ``silent`` or ``stopped``.
    workers, workers_wanted : int
        Workers that are there, and that should be.
    scheduler_address, dashboard_link : str
        Where it is reached from this host.
    uptime_s : int or None
        Since its scheduler was made.
    tasks : dict of str to int
        Tasks by state, where the scheduler could be asked.
    containers : tuple of ContainerStatus
        The scheduler first.
    """

    name: str
    kind: str
    user: str
    state: State
    workers: int
    workers_wanted: int
    scheduler_address: str
    dashboard_link: str
    uptime_s: int | None
    tasks: dict[str, int]
    containers: tuple[ContainerStatus, ...]

    def as_json(self) -> dict[str, Any]:
        """All of it as plain values."""
        return asdict(self)


def cluster_status(client: Client, cluster: ClusterInfo) -> ClusterStatus:
    """Look at a cluster.

    Parameters
    ----------
    client : docker.DockerClient
        The engine.
    cluster : ClusterInfo
        The cluster.

    Returns
    -------
    ClusterStatus
        What is to be seen from here. Of other people's clusters, and of those of ``docker compose``, that is
        what the engine says.
    """
    answer, asked = _ask(client, cluster)
    known: dict[str, Any] = {} if answer is None else answer["workers"]
    measured: dict[str, ContainerStatus] = {}

    def measure(container: ContainerInfo) -> None:
        measured[container.id] = _measure(client, container)

    in_threads(measure, cluster.containers)
    found: list[ContainerStatus] = []
    for container in cluster.containers:
        status = measured[container.id]
        if container.role == "worker" and answer is not None:
            worker = known.get(container.dask_name) or known.get(container.name)
            status = _with_tasks(status, worker)
        found.append(status)
    wanted, there = _workers(cluster, answer)
    names = {status.name for status in found}
    if cluster.kind == "detached":
        found += [
            ContainerStatus(f"worker-{index}") for index in range(wanted) if f"worker-{index}" not in names
        ]
    scheduler = cluster.scheduler
    return ClusterStatus(
        name=cluster.name,
        kind=cluster.kind,
        user=_user(cluster.uid),
        state=_state(cluster, asked=asked, answers=answer is not None, complete=there >= wanted),
        workers=there,
        workers_wanted=wanted,
        scheduler_address=cluster.scheduler_address,
        dashboard_link=cluster.dashboard_link,
        uptime_s=None if scheduler is None else _since(scheduler.created_s),
        tasks={} if answer is None else answer["tasks"],
        containers=tuple(found),
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


def _workers(cluster: ClusterInfo, answer: dict[str, Any] | None) -> tuple[int, int]:
    """Count the workers that should be there, and that are."""
    if answer is None:
        return len(cluster.workers), sum(container.runs for container in cluster.workers)
    target = answer["target"]
    there = len(answer["workers"])
    return (max(len(cluster.workers), there) if target is None else int(target)), there


def _state(cluster: ClusterInfo, *, asked: bool, answers: bool, complete: bool) -> State:
    if cluster.scheduler is None:
        return "stopped"
    if (asked and not answers) or not complete:
        if cluster.owner_lives:
            return "starting"
        return "degraded" if answers or not asked else "silent"
    return "up"


def _with_tasks(status: ContainerStatus, worker: dict[str, Any] | None) -> ContainerStatus:
    if worker is not None:
        return replace(status, tasks=worker["tasks"])
    return replace(status, state="not registered" if status.state == "running" else status.state)


def _measure(client: Client, container: ContainerInfo) -> ContainerStatus:
    limits: dict[str, Any] = {}
    memory = peak = None
    try:
        with translate(f"look at the container {container.name}"):
            limits = client.api.inspect_container(container.id)["HostConfig"]
        if container.runs:
            memory, peak = _memory(client, container)
    except EngineError:
        pass  # it has just gone
    return ContainerStatus(
        name=container.dask_name,
        container=container.name,
        state=container.state,
        cores=limits.get("CpusetCpus", ""),
        cap_bytes=limits.get("Memory") or None,
        memory_bytes=memory,
        peak_bytes=peak,
        uptime_s=_since(container.created_s),
    )


def _memory(client: Client, container: ContainerInfo) -> tuple[int | None, int | None]:
    with translate(f"measure the container {container.name}"):
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


def _since(created_s: float) -> int:
    return max(0, int(time.time() - created_s))


def _user(uid: int | None) -> str:
    if uid is None:
        return ""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
