"""How many workers, with how many cores and how much memory each: manual and auto mode."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from canvod.launch.errors import PlanError
from canvod.launch.host.cpulist import format_cpulist
from canvod.launch.plan.cores import slice_cores
from canvod.launch.plan.memory import (
    COMFORTABLE_WORKER_BYTES,
    MIN_SCHEDULER_BYTES,
    MIN_WORKER_BYTES,
    ceiling_bytes,
    floor_to_mib,
    reserve_bytes,
)
from canvod.launch.plan.model import Note
from canvod.launch.units import GIB, bytes_of_gib, format_bytes

if TYPE_CHECKING:
    from canvod.launch.config import Settings
    from canvod.launch.host.inventory import Cpu, HostInventory
    from canvod.launch.plan.cores import CoreSlices

RESERVE_FROM_CORES = 3
"""Auto mode leaves a core to the system where there are this many or more; the settings may say otherwise."""


@dataclass(frozen=True, slots=True)
class Sizing:
    """Number and size of the workers."""

    cores: CoreSlices
    cluster_cpus: tuple[int, ...]
    """All logical CPUs of the cluster, sorted: where the scheduler runs."""
    nthreads: int
    worker_bytes: int
    """Cap of each worker."""
    scheduler_bytes: int
    """Cap of the scheduler."""
    notes: tuple[Note, ...]

    @property
    def workers(self) -> int:
        """Number of workers."""
        return len(self.cores.slices)


def size_cluster(settings: Settings, inventory: HostInventory) -> Sizing:
    """Decide on the number of workers, their cores and their memory.

    Parameters
    ----------
    settings : Settings
        Validated settings.
    inventory : HostInventory
        The host; the order of its CPUs does not matter.

    Returns
    -------
    Sizing
        The decision, with what a reader should know about it.

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
    pool = _chosen_cpus(settings, inventory)
    scheduler_bytes = _scheduler_bytes(settings, inventory)
    size = _manual if settings.processing.resource_mode == "manual" else _auto
    return size(settings, inventory, pool, scheduler_bytes)


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
    cap = floor_to_mib(bytes_of_gib(settings.launch.scheduler_memory_gb))
    cite = settings.cite("launch.scheduler_memory_gb")
    if cap < MIN_SCHEDULER_BYTES:
        raise PlanError(
            f"{cite} is {format_bytes(cap)}; "
            f"a scheduler needs at least {format_bytes(MIN_SCHEDULER_BYTES)} to start.",
            hint="write 0.25 or more; 1.0 is the default",
        )
    if cap > (ceiling := ceiling_bytes(inventory)):
        raise PlanError(
            f"{cite} is more than the {format_bytes(ceiling)} of {_holder(inventory)}.",
            hint="lower scheduler_memory_gb; 1.0 is the default",
        )
    return cap


def _manual(
    settings: Settings, inventory: HostInventory, pool: tuple[Cpu, ...], scheduler_bytes: int
) -> Sizing:
    processing = settings.processing
    threads, workers = processing.threads_per_worker, processing.n_max_threads
    if workers is None:
        raise PlanError(
            "processing.n_max_threads is missing, and resource_mode is manual.",
            hint="write the number of worker processes, such as n_max_threads: 4",
        )
    notes: list[Note] = []
    if processing.max_memory_gb is None:
        budget = _detected_budget(settings, inventory, scheduler_bytes)
        available = format_bytes(max(0, budget))
        notes.append(_info(f"max_memory_gb is not given: the workers share the {available} available now."))
    else:
        budget = _given_budget(settings, inventory, scheduler_bytes, notes)
    cap = floor_to_mib(budget // workers)
    if cap < MIN_WORKER_BYTES:
        raise _too_little(settings, inventory, workers, cap)

    cores = slice_cores(pool, workers, threads)
    product = f"{_count(workers, 'worker')} x {_count(threads, 'thread')}"
    if threads > len(pool):
        notes.append(_too_many_threads(settings, len(pool)))
    if cores.shared:
        more = ", or list more cores in cpu_affinity" if processing.cpu_affinity else ""
        notes.append(
            _warning(
                f"The workers share cores {_ids(pool)}: {product} are more than {_count(len(pool), 'core')}, "
                f"so none has cores of its own. Lower n_max_threads or threads_per_worker{more}."
            )
        )
    quota = inventory.cpu_quota
    if quota is not None and workers * threads > quota:
        notes.append(
            _warning(
                f"{product} are more than the {quota:g} CPUs' worth of time that this process is granted."
            )
        )
    notes += _straddling(cores)
    used = pool if processing.cpu_affinity else None
    return Sizing(cores, _cluster_cpus(cores, used), threads, cap, scheduler_bytes, tuple(notes))


def _given_budget(
    settings: Settings, inventory: HostInventory, scheduler_bytes: int, notes: list[Note]
) -> int:
    budget = bytes_of_gib(settings.processing.max_memory_gb or 0)
    ceiling, available = ceiling_bytes(inventory), inventory.memory_available_bytes
    if budget > ceiling:
        raise PlanError(
            f"{settings.cite('processing.max_memory_gb')} is more than the {format_bytes(ceiling)} of "
            f"{_holder(inventory)}.",
            hint=f"lower max_memory_gb; {format_bytes(available)} are available now",
        )
    together = f"{format_bytes(budget)} for workers and {format_bytes(scheduler_bytes)} for the scheduler"
    if budget + scheduler_bytes > ceiling:
        notes.append(
            _warning(
                f"{together} are more than the {format_bytes(ceiling)} of {_holder(inventory)}: "
                "if all of it is used, the kernel kills somebody's process."
            )
        )
    elif budget + scheduler_bytes > available:
        notes.append(_warning(f"{together} are more than the {format_bytes(available)} available now."))
    return budget


def _auto(
    settings: Settings, inventory: HostInventory, pool: tuple[Cpu, ...], scheduler_bytes: int
) -> Sizing:
    processing = settings.processing
    threads = processing.threads_per_worker
    notes: list[Note] = []
    usable = _usable_cores(settings, inventory, pool, notes)
    if threads > usable:
        notes.append(_too_many_threads(settings, usable))
    budget = _detected_budget(settings, inventory, scheduler_bytes)
    if processing.max_memory_gb is not None:
        cite, detected = settings.cite("processing.max_memory_gb"), format_bytes(max(0, budget))
        if (wanted := bytes_of_gib(processing.max_memory_gb)) < budget:
            notes.append(_info(f"{cite} narrows the {detected} available for workers."))
            budget = wanted
        else:
            notes.append(_info(f"{cite} changes nothing: {detected} are available for workers."))

    by_cores = max(1, usable // threads)
    workers = max(1, min(by_cores, budget // COMFORTABLE_WORKER_BYTES))
    cap = floor_to_mib(budget // workers)
    if cap < MIN_WORKER_BYTES:
        raise _too_little(settings, inventory, workers, cap)
    if workers < by_cores:
        least = format_bytes(COMFORTABLE_WORKER_BYTES)
        notes.append(
            _info(
                f"There are cores for {_count(by_cores, 'worker')}, and memory for {workers}, "
                f"each with at least {least}."
            )
        )
    cores = slice_cores(pool, workers, min(threads, usable))
    notes += _straddling(cores)
    return Sizing(cores, _cluster_cpus(cores), threads, cap, scheduler_bytes, tuple(notes))


def _usable_cores(
    settings: Settings, inventory: HostInventory, pool: tuple[Cpu, ...], notes: list[Note]
) -> int:
    detected, quota = len(inventory.cpus), inventory.cpu_quota
    if quota is not None and (granted := max(1, math.floor(quota))) < detected:
        notes.append(
            _info(
                f"This process is granted {quota:g} CPUs' worth of time, so {_count(granted, 'core')} of "
                f"{detected} may be used."
            )
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
        notes.append(_info(f"{narrows}, {_ids(inventory.cpus)}."))
    return min(len(pool), detected - reserve)


def _detected_budget(settings: Settings, inventory: HostInventory, scheduler_bytes: int) -> int:
    """Tell how much memory there is for workers when nobody says; may be negative."""
    available = min(inventory.memory_available_bytes, ceiling_bytes(inventory))
    return available - reserve_bytes(inventory, settings.launch.reserve_memory_gb) - scheduler_bytes


def _too_little(settings: Settings, inventory: HostInventory, workers: int, cap: int) -> PlanError:
    processing, launch = settings.processing, settings.launch
    manual = processing.resource_mode == "manual"
    leaves = f"{format_bytes(max(0, cap))} for each of {_count(workers, 'worker')}"
    needs = f"a worker needs at least {format_bytes(MIN_WORKER_BYTES)} to start"
    raised = f"raise max_memory_gb to at least {math.ceil(MIN_WORKER_BYTES * workers / GIB * 10) / 10:g}"
    if manual and processing.max_memory_gb is not None:
        fitting = bytes_of_gib(processing.max_memory_gb) // MIN_WORKER_BYTES
        fewer = f"lower n_max_threads to at most {fitting}, or " if fitting else ""
        return PlanError(
            f"{settings.cite('processing.max_memory_gb')} leaves {leaves}; {needs}.", hint=fewer + raised
        )
    if processing.max_memory_gb is not None and bytes_of_gib(processing.max_memory_gb) < MIN_WORKER_BYTES:
        return PlanError(
            f"{settings.cite('processing.max_memory_gb')} leaves {leaves}; {needs}.", hint=raised
        )
    reserve = reserve_bytes(inventory, launch.reserve_memory_gb)
    scheduler = bytes_of_gib(launch.scheduler_memory_gb)
    fewer = f"lower n_max_threads ({settings.cite('processing.n_max_threads')}), " if manual else ""
    return PlanError(
        f"Of {format_bytes(inventory.memory_available_bytes)} available memory, {format_bytes(reserve)} in "
        f"reserve for the system and {format_bytes(scheduler)} for the scheduler leave {leaves}; {needs}.",
        hint=f"free memory on this host, {fewer}or lower launch.reserve_memory_gb or "
        "launch.scheduler_memory_gb",
    )


def _cluster_cpus(cores: CoreSlices, listed: tuple[Cpu, ...] | None = None) -> tuple[int, ...]:
    if listed is not None:
        return tuple(sorted(cpu.id for cpu in listed))
    return tuple(sorted({cpu for ids in cores.slices for cpu in ids}))


def _too_many_threads(settings: Settings, cores: int) -> Note:
    cite = settings.cite("processing.threads_per_worker")
    return _warning(
        f"{cite} is more than the {_count(cores, 'core')} to use: threads will wait for each other."
    )


def _straddling(cores: CoreSlices) -> list[Note]:
    if not cores.straddling:
        return []
    names = ", ".join(f"worker-{index}" for index in cores.straddling)
    return [
        _warning(f"No NUMA node has room for {names}: part of the memory is on a distant node, so slower.")
    ]


def _holder(inventory: HostInventory) -> str:
    limited = ceiling_bytes(inventory) < inventory.memory_total_bytes
    return "the control group of this process" if limited else "this machine"


def _ids(cpus: tuple[Cpu, ...]) -> str:
    return format_cpulist(cpu.id for cpu in cpus)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _info(text: str) -> Note:
    return Note(level="info", text=text)


def _warning(text: str) -> Note:
    return Note(level="warning", text=text)
