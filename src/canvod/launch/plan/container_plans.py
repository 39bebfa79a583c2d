"""The single containers of a plan: their images, command lines, environment and limits."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from canvod.launch.dask_memory_limit import worker_limit_bytes
from canvod.launch.host.labels import LABEL_PREFIX, ROLE_LABEL
from canvod.launch.plan.cores import memory_nodes
from canvod.launch.plan.host_access import worker_spill_path
from canvod.launch.plan.model import (
    DASHBOARD_PORT,
    KEYS_PATH,
    SCHEDULER_HOST,
    SCHEDULER_PORT,
    ContainerPlan,
)
from canvod.launch.units import MIB, bytes_of_gib

if TYPE_CHECKING:
    from collections.abc import Mapping

    from canvod.launch.config import Settings
    from canvod.launch.host.inventory import HostInventory
    from canvod.launch.plan.model import Mount, Role
    from canvod.launch.plan.sizing import Sizing

THREAD_VARIABLES: Final = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "POLARS_MAX_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
"""Libraries that start threads of their own, as many as the host has cores unless told otherwise."""

PROCESS_VARIABLES: Final = {
    "MALLOC_ARENA_MAX": "2",
    "MALLOC_TRIM_THRESHOLD_": "65536",
    "PYTHONHASHSEED": "6640",
}
"""What Dask's nanny sets in a worker process that it spawns (distributed.yaml; distributed#8400).

The arenas are ours: each thread of Icechunk would have one, which keeps memory that is free (mallopt(3)).
In a container worker processes are forked, so the first process has to have it."""

LONGEST_TAG: Final = 128
"""Characters that a tag may have (OCI distribution specification 1.1)."""

DIGEST_LENGTH: Final = 12
"""Digits of a digest that a tag has, as many as Docker shows of an ID."""


def image_name(role: Role, python: str, version: str, digest: str = "") -> str:
    """Name the image of a role.

    Parameters
    ----------
    role : {"scheduler", "worker"}
        What its containers do.
    python : str
        Minor version of its Python, such as ``3.14``.
    version : str
        Version of canvod-launch.
    digest : str, optional
        Digest of all that the image is built from, so that two checkouts never have one name for two images.

    Returns
    -------
    str
        Name and tag.

    Examples
    --------
    >>> image_name("worker", "3.14", "0.1.0", "sha256:8d969eef6ecad3c29a3a")
    'canvod-launch-worker:0.1.0-py3.14-8d969eef6eca'
    """
    suffix = f"-py{python}"
    if digest:
        suffix += f"-{digest.removeprefix('sha256:')[:DIGEST_LENGTH]}"
    tag = version[: LONGEST_TAG - len(suffix)] + suffix
    # A local version (1.0+lab) has a plus sign, which tags may not have.
    return f"canvod-launch-{role}:{re.sub(r'[^A-Za-z0-9_.-]', '-', tag)}"


def _options(**values: object) -> tuple[str, ...]:
    """Write options of a command line, those without a value left out."""
    words: list[str] = []
    for name, value in values.items():
        if value is not None:
            words += [f"--{name.replace('_', '-')}", f"{value:g}" if isinstance(value, float) else str(value)]
    return tuple(words)


@dataclass(frozen=True, kw_only=True, slots=True)
class ContainerMaker:
    """Makes the plans of the containers of one cluster, or of the processes that run in their place."""

    settings: Settings
    """Validated settings."""
    inventory: HostInventory
    """What this process may use of the host."""
    sizing: Sizing
    """Number and size of the workers."""
    oversubscribed: frozenset[int]
    """NUMA nodes that have less memory than the limits of the workers on them."""
    in_containers: bool
    """False for processes: they have no command and no volume."""
    prefix: str
    """How the names of all containers begin."""
    labels: Mapping[str, str]
    """Labels of all containers."""
    common: Mapping[str, Any]
    """Further fields that all containers have alike: user, groups, CPU weight."""

    def scheduler(self, image: str, *, leased: bool, idle_timeout_s: float | None) -> ContainerPlan:
        """Plan the scheduler, which runs on all cores of the cluster.

        Parameters
        ----------
        image : str
            Name of its image.
        leased : bool
            Whether it ends with its launcher.
        idle_timeout_s : float or None
            After how long without a task it ends, in seconds; None for never.

        Returns
        -------
        ContainerPlan
            The plan of the scheduler.
        """
        launch, cpus = self.settings.launch, self.sizing.cluster_cpus
        options = _options(
            port=SCHEDULER_PORT,
            dashboard_port=DASHBOARD_PORT,
            nice=self.settings.processing.nice_priority,
            keys=KEYS_PATH,
            lease_grace=launch.lease_grace_s if leased else None,
            connect_timeout=launch.connect_timeout_s if leased else None,
            idle_timeout=idle_timeout_s,
        )
        return self._container(
            role="scheduler",
            dask_name="scheduler",
            image=image,
            command=self._command("canvod.launch.runtime.scheduler", options),
            cpuset_cpus=cpus,
            cpuset_mems=memory_nodes(self.inventory, cpus, frozenset()),
            memory_bytes=self.sizing.scheduler_bytes,
            nthreads=1,
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

        Returns
        -------
        ContainerPlan
            The plan of the worker.
        """
        launch, sizing = self.settings.launch, self.sizing
        cpus, memory_bytes = sizing.cores.slices[index], sizing.worker_bytes
        spill_path = worker_spill_path(self.settings)
        # Without a container there is no volume: a folder of the host, or one that Dask chooses.
        spills = self.in_containers or launch.spill_dir is not None
        variables = dict.fromkeys(THREAD_VARIABLES, str(sizing.nthreads))
        if self.in_containers:
            variables |= PROCESS_VARIABLES
        worker = self._container(
            role="worker",
            dask_name=f"worker-{index}",
            image=image,
            cpuset_cpus=cpus,
            cpuset_mems=memory_nodes(self.inventory, cpus, self.oversubscribed),
            memory_bytes=memory_bytes,
            # The nanny of a process is outside of its limit, which no kernel enforces.
            dask_memory_limit_bytes=worker_limit_bytes(memory_bytes) if self.in_containers else memory_bytes,
            nthreads=sizing.nthreads,
            environment={**variables, **launch.environment},
            mounts=mounts,
            spill_path=spill_path if spills else None,
            spill_bytes=bytes_of_gib(launch.spill_gb),
            labels={**self.labels, ROLE_LABEL: "worker", f"{LABEL_PREFIX}.worker": str(index)},
        )
        options = _options(
            scheduler=f"tls://{SCHEDULER_HOST}:{SCHEDULER_PORT}",
            keys=KEYS_PATH,
            name=worker.dask_name,
            nthreads=worker.nthreads,
            memory_limit=worker.dask_memory_limit_bytes,
            cpu_affinity=",".join(map(str, cpus)),
            nice=worker.nice,
            spill_path=spill_path,
            max_spill=worker.spill_bytes,
            start_timeout=launch.start_timeout_s,
        )
        return worker.model_copy(update={"command": self._command("canvod.launch.runtime.worker", options)})

    def _command(self, module: str, options: tuple[str, ...]) -> tuple[str, ...]:
        return ("python", "-m", module, *options) if self.in_containers else ()

    def _container(self, *, dask_name: str, **fields: Any) -> ContainerPlan:
        launch = self.settings.launch
        return ContainerPlan(
            name=f"{self.prefix}-{dask_name}",
            dask_name=dask_name,
            nice=self.settings.processing.nice_priority,
            cgroup_parent=launch.cgroup_parent if self.in_containers else None,
            pids_limit=launch.pids_limit,
            tmpfs_bytes=launch.tmp_mb * MIB,
            **self.common,
            **fields,
        )
