"""What a host and its Docker engine have: frozen values, read by `canvod.launch.host.detect`."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Frozen(BaseModel):
    """Base of the plan's values: immutable, and no field is accepted that is not declared."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Cpu(Frozen):
    """One logical CPU (hardware thread) of the host."""

    id: int
    """The kernel's number of it."""
    core: tuple[int, ...]
    """Sorted IDs of all logical CPUs of the same physical core (SMT siblings), this one included."""
    node: int
    """NUMA node."""


class EngineInventory(Frozen):
    """What a Docker engine says of itself."""

    server_version: str
    """Version of the engine, such as ``29.1.3``."""
    api_version: str
    """Newest version of its API, such as ``1.52``."""
    cgroup_version: Literal[1, 2]
    """Version of its control groups."""
    cgroup_driver: str
    """``cgroupfs`` or ``systemd``."""
    runtime_version: str
    """Version of runc, such as ``1.1.5``; empty where unknown."""
    storage_driver: str
    """Such as ``overlay2``."""
    rootless: bool = False
    """Whether it runs without root's rights."""
    elsewhere: str = ""
    """Where its containers run, where that is not on this host's own kernel; empty where it is."""
    socket_gid: int | None = None
    """Group of the socket that it listens on, whose members are root in effect; None where it has none."""
    missing_limits: tuple[Literal["memory", "swap", "cpuset", "pids"], ...] = ()
    """What its kernel, or its setting up, keeps it from enforcing."""


class HostInventory(Frozen):
    """What this process may use of the host, read once from sysfs and psutil."""

    cpus: tuple[Cpu, ...]
    """The CPUs that this process may run on (affinity and cgroup cpuset), sorted by ID."""
    other_cpus: tuple[Cpu, ...] = ()
    """The host's other CPUs that are online, which this process may not run on."""
    node_memory_bytes: dict[int, int] = Field(default_factory=dict)
    """Physical memory of each NUMA node, where the host tells it."""
    cpu_quota: float | None
    """CPUs' worth of time that the launcher's own cgroup grants, or None without a quota."""
    memory_total_bytes: int
    """Physical memory of the host."""
    memory_available_bytes: int
    """Memory that is available now without swapping, no more than the cgroup limit leaves."""
    memory_limit_bytes: int | None
    """Memory limit of the launcher's own cgroup, or None without one."""
    cgroup_version: Literal[1, 2]
    """Version of the hierarchy that has the memory controller."""
    uid: int
    """The caller's user ID."""
    gid: int
    """The caller's group ID."""
    groups: tuple[int, ...] = ()
    """The caller's supplementary groups."""

    @property
    def memory_ceiling_bytes(self) -> int:
        """The most memory that this process could ever have: the host's, or less by its own cgroup."""
        limit = self.memory_limit_bytes
        return self.memory_total_bytes if limit is None else min(limit, self.memory_total_bytes)
