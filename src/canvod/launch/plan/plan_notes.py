"""What a reader of a plan should know: which limits this host enforces, and against whom."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from canvod.launch.plan.priority import NORMAL_WEIGHT
from canvod.launch.units import MIB, format_bytes

if TYPE_CHECKING:
    from canvod.launch.config import Settings
    from canvod.launch.host.inventory import EngineInventory, HostInventory
    from canvod.launch.plan.model import Notes
    from canvod.launch.plan.sizing import Sizing

_MISSING: Final = {
    "memory": "The engine does not limit memory here (docker info: MemoryLimit false): only Dask's own "
    "limits hold. The kernel needs its memory controller: boot with cgroup_enable=memory.",
    "swap": "The engine does not limit swap here (docker info: SwapLimit false): a worker at its limit goes "
    "on in swap. Boot with swapaccount=1, or turn swap off.",
    "cpuset": "The engine does not pin containers to cores here (docker info: CPUSet false): only affinity "
    "does, which code in a worker can undo.",
    "pids": "The engine does not limit the number of processes here (docker info: PidsLimit false).",
}
"""What is said of a limit that the engine says it cannot set."""


def note_memory(inventory: HostInventory, sizing: Sizing, notes: Notes, *, no_swap: bool) -> None:
    """Note how much memory is given away, and how much is left.

    Parameters
    ----------
    inventory : HostInventory
        The host.
    sizing : Sizing
        The sizes of scheduler and workers.
    notes : Notes
        Takes the note.
    no_swap : bool
        Whether the limits hold for memory and swap together.
    """
    swap = ", none of it swap" if no_swap else ""
    ceiling = inventory.memory_ceiling_bytes
    total = sizing.workers * sizing.worker_bytes + sizing.scheduler_bytes
    notes.info(
        f"Workers and scheduler may use {format_bytes(total)} together{swap}; "
        f"{format_bytes(max(0, ceiling - total))} of {format_bytes(ceiling)} stay for everything else."
    )


def note_limits(settings: Settings, sizing: Sizing, oversubscribed: frozenset[int], notes: Notes) -> None:
    """Note what the memory limits of containers mean for their workers.

    Parameters
    ----------
    settings : Settings
        Validated settings.
    sizing : Sizing
        The sizes of scheduler and workers.
    oversubscribed : frozenset of int
        NUMA nodes that have less memory than the limits of the workers on them.
    notes : Notes
        Takes the notes.
    """
    if oversubscribed:
        notes.info(
            f"The memory limits of the workers on NUMA node {', '.join(map(str, sorted(oversubscribed)))} "
            "exceed its memory, so these workers may take memory from other nodes."
        )
    if settings.launch.tmp_mb * MIB * 4 > sizing.worker_bytes:
        notes.warning(
            f"{settings.cite('launch.tmp_mb')} is more than a quarter of a worker's memory limit of "
            f"{format_bytes(sizing.worker_bytes)}: what is in /tmp is taken from the worker."
        )


def note_protection(settings: Settings, engine: EngineInventory | None, notes: Notes) -> None:
    """Note which limits an engine cannot set, and which protection of other users its containers give.

    CPU weight orders groups below one parent only. Containers and people have different parents, so that the
    weight of a container protects nobody who is logged in; the weight of the containers' parent does.

    Parameters
    ----------
    settings : Settings
        Validated settings.
    engine : EngineInventory or None
        The engine; None where it was not asked.
    notes : Notes
        Takes the notes.
    """
    if engine is None:
        notes.warning("No engine was asked: CPU weights are for the control groups of this host.")
        return
    for limit in engine.missing_limits:
        notes.warning(_MISSING[limit])
    parent = settings.launch.cgroup_parent
    if parent is not None:
        notes.info(
            f"All containers are in {parent}: that group's own weight decides between them and everybody "
            f"else on this host. {_set_up(parent, engine)}"
        )
        if engine.cgroup_driver != "systemd" and parent.endswith(".slice"):
            notes.warning(
                f"{settings.cite('launch.cgroup_parent')} looks like a slice, but the engine uses the "
                f"{engine.cgroup_driver} driver: systemd knows nothing of the group that it makes."
            )
    elif _gives_way(settings) and engine.cgroup_driver == "systemd":
        notes.warning(
            "The CPU weight protects other containers and services, not people who are logged in: containers "
            "are in system.slice, people in user.slice, and both weigh the same. To give way to people too, "
            f"set launch.cgroup_parent: canvod.slice. {_set_up('canvod.slice', engine)}"
        )
    elif _gives_way(settings):
        notes.warning(
            "The CPU weight protects other containers, not people who are logged in: all containers together "
            "are one group of normal weight beside them. To give way to people too, set "
            f"launch.cgroup_parent: /canvod. {_set_up('/canvod', engine)}"
        )
    if engine.cgroup_version != 1 and not engine.runtime_version and _sets_weight(settings):
        notes.warning("The engine does not tell runc's version: the kernel may show another CPU weight.")


def note_processes(settings: Settings, notes: Notes) -> None:
    """Note what the process backend cannot enforce.

    Parameters
    ----------
    settings : Settings
        Validated settings.
    notes : Notes
        Takes the notes.
    """
    notes.warning(
        "Memory limits are not enforced by the kernel: Dask's nanny watches each worker and restarts it "
        "near its limit; an allocation that is faster than this is not stopped."
    )
    notes.info("Cores are set by affinity, which code in a worker can undo; NUMA nodes are not bound.")
    notes.info("Workers run as you, with your files, your network and your rights: nothing is hardened.")
    if _sets_weight(settings):
        notes.warning(
            "CPU weight is not set: nice alone counts, and only among processes of one control group or "
            "session."
        )
    if settings.launch.cgroup_parent is not None:
        notes.warning(f"{settings.cite('launch.cgroup_parent')} has no effect without containers.")


def note_pool(notes: Notes) -> None:
    """Note what the process pool cannot enforce.

    Parameters
    ----------
    notes : Notes
        Takes the note.
    """
    notes.warning(
        "Dask is not installed: nothing limits a worker's memory, and no nanny restarts a worker. Their "
        "number, cores and nice value hold."
    )


def _gives_way(settings: Settings) -> bool:
    weight = settings.launch.cpu_weight
    return settings.processing.nice_priority > 0 if weight is None else weight < NORMAL_WEIGHT


def _sets_weight(settings: Settings) -> bool:
    return settings.processing.nice_priority > 0 or settings.launch.cpu_weight is not None


def _set_up(parent: str, engine: EngineInventory) -> str:
    """Say how an administrator gives the parent group its weight."""
    if engine.cgroup_driver == "systemd":
        weight = "CPUShares=2" if engine.cgroup_version == 1 else "CPUWeight=idle"
        return (
            f"An administrator gives the slice its weight once: /etc/systemd/system/{parent} with the lines "
            f"[Slice] and {weight}, then systemctl daemon-reload."
        )
    group = parent.strip("/")
    version_1 = f"echo 2 > /sys/fs/cgroup/cpu/{group}/cpu.shares"
    echo = version_1 if engine.cgroup_version == 1 else f"echo 1 > /sys/fs/cgroup/{group}/cpu.idle"
    return f"An administrator makes the group after each boot and gives it its weight: {echo}."
