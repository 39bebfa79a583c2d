"""Random hosts, engines and settings for the properties of plans."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from canvod.launch.config import Settings
from canvod.launch.host.inventory import Cpu, EngineInventory, HostInventory
from canvod.launch.plan.planner import make_plan
from canvod.launch.units import GIB

if TYPE_CHECKING:
    from canvod.launch.plan.model import ClusterPlan


def make_host(
    nodes: int = 1,
    cores: int = 4,
    smt: int = 1,
    *,
    allowed: set[int] | None = None,
    memory_gb: float = 64,
    adjacent: bool = False,
    **changes: Any,
) -> HostInventory:
    """Build a host: so many NUMA nodes of so many physical cores of so many hardware threads.

    Siblings are numbered as Linux does on x86 (all first threads, then all second ones), or side by side.
    """
    physical = nodes * cores
    cpus = []
    for core in range(physical):
        ids = tuple(core * smt + n if adjacent else core + n * physical for n in range(smt))
        cpus += [Cpu(id=cpu, core=ids, node=core // cores) for cpu in ids]
    cpus.sort(key=lambda cpu: cpu.id)
    values: dict[str, Any] = {
        "cpus": tuple(cpu for cpu in cpus if allowed is None or cpu.id in allowed),
        "other_cpus": tuple(cpu for cpu in cpus if allowed is not None and cpu.id not in allowed),
        "cpu_quota": None,
        "memory_total_bytes": int(memory_gb * GIB),
        "memory_available_bytes": int(memory_gb * GIB * 0.9),
        "memory_limit_bytes": None,
        "node_memory_bytes": {node: int(memory_gb * GIB / nodes) for node in range(nodes)},
        "cgroup_version": 2,
        "uid": 1000,
        "gid": 1000,
    }
    return HostInventory.model_validate(values | changes)


def make_engine(**changes: Any) -> EngineInventory:
    """Build an engine: Docker 26 of Debian 13 unless told otherwise."""
    values: dict[str, Any] = {
        "server_version": "26.1.5",
        "api_version": "1.45",
        "cgroup_version": 2,
        "cgroup_driver": "systemd",
        "runtime_version": "1.1.15",
        "storage_driver": "overlay2",
    }
    return EngineInventory.model_validate(values | changes)


def make_settings(**sections: Any) -> Settings:
    """Build settings from sections, or from fields of ``processing`` and ``launch`` by their dotted name."""
    return Settings.model_validate(sections)


def planned(settings: Settings, host: HostInventory, **arguments: Any) -> ClusterPlan:
    """Plan containers called ``test`` for Python 3.14 and version 1, unless told otherwise."""
    given: dict[str, Any] = {"backend": "docker", "name": "test", "python": "3.14", "version": "1"}
    return make_plan(settings, host, **(given | arguments))


@st.composite
def hosts(draw: st.DrawFn) -> HostInventory:
    """Hosts with 1 to 4 nodes, SMT or not, holes, restricted sets, limits, and 1 GiB to 2 TiB of memory."""
    nodes, cores = draw(st.integers(1, 4)), draw(st.integers(1, 12))
    smt = draw(st.sampled_from([1, 1, 2, 2, 4]))
    everything = list(range(nodes * cores * smt))
    allowed = draw(st.none() | st.sets(st.sampled_from(everything), min_size=1))
    memory = draw(st.integers(1 * GIB, 2048 * GIB))
    limit = draw(st.none() | st.integers(GIB, 2 * memory))
    ceiling = memory if limit is None else min(memory, limit)
    known = draw(st.booleans())
    memoryless = draw(st.integers(0, nodes))
    return make_host(
        nodes,
        cores,
        smt,
        allowed=allowed,
        adjacent=draw(st.booleans()),
        cpu_quota=draw(st.none() | st.floats(0.1, 64)),
        memory_total_bytes=memory,
        memory_available_bytes=draw(st.integers(0, ceiling)),
        memory_limit_bytes=limit,
        node_memory_bytes={n: 0 if n == memoryless else memory // nodes for n in range(nodes)}
        if known
        else {},
        cgroup_version=draw(st.sampled_from([1, 2])),
        uid=draw(st.sampled_from([0, 1000])),
        groups=draw(st.sampled_from([(), (27, 1000)])),
    )


engines = st.builds(
    make_engine,
    cgroup_version=st.sampled_from([1, 2]),
    cgroup_driver=st.sampled_from(["systemd", "cgroupfs"]),
    runtime_version=st.sampled_from(["", "1.1.5", "1.3.1", "1.3.2", "1.4.0-rc.1", "2.0"]),
    missing_limits=st.lists(st.sampled_from(["memory", "swap", "cpuset", "pids"]), unique=True).map(tuple),
)


@st.composite
def cases(draw: st.DrawFn) -> tuple[Settings, HostInventory]:
    """Pairs of a host and valid settings that need not fit it."""
    host = draw(hosts())
    ids = st.sampled_from([cpu.id for cpu in host.cpus]) | st.integers(0, 200)
    total_gb = host.memory_total_bytes / GIB
    processing: dict[str, Any] = {
        "resource_mode": draw(st.sampled_from(["auto", "manual"])),
        "n_max_threads": draw(st.integers(1, 10_000)),
        "max_memory_gb": draw(st.none() | st.floats(0.01, total_gb * 2)),
        "threads_per_worker": draw(st.integers(1, 1000)),
        "cpu_affinity": draw(st.none() | st.lists(ids, min_size=1, unique=True)),
        "nice_priority": draw(st.integers(0, 19)),
    }
    launch: dict[str, Any] = {
        "scheduler_memory_gb": draw(st.floats(0.01, total_gb * 2)),
        "reserve_cores": draw(st.none() | st.integers(0, 100)),
        "reserve_memory_gb": draw(st.none() | st.floats(0, total_gb * 2)),
        "cgroup_parent": draw(st.sampled_from([None, "canvod.slice", "/canvod"])),
        "cpu_weight": draw(st.none() | st.integers(1, 10_000)),
        "writable": draw(st.sampled_from([(), ("/data",), ("/tmp",), ("/spill",)])),
    }
    return make_settings(processing=processing, launch=launch), host


@st.composite
def fitting_cases(draw: st.DrawFn) -> tuple[Settings, HostInventory]:
    """Pairs of a host and settings that it can carry out."""
    host = draw(hosts())
    ids = [cpu.id for cpu in host.cpus]
    ceiling = min(host.memory_total_bytes, host.memory_limit_bytes or host.memory_total_bytes)
    # Always enough for the scheduler (0.25 GiB) and one worker (0.5 GiB) at the least.
    available = draw(st.integers(min(ceiling, int(0.75 * GIB)), ceiling))
    host = host.model_copy(update={"memory_available_bytes": available})
    # The scheduler is not counted among the workers' memory in manual mode.
    budget_gb = draw(st.floats(0.5, max(0.5, ceiling / GIB)))
    detected_gb = max(0.0, available / GIB - 0.25)
    given_memory = draw(st.booleans()) or detected_gb < 0.5
    most = int((budget_gb if given_memory else detected_gb) / 0.5)
    auto = draw(st.booleans()) and detected_gb >= 0.5
    memory = max(0.5, budget_gb) if given_memory else None
    processing: dict[str, Any] = {
        "resource_mode": "auto" if auto else "manual",
        "n_max_threads": draw(st.integers(1, max(1, min(40, most)))),
        "max_memory_gb": memory,
        "threads_per_worker": draw(st.integers(1, 6)),
        "cpu_affinity": draw(st.none() | st.lists(st.sampled_from(ids), min_size=1, unique=True)),
        "nice_priority": draw(st.integers(0, 19)),
    }
    granted = len(ids) if host.cpu_quota is None else min(len(ids), max(1, int(host.cpu_quota)))
    launch: dict[str, Any] = {
        "scheduler_memory_gb": 0.25,
        "reserve_cores": draw(st.none() | st.integers(0, granted - 1)),
        "reserve_memory_gb": draw(st.floats(0, max(0.0, detected_gb - 0.5))) if auto else 0,
        "cgroup_parent": draw(st.sampled_from([None, "canvod.slice"])),
        "cpu_weight": draw(st.none() | st.integers(1, 10_000)),
        "spill_dir": draw(st.sampled_from([None, "/scratch"])),
    }
    return make_settings(processing=processing, launch=launch), host
