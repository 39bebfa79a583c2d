"""How many workers, with how many cores and how much memory each: manual and auto mode."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from canvod.launch.errors import PlanError
from canvod.launch.host.cpulist import format_cpulist
from canvod.launch.plan.cores import slice_cores
from canvod.launch.units import GIB, MIB, bytes_of_gib, format_bytes

if TYPE_CHECKING:
    from canvod.launch.config import Settings
    from canvod.launch.host.inventory import Cpu, HostInventory
    from canvod.launch.plan.cores import CoreSlices
    from canvod.launch.plan.model import Notes

MIN_WORKER_BYTES: Final = 512 * MIB
"""Lowest memory limit of a worker: the nanny, and a worker process that has imported xarray, zarr, icechunk
and canvod-readers (228 MiB resident, measured) and still has room for its files."""

COMFORTABLE_WORKER_BYTES: Final = 1536 * MIB
"""Auto mode starts fewer workers rather than give one less than this (1.5 GiB)."""

MIN_SCHEDULER_BYTES: Final = 256 * MIB
"""Lowest memory limit of the scheduler, which imports distributed and serves the dashboard."""

MIN_RESERVE_BYTES: Final = GIB
"""Auto mode leaves the system at least this much unless the settings say otherwise."""

RESERVE_FRACTION: Final = 0.1
"""Auto mode leaves the system this part of the memory, where that is more."""

RESERVE_FROM_CORES: Final = 3
"""Auto mode leaves a core to the system where there are this many or more; the settings may say otherwise."""


@dataclass(frozen=True, slots=True)
class Sizing:
    """Number and size of the workers."""

    cores: CoreSlices
    """The cores of each worker."""
    cluster_cpus: tuple[int, ...]
    """All logical CPUs of the cluster, sorted: where the scheduler runs."""
    nthreads: int
    """Threads of each worker that run tasks."""
    worker_bytes: int
    """Memory limit of each worker."""
    scheduler_bytes: int
    """Memory limit of the scheduler."""

    @property
    def workers(self) -> int:
        """Number of workers."""
        return len(self.cores.slices)


def size_cluster(settings: Settings, inventory: HostInventory, notes: Notes) -> Sizing:
    """Decide on the number of workers, their cores and their memory.

    Parameters
    ----------
    settings : Settings
        Validated settings.
    inventory : HostInventory
        The host; the order of its CPUs does not matter.
    notes : Notes
        Takes what a reader should know about the decision.

    Returns
    -------
    Sizing
        The decision.

    Raises
    ------
    PlanError
        If the settings ask for cores or memory that this process may not use, or leave a worker too little.
    """
    if not inventory.cpus:
        raise PlanError(
            "This process may not use any CPU of the host.",
            hint="look at its affinity and control group: taskset -p $$, cat /proc/self/cgroup",
        )
    processing = settings.processing
    threads = processing.threads_per_worker
    pool = _chosen_cpus(settings, inventory)
    scheduler_bytes = _scheduler_bytes(settings, inventory)
    if processing.resource_mode == "manual" and processing.n_max_threads is not None:
        usable, workers = len(pool), processing.n_max_threads
        budget = _manual_budget(settings, inventory, scheduler_bytes, notes)
    else:
        usable = _usable_cores(settings, inventory, pool, notes)
        budget = _auto_budget(settings, inventory, scheduler_bytes, notes)
        workers = _auto_workers(max(1, usable // threads), budget, notes)
    worker_bytes = _floor_to_mib(budget // workers)
    if worker_bytes < MIN_WORKER_BYTES:
        raise _too_little_memory(settings, inventory, workers, worker_bytes)
    if threads > usable:
        notes.warning(
            f"{settings.cite('processing.threads_per_worker')} is more than the "
            f"{_count(usable, 'core')} to use: threads will wait for each other."
        )
    cores = slice_cores(pool, workers, min(threads, usable))
    if processing.resource_mode == "manual":
        _note_core_demand(settings, inventory, cores, pool, notes)
    if cores.spanning:
        names = ", ".join(f"worker-{index}" for index in cores.spanning)
        notes.warning(
            f"No NUMA node has room for {names}: part of the memory is on a distant node, so slower."
        )
    everywhere = processing.resource_mode == "manual" and processing.cpu_affinity is not None
    used = {cpu.id for cpu in pool} if everywhere else {cpu for ids in cores.slices for cpu in ids}
    return Sizing(cores, tuple(sorted(used)), threads, worker_bytes, scheduler_bytes)


def _chosen_cpus(settings: Settings, inventory: HostInventory) -> tuple[Cpu, ...]:
    affinity = settings.processing.cpu_affinity
    if affinity is None:
        return inventory.cpus
    allowed = {cpu.id for cpu in inventory.cpus}
    if missing := set(affinity) - allowed:
        are = f"core {format_cpulist(missing)} is" if len(missing) == 1 else f"{format_cpulist(missing)} are"
        raise PlanError(
            f"{settings.cite('processing.cpu_affinity')}: {are} not among the cores that this process "
            f"may use, {format_cpulist(allowed)}.",
            hint=f"choose from {format_cpulist(allowed)}, or leave cpu_affinity out to have cores chosen; "
            "a batch system, a container or taskset may have narrowed what this process may use",
        )
    return tuple(cpu for cpu in inventory.cpus if cpu.id in affinity)


def _scheduler_bytes(settings: Settings, inventory: HostInventory) -> int:
    limit = _floor_to_mib(bytes_of_gib(settings.launch.scheduler_memory_gb))
    cite = settings.cite("launch.scheduler_memory_gb")
    if limit < MIN_SCHEDULER_BYTES:
        raise PlanError(
            f"{cite} is {format_bytes(limit)}; "
            f"a scheduler needs at least {format_bytes(MIN_SCHEDULER_BYTES)} to start.",
            hint="write 0.25 or more; 1.0 is the default",
        )
    if limit > inventory.memory_ceiling_bytes:
        raise PlanError(
            f"{cite} is more than the {_ceiling(inventory)}.",
            hint="lower scheduler_memory_gb; 1.0 is the default",
        )
    return limit


def _manual_budget(settings: Settings, inventory: HostInventory, scheduler_bytes: int, notes: Notes) -> int:
    """Tell how much memory the workers share: what the settings give them, else what is available."""
    if settings.processing.max_memory_gb is None:
        budget = _available_budget(settings, inventory, scheduler_bytes)
        available = format_bytes(max(0, budget))
        notes.info(f"max_memory_gb is not given: the workers share the {available} available now.")
        return budget
    budget = bytes_of_gib(settings.processing.max_memory_gb)
    available = format_bytes(inventory.memory_available_bytes)
    if budget > inventory.memory_ceiling_bytes:
        raise PlanError(
            f"{settings.cite('processing.max_memory_gb')} is more than the {_ceiling(inventory)}.",
            hint=f"lower max_memory_gb; {available} are available now",
        )
    together = f"{format_bytes(budget)} for workers and {format_bytes(scheduler_bytes)} for the scheduler"
    if budget + scheduler_bytes > inventory.memory_ceiling_bytes:
        notes.warning(
            f"{together} are more than the {_ceiling(inventory)}: "
            "if all of it is used, the kernel kills somebody's process."
        )
    elif budget + scheduler_bytes > inventory.memory_available_bytes:
        notes.warning(f"{together} are more than the {available} available now.")
    return budget


def _auto_budget(settings: Settings, inventory: HostInventory, scheduler_bytes: int, notes: Notes) -> int:
    """Tell how much memory the workers share: what is available, or less where the settings say so."""
    budget = _available_budget(settings, inventory, scheduler_bytes)
    if settings.processing.max_memory_gb is None:
        return budget
    cite, available = settings.cite("processing.max_memory_gb"), format_bytes(max(0, budget))
    wanted = bytes_of_gib(settings.processing.max_memory_gb)
    if wanted < budget:
        notes.info(f"{cite} narrows the {available} available for workers.")
        return wanted
    notes.info(f"{cite} changes nothing: {available} are available for workers.")
    return budget


def _available_budget(settings: Settings, inventory: HostInventory, scheduler_bytes: int) -> int:
    """Tell how much memory is available for workers; may be negative."""
    available = min(inventory.memory_available_bytes, inventory.memory_ceiling_bytes)
    return available - _reserve_bytes(settings, inventory) - scheduler_bytes


def _reserve_bytes(settings: Settings, inventory: HostInventory) -> int:
    """Tell how much memory is left to the system."""
    if settings.launch.reserve_memory_gb is not None:
        return bytes_of_gib(settings.launch.reserve_memory_gb)
    return max(MIN_RESERVE_BYTES, int(inventory.memory_ceiling_bytes * RESERVE_FRACTION))


def _auto_workers(by_cores: int, budget: int, notes: Notes) -> int:
    """Choose the number of workers that there are both cores and memory for."""
    workers = max(1, min(by_cores, budget // COMFORTABLE_WORKER_BYTES))
    if workers < by_cores:
        least = format_bytes(COMFORTABLE_WORKER_BYTES)
        notes.info(
            f"There are cores for {_count(by_cores, 'worker')}, and memory for {workers}, "
            f"each with at least {least}."
        )
    return workers


def _usable_cores(settings: Settings, inventory: HostInventory, pool: tuple[Cpu, ...], notes: Notes) -> int:
    """Tell how many cores auto mode may use: not those that it leaves to the system."""
    detected, quota = len(inventory.cpus), inventory.cpu_quota
    if quota is not None and (granted := max(1, math.floor(quota))) < detected:
        notes.info(
            f"This process is granted {quota:g} CPUs' worth of time, so {_count(granted, 'core')} of "
            f"{detected} may be used."
        )
        detected = granted
    reserve = settings.launch.reserve_cores
    if reserve is None:
        reserve = 1 if detected >= RESERVE_FROM_CORES else 0
    if reserve >= detected:
        raise PlanError(
            f"{settings.cite('launch.reserve_cores')} leaves none of the {_count(detected, 'core')} "
            "that this process may use.",
            hint=f"lower reserve_cores to at most {detected - 1}, or use resource_mode: manual",
        )
    if len(pool) < len(inventory.cpus):
        narrows = f"{settings.cite('processing.cpu_affinity')} narrows the cores that may be used"
        notes.info(f"{narrows}, {format_cpulist(cpu.id for cpu in inventory.cpus)}.")
    return min(len(pool), detected - reserve)


def _note_core_demand(
    settings: Settings, inventory: HostInventory, cores: CoreSlices, pool: tuple[Cpu, ...], notes: Notes
) -> None:
    """Warn where manual mode asks for more cores, or more CPU time, than there is."""
    processing, quota = settings.processing, inventory.cpu_quota
    workers, threads = len(cores.slices), processing.threads_per_worker
    product = f"{_count(workers, 'worker')} x {_count(threads, 'thread')}"
    if cores.shared:
        more = ", or list more cores in cpu_affinity" if processing.cpu_affinity else ""
        notes.warning(
            f"The workers share cores {format_cpulist(cpu.id for cpu in pool)}: {product} are more than "
            f"{_count(len(pool), 'core')}, so none has cores of its own. "
            f"Lower n_max_threads or threads_per_worker{more}."
        )
    if quota is not None and workers * threads > quota:
        notes.warning(
            f"{product} are more than the {quota:g} CPUs' worth of time that this process is granted."
        )


def _too_little_memory(
    settings: Settings, inventory: HostInventory, workers: int, worker_bytes: int
) -> PlanError:
    processing, launch = settings.processing, settings.launch
    manual = processing.resource_mode == "manual"
    leaves = f"{format_bytes(max(0, worker_bytes))} for each of {_count(workers, 'worker')}"
    needs = f"a worker needs at least {format_bytes(MIN_WORKER_BYTES)} to start"
    given = processing.max_memory_gb
    fitting = 0 if given is None else bytes_of_gib(given) // MIN_WORKER_BYTES
    if given is not None and (manual or not fitting):
        fewer = f"lower n_max_threads to at most {fitting}, or " if fitting else ""
        least_gb = math.ceil(MIN_WORKER_BYTES * workers / GIB * 10) / 10
        return PlanError(
            f"{settings.cite('processing.max_memory_gb')} leaves {leaves}; {needs}.",
            hint=f"{fewer}raise max_memory_gb to at least {least_gb:g}",
        )
    available, reserve = inventory.memory_available_bytes, _reserve_bytes(settings, inventory)
    scheduler = bytes_of_gib(launch.scheduler_memory_gb)
    fewer = f"lower n_max_threads ({settings.cite('processing.n_max_threads')}), " if manual else ""
    return PlanError(
        f"Of {format_bytes(available)} available memory, {format_bytes(reserve)} in "
        f"reserve for the system and {format_bytes(scheduler)} for the scheduler leave {leaves}; {needs}.",
        hint=f"free memory on this host, {fewer}or lower launch.reserve_memory_gb or "
        "launch.scheduler_memory_gb",
    )


def _ceiling(inventory: HostInventory) -> str:
    limited = inventory.memory_ceiling_bytes < inventory.memory_total_bytes
    holder = "the control group of this process" if limited else "this machine"
    return f"{format_bytes(inventory.memory_ceiling_bytes)} of {holder}"


def _floor_to_mib(size: int) -> int:
    return size // MIB * MIB


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
