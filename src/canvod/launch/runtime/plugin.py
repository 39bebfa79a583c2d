"""What Dask runs in every worker when it starts: affinity and nice value, and silence at its end."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

import structlog
from distributed.core import Status
from distributed.diagnostics.plugin import WorkerPlugin

from canvod.launch.runtime.thread_resources import apply_resources, thread_resources

if TYPE_CHECKING:
    from distributed import Worker

# Below Dask's own logger of a worker, so that its level, its handlers and `Client.get_worker_logs` apply.
log: structlog.stdlib.BoundLogger = structlog.wrap_logger(
    logging.getLogger("distributed.worker.resources"),
    wrapper_class=structlog.stdlib.BoundLogger,
    processors=[structlog.stdlib.filter_by_level, structlog.processors.JSONRenderer(sort_keys=True)],
)


class ResourceInitPlugin(WorkerPlugin):
    """Pin every thread of a worker to its cores and lower its priority.

    Dask applies a registered plugin again to each worker that joins or is restarted. What the kernel refuses
    (an unprivileged process may not raise its priority, and a container has no cores but those of its cpuset)
    is logged as a warning; the worker goes on.

    Parameters
    ----------
    cpu_affinity : list of int, optional
        IDs of the cores that the worker may use; None leaves the affinity as it is.
    nice_value : int, default 0
        Nice value, from 0 (normal) to 19 (lowest). 0 leaves the priority as it is; so does a value below 0,
        with a warning in the log.

    Examples
    --------
    >>> plugin = ResourceInitPlugin(cpu_affinity=[0, 1], nice_value=10)
    >>> plugin.cpu_affinity
    [0, 1]
    """

    name = "resource-init"

    def __init__(self, cpu_affinity: list[int] | None = None, nice_value: int = 0) -> None:
        self.cpu_affinity = cpu_affinity
        self.nice_value = nice_value

    def setup(self, worker: Worker) -> None:
        """Apply affinity and nice to the worker's process, check both, and log the result.

        Parameters
        ----------
        worker : distributed.Worker
            The worker that has just started.
        """
        if self.cpu_affinity is None and not self.nice_value:
            return
        events = log.bind(worker=str(worker.name), pid=os.getpid())
        if problems := self.apply():
            events.warning("worker_resources_not_applied", problems=problems)
            return
        threads = thread_resources()
        events.info(
            "worker_resources_applied",
            threads=len(threads),
            cpu_affinity=sorted({cpu for thread in threads for cpu in thread.cpu_affinity}),
            nice=sorted({thread.nice for thread in threads}),
        )

    def apply(self) -> list[str]:
        """Apply affinity and nice to all threads of this process.

        Returns
        -------
        list of str
            What could not be applied, one sentence each; empty when every thread is as asked.
        """
        problems = apply_resources(self.cpu_affinity, max(0, self.nice_value))
        if self.nice_value < 0:
            problems.append(f"nice {self.nice_value} is not applied: a worker's priority is never raised")
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
