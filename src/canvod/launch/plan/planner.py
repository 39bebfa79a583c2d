"""From settings and a host to the plan of a cluster. Pure: the same arguments give the same plan."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from canvod.launch.errors import PlanError
from canvod.launch.host.labels import CLUSTER_LABEL, LABEL_PREFIX
from canvod.launch.plan.container_plans import ContainerMaker, image_name
from canvod.launch.plan.cores import oversubscribed_nodes
from canvod.launch.plan.engine_requirements import check_engine
from canvod.launch.plan.host_access import container_groups, container_user, worker_mounts
from canvod.launch.plan.model import ClusterPlan, ContainerPlan, NetworkPlan, Notes
from canvod.launch.plan.plan_notes import note_limits, note_memory, note_pool, note_processes, note_protection
from canvod.launch.plan.priority import cpu_priority, normal_weight
from canvod.launch.plan.sizing import size_cluster

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from canvod.launch.config import Settings
    from canvod.launch.host.inventory import EngineInventory, HostInventory
    from canvod.launch.plan.model import BackendName, Mount, Role

NAME_PATTERN: Final = re.compile(r"[a-z0-9][a-z0-9_.-]{0,39}")
"""Names of clusters that are valid in the names of containers and networks."""

_NOTHING_TO_START: Final = ContainerPlan(
    role="scheduler",
    name="",
    dask_name="scheduler",
    image="",
    cpuset_cpus=(),
    memory_bytes=0,
    nthreads=0,
    nice=0,
    cpu_weight=0,
    user="",
    pids_limit=0,
    tmpfs_bytes=0,
)
"""Scheduler of a plan that uses one that exists."""


def make_plan(  # noqa: PLR0913 - a pure function is told everything it depends on
    settings: Settings,
    inventory: HostInventory,
    *,
    backend: BackendName,
    name: str,
    python: str,
    version: str,
    engine: EngineInventory | None = None,
    mounts: Iterable[Mount] = (),
    image_for: Callable[[Role, str], str] | None = None,
    environ: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
    detached: bool = False,
    idle_timeout_s: float | None = None,
) -> ClusterPlan:
    """Plan a cluster.

    Parameters
    ----------
    settings : Settings
        Validated settings.
    inventory : HostInventory
        What this process may use of the host; the order of its CPUs does not matter.
    backend : {"docker", "process", "remote", "pool"}
        What will carry the plan out; ``remote`` whatever is given if the settings name a scheduler.
    name : str
        Name of the cluster, such as ``ab12cd``; part of the names of all its objects.
    python : str
        Python minor version of who will use the cluster, such as ``3.14``, which its images have where the
        settings name none.
    version : str
        Version of canvod-launch, for labels and image names.
    engine : EngineInventory, optional
        The Docker engine.
    mounts : iterable of Mount, optional
        Host paths that workers see besides those of the settings; writable wins where both name one.
    image_for : callable, optional
        Gives the image of a role (``scheduler``, ``worker``) and a Python version; `image_name` by default.
    environ : mapping, optional
        Environment of the caller; only ``SUDO_UID`` and ``SUDO_GID`` are looked at.
    labels : mapping, optional
        Further labels of all objects.
    detached : bool, default: False
        Whether it outlives its launcher, without a lease.
    idle_timeout_s : float, optional
        Whether it ends by itself after so long without a task, in seconds.

    Returns
    -------
    ClusterPlan
        Everything that will be started, and what a reader should know about it, warnings first.

    Raises
    ------
    PlanError
        If the settings do not fit this host.

    Examples
    --------
    >>> from canvod.launch.config import Settings
    >>> from canvod.launch.host.detect import read_inventory
    >>> plan = make_plan(
    ...     Settings(), read_inventory(), backend="process", name="example", python="3.14", version="0.1.0"
    ... )
    >>> plan.workers[0].name
    'canvod-launch-example-worker-0'
    """
    if NAME_PATTERN.fullmatch(name) is None:
        raise PlanError(
            f"{name!r} cannot be the name of a cluster.",
            hint="use up to 40 lower-case letters, digits, '-', '_' and '.', a letter or digit first",
        )
    python = settings.launch.python or python
    launch, docker, notes = settings.launch, backend == "docker", Notes()
    for text in settings.warnings:
        notes.warning(text)
    if settings.processing.scheduler_address is not None:
        return _remote(settings, name, python, notes)

    if docker:
        check_engine(settings, engine)
    every_mount = worker_mounts(settings, mounts) if docker else ()
    sizing = size_cluster(settings, inventory, notes)
    oversubscribed = oversubscribed_nodes(inventory, sizing.cores.slices, sizing.worker_bytes)
    note_memory(
        inventory, sizing, notes, no_swap=docker and "swap" not in (engine.missing_limits if engine else ())
    )
    common: dict[str, Any] = {
        "user": f"{inventory.uid}:{inventory.gid}",
        "cpu_weight": normal_weight(inventory.cgroup_version),
    }
    if docker:
        common = _common_fields(settings, inventory, engine, environ or {})
        note_limits(settings, sizing, oversubscribed, notes)
        note_protection(settings, engine, notes)
    elif backend == "pool":
        note_pool(notes)
    else:
        note_processes(settings, notes)

    def image(role: Role) -> str:
        if not docker:
            return ""
        return image_name(role, python, version) if image_for is None else image_for(role, python)

    all_labels = {**(labels or {}), CLUSTER_LABEL: name, f"{LABEL_PREFIX}.version": version}
    prefix = f"canvod-launch-{name}"
    maker = ContainerMaker(
        settings=settings,
        inventory=inventory,
        sizing=sizing,
        oversubscribed=oversubscribed,
        in_containers=docker,
        prefix=prefix,
        labels=all_labels,
        common=common,
    )
    worker_image = image("worker")
    return ClusterPlan(
        name=name,
        detached=detached,
        backend=backend,
        resource_mode=settings.processing.resource_mode,
        scheduler_address=None,
        python=python,
        scheduler=maker.scheduler(image("scheduler"), leased=not detached, idle_timeout_s=idle_timeout_s),
        workers=tuple(maker.worker(index, worker_image, every_mount) for index in range(sizing.workers)),
        network=NetworkPlan(name=prefix, internal=launch.network == "internal", labels=all_labels),
        dashboard_port=launch.dashboard_port,
        start_timeout_s=launch.start_timeout_s,
        cores_shared=sizing.cores.shared,
        notes=notes.warnings_first(),
    )


def _remote(settings: Settings, name: str, python: str, notes: Notes) -> ClusterPlan:
    cite = settings.cite("processing.scheduler_address")
    notes.info(f"Nothing is started: {cite} is used as it is, with the limits that it was started with.")
    return ClusterPlan(
        name=name,
        backend="remote",
        resource_mode=settings.processing.resource_mode,
        scheduler_address=settings.processing.scheduler_address,
        python=python,
        scheduler=_NOTHING_TO_START,
        workers=(),
        network=NetworkPlan(name=""),
        dashboard_port=settings.launch.dashboard_port,
        start_timeout_s=settings.launch.start_timeout_s,
        cores_shared=False,
        notes=notes.warnings_first(),
    )


def _common_fields(
    settings: Settings,
    inventory: HostInventory,
    engine: EngineInventory | None,
    environ: Mapping[str, str],
) -> dict[str, Any]:
    """Give the fields that all containers have alike."""
    user = container_user(settings, inventory, environ)
    priority = cpu_priority(
        settings.processing.nice_priority,
        settings.launch.cpu_weight,
        cgroup_version=inventory.cgroup_version if engine is None else engine.cgroup_version,
        runtime_version="" if engine is None else engine.runtime_version,
    )
    return {
        "user": user,
        "groups": container_groups(user, inventory, engine),
        "cpu_shares": priority.shares,
        "cpu_weight": priority.weight,
    }
