"""How many workers, with how many cores and how much memory each: manual and auto mode."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from canvod.launch.errors import PlanError
from canvod.launch.plan.cores import CoreSlices, slice_cores
from canvod.launch.plan.cpulist import format_cpulist
from canvod.launch.plan.memory import (
    COMFORTABLE_WORKER_BYTES,
    MIN_SCHEDULER_BYTES,
    MIN_WORKER_BYTES,
    bytes_of_gb,
    ceiling_bytes,
    floor_to_mb,
    format_bytes,
    reserve_bytes,
)
from canvod.launch.plan.model import Cpu, HostInventory, Note

if TYPE_CHECKING:
    from canvod.launch.config.models import Settings


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


@dataclass(slots=True)
class _Notes:
    notes: list[Note] = field(default_factory=list)

    def info(self, text: str) -> None:
        self.notes.append(Note(level="info", text=text))

    def warning(self, text: str) -> None:
        self.notes.append(Note(level="warning", text=text))


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
        raise PlanError("This process may not use any CPU of the host.")
    cpus = tuple(sorted(inventory.cpus, key=lambda cpu: cpu.id))
    pool = _chosen_cpus(settings, cpus)
    scheduler_bytes = _scheduler_bytes(settings, inventory)
    size = _manual if settings.processing.resource_mode == "manual" else _auto
    return size(settings, inventory, cpus, pool, scheduler_bytes)


def _chosen_cpus(settings: Settings, cpus: tuple[Cpu, ...]) -> tuple[Cpu, ...]:
    affinity = settings.processing.cpu_affinity
    if affinity is None:
        return cpus
    allowed = {cpu.id for cpu in cpus}
    if missing := sorted(set(affinity) - allowed):
        noun, verb = ("core", "is") if len(missing) == 1 else ("cores", "are")
        raise PlanError(
            f"{settings.cite('processing.cpu_affinity')}: {noun} {format_cpulist(missing)} {verb} not among those "
            f"that this process may use, {format_cpulist(allowed)}.",
            hint=f"choose from {format_cpulist(allowed)}, or leave cpu_affinity out to have cores chosen; "
            "a batch system, a container or taskset may have narrowed what this process may use",
        )
    return tuple(cpu for cpu in cpus if cpu.id in set(affinity))


def _scheduler_bytes(settings: Settings, inventory: HostInventory) -> int:
    cap = floor_to_mb(bytes_of_gb(settings.launch.scheduler_memory_gb))
    cite = settings.cite("launch.scheduler_memory_gb")
    if cap < MIN_SCHEDULER_BYTES:
        raise PlanError(
            f"{cite} is {format_bytes(cap)}; a scheduler needs at least {format_bytes(MIN_SCHEDULER_BYTES)} to start.",
            hint="write 0.25 or more; 1.0 is the default",
        )
    if cap > (ceiling := ceiling_bytes(inventory)):
        raise PlanError(
            f"{cite} is more than {_holder(inventory)} has, {format_bytes(ceiling)}.",
            hint="lower scheduler_memory_gb; 1.0 is the default",
        )
    return cap


def _manual(
    settings: Settings,
    inventory: HostInventory,
    cpus: tuple[Cpu, ...],
    pool: tuple[Cpu, ...],
    scheduler_bytes: int,
) -> Sizing:
    processing = settings.processing
    if (workers := processing.n_max_threads) is None:
        raise PlanError(
            "processing.n_max_threads is missing, and resource_mode is manual.",
            hint="write the number of worker processes, such as n_max_threads: 4",
        )
    notes = _Notes()
    cap = floor_to_mb(_manual_budget(settings, inventory, scheduler_bytes, notes) // workers)
    if cap < MIN_WORKER_BYTES:
        raise _too_little(settings, inventory, workers, cap)

    threads = processing.threads_per_worker
    cores = slice_cores(pool, workers, threads)
    if threads > len(pool):
        notes.warning(
            f"{settings.cite('processing.threads_per_worker')} is more than the {_count(len(pool), 'core')} there "
            f"are ({_ids(pool)}): threads will wait for each other."
        )
    if cores.shared:
        notes.warning(
            f"The workers share cores {_ids(pool)}: {workers} workers x {_count(threads, 'thread')} are more than "
            f"{_count(len(pool), 'core')}, so none has cores of its own. Lower n_max_threads or threads_per_worker"
            + (", or list more cores in cpu_affinity." if processing.cpu_affinity else ".")
        )
    quota = inventory.cpu_quota
    if quota is not None and workers * threads > quota:
        notes.warning(
            f"{workers} workers x {_count(threads, 'thread')} are more than the {quota:g} CPUs that the control group "
            "of this process grants."
        )
    _note_straddling(cores, notes)
    used = [cpu for ids in cores.slices for cpu in ids]
    chosen = [cpu.id for cpu in pool] if processing.cpu_affinity else used
    return Sizing(cores, tuple(sorted(set(chosen))), threads, cap, scheduler_bytes, tuple(notes.notes))


def _manual_budget(settings: Settings, inventory: HostInventory, scheduler_bytes: int, notes: _Notes) -> int:
    gigabytes = settings.processing.max_memory_gb
    if gigabytes is None:
        budget = _detected_budget(settings, inventory, scheduler_bytes)
        notes.info(f"max_memory_gb is not given: the workers share what is available now, {format_bytes(budget)}.")
        return budget
    budget, ceiling = bytes_of_gb(gigabytes), ceiling_bytes(inventory)
    if budget > ceiling:
        raise PlanError(
            f"{settings.cite('processing.max_memory_gb')} is more than {_holder(inventory)} has, "
            f"{format_bytes(ceiling)}.",
            hint=f"lower max_memory_gb; {format_bytes(max(0, inventory.memory_available_bytes))} are available now",
        )
    if budget + scheduler_bytes > ceiling:
        notes.warning(
            f"The workers' {format_bytes(budget)} and the scheduler's {format_bytes(scheduler_bytes)} are together "
            f"more than the {format_bytes(ceiling)} of {_holder(inventory)}: if all of it is used, the kernel "
            "kills somebody's process."
        )
    elif budget + scheduler_bytes > inventory.memory_available_bytes:
        notes.warning(
            f"{format_bytes(inventory.memory_available_bytes)} are available now, less than the "
            f"{format_bytes(budget + scheduler_bytes)} that workers and scheduler may use."
        )
    return budget


def _auto(
    settings: Settings,
    inventory: HostInventory,
    cpus: tuple[Cpu, ...],
    pool: tuple[Cpu, ...],
    scheduler_bytes: int,
) -> Sizing:
    processing = settings.processing
    notes = _Notes()
    usable = _usable_cores(settings, inventory, cpus, pool, notes)
    threads = processing.threads_per_worker
    if threads > usable:
        notes.warning(
            f"{settings.cite('processing.threads_per_worker')} is more than the {_count(usable, 'core')} that may be "
            "used: threads will wait for each other."
        )
    budget = _detected_budget(settings, inventory, scheduler_bytes)
    if (gigabytes := processing.max_memory_gb) is not None:
        if bytes_of_gb(gigabytes) < budget:
            notes.info(
                f"{settings.cite('processing.max_memory_gb')} narrows the {format_bytes(budget)} that are available."
            )
            budget = bytes_of_gb(gigabytes)
        else:
            notes.info(
                f"{settings.cite('processing.max_memory_gb')} changes nothing: resource_mode is auto, and "
                f"{format_bytes(max(0, budget))} are available for workers."
            )

    by_cores = max(1, usable // threads)
    workers = max(1, min(by_cores, budget // COMFORTABLE_WORKER_BYTES))
    cap = floor_to_mb(budget // workers)
    if cap < MIN_WORKER_BYTES:
        raise _too_little(settings, inventory, workers, cap)
    if workers < by_cores:
        notes.info(
            f"There are cores for {_count(by_cores, 'worker')}, but memory for {workers}: each gets at least "
            f"{format_bytes(COMFORTABLE_WORKER_BYTES)} where there is more than one."
        )
    cores = slice_cores(pool, workers, min(threads, usable))
    _note_straddling(cores, notes)
    used = sorted(cpu for ids in cores.slices for cpu in ids)
    return Sizing(cores, tuple(used), threads, cap, scheduler_bytes, tuple(notes.notes))


def _usable_cores(
    settings: Settings, inventory: HostInventory, cpus: tuple[Cpu, ...], pool: tuple[Cpu, ...], notes: _Notes
) -> int:
    detected = len(cpus)
    if inventory.cpu_quota is not None and (granted := max(1, math.floor(inventory.cpu_quota))) < detected:
        notes.info(
            f"The control group of this process grants {inventory.cpu_quota:g} CPUs' worth of time, so "
            f"{_count(granted, 'core')} of {detected} may be used."
        )
        detected = granted
    reserve = settings.launch.reserve_cores
    if reserve is None:
        reserve = 1 if detected >= 3 else 0
    if reserve >= detected:
        raise PlanError(
            f"{settings.cite('launch.reserve_cores')} leaves nothing: this process may use "
            f"{_count(detected, 'core')} ({_ids(cpus)}).",
            hint=f"lower reserve_cores to at most {detected - 1}, or use resource_mode: manual",
        )
    usable = min(len(pool), detected - reserve)
    if len(pool) < len(cpus):
        notes.info(f"{settings.cite('processing.cpu_affinity')} narrows the cores that may be used ({_ids(cpus)}).")
    return usable


def _detected_budget(settings: Settings, inventory: HostInventory, scheduler_bytes: int) -> int:
    """Tell how much memory there is for workers when nobody says; may be negative."""
    available = min(inventory.memory_available_bytes, ceiling_bytes(inventory))
    return available - reserve_bytes(inventory, settings.launch.reserve_memory_gb) - scheduler_bytes


def _too_little(settings: Settings, inventory: HostInventory, workers: int, cap: int) -> PlanError:
    processing = settings.processing
    needs = f"a worker needs at least {format_bytes(MIN_WORKER_BYTES)} to start"
    fewest = MIN_WORKER_BYTES * workers
    if processing.max_memory_gb is not None and processing.resource_mode == "manual":
        fitting = bytes_of_gb(processing.max_memory_gb) // MIN_WORKER_BYTES
        fewer = f"lower n_max_threads to at most {fitting}, or " if fitting else ""
        return PlanError(
            f"{settings.cite('processing.max_memory_gb')} leaves each of {_count(workers, 'worker')} "
            f"{format_bytes(cap)}; {needs}.",
            hint=f"{fewer}raise max_memory_gb to at least {math.ceil(fewest / 1024**3 * 100) / 100:g}",
        )
    reserve = reserve_bytes(inventory, settings.launch.reserve_memory_gb)
    narrowed = (
        f"{settings.cite('processing.max_memory_gb')}: " if processing.max_memory_gb is not None else ""
    )
    fewer = (
        f"lower n_max_threads ({settings.cite('processing.n_max_threads')}), "
        if workers > 1 and processing.resource_mode == "manual"
        else ""
    )
    return PlanError(
        f"{narrowed}{format_bytes(inventory.memory_available_bytes)} of memory are available; the reserve of "
        f"{format_bytes(reserve)} for the system and {settings.launch.scheduler_memory_gb:g} GB for the scheduler "
        f"leave each of {_count(workers, 'worker')} {format_bytes(max(0, cap))}; {needs}.",
        hint=f"free memory on this host, {fewer}lower launch.reserve_memory_gb or launch.scheduler_memory_gb"
        + (", or raise processing.max_memory_gb" if narrowed else ""),
    )


def _note_straddling(cores: CoreSlices, notes: _Notes) -> None:
    if cores.straddling:
        names = ", ".join(f"worker-{index}" for index in cores.straddling)
        notes.warning(f"No NUMA node has room for {names}: their memory is partly on a distant node, so slower.")


def _holder(inventory: HostInventory) -> str:
    if inventory.memory_limit_bytes is not None and inventory.memory_limit_bytes < inventory.memory_total_bytes:
        return "the control group of this process"
    return "this machine"


def _ids(cpus: tuple[Cpu, ...]) -> str:
    return format_cpulist(cpu.id for cpu in cpus)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
