"""Affinity and nice value of every thread of a process.

``setpriority`` and ``sched_setaffinity`` act on one thread on Linux, whatever their man pages call it, and a
Dask worker has several by the time a plugin runs. So every entry of ``/proc/self/task`` is set, until no
thread is left that differs; threads that start later inherit both from the one that starts them.
"""

from __future__ import annotations

import os
import platform
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_ROUNDS = 5
"""A thread that starts while we walk inherits from its parent, which may not be done yet: walk again."""


@dataclass(frozen=True)
class ThreadResources:
    """Affinity and nice value of one thread.

    Attributes
    ----------
    tid : int
        Thread ID of the kernel.
    cpu_affinity : tuple of int
        IDs of the logical CPUs that it may use, sorted.
    nice : int
        Nice value, from -20 to 19.
    """

    tid: int
    cpu_affinity: tuple[int, ...]
    nice: int


def thread_resources(pid: int | None = None) -> list[ThreadResources]:
    """Read affinity and nice value of every thread of a process.

    Parameters
    ----------
    pid : int, optional
        Process ID; this process by default.

    Returns
    -------
    list of ThreadResources
        One entry a thread, sorted by thread ID. Threads that end meanwhile are left out.

    Raises
    ------
    FileNotFoundError
        If there is no such process, or the system has no ``/proc``.

    Examples
    --------
    >>> thread_resources()[0].nice >= -20
    True
    """
    threads = []
    for tid in sorted(int(entry.name) for entry in Path(f"/proc/{pid or 'self'}/task").iterdir()):
        try:
            cpus = tuple(sorted(os.sched_getaffinity(tid)))
            threads.append(ThreadResources(tid, cpus, os.getpriority(os.PRIO_PROCESS, tid)))
        except ProcessLookupError:
            continue
    return threads


def apply_resources(cpu_affinity: Sequence[int] | None, nice: int) -> list[str]:
    """Apply affinity and nice value to every thread of this process.

    Parameters
    ----------
    cpu_affinity : sequence of int or None
        IDs of the logical CPUs; None leaves the affinity as it is.
    nice : int
        Nice value, from 0 to 19; 0 leaves it as it is.

    Returns
    -------
    list of str
        What could not be applied, one sentence each; empty when every thread is as asked.
    """
    if cpu_affinity is not None and not _has_affinity():
        return ["affinity is not set: this system has no sched_setaffinity", *apply_resources(None, nice)]
    # The calling thread first, whose ID may be written as 0.
    problems = _set(0, cpu_affinity, nice)
    if platform.system() != "Linux":
        return problems
    own = next((each for each in thread_resources() if each.tid == threading.get_native_id()), None)
    if own is None:
        return [*problems, "/proc/self/task does not show this thread: only it has been set"]
    if not problems and not _is_as_asked(own, cpu_affinity, nice):
        problems.append(f"cores {list(own.cpu_affinity)} and nice {own.nice} are what the kernel has set")
    # The others get what this one has, so that nothing is tried again that was refused.
    cpu_affinity, nice = None if cpu_affinity is None else own.cpu_affinity, own.nice if nice else 0
    different: list[int] = []
    for _ in range(_ROUNDS):
        different = [each.tid for each in thread_resources() if not _is_as_asked(each, cpu_affinity, nice)]
        if not different:
            return problems
        refused = dict.fromkeys(problem for tid in different for problem in _set(tid, cpu_affinity, nice))
        if refused:
            return [*problems, *refused]
    return [*problems, f"threads {different} change their cores or nice value again and again"]


def _is_as_asked(thread: ThreadResources, cpu_affinity: Sequence[int] | None, nice: int) -> bool:
    cpus = thread.cpu_affinity if cpu_affinity is None else tuple(sorted(set(cpu_affinity)))
    return thread.cpu_affinity == cpus and nice in {0, thread.nice}


def _has_affinity() -> bool:
    return platform.system() == "Linux" and callable(getattr(os, "sched_setaffinity", None))


def _set(tid: int, cpu_affinity: Sequence[int] | None, nice: int) -> list[str]:
    problems = []
    if cpu_affinity is not None:
        try:
            os.sched_setaffinity(tid, cpu_affinity)
        except ProcessLookupError:
            return []
        except OSError as error:
            allowed = sorted(os.sched_getaffinity(0))
            problems.append(
                f"affinity {list(cpu_affinity)} refused ({error.strerror or error}); "
                f"this process may use {allowed}"
            )
    if nice:
        try:
            os.setpriority(os.PRIO_PROCESS, tid, nice)
        except ProcessLookupError:
            return []
        except OSError as error:
            now = os.getpriority(os.PRIO_PROCESS, 0)
            problems.append(f"nice {nice} refused ({error.strerror or error}); it is {now}")
    return problems
