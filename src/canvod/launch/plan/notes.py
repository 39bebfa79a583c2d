"""What a reader of a plan should know: which limits this host enforces, and against whom."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from canvod.launch.errors import PlanError
from canvod.launch.plan.model import Note
from canvod.launch.plan.priority import NORMAL_WEIGHT
from canvod.launch.units import MIB, format_bytes

if TYPE_CHECKING:
    from canvod.launch.config import Settings
    from canvod.launch.host.inventory import EngineInventory, HostInventory
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


OLDEST_ENGINE: Final = "20.10"
OLDEST_API: Final = (1, 41)
"""The oldest Docker engine whose requests have all that a cluster needs (namespaces of control groups)."""


def require_usable(engine: EngineInventory) -> None:
    """Refuse an engine that is too old, or whose containers this host cannot reach.

    Parameters
    ----------
    engine : EngineInventory
        What it says of itself.

    Raises
    ------
    PlanError
        If it is rootless, runs containers on another kernel than this host's, or is older than 20.10.
    """
    known = f"The Docker engine {engine.server_version}"
    other = "use the engine of the system (DOCKER_HOST=unix:///var/run/docker.sock), or set "
    process = "launch.backend: process"
    if engine.elsewhere:
        raise PlanError(
            f"{known} runs containers {engine.elsewhere}: this host cannot reach their addresses, and its "
            "paths are not theirs.",
            hint=other + process,
        )
    if engine.rootless:
        raise PlanError(
            f"{known} is rootless: its containers are in a network of their own, where this host cannot "
            "reach them, and their users are not the host's.",
            hint=other + process,
        )
    if engine.api_version and tuple(map(int, engine.api_version.split("."))) < OLDEST_API:
        needed = ".".join(map(str, OLDEST_API))
        raise PlanError(
            f"{known} (API {engine.api_version}) is too old: a cluster needs {OLDEST_ENGINE} (API {needed}) "
            "or newer.",
            hint=f"install a newer Docker engine, or set {process}",
        )


def check_engine(settings: Settings, engine: EngineInventory | None) -> None:
    """Refuse an engine that cannot run a cluster of this host, and a parent group that it would refuse.

    Parameters
    ----------
    settings : Settings
        Validated settings.
    engine : EngineInventory or None
        The engine, if there is one.

    Raises
    ------
    PlanError
        If `require_usable` refuses the engine, or its systemd driver is to use a parent that is not a slice.
    """
    if engine is not None:
        require_usable(engine)
    parent = settings.launch.cgroup_parent
    if parent and engine and engine.cgroup_driver == "systemd" and not parent.endswith(".slice"):
        raise PlanError(
            f"{settings.cite('launch.cgroup_parent')} is not a slice: "
            "the engine uses the systemd cgroup driver, which takes only names that end in .slice.",
            hint="write the name of a slice, such as canvod.slice",
        )


def container_notes(settings: Settings, engine: EngineInventory | None) -> list[Note]:
    """Say which protection of other users containers give on this engine.

    CPU weight orders groups below one parent only. Containers and people have different parents, so that the
    weight of a container protects nobody who is logged in; the weight of the containers' parent does.

    Parameters
    ----------
    settings : Settings
        Validated settings.
    engine : EngineInventory or None
        The engine; None where it was not asked.

    Returns
    -------
    list of Note
        In no particular order.
    """
    if engine is None:
        return [Note.warning("No engine was asked: CPU weights are for the control groups of this host.")]
    notes: list[Note] = [Note.warning(_MISSING[limit]) for limit in engine.missing_limits]
    parent = settings.launch.cgroup_parent
    if parent is not None:
        notes.append(
            Note.info(
                f"All containers are in {parent}: that group's own weight decides between them and everybody "
                f"else on this host. {_set_up(parent, engine)}"
            )
        )
        if engine.cgroup_driver != "systemd" and parent.endswith(".slice"):
            notes.append(
                Note.warning(
                    f"{settings.cite('launch.cgroup_parent')} looks like a slice, but the engine uses the "
                    f"{engine.cgroup_driver} driver: systemd knows nothing of the group that it makes."
                )
            )
    elif _gives_way(settings):
        notes.append(_people_unprotected(engine))
    if engine.cgroup_version != 1 and not engine.runtime_version and _sets_weight(settings):
        notes.append(
            Note.warning("The engine does not tell runc's version: the kernel may show another CPU weight.")
        )
    return notes


def process_notes(settings: Settings) -> list[Note]:
    """Say what the process backend cannot enforce."""
    notes = [
        Note.warning(
            "Memory limits are not enforced by the kernel: Dask's nanny watches each worker and restarts it "
            "near its limit, which a fast allocation outruns."
        ),
        Note.info("Cores are set by affinity, which code in a worker can undo; NUMA nodes are not bound."),
        Note.info("Workers run as you, with your files, your network and your rights: nothing is hardened."),
    ]
    if _sets_weight(settings):
        notes.append(
            Note.warning(
                "CPU weight is not set: nice alone counts, and only among processes of one control group or "
                "session."
            )
        )
    if settings.launch.cgroup_parent is not None:
        notes.append(
            Note.warning(f"{settings.cite('launch.cgroup_parent')} has no effect without containers.")
        )
    return notes


def pool_notes() -> list[Note]:
    """Say what the process pool cannot enforce."""
    return [
        Note.warning(
            "Dask is not installed: nothing limits a worker's memory, and no nanny restarts a worker. Their "
            "number, cores and nice value hold."
        )
    ]


def memory_notes(
    settings: Settings,
    inventory: HostInventory,
    sizing: Sizing,
    oversubscribed: frozenset[int],
    *,
    enforced: bool,
    no_swap: bool,
) -> list[Note]:
    """Say how much memory is given away, and where it may come from.

    Parameters
    ----------
    settings : Settings
        Validated settings.
    inventory : HostInventory
        The host.
    sizing : Sizing
        The sizes of scheduler and workers.
    oversubscribed : frozenset of int
        NUMA nodes that have less memory than the limits of the workers on them.
    enforced : bool
        Whether the kernel enforces the limits.
    no_swap : bool
        Whether they hold for memory and swap together.

    Returns
    -------
    list of Note
        In no particular order.
    """
    ceiling = inventory.memory_ceiling_bytes
    swap = ", none of it swap" if no_swap else ""
    total = sizing.workers * sizing.worker_bytes + sizing.scheduler_bytes
    notes = [
        Note.info(
            f"Workers and scheduler may use {format_bytes(total)} together{swap}; "
            f"{format_bytes(max(0, ceiling - total))} of {format_bytes(ceiling)} stay for everything else."
        )
    ]
    if oversubscribed and enforced:
        numbers = ", ".join(map(str, sorted(oversubscribed)))
        notes.append(
            Note.info(
                f"The memory limits of the workers on NUMA node {numbers} exceed its memory, "
                "so these workers may take memory from other nodes."
            )
        )
    if enforced and settings.launch.tmp_mb * MIB * 4 > sizing.worker_bytes:
        notes.append(
            Note.warning(
                f"{settings.cite('launch.tmp_mb')} is more than a quarter of a worker's memory limit of "
                f"{format_bytes(sizing.worker_bytes)}: what is in /tmp is taken from the worker."
            )
        )
    return notes


def _gives_way(settings: Settings) -> bool:
    weight = settings.launch.cpu_weight
    return settings.processing.nice_priority > 0 if weight is None else weight < NORMAL_WEIGHT


def _sets_weight(settings: Settings) -> bool:
    return settings.processing.nice_priority > 0 or settings.launch.cpu_weight is not None


def _people_unprotected(engine: EngineInventory) -> Note:
    if engine.cgroup_driver == "systemd":
        return Note.warning(
            "The CPU weight protects other containers and services, not people who are logged in: containers "
            "are in system.slice, people in user.slice, and both weigh the same. To give way to people too, "
            f"set launch.cgroup_parent: canvod.slice. {_set_up('canvod.slice', engine)}"
        )
    return Note.warning(
        "The CPU weight protects other containers, not people who are logged in: all containers together are "
        "one group of normal weight beside them. To give way to people too, set "
        f"launch.cgroup_parent: /canvod. {_set_up('/canvod', engine)}"
    )


def _set_up(parent: str, engine: EngineInventory) -> str:
    """Say how an administrator gives the parent group its weight."""
    if engine.cgroup_driver == "systemd":
        weight = "CPUShares=2" if engine.cgroup_version == 1 else "CPUWeight=idle"
        return (
            f"An administrator gives the slice its weight once: /etc/systemd/system/{parent} with the lines "
            f"[Slice] and {weight}, then systemctl daemon-reload."
        )
    group = parent.strip("/")
    echo = (
        f"echo 2 > /sys/fs/cgroup/cpu/{group}/cpu.shares"
        if engine.cgroup_version == 1
        else f"echo 1 > /sys/fs/cgroup/{group}/cpu.idle"
    )
    return f"An administrator makes the group after each boot and gives it its weight: {echo}."
