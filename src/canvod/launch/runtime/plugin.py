"""Affinity and nice for every thread of a worker.

``setpriority`` and ``sched_setaffinity`` act on one thread on Linux, whatever their man pages call it, and a
Dask worker has several by the time a plugin runs. So every entry of ``/proc/self/task`` is set, until no
thread is left that differs; threads that start later inherit both from the one that starts them.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from distributed.core import Status
from distributed.diagnostics.plugin import WorkerPlugin

if TYPE_CHECKING:
    from collections.abc import Sequence

    from distributed import Worker

# Below Dask's own logger of a worker, so that its level, its handlers and `Client.get_worker_logs` apply.
log: structlog.stdlib.BoundLogger = structlog.wrap_logger(
    logging.getLogger("distributed.worker.resources"),
    wrapper_class=structlog.stdlib.BoundLogger,
    processors=[structlog.stdlib.filter_by_level, structlog.processors.JSONRenderer(sort_keys=True)],
)

_ROUNDS = 5
"""A thread that starts while we walk inherits from its parent, which may not be done yet: walk again."""


@dataclass(frozen=True)
class ThreadResources:
    """Affinity and nice of one thread."""

    tid: int
    cpu_affinity: tuple[int, ...]
    nice: int


def thread_resources(pid: int | None = None) -> list[ThreadResources]:
    """Read affinity and nice of every thread of a process.

    Parameters
    ----------
    pid : int, optional
        Process ID; this process by default.

    Returns
    -------
    list of ThreadResources
        One entry a thread, sorted by thread ID. Threads that end meanwhile are left out.

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


class ResourceInitPlugin(WorkerPlugin):
    """Pin every thread of a worker to its cores and lower its priority.

    Dask applies a registered plugin again to each worker that joins or is restarted. What the kernel refuses
    (an unprivileged process may not raise its priority, and a container has no cores but those of its cpuset)
    is logged as a warning; the worker goes on.

    Parameters
    ----------
    cpu_affinity : sequence of int, optional
        IDs of the cores that the worker may use; None leaves the affinity as it is.
    nice_value : int, default 0
        Nice value, from 0 (normal) to 19 (lowest). 0 leaves the priority as it is.

    Examples
    --------
    >>> plugin = ResourceInitPlugin(cpu_affinity=[0, 1], nice_value=10)
    >>> plugin.name
    'resource-init'
    """

    name = "resource-init"

    def __init__(self, cpu_affinity: Sequence[int] | None = None, nice_value: int = 0) -> None:
        self.cpu_affinity = None if cpu_affinity is None else tuple(sorted(set(cpu_affinity)))
        self.nice_value = nice_value

    def setup(self, worker: Worker) -> None:
        """Apply affinity and nice to the worker's process, check both, and log the result.

        Parameters
        ----------
        worker : distributed.Worker
            The worker that has just started.
        """
        events = log.bind(worker=str(worker.name), pid=os.getpid())
        if not hasattr(os, "sched_setaffinity"):
            events.warning("worker_resources_not_applied", reason="this system has no sched_setaffinity")
            return
        problems = self.apply()
        threads = thread_resources()
        fields = {
            "threads": len(threads),
            "cpu_affinity": sorted({cpu for thread in threads for cpu in thread.cpu_affinity}),
            "nice": sorted({thread.nice for thread in threads}),
        }
        if problems:
            events.warning("worker_resources_not_applied", problems=problems, **fields)
        else:
            events.info("worker_resources_applied", **fields)

    def apply(self) -> list[str]:
        """Apply affinity and nice to all threads of this process.

        Returns
        -------
        list of str
            What could not be applied, one sentence each; empty when every thread is as asked.
        """
        problems: dict[str, None] = {}
        for _ in range(_ROUNDS):
            wrong = [thread for thread in thread_resources() if not self._is_as_asked(thread)]
            if not wrong:
                return []
            problems = dict.fromkeys(problem for thread in wrong for problem in self._set(thread))
            if problems:
                break
        return list(problems)

    def _is_as_asked(self, thread: ThreadResources) -> bool:
        return (self.cpu_affinity is None or thread.cpu_affinity == self.cpu_affinity) and (
            self.nice_value in {0, thread.nice}
        )

    def _set(self, thread: ThreadResources) -> list[str]:
        problems = []
        if self.cpu_affinity is not None and thread.cpu_affinity != self.cpu_affinity:
            try:
                os.sched_setaffinity(thread.tid, self.cpu_affinity)
            except ProcessLookupError:
                return []
            except OSError as error:
                allowed = f"this process may use {list(thread.cpu_affinity)}"
                problems.append(f"affinity {list(self.cpu_affinity)} refused ({error.strerror}); {allowed}")
        if self.nice_value not in {0, thread.nice}:
            try:
                os.setpriority(os.PRIO_PROCESS, thread.tid, self.nice_value)
            except ProcessLookupError:
                return []
            except OSError as error:
                problems.append(f"nice {self.nice_value} refused ({error.strerror}); it is {thread.nice}")
        return problems


class QuietEndPlugin(WorkerPlugin):
    """Keep Dask from telling what a worker that is closed leaves undone: its owner knows."""

    name = "quiet-end"

    def setup(self, worker: Worker) -> None:
        """Silence Dask's loggers in the process of a worker from the moment when it closes.

        Parameters
        ----------
        worker : distributed.Worker
            The worker that has just started.
        """
        ending = (Status.closing, Status.closing_gracefully, Status.closed)
        for handler in logging.getLogger("distributed").handlers:
            handler.addFilter(lambda _record: worker.status not in ending)
