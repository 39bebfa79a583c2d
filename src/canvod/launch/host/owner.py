"""Who started a cluster: a mark that tells later whether that process still lives."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from canvod.launch.host.labels import DETACHED_LABEL, OWNER_LABEL, UID_LABEL

OWNER_FILE: Final = "launcher"
"""In a folder of keys, or of spilled data: the mark of the process that it belongs to."""

SCRATCH_PREFIX: Final = "canvod-launch-scratch-"
"""How the folders begin in which worker processes spill."""


def owner_mark(pid: int | None = None) -> str:
    """Mark a process of this host so that nothing else is ever taken for it.

    Parameters
    ----------
    pid : int, optional
        The process; this one by default.

    Returns
    -------
    str
        Boot, namespace of process IDs, process ID, and start in clock ticks since the boot (proc(5)).
    """
    pid = os.getpid() if pid is None else pid
    return f"{_boot()}/{_namespace()}/{pid}/{_start_ticks(pid)}"


def owner_lives(mark: str) -> bool:
    """Tell whether a process that `owner_mark` marked is still there.

    Parameters
    ----------
    mark : str
        The mark.

    Returns
    -------
    bool
        True also where that cannot be seen from here: the process was marked in another namespace.

    Examples
    --------
    >>> owner_lives(owner_mark())
    True
    """
    try:
        boot, namespace, pid, ticks = mark.split("/")
        if boot != _boot():
            return False
        return namespace != _namespace() or _start_ticks(int(pid)) == int(ticks)
    except ValueError:
        return False


def owner_pid(mark: str) -> int:
    """Read the process ID in a mark.

    Parameters
    ----------
    mark : str
        As `owner_mark` gave it.

    Returns
    -------
    int
        The process ID, in the namespace of process IDs that the mark names.

    Examples
    --------
    >>> owner_pid(owner_mark()) == os.getpid()
    True
    """
    return int(mark.split("/")[2])


SEMAPHORE_PREFIX: Final = "canvod-launch."


def semaphore_name(cluster: str, worker: str) -> str:
    """Name the semaphores of a worker process, so that they tell whose they are.

    Parameters
    ----------
    cluster, worker : str
        Names of the cluster and of the worker.

    Returns
    -------
    str
        How the names begin: prefix, namespace of process IDs, process ID, start, cluster and worker.
    """
    _, namespace, pid, ticks = owner_mark().split("/")
    return f"{SEMAPHORE_PREFIX}{namespace}.{pid}.{ticks}.{cluster}.{worker}"


def owner_of_semaphore(name: str) -> str | None:
    """Tell which process a semaphore belongs to.

    Parameters
    ----------
    name : str
        As `semaphore_name` gave it, whatever follows.

    Returns
    -------
    str or None
        The mark of the process, as `owner_mark` gives it; None where the semaphore is none of canvod-launch.
    """
    fields = name.removeprefix(SEMAPHORE_PREFIX).split(".")
    if not name.startswith(SEMAPHORE_PREFIX) or len(fields) < 4:
        return None
    return "/".join((_boot(), *fields[:3]))


def owner_of(folder: Path) -> str | None:
    """Read whose a folder is.

    Parameters
    ----------
    folder : Path
        A folder of keys, or of spilled data.

    Returns
    -------
    str or None
        The mark of the process, as `owner_mark` gave it; None where there is none, or it cannot be read.
    """
    try:
        return (folder / OWNER_FILE).read_text() or None
    except OSError:
        return None


def owner_labels(*, detached: bool) -> dict[str, str]:
    """Make the labels that tell who started a cluster, and whether it outlives that process.

    Parameters
    ----------
    detached : bool
        Whether it outlives the process.

    Returns
    -------
    dict of str to str
        Mark and user ID of this process, and ``true`` or ``false``.
    """
    return {
        OWNER_LABEL: owner_mark(),
        UID_LABEL: str(os.getuid()),
        DETACHED_LABEL: str(detached).lower(),
    }


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _namespace() -> str:
    return str(Path("/proc/self/ns/pid").stat().st_ino)


def _start_ticks(pid: int) -> int:
    """Read when a process was started; 0 where there is none."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0
    # The name, in parentheses, may hold anything; field 22 is the start, field 3 the state.
    fields = status.rpartition(")")[2].split()
    return 0 if fields[0] in "ZX" else int(fields[19])
