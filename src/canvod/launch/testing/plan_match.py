"""Whether the containers that run are what was planned, by what the engine and the kernel say of them.

The kernel's side is read on this host (``/proc``, ``/sys/fs/cgroup``), so the engine must run on it, which
canvod-launch needs anyway. Nothing runs in the containers for it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from canvod.launch.host.cpulist import parse_cpulist
from canvod.launch.host.labels import CLUSTER_LABEL
from canvod.launch.plan.model import DASHBOARD_PORT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from canvod.launch.docker.engine import Client
    from canvod.launch.plan.model import ClusterPlan, ContainerPlan

_CAPABILITY_SETS: Final = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")


def assert_containers_match_plan(client: Client, plan: ClusterPlan) -> None:
    """Assert that a cluster's containers are those of its plan, and are held to it.

    Compared are, of each container, what the engine was told (image, command, environment, labels, cpuset,
    memory, swap, CPU weight, process limit, user, hardening, mounts, networks, ports on 127.0.0.1 only), and
    what the kernel does (the limits of its cgroup; affinity and nice value of every thread; user, groups,
    capabilities, seccomp and no-new-privileges of every process; which mounts are read only).

    Parameters
    ----------
    client : docker.DockerClient
        An engine on this host.
    plan : ClusterPlan
        The plan. Of a cluster that was scaled, leave out the workers that are not to be there:
        ``plan.model_copy(update={"workers": plan.workers[:1]})``.

    Raises
    ------
    AssertionError
        If something differs; the message has a line for each difference, with what was found and planned.

    Examples
    --------
    >>> with DaskClusterManager(backend="docker") as manager:  # doctest: +SKIP
    ...     assert_containers_match_plan(docker.from_env(), manager.plan)
    """
    found = plan_differences(client, plan)
    if found:
        raise AssertionError("\n  ".join([f"cluster {plan.name} differs from its plan:", *found]))


def plan_differences(client: Client, plan: ClusterPlan) -> list[str]:
    """Find how a cluster's containers differ from its plan.

    Parameters
    ----------
    client : docker.DockerClient
        An engine on this host.
    plan : ClusterPlan
        The plan.

    Returns
    -------
    list of str
        One line for each difference; empty where there is none.
    """
    planned = {container.name: container for container in (plan.scheduler, *plan.workers)}
    listed = client.api.containers(all=True, filters={"label": f"{CLUSTER_LABEL}={plan.name}"})
    inspected = [client.api.inspect_container(container["Id"]) for container in listed]
    running = {found["Name"].lstrip("/"): found for found in inspected if found["State"]["Running"]}
    differences = [f"{name}: does not run" for name in planned.keys() - running.keys()]
    differences += [f"{name}: runs, and is not planned" for name in running.keys() - planned.keys()]
    differences += _compare("network", _network(client, plan), _planned_network(plan))
    for name in sorted(planned.keys() & running.keys()):
        container, found = planned[name], running[name]
        processes = [int(line[1]) for line in client.api.top(found["Id"], "-eo user,pid")["Processes"]]
        differences += _compare(
            name,
            _told(container, found) | _enforced(container, found, processes),
            _planned_request(container, plan) | _planned_limits(container),
        )
    return differences


def _compare(where: str, found: Mapping[str, object], planned: Mapping[str, object]) -> list[str]:
    return [
        f"{where}: {name} is {found.get(name)!r}, planned is {value!r}"
        for name, value in planned.items()
        if found.get(name) != value
    ]


def _network(client: Client, plan: ClusterPlan) -> dict[str, object]:
    found = client.api.networks(names=[plan.network.name])
    return {
        "number of networks of this name": len(found),
        "internal": [network["Internal"] for network in found],
        "labels": [_subset(network["Labels"], plan.network.labels) for network in found],
    }


def _planned_network(plan: ClusterPlan) -> dict[str, object]:
    return {
        "number of networks of this name": 1,
        "internal": [plan.network.internal],
        "labels": [plan.network.labels],
    }


def _subset(found: Mapping[str, str] | None, wanted: Mapping[str, str]) -> dict[str, str | None]:
    """What is found under the names that are wanted: images add environment and labels of their own."""
    return {name: (found or {}).get(name) for name in wanted}


def _planned_request(container: ContainerPlan, plan: ClusterPlan) -> dict[str, object]:
    publishes = container.role == "scheduler" and not plan.network.internal
    mounts = {(mount.path, mount.path, mount.read_only) for mount in container.mounts}
    if container.spill_path is not None and not any(m.path == container.spill_path for m in container.mounts):
        mounts.add(("volume", container.spill_path, False))
    return {
        "image": container.image,
        "command": container.command,
        "environment": container.environment,
        "labels": container.labels,
        "user": container.user,
        "further groups": sorted(map(str, container.groups)),
        "cpuset": container.cpuset_cpus,
        "NUMA nodes": container.cpuset_mems,
        "memory limit in bytes": container.memory_bytes,
        "memory and swap limit in bytes": container.memory_bytes,
        "CPU shares": container.cpu_shares or 0,
        "cgroup parent": container.cgroup_parent or "",
        "process limit": container.pids_limit,
        "size of /tmp in bytes": container.tmpfs_bytes,
        "read-only root": True,
        "dropped capabilities": ["ALL"],
        "added capabilities": [],
        "security options": ["no-new-privileges"],
        "privileged": False,
        "namespaces (PID, IPC, UTS)": ("", "private", ""),
        "restart policy": "no",
        "removed at its end": True,
        "mounts (source, path, read only)": sorted(mounts),
        "sockets among the mounts": [],
        "networks": [plan.network.name],
        "published ports": [f"{DASHBOARD_PORT}/tcp"] if publishes else [],
        "addresses of published ports": ["127.0.0.1"] if publishes else [],
    }


def _told(container: ContainerPlan, found: Mapping[str, Any]) -> dict[str, object]:
    """What the engine was told of a container, as it says itself."""
    host, config, network = found["HostConfig"], found["Config"], found["NetworkSettings"]
    environment = dict(entry.split("=", 1) for entry in config["Env"])
    size = re.search(r"size=(\d+)", (host["Tmpfs"] or {}).get("/tmp", ""))  # noqa: S108 - the container's own
    published = {port: bindings for port, bindings in (network["Ports"] or {}).items() if bindings}
    return {
        "image": config["Image"],
        "command": tuple(config["Cmd"] or ()),
        "environment": _subset(environment, container.environment),
        "labels": _subset(config["Labels"], container.labels),
        "user": config["User"],
        "further groups": sorted(host["GroupAdd"] or ()),
        "cpuset": tuple(parse_cpulist(host["CpusetCpus"])),
        "NUMA nodes": tuple(parse_cpulist(host["CpusetMems"])),
        "memory limit in bytes": host["Memory"],
        "memory and swap limit in bytes": host["MemorySwap"],
        "CPU shares": host["CpuShares"],
        "cgroup parent": host["CgroupParent"],
        "process limit": host["PidsLimit"],
        "size of /tmp in bytes": int(size[1]) if size else None,
        "read-only root": host["ReadonlyRootfs"],
        "dropped capabilities": host["CapDrop"] or [],
        "added capabilities": host["CapAdd"] or [],
        "security options": host["SecurityOpt"] or [],
        "privileged": host["Privileged"],
        "namespaces (PID, IPC, UTS)": (host["PidMode"], host["IpcMode"], host["UTSMode"]),
        "restart policy": host["RestartPolicy"]["Name"],
        "removed at its end": host["AutoRemove"],
        "mounts (source, path, read only)": _mounts(container, found["Mounts"]),
        "sockets among the mounts": [m["Source"] for m in found["Mounts"] if m["Source"].endswith(".sock")],
        "networks": sorted(network["Networks"]),
        "published ports": sorted(published),
        "addresses of published ports": sorted({b["HostIp"] for each in published.values() for b in each}),
    }


def _mounts(container: ContainerPlan, found: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, bool]]:
    """Mounts as the plan has them; an optional one that the engine could not make counts as made."""
    mounts = {
        ("volume" if mount["Type"] == "volume" else mount["Source"], mount["Destination"], not mount["RW"])
        for mount in found
    }
    optional = {(mount.path, mount.path, mount.read_only) for mount in container.mounts if mount.optional}
    return sorted(mounts | optional)


def _planned_limits(container: ContainerPlan) -> dict[str, object]:
    uid, gid = map(int, container.user.split(":"))
    read_only = {mount.path: mount.read_only for mount in container.mounts if not mount.optional}
    return {
        "the kernel's memory limit in bytes": container.memory_bytes,
        "the kernel's swap limit in bytes": 0,
        "the kernel's cpuset": container.cpuset_cpus,
        "the kernel's CPU weight": container.cpu_weight,
        "the kernel's process limit": container.pids_limit,
        "the kernel's read-only mounts": {"/": True, **read_only},
        "affinity of every thread": {container.cpuset_cpus},
        "nice value of every thread": {container.nice},
        "user of every process": {(uid, gid)},
        "groups of every process": {tuple(sorted({gid, *container.groups}))},
        "capabilities of every process": {0},
        "no-new-privileges and seccomp mode of every process": {("1", "2")},
    }


def _enforced(
    container: ContainerPlan, found: Mapping[str, Any], processes: Sequence[int]
) -> dict[str, object]:
    """What the kernel does with a container."""
    from canvod.launch.runtime.thread_resources import thread_resources

    first = int(found["State"]["Pid"])
    if found["Id"] not in _text(Path(f"/proc/{first}/cgroup")):
        raise AssertionError(
            f"{container.name}: the kernel's limits cannot be read, because process {first} of this host is "
            "none of the container's: the engine runs elsewhere, or in another PID namespace"
        )
    threads, own_threads, statuses = [], [], []
    for pid in processes:
        status = dict(line.split(":\t", 1) for line in _text(Path(f"/proc/{pid}/status")).splitlines())
        try:
            resources = thread_resources(pid)
        except FileNotFoundError:  # it has ended meanwhile
            continue
        statuses += [status] if status else []
        threads += resources
        # The first process is the engine's init, whose nice value is nobody's.
        own_threads += resources if pid != first else []
    mounts = _kernel_mounts(first)
    watched = ("/", *(mount.path for mount in container.mounts if not mount.optional))
    return _cgroup_limits(first) | {
        "the kernel's read-only mounts": {path: mounts.get(path) for path in watched},
        "affinity of every thread": {thread.cpu_affinity for thread in threads},
        "nice value of every thread": {thread.nice for thread in own_threads},
        "user of every process": {
            (int(uid), int(gid))
            for status in statuses
            for uid, gid in zip(status["Uid"].split(), status["Gid"].split(), strict=True)
        },
        "groups of every process": {tuple(sorted(map(int, s["Groups"].split()))) for s in statuses},
        "capabilities of every process": {int(s[name], 16) for s in statuses for name in _CAPABILITY_SETS},
        "no-new-privileges and seccomp mode of every process": {
            (status["NoNewPrivs"], status["Seccomp"]) for status in statuses
        },
    }


def _cgroup_limits(pid: int) -> dict[str, object]:
    """Limits of the cgroup of a process; files and units: the kernel's documentation of both versions."""
    groups: dict[str, str] = {}
    for line in _text(Path(f"/proc/{pid}/cgroup")).splitlines():
        _, controllers, path = line.split(":", 2)
        groups.update(dict.fromkeys(controllers.split(","), path))

    def read(controller: str, v1: str, v2: str) -> str:
        if controller in groups:
            return _text(Path("/sys/fs/cgroup", controller, groups[controller].lstrip("/"), v1)).strip()
        return _text(Path("/sys/fs/cgroup", groups[""].lstrip("/"), v2)).strip()

    memory = read("memory", "memory.limit_in_bytes", "memory.max")
    # Version 1 limits the sum of memory and swap, version 2 swap alone.
    swap = read("memory", "memory.memsw.limit_in_bytes", "memory.swap.max")
    if "memory" in groups:
        swap = str(int(swap) - int(memory)) if swap and memory else swap
    return {
        "the kernel's memory limit in bytes": _number(memory),
        "the kernel's swap limit in bytes": _number(swap),
        "the kernel's cpuset": tuple(parse_cpulist(read("cpuset", "cpuset.cpus", "cpuset.cpus.effective"))),
        "the kernel's CPU weight": _number(read("cpu", "cpu.shares", "cpu.weight")),
        "the kernel's process limit": _number(read("pids", "pids.max", "pids.max")),
    }


def _kernel_mounts(pid: int) -> dict[str, bool]:
    """Which mounts a process sees, and whether each is read only; proc(5) describes the fields."""
    mounts = {}
    for line in _text(Path(f"/proc/{pid}/mountinfo")).splitlines():
        point, options = line.split()[4:6]
        path = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), point)
        mounts[path] = "ro" in options.split(",")
    return mounts


def _number(text: str) -> int | str:
    return int(text) if text.isdecimal() else text


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
