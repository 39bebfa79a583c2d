"""What this process may use of the host: the only part of the plan that reads the machine."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from canvod.launch.host.cgroups import read_cgroups, read_text
from canvod.launch.host.cpulist import parse_cpulist
from canvod.launch.host.inventory import Cpu, HostInventory

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True, slots=True)
class ProcessView:
    """What the kernel tells a process through calls, not through files."""

    affinity: frozenset[int]
    """IDs of the logical CPUs that the process may run on."""
    memory_total_bytes: int
    """Physical memory of the host."""
    memory_available_bytes: int
    """Memory that can be had without swapping."""
    uid: int
    """User ID."""
    gid: int
    """Group ID."""
    groups: tuple[int, ...] = ()
    """Supplementary group IDs."""

    @classmethod
    def of_this_process(cls) -> ProcessView:
        """Ask the kernel and psutil.

        Returns
        -------
        ProcessView
            What holds for this process now.
        """
        memory = psutil.virtual_memory()
        return cls(
            affinity=frozenset(os.sched_getaffinity(0)),
            memory_total_bytes=memory.total,
            memory_available_bytes=memory.available,
            uid=os.getuid(),
            gid=os.getgid(),
            groups=tuple(sorted(os.getgroups())),
        )


def read_inventory(root: Path = Path("/"), *, view: ProcessView | None = None) -> HostInventory:
    """Read what this process may use of the host.

    Parameters
    ----------
    root : Path, default: ``/``
        Where ``/proc`` and ``/sys`` are; another folder for a copy of another machine's.
    view : ProcessView, optional
        What the kernel tells this process through calls; asked for by default.

    Returns
    -------
    HostInventory
        CPUs within both affinity and cpuset, their topology, and memory within the control group's limit.
        What no file tells is taken to be the simplest: one hardware thread for each core, one NUMA node,
        no limit.

    Examples
    --------
    >>> inventory = read_inventory()
    >>> len(inventory.cpus) >= 1 and inventory.memory_available_bytes <= inventory.memory_total_bytes
    True
    """
    view = view or ProcessView.of_this_process()
    groups = read_cgroups(root)
    # An affinity outside of the cpuset cannot be; if files say so, they are about another process.
    allowed = view.affinity & groups.cpus if groups.cpus is not None else view.affinity
    allowed = allowed or view.affinity
    nodes, node_memory = _nodes(root)
    online = _cpulist(root / "sys/devices/system/cpu/online")
    left = groups.memory_left_bytes
    available = view.memory_available_bytes if left is None else min(left, view.memory_available_bytes)
    return HostInventory(
        cpus=_cpus(root, allowed, nodes),
        other_cpus=_cpus(root, set(online) - allowed, nodes),
        node_memory_bytes=node_memory,
        cpu_quota=groups.cpu_quota,
        memory_total_bytes=view.memory_total_bytes,
        memory_available_bytes=available,
        memory_limit_bytes=groups.memory_limit_bytes,
        cgroup_version=groups.version,
        uid=view.uid,
        gid=view.gid,
        groups=view.groups,
    )


def _cpus(root: Path, ids: Iterable[int], nodes: dict[int, int]) -> tuple[Cpu, ...]:
    return tuple(Cpu(id=cpu, core=_siblings(root, cpu), node=nodes.get(cpu, 0)) for cpu in sorted(ids))


def _siblings(root: Path, cpu: int) -> tuple[int, ...]:
    topology = root / f"sys/devices/system/cpu/cpu{cpu}/topology"
    for name in ("core_cpus_list", "thread_siblings_list"):  # the same, since Linux 5.4 under the first name
        if cpu in (siblings := _cpulist(topology / name)):
            return siblings
    return (cpu,)


def _nodes(root: Path) -> tuple[dict[int, int], dict[int, int]]:
    """Give the NUMA node of each CPU, and the memory of each node in bytes."""
    nodes: dict[int, int] = {}
    memory: dict[int, int] = {}
    for folder in (root / "sys/devices/system/node").glob("node[0-9]*"):
        number = int(folder.name.removeprefix("node"))
        nodes |= dict.fromkeys(_cpulist(folder / "cpulist"), number)
        if found := re.search(r"MemTotal: +(\d+) kB$", read_text(folder / "meminfo"), re.MULTILINE):
            memory[number] = int(found[1]) * 1024
    return nodes, dict(sorted(memory.items()))


def _cpulist(path: Path) -> tuple[int, ...]:
    try:
        return parse_cpulist(read_text(path))
    except ValueError:
        return ()
