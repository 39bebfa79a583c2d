"""What a scheduler tells who manages its cluster: its workers, how many there should be, and its tasks.

Operations of its own, with plain values: they need no client, and no Python version that is alike.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from distributed.core import Status
from distributed.diagnostics.plugin import SchedulerPlugin

if TYPE_CHECKING:
    from distributed import Scheduler

STATUS: Final = "canvod_launch_status"
"""Operation of the scheduler that tells what it knows, at once or when so many workers are registered."""

TARGET: Final = "canvod_launch_target"
"""Operation of the scheduler that is told how many workers there should be, with the argument ``workers``."""

RETIRED: Final = "canvod_launch_retired"
"""Operation of the scheduler that tells whether a worker, the argument ``worker``, has ended by its order."""

logger = logging.getLogger("canvod.launch")


class StatusPlugin(SchedulerPlugin):
    """Answer `STATUS`, `TARGET` and `RETIRED`.

    Parameters
    ----------
    confirm_within_s : float, optional
        End the cluster unless `TARGET` comes within so many seconds: who was starting it died half-way. Until
        it has come, the scheduler's idle timeout does not count.
    """

    name = "canvod-launch-status"

    def __init__(self, confirm_within_s: float | None = None) -> None:
        self.confirm_within_s = confirm_within_s
        self._scheduler: Scheduler | None = None
        self._target: int | None = None
        self._idle_timeout_s: float | None = None
        self._names: dict[str, str] = {}
        self._retired: set[str] = set()
        self._changed = asyncio.Event()
        self._waiting: asyncio.TimerHandle | None = None
        self._ending: asyncio.Future[None] | None = None

    async def start(self, scheduler: Scheduler) -> None:
        """Add the operations to the scheduler's own.

        Parameters
        ----------
        scheduler : distributed.Scheduler
            The scheduler that answers them.
        """
        self._scheduler = scheduler
        scheduler.handlers[STATUS] = self.status
        scheduler.handlers[TARGET] = self.set_target
        scheduler.handlers[RETIRED] = self.retired
        if self.confirm_within_s is not None:
            self._idle_timeout_s, scheduler.idle_timeout = scheduler.idle_timeout, None
            self._waiting = asyncio.get_running_loop().call_later(self.confirm_within_s, self._give_up)

    async def close(self) -> None:
        """Stop waiting."""
        if self._waiting is not None:
            self._waiting.cancel()

    def _give_up(self) -> None:
        if self._target is None and self._scheduler is not None:
            logger.warning("Nobody has finished the start within %g s: closing", self.confirm_within_s)
            self._ending = asyncio.ensure_future(self._scheduler.close(reason="start-not-finished"))

    def set_target(self, workers: int) -> None:
        """Record how many workers there should be, and that the start is finished.

        Parameters
        ----------
        workers : int
            Their number.
        """
        if self._target is None and self._idle_timeout_s is not None and self._scheduler is not None:
            self._scheduler.idle_since = None
            self._scheduler.idle_timeout = self._idle_timeout_s
        self._target = workers

    def add_worker(self, scheduler: Scheduler, worker: str) -> None:
        """Wake the calls of `status` that wait for workers.

        Parameters
        ----------
        scheduler : distributed.Scheduler
            The scheduler.
        worker : str
            Address of the worker that has registered.
        """
        name = self._names[worker] = str(scheduler.workers[worker].name)
        self._retired.discard(name)
        self._changed.set()

    def log_event(self, topic: str, msg: Any) -> None:
        """Note which workers are removed because they have been retired.

        Parameters
        ----------
        topic : str
            Address of a worker, in the events that are noted.
        msg : object
            What the scheduler says about it; a dict in those events.
        """
        if topic in self._names and isinstance(msg, dict) and msg.get("action") == "remove-worker":
            name = self._names.pop(topic)
            if msg["expected"]:
                self._retired.add(name)

    def retired(self, worker: str) -> bool:
        """Whether a worker that has ended did so by the scheduler's order.

        Parameters
        ----------
        worker : str
            Its name in Dask.

        Returns
        -------
        bool
            True if it was retired, or the scheduler is closing.
        """
        scheduler = self._scheduler
        return worker in self._retired or scheduler is None or scheduler.status != Status.running

    async def status(self, at_least: int = 0, wait_s: float = 0.0) -> dict[str, Any]:
        """Describe workers and tasks.

        Parameters
        ----------
        at_least : int, default: 0
            Answer when so many workers are registered.
        wait_s : float, default: 0
            Answer after so many seconds at the latest.

        Returns
        -------
        dict
            ``target``: how many workers there should be, None where nobody has said so. ``workers``: by name,
            each with ``address``, ``status``, ``memory_bytes`` (of the worker process) and ``tasks`` (running
            now). ``tasks``: their number by state.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                while self._scheduler is not None and len(self._scheduler.workers) < at_least:
                    self._changed.clear()
                    await self._changed.wait()
        scheduler = self._scheduler
        if scheduler is None:
            return {"target": self._target, "workers": {}, "tasks": {}}
        states: Counter[str] = Counter()
        # Prefixes count their tasks as they go; the tasks themselves may be millions.
        for prefix in scheduler.task_prefixes.values():
            states.update({state: count for state, count in prefix.states.items() if count})
        workers = {
            str(worker.name): {
                "address": worker.address,
                "status": worker.status.name,
                "memory_bytes": int(worker.metrics.get("memory", 0)),
                "tasks": len(worker.processing),
            }
            for worker in scheduler.workers.values()
        }
        return {"target": self._target, "workers": workers, "tasks": dict(states)}
