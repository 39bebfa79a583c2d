"""The single containers of a plan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from canvod.launch.host.labels import LABEL_PREFIX, ROLE_LABEL
from canvod.launch.plan.command import scheduler_command, worker_command
from canvod.launch.plan.model import ContainerPlan
from canvod.launch.plan.mounts import worker_spill_path
from canvod.launch.plan.numa import memory_nodes
from canvod.launch.runtime.memory_limit import worker_limit_bytes
from canvod.launch.units import MIB, bytes_of_gib

if TYPE_CHECKING:
    from collections.abc import Mapping

    from canvod.launch.config import Settings
    from canvod.launch.host.inventory import HostInventory
    from canvod.launch.plan.model import Mount
    from canvod.launch.plan.priority import CpuPriority
    from canvod.launch.plan.sizing import Sizing

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "POLARS_MAX_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
"""Libraries that start threads of their own, as many as the host has cores unless told otherwise."""

PROCESS_VARIABLES = {"MALLOC_TRIM_THRESHOLD_": "65536", "PYTHONHASHSEED": "6640"}
"""What Dask's nanny sets in a worker process that it spawns (distributed.yaml; distributed#8400).

In a container worker processes are forked, so the first process has to have it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ContainerMaker:
    """Everything that the containers of one cluster have in common."""

    settings: Settings
    inventory: HostInventory
    sizing: Sizing
    cluster: str
    in_containers: bool
    """False where the same plan is carried out by processes: they have no command and no volume."""
    priority: CpuPriority
    user: str
    groups: tuple[int, ...]
    oversubscribed_nodes: frozenset[int]
    """NUMA nodes whose memory the caps exceed."""
    labels: Mapping[str, str]
    detached: bool = False
    idle_timeout_s: float | None = None

    def scheduler(self, image: str) -> ContainerPlan:
        """Plan the scheduler, which runs on all cores of the cluster.

        Parameters
        ----------
        image : str
            Name of its image.
        """
        cpus = self.sizing.cluster_cpus
        launch = self.settings.launch
        command = scheduler_command(
            nice=self.settings.processing.nice_priority,
            lease=None if self.detached else (launch.lease_grace_s, launch.connect_timeout_s),
            idle_timeout_s=self.idle_timeout_s,
        )
        return ContainerPlan(
            role="scheduler",
            name=f"canvod-launch-{self.cluster}-scheduler",
            dask_name="scheduler",
            image=image,
            command=command if self.in_containers else (),
            cpuset_cpus=cpus,
            cpuset_mems=memory_nodes(self.inventory, cpus, frozenset()),
            memory_bytes=self.sizing.scheduler_bytes,
            dask_memory_limit_bytes=None,
            nthreads=1,
            nice=self.settings.processing.nice_priority,
            cpu_shares=self.priority.shares,
            cpu_weight=self.priority.weight,
            cgroup_parent=self._cgroup_parent,
            user=self.user,
            groups=self.groups,
            pids_limit=launch.pids_limit,
            tmpfs_bytes=launch.tmp_mb * MIB,
            labels={**self.labels, ROLE_LABEL: "scheduler"},
        )

    def worker(self, index: int, image: str, mounts: tuple[Mount, ...]) -> ContainerPlan:
        """Plan one worker.

        Parameters
        ----------
        index : int
            Number of the worker, from 0.
        image : str
            Name of its image.
        mounts : tuple of Mount
            What it sees of the host.
        """
        launch, processing = self.settings.launch, self.settings.processing
        cpus, cap = self.sizing.cores.slices[index], self.sizing.worker_bytes
        dask_name = f"worker-{index}"
        limit, spill_bytes = worker_limit_bytes(cap), bytes_of_gib(launch.spill_gb)
        command = worker_command(
            dask_name=dask_name,
            nthreads=self.sizing.nthreads,
            memory_limit_bytes=limit,
            cpu_affinity=cpus,
            nice=processing.nice_priority,
            spill_path=worker_spill_path(self.settings),
            spill_bytes=spill_bytes,
            start_timeout_s=launch.start_timeout_s,
        )
        # Without a container there is no volume: a folder of the host, or one that Dask chooses.
        spills = self.in_containers or launch.spill_dir is not None
        variables = dict.fromkeys(THREAD_VARIABLES, str(self.sizing.nthreads))
        if self.in_containers:
            variables |= PROCESS_VARIABLES
        return ContainerPlan(
            role="worker",
            name=f"canvod-launch-{self.cluster}-{dask_name}",
            dask_name=dask_name,
            image=image,
            command=command if self.in_containers else (),
            cpuset_cpus=cpus,
            cpuset_mems=memory_nodes(self.inventory, cpus, self.oversubscribed_nodes),
            memory_bytes=cap,
            dask_memory_limit_bytes=limit,
            nthreads=self.sizing.nthreads,
            nice=processing.nice_priority,
            cpu_shares=self.priority.shares,
            cpu_weight=self.priority.weight,
            cgroup_parent=self._cgroup_parent,
            user=self.user,
            groups=self.groups,
            pids_limit=launch.pids_limit,
            tmpfs_bytes=launch.tmp_mb * MIB,
            environment={**variables, **launch.environment},
            mounts=mounts,
            spill_path=worker_spill_path(self.settings) if spills else None,
            spill_bytes=spill_bytes,
            labels={
                **self.labels,
                ROLE_LABEL: "worker",
                f"{LABEL_PREFIX}.worker": str(index),
            },
        )

    @property
    def _cgroup_parent(self) -> str | None:
        return self.settings.launch.cgroup_parent if self.in_containers else None


def nothing_to_start() -> ContainerPlan:
    """Stand in for the scheduler of a plan that starts nothing: no name, no image, no command, no limits."""
    return ContainerPlan(
        role="scheduler",
        name="",
        dask_name="scheduler",
        image="",
        command=(),
        cpuset_cpus=(),
        cpuset_mems=(),
        memory_bytes=0,
        dask_memory_limit_bytes=None,
        nthreads=0,
        nice=0,
        cpu_shares=None,
        cpu_weight=0,
        cgroup_parent=None,
        user="",
        pids_limit=0,
        tmpfs_bytes=0,
    )
