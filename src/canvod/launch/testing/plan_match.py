"""Whether the containers that run are what was planned, by what the engine and the kernel say of them.

The kernel's side is read on this host (``/proc``, ``/sys/fs/cgroup``), so the engine must run on it, which
canvod-launch needs anyway. Nothing runs in the containers for it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from canvod.launch.docker.engine import translate
from canvod.launch.host.cgroups import groups_of, read_text, unescape
from canvod.launch.host.cpulist import parse_cpulist
from canvod.launch.host.labels import CLUSTER_LABEL
from canvod.launch.plan.model import DASHBOARD_PORT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from canvod.launch.docker.engine import Client
    from canvod.launch.plan.model import ClusterPlan, ContainerPlan

type _Row = tuple[str, object, object]
"""What is compared, what was found, and what is planned."""

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
        Also if the containers' processes are not on this host.
    EngineError
        If the engine does not answer.

    Examples
    --------
    >>> with DaskClusterManager(backend="docker") as manager:  # doctest: +SKIP
    ...     assert_containers_match_plan(docker.from_env(), manager.plan)
    """
    found = plan_differences(client, plan)
    if found:
        raise AssertionError("\n  ".join([f"cluster {plan.name} differs from its plan:", *found]))


@translate("compare containers with their plan")
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

    Raises
    ------
    AssertionError
        If the containers' processes are not on this host, so that the kernel's limits cannot be read.
    EngineError
        If the engine does not answer.
    """
    planned = {container.name: container for container in (plan.scheduler, *plan.workers)}
    listed = client.api.containers(all=True, filters={"label": f"{CLUSTER_LABEL}={plan.name}"})
    inspected = [client.api.inspect_container(container["Id"]) for container in listed]
    running = {found["Name"].lstrip("/"): found for found in inspected if found["State"]["Running"]}
    differences = [f"{name}: does not run" for name in planned.keys() - running.keys()]
    differences += [f"{name}: runs, and is not planned" for name in running.keys() - planned.keys()]
    compared = [("network", row) for row in _network(client, plan)]
    for name in sorted(planned.keys() & running.keys()):
        container, found = planned[name], running[name]
        processes = [int(line[1]) for line in client.api.top(found["Id"], "-eo user,pid")["Processes"]]
        compared += [(name, row) for row in _told(container, plan, found)]
        compared += [(name, row) for row in _enforced(container, found, processes)]
    return differences + [
        f"{where}: {what} is {is_so!r}, planned is {wanted!r}"
        for where, (what, is_so, wanted) in compared
        if is_so != wanted
    ]


def _network(client: Client, plan: ClusterPlan) -> Iterator[_Row]:
    found, planned = client.api.networks(names=[plan.network.name]), plan.network
    yield "number of networks of this name", len(found), 1
    yield "internal", [network["Internal"] for network in found], [planned.internal]
    yield "labels", [_subset(network["Labels"], planned.labels) for network in found], [planned.labels]


def _subset(found: Mapping[str, str] | None, wanted: Mapping[str, str]) -> dict[str, str | None]:
    """What is found under the names that are wanted: images add environment and labels of their own."""
    return {name: (found or {}).get(name) for name in wanted}


def _told(container: ContainerPlan, plan: ClusterPlan, found: Mapping[str, Any]) -> Iterator[_Row]:
    """What the engine was told of a container, as it says itself."""
    host, config, network = found["HostConfig"], found["Config"], found["NetworkSettings"]
    environment = dict(entry.split("=", 1) for entry in config["Env"])
    size = re.search(r"size=(\d+)", (host["Tmpfs"] or {}).get("/tmp", ""))  # noqa: S108 - the container's own
    published = {port: bindings for port, bindings in (network["Ports"] or {}).items() if bindings}
    addresses = sorted({binding["HostIp"] for bindings in published.values() for binding in bindings})
    publishes = container.role == "scheduler" and not plan.network.internal
    mounts = {(mount.path, mount.path, mount.read_only): mount.optional for mount in container.mounts}
    if container.spill_path is not None and not any(m.path == container.spill_path for m in container.mounts):
        mounts["volume", container.spill_path, False] = False
    mounted = {
        ("volume" if mount["Type"] == "volume" else mount["Source"], mount["Destination"], not mount["RW"])
        for mount in found["Mounts"]
    }
    # An optional one that the engine could not make counts as made.
    mounted |= {mount for mount, optional in mounts.items() if optional}
    yield "image", config["Image"], container.image
    yield "command", tuple(config["Cmd"] or ()), container.command
    yield "environment", _subset(environment, container.environment), container.environment
    yield "labels", _subset(config["Labels"], container.labels), container.labels
    yield "user", config["User"], container.user
    yield "further groups", sorted(host["GroupAdd"] or ()), sorted(map(str, container.groups))
    yield "cpuset", parse_cpulist(host["CpusetCpus"]), container.cpuset_cpus
    yield "NUMA nodes", parse_cpulist(host["CpusetMems"]), container.cpuset_mems
    yield "memory limit in bytes", host["Memory"], container.memory_bytes
    yield "memory and swap limit in bytes", host["MemorySwap"], container.memory_bytes
    yield "CPU shares", host["CpuShares"], container.cpu_shares or 0
    yield "cgroup parent", host["CgroupParent"], container.cgroup_parent or ""
    yield "process limit", host["PidsLimit"], container.pids_limit
    yield "size of /tmp in bytes", int(size[1]) if size else None, container.tmpfs_bytes
    yield "read-only root", host["ReadonlyRootfs"], True
    yield "dropped capabilities", host["CapDrop"], ["ALL"]
    yield "added capabilities", host["CapAdd"] or [], []
    yield "security options", host["SecurityOpt"], ["no-new-privileges"]
    yield "privileged", host["Privileged"], False
    namespaces = (host["PidMode"], host["IpcMode"], host["UTSMode"])
    yield "namespaces (PID, IPC, UTS)", namespaces, ("", "private", "")
    yield "restart policy", host["RestartPolicy"]["Name"], "no"
    yield "removed at its end", host["AutoRemove"], True
    yield "mounts (source, path, read only)", sorted(mounted), sorted(mounts)
    sockets = [mount["Source"] for mount in found["Mounts"] if mount["Source"].endswith(".sock")]
    yield "sockets among the mounts", sockets, []
    yield "networks", sorted(network["Networks"]), [plan.network.name]
    yield "published ports", sorted(published), [f"{DASHBOARD_PORT}/tcp"] if publishes else []
    yield "addresses of published ports", addresses, ["127.0.0.1"] if publishes else []


def _enforced(container: ContainerPlan, found: Mapping[str, Any], processes: Sequence[int]) -> Iterator[_Row]:
    """What the kernel does with a container."""
    from canvod.launch.runtime.thread_resources import thread_resources

    first = int(found["State"]["Pid"])
    if found["Id"] not in read_text(Path(f"/proc/{first}/cgroup")):
        raise AssertionError(
            f"{container.name}: the kernel's limits cannot be read, because process {first} of this host is "
            "none of the container's: the engine runs elsewhere, or in another PID namespace"
        )
    yield from _cgroup_limits(container, first)
    mounts = _kernel_mounts(first)
    read_only = {"/": True} | {each.path: each.read_only for each in container.mounts if not each.optional}
    yield "the kernel's read-only mounts", {path: mounts.get(path) for path in read_only}, read_only
    threads, own_threads, statuses = [], [], []
    for pid in processes:
        text = read_text(Path(f"/proc/{pid}/status"))
        try:
            resources = thread_resources(pid)
        except FileNotFoundError:  # it has ended meanwhile
            continue
        statuses += [dict(line.split(":\t", 1) for line in text.splitlines())] if text else []
        threads += resources
        # The first process is the engine's init, whose nice value is nobody's.
        own_threads += resources if pid != first else []
    uid, gid = map(int, container.user.split(":"))
    yield "affinity of every thread", {each.cpu_affinity for each in threads}, {container.cpuset_cpus}
    yield "nice value of every thread", {each.nice for each in own_threads}, {container.nice}
    users = {pair for each in statuses for pair in zip(each["Uid"].split(), each["Gid"].split(), strict=True)}
    yield "user of every process", users, {(str(uid), str(gid))}
    groups = {tuple(sorted(map(int, each["Groups"].split()))) for each in statuses}
    yield "groups of every process", groups, {tuple(sorted({gid, *container.groups}))}
    capabilities = {int(each[name], 16) for each in statuses for name in _CAPABILITY_SETS}
    yield "capabilities of every process", capabilities, {0}
    modes = {(each["NoNewPrivs"], each["Seccomp"]) for each in statuses}
    yield "no-new-privileges and seccomp mode of every process", modes, {("1", "2")}


def _cgroup_limits(container: ContainerPlan, pid: int) -> Iterator[_Row]:
    """Limits of the cgroup of a process; files and units: the kernel's documentation of both versions."""
    groups = groups_of(Path(f"/proc/{pid}/cgroup"))

    def read(controller: str, v1: str, v2: str) -> str:
        if controller in groups:
            return read_text(Path("/sys/fs/cgroup", controller, groups[controller].lstrip("/"), v1)).strip()
        return read_text(Path("/sys/fs/cgroup", groups[""].lstrip("/"), v2)).strip()

    memory = read("memory", "memory.limit_in_bytes", "memory.max")
    # Version 1 limits the sum of memory and swap, version 2 swap alone.
    swap = read("memory", "memory.memsw.limit_in_bytes", "memory.swap.max")
    if "memory" in groups and memory and swap:
        swap = str(int(swap) - int(memory))
    cpuset = read("cpuset", "cpuset.cpus", "cpuset.cpus.effective")
    yield "the kernel's memory limit in bytes", memory, str(container.memory_bytes)
    yield "the kernel's swap limit in bytes", swap, "0"
    yield "the kernel's cpuset", parse_cpulist(cpuset), container.cpuset_cpus
    yield "the kernel's CPU weight", read("cpu", "cpu.shares", "cpu.weight"), str(container.cpu_weight)
    yield "the kernel's process limit", read("pids", "pids.max", "pids.max"), str(container.pids_limit)


def _kernel_mounts(pid: int) -> dict[str, bool]:
    """Which mounts a process sees, and whether each is read only; proc(5) describes the fields."""
    mounts = {}
    for line in read_text(Path(f"/proc/{pid}/mountinfo")).splitlines():
        point, options = line.split()[4:6]
        mounts[unescape(point)] = "ro" in options.split(",")
    return mounts
