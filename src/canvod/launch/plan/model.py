"""What a cluster will be, before any of it exists: frozen values, no behaviour."""

from __future__ import annotations

from typing import Final, Literal

from pydantic import Field

from canvod.launch.host.inventory import Frozen

BackendName = Literal["docker", "process", "remote", "pool"]
"""What carries the plan out: containers, processes, a scheduler that exists, or a process pool."""

Role = Literal["scheduler", "worker"]
"""What a container is for."""

SCHEDULER_HOST: Final = "scheduler"
"""Name under which workers find the scheduler on the cluster's network."""
SCHEDULER_PORT: Final = 8786
"""Port of the scheduler for workers and clients, inside the network; Dask's own."""
DASHBOARD_PORT: Final = 8787
"""Port of the dashboard inside the scheduler's container; Dask's own."""

KEYS_PATH: Final = "/keys"
"""Where a container has its keys."""
SPILL_PATH: Final = "/spill"
"""Where a worker's container has its spill volume."""
TMP_PATH: Final = "/tmp"  # noqa: S108 - the container's own, a tmpfs
"""Where a container has its tmpfs; folders of the host below it can be mounted, it cannot itself."""


class Mount(Frozen):
    """A host path that a container sees under the same absolute path."""

    path: str
    """Absolute path, on the host and in the container."""
    read_only: bool
    """Whether the container may only read it."""
    optional: bool = False
    """Left out where the engine cannot mount it: it is shown without having been asked for."""


class ContainerPlan(Frozen):
    """One container, or one worker process of the process backend."""

    role: Role
    """What it is for."""
    name: str
    """Container name, unique on the host."""
    dask_name: str
    """Name of the worker in Dask (``worker-0``), or ``scheduler``."""
    image: str
    """Name or ID of its image; empty for a process."""
    command: tuple[str, ...] = ()
    """Program and arguments; empty for a process."""
    cpuset_cpus: tuple[int, ...]
    """IDs of the logical CPUs that it may run on, sorted."""
    cpuset_mems: tuple[int, ...] = ()
    """NUMA nodes to take memory from; empty leaves all of them open."""
    memory_bytes: int
    """Memory limit of the kernel, of memory and swap together, so that nothing is swapped."""
    dask_memory_limit_bytes: int | None = None
    """Dask's own limit of a worker; in a container below the kernel's by what the nanny uses."""
    nthreads: int
    """Threads that run tasks; 1 for the scheduler."""
    nice: int
    """Nice value of its processes, 0 to 19."""
    cpu_shares: int | None = None
    """Docker's ``cpu_shares``; None leaves the engine's default (nice 0)."""
    cpu_weight: int
    """The weight that the kernel sees: shares under cgroup v1 (1024 is normal), under v2 weight (100 is)."""
    cgroup_parent: str | None = None
    """Control group that it is made in; None leaves the engine's default."""
    user: str
    """``uid:gid``."""
    groups: tuple[int, ...] = ()
    """Further groups, those of the caller: what of the host it may read, its workers may."""
    pids_limit: int
    """How many processes and threads it may have."""
    tmpfs_bytes: int
    """Size of ``/tmp``, memory that counts against the limit."""
    environment: dict[str, str] = Field(default_factory=dict)
    """Environment variables besides those of the image."""
    mounts: tuple[Mount, ...] = ()
    """What it sees of the host."""
    spill_path: str | None = None
    """Where the worker spills, inside the container: a path of the mounts, else a volume of its own."""
    spill_bytes: int | None = None
    """Dask's ``max-spill`` for one worker."""
    labels: dict[str, str] = Field(default_factory=dict)
    """Labels on the engine."""


class NetworkPlan(Frozen):
    """The bridge network of one cluster."""

    name: str
    """Name of the network; empty where there is none."""
    internal: bool = False
    """Without a way to anything but its own containers and the host."""
    labels: dict[str, str] = Field(default_factory=dict)
    """Labels on the engine."""


class Note(Frozen):
    """Something that a reader of the plan should know."""

    level: Literal["info", "warning"]
    """``warning`` for what a user may want to change."""
    text: str
    """A sentence or more."""


class Notes(list[Note]):
    """The notes of a plan while it is made."""

    def info(self, text: str) -> None:
        """Note what is so.

        Parameters
        ----------
        text : str
            A sentence or more.
        """
        self.append(Note(level="info", text=text))

    def warning(self, text: str) -> None:
        """Note what a user may want to change.

        Parameters
        ----------
        text : str
            A sentence or more.
        """
        self.append(Note(level="warning", text=text))

    def warnings_first(self) -> tuple[Note, ...]:
        """Sort the notes: warnings before the rest.

        Returns
        -------
        tuple of Note
            All of them, otherwise in the order in which they were made.
        """
        return tuple(sorted(self, key=lambda note: note.level != "warning"))


class ClusterPlan(Frozen):
    """A cluster: its scheduler, its workers and their network."""

    name: str
    """Name of the cluster, part of the names of all its objects."""
    detached: bool = False
    """True where it outlives its launcher."""
    backend: BackendName
    """What carries the plan out."""
    resource_mode: Literal["auto", "manual"]
    """As the settings have it."""
    scheduler_address: str | None
    """Address of a scheduler that exists already (``remote``), else None."""
    python: str
    """Python minor version of the images, such as ``3.14``."""
    scheduler: ContainerPlan
    """The scheduler's container; without a name where a scheduler that exists is used."""
    workers: tuple[ContainerPlan, ...]
    """The workers, by number."""
    network: NetworkPlan
    """Network of the containers."""
    dashboard_port: int
    """Port on 127.0.0.1 to try first for the dashboard; 0 takes any free one."""
    start_timeout_s: float
    """How long the start may take, in seconds."""
    cores_shared: bool
    """True where workers have no cores of their own."""
    notes: tuple[Note, ...] = ()
    """What a reader should know, warnings first."""

    @property
    def worker_memory_bytes(self) -> int:
        """Sum of the workers' memory limits in bytes."""
        return sum(worker.memory_bytes for worker in self.workers)
