"""From settings and a host to the plan of a cluster. Pure: the same arguments give the same plan."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from canvod.launch.errors import PlanError
from canvod.launch.plan.command import scheduler_command, worker_command
from canvod.launch.plan.cores import nodes_of
from canvod.launch.plan.memory import MB, bytes_of_gb, ceiling_bytes, dask_limit_bytes, format_bytes
from canvod.launch.plan.model import (
    LABEL_PREFIX,
    Backend,
    ClusterPlan,
    ContainerPlan,
    EngineInventory,
    HostInventory,
    Mount,
    NetworkPlan,
    Note,
)
from canvod.launch.plan.priority import NORMAL_SHARES, NORMAL_WEIGHT, CpuPriority, cpu_priority
from canvod.launch.plan.protection import check_cgroup_parent, container_notes, pool_notes, process_notes
from canvod.launch.plan.sizing import Sizing, size_cluster

if TYPE_CHECKING:
    from canvod.launch.config.models import Settings

Role = Literal["scheduler", "worker"]

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

FALLBACK_USER = "10001:10001"
"""User of the containers when root starts them and nobody stands behind root."""

SPILL_PATH = "/spill"
"""Where a worker's container has its spill volume."""

RESERVED_PATHS = ("/dev", "/proc", "/sys", SPILL_PATH)
"""Folders that a container has of its own, with everything below."""

NAME_PATTERN = re.compile(r"[a-z0-9][a-z0-9_.-]{0,39}")
"""Names that are good for containers, networks and labels alike."""


def image_name(role: Role, python: str) -> str:
    """Name an image of this project, as ``canvod-launch build`` tags it by default.

    Examples
    --------
    >>> image_name("worker", "3.14")
    'canvod-launch-worker:py3.14'
    """
    return f"canvod-launch-{role}:py{python}"


def make_plan(
    settings: Settings,
    inventory: HostInventory,
    *,
    backend: Backend,
    name: str,
    engine: EngineInventory | None = None,
    mounts: Iterable[Mount] = (),
    image_for: Callable[[Role, str], str] = image_name,
    python: str | None = None,
    environ: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
    version: str = "",
) -> ClusterPlan:
    """Plan a cluster.

    Parameters
    ----------
    settings : Settings
        Validated settings.
    inventory : HostInventory
        What this process may use of the host.
    backend : {"docker", "process", "remote", "pool"}
        What will carry the plan out; ``remote`` whatever is given if the settings name a scheduler.
    name : str
        Name of the cluster, such as ``ab12cd``; part of the names of all its objects.
    engine : EngineInventory, optional
        The Docker engine.
    mounts : iterable of Mount, optional
        Host paths that workers see besides those of the settings; writable wins where both name one.
    image_for : callable, optional
        Gives the image of a role (``scheduler``, ``worker``) and a Python version.
    python : str, optional
        Python minor version of the images in place of the settings' one.
    environ : mapping, optional
        Environment of the caller; only ``SUDO_UID`` and ``SUDO_GID`` are looked at.
    labels : mapping, optional
        Further labels of all objects.
    version : str, optional
        Version of canvod-launch, for a label.

    Returns
    -------
    ClusterPlan
        Everything that will be started, and what a reader should know about it.

    Raises
    ------
    PlanError
        If the settings do not fit this host. Nothing else is raised for valid settings.
    """
    if NAME_PATTERN.fullmatch(name) is None:
        raise PlanError(
            f"{name!r} cannot be the name of a cluster.",
            hint="use up to 40 lower-case letters, digits, '-', '_' and '.', a letter or digit first",
        )
    python = python or settings.launch.python
    given = tuple(Note(level="warning", text=text) for text in settings.warnings)
    common = {f"{LABEL_PREFIX}.cluster": name, **(labels or {})}
    if version:
        common[f"{LABEL_PREFIX}.version"] = version
    if settings.processing.scheduler_address is not None:
        return _remote(settings, name=name, python=python, labels=common, notes=given)

    if backend == "docker":
        check_cgroup_parent(settings, engine)
    sizing = size_cluster(settings, inventory)
    priority = _priority(settings, inventory, engine, backend)
    user = _user(settings, inventory, environ or {}, backend)
    every_mount = _mounts(settings, mounts, backend)

    scheduler = _container(
        settings, inventory, sizing, priority, None, cluster=name, backend=backend, user=user, labels=common,
        image=image_for("scheduler", python) if backend == "docker" else "", mounts=(),
    )  # fmt: skip
    open_nodes = _nodes_too_small(inventory, sizing)
    workers = tuple(
        _container(
            settings, inventory, sizing, priority, index, cluster=name, backend=backend, user=user, labels=common,
            image=image_for("worker", python) if backend == "docker" else "", mounts=every_mount,
            open_nodes=open_nodes,
        )  # fmt: skip
        for index in range(sizing.workers)
    )
    if backend == "docker":
        enforced = container_notes(settings, engine)
    else:
        enforced = pool_notes() if backend == "pool" else process_notes(settings)
    notes = [*given, *sizing.notes, *_memory_notes(settings, inventory, sizing, open_nodes), *enforced]
    return ClusterPlan(
        name=name,
        backend=backend,
        resource_mode=settings.processing.resource_mode,
        scheduler_address=None,
        python=python,
        scheduler=scheduler,
        workers=workers,
        network=NetworkPlan(name=f"canvod-launch-{name}", labels=common),
        dashboard_port=settings.launch.dashboard_port,
        start_timeout_s=settings.launch.start_timeout_s,
        cores_shared=sizing.cores.shared,
        notes=tuple(sorted(notes, key=lambda note: note.level != "warning")),
    )


def _container(
    settings: Settings,
    inventory: HostInventory,
    sizing: Sizing,
    priority: CpuPriority,
    index: int | None,
    *,
    cluster: str,
    backend: Backend,
    user: str,
    labels: Mapping[str, str],
    image: str,
    mounts: tuple[Mount, ...],
    open_nodes: frozenset[int] = frozenset(),
) -> ContainerPlan:
    """Plan one container: the scheduler where the index is None, else a worker."""
    role: Role = "scheduler" if index is None else "worker"
    dask_name = "scheduler" if index is None else f"worker-{index}"
    cpus = sizing.cluster_cpus if index is None else sizing.cores.slices[index]
    nodes = nodes_of(inventory.cpus, cpus)
    memory_bytes = sizing.scheduler_bytes if index is None else sizing.worker_bytes
    own_labels = {**labels, f"{LABEL_PREFIX}.role": role}
    limit: int | None = None
    spill_path: str | None = None
    spill_bytes: int | None = None
    environment: dict[str, str] = {}
    command = scheduler_command()
    if index is not None:
        own_labels[f"{LABEL_PREFIX}.worker"] = str(index)
        limit = dask_limit_bytes(memory_bytes)
        spill_bytes = bytes_of_gb(settings.launch.spill_gb)
        folder = settings.launch.spill_dir
        spill_path = SPILL_PATH if backend == "docker" else None if folder is None else str(folder)
        threads = str(settings.processing.threads_per_worker)
        environment = {**dict.fromkeys(THREAD_VARIABLES, threads), **settings.launch.environment}
        command = worker_command(
            dask_name=dask_name,
            nthreads=sizing.nthreads,
            memory_limit_bytes=limit,
            cpu_affinity=cpus,
            nice=settings.processing.nice_priority,
            spill_path=SPILL_PATH,
            spill_bytes=spill_bytes,
            start_timeout_s=settings.launch.start_timeout_s,
        )
    return ContainerPlan(
        role=role,
        name=f"canvod-launch-{cluster}-{dask_name}",
        dask_name=dask_name,
        image=image,
        command=command if backend == "docker" else (),
        cpuset_cpus=cpus,
        cpuset_mems=() if open_nodes.intersection(nodes) or _memoryless(inventory, nodes) else nodes,
        memory_bytes=memory_bytes,
        dask_memory_limit_bytes=limit,
        nthreads=1 if index is None else sizing.nthreads,
        nice=settings.processing.nice_priority,
        cpu_shares=priority.shares,
        cpu_weight=priority.weight,
        cgroup_parent=settings.launch.cgroup_parent if backend == "docker" else None,
        user=user,
        pids_limit=settings.launch.pids_limit,
        tmpfs_bytes=settings.launch.tmp_mb * MB,
        environment=environment,
        mounts=mounts,
        spill_path=spill_path,
        spill_bytes=spill_bytes,
        labels=own_labels,
    )


def _remote(
    settings: Settings, *, name: str, python: str, labels: Mapping[str, str], notes: Sequence[Note]
) -> ClusterPlan:
    """Plan to use a scheduler that exists: nothing is started, so the scheduler is described by its name only."""
    address = settings.processing.scheduler_address
    text = f"Nothing is started: {settings.cite('processing.scheduler_address')} is used as it is, with its limits."
    return ClusterPlan(
        name=name,
        backend="remote",
        resource_mode=settings.processing.resource_mode,
        scheduler_address=address,
        python=python,
        scheduler=ContainerPlan(
            role="scheduler",
            name="",
            dask_name="scheduler",
            image="",
            command=(),
            cpuset_cpus=(),
            cpuset_mems=(),
            memory_bytes=0,
            dask_memory_limit_bytes=None,
            nthreads=1,
            nice=0,
            cpu_shares=None,
            cpu_weight=NORMAL_WEIGHT,
            cgroup_parent=None,
            user="",
            pids_limit=0,
            tmpfs_bytes=0,
        ),
        workers=(),
        network=NetworkPlan(name="", labels=dict(labels)),
        dashboard_port=settings.launch.dashboard_port,
        start_timeout_s=settings.launch.start_timeout_s,
        cores_shared=False,
        notes=(*notes, Note(level="info", text=text)),
    )


def _priority(
    settings: Settings, inventory: HostInventory, engine: EngineInventory | None, backend: Backend
) -> CpuPriority:
    version = engine.cgroup_version if engine is not None else inventory.cgroup_version
    if backend != "docker":
        return CpuPriority(shares=None, weight=NORMAL_SHARES if version == 1 else NORMAL_WEIGHT)
    return cpu_priority(
        settings.processing.nice_priority,
        settings.launch.cpu_weight,
        cgroup_version=version,
        runtime_version=engine.runtime_version if engine is not None else "",
    )


def _user(
    settings: Settings, inventory: HostInventory, environ: Mapping[str, str], backend: Backend
) -> str:
    if backend != "docker":
        return f"{inventory.uid}:{inventory.gid}"
    user = settings.launch.user
    if user is None and inventory.uid != 0:
        user = f"{inventory.uid}:{inventory.gid}"
    if user is None:
        uid, gid = environ.get("SUDO_UID", ""), environ.get("SUDO_GID", "")
        plain = uid.isdecimal() and gid.isdecimal() and int(uid) != 0
        user = f"{uid}:{gid}" if plain else FALLBACK_USER
    if int(user.partition(":")[0]) == 0:
        raise PlanError(
            f"{settings.cite('launch.user')} is root; containers never run as root.",
            hint='write another user as "1000:1000" (id -u, id -g), or leave launch.user out',
        )
    return user


def _mounts(settings: Settings, mounts: Iterable[Mount], backend: Backend) -> tuple[Mount, ...]:
    """Gather the workers' mounts, one for each path, in the order of paths."""
    writable = {str(path): False for path in settings.launch.writable}
    read_only = {str(path): True for path in settings.launch.read_only}
    merged = read_only | writable
    for mount in mounts:
        merged[mount.path] = mount.read_only and merged.get(mount.path, True)
    if backend == "docker":
        for path in merged:
            if path in ("/", "/tmp") or any(f"{path}/".startswith(f"{own}/") for own in RESERVED_PATHS):  # noqa: S108
                raise PlanError(
                    f"Workers cannot see {path} of the host: a container has its own.",
                    hint="give a folder elsewhere, such as a subfolder of /data or of your home",
                )
    return tuple(Mount(path=path, read_only=only) for path, only in sorted(merged.items()))


def _memoryless(inventory: HostInventory, nodes: Iterable[int]) -> bool:
    # The kernel refuses a cpuset with a node that has CPUs but no memory.
    return any(inventory.node_memory_bytes.get(node, 1) == 0 for node in nodes)


def _nodes_too_small(inventory: HostInventory, sizing: Sizing) -> frozenset[int]:
    """Tell which NUMA nodes have less memory than the caps of the workers on them.

    A worker that is bound to such a node would be killed when the node is full, long before its cap.
    """
    demand: dict[int, float] = {}
    for ids in sizing.cores.slices:
        nodes = nodes_of(inventory.cpus, ids)
        for node in nodes:
            demand[node] = demand.get(node, 0) + sizing.worker_bytes / len(nodes)
    memory = inventory.node_memory_bytes
    if len(memory) < 2:
        return frozenset()
    return frozenset(node for node, needed in demand.items() if node in memory and needed > memory[node])


def _memory_notes(
    settings: Settings, inventory: HostInventory, sizing: Sizing, open_nodes: frozenset[int]
) -> list[Note]:
    total = sizing.workers * sizing.worker_bytes + sizing.scheduler_bytes
    left = ceiling_bytes(inventory) - total
    notes = [
        Note(
            level="info",
            text=f"Workers and scheduler may use {format_bytes(total)} together, none of it swap; "
            f"{format_bytes(max(0, left))} of {format_bytes(ceiling_bytes(inventory))} stay for everything else.",
        )
    ]
    if open_nodes:
        notes.append(
            Note(
                level="info",
                text=f"The caps of the workers on NUMA node {', '.join(map(str, sorted(open_nodes)))} are more than "
                "its memory, so these workers may take memory from other nodes.",
            )
        )
    tmp = settings.launch.tmp_mb * MB
    if tmp * 4 > sizing.worker_bytes:
        notes.append(
            Note(
                level="warning",
                text=f"{settings.cite('launch.tmp_mb')} is more than a quarter of a worker's cap of "
                f"{format_bytes(sizing.worker_bytes)}: a full /tmp takes it from the worker.",
            )
        )
    return notes
