"""The lease of a cluster: when its launcher is gone for good, the scheduler ends, and with it the workers.

The launcher holds one connection to the scheduler for as long as it lives. The kernel closes it whatever ends
the launcher, also SIGKILL. Workers leave by themselves when their scheduler is gone.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from distributed.comm.core import Comm, CommClosedError
from distributed.core import Status
from distributed.diagnostics.plugin import SchedulerPlugin

if TYPE_CHECKING:
    from distributed import Scheduler

OPERATION: Final = "canvod_launch_lease"
"""Operation of the scheduler that a launcher calls and that does not return while the launcher lives."""

HELD: Final = "held"
"""The scheduler's answer once the lease is taken."""

logger = logging.getLogger("canvod.launch")


class LeasePlugin(SchedulerPlugin):
    """Close the scheduler when nobody has held the lease for a time.

    Parameters
    ----------
    grace_s : float
        How long the launcher may be away, in seconds, before the cluster ends: time to connect again.
    connect_timeout_s : float
        How long it may take to come at all, in seconds from the scheduler's start.
    """

    name = "canvod-launch-lease"

    def __init__(self, grace_s: float, connect_timeout_s: float) -> None:
        self.grace_s = grace_s
        self.connect_timeout_s = connect_timeout_s
        self._scheduler: Scheduler | None = None
        self._holders = 0
        self._waiting: asyncio.TimerHandle | None = None
        self._ending: asyncio.Future[None] | None = None

    async def start(self, scheduler: Scheduler) -> None:
        """Begin to wait for the launcher.

        Parameters
        ----------
        scheduler : distributed.Scheduler
            The scheduler that this plugin may close.
        """
        self._scheduler = scheduler
        scheduler.handlers[OPERATION] = self.hold
        self._wait(self.connect_timeout_s, "did not connect")

    async def hold(self, comm: Comm, **_ignored: Any) -> Status:
        """Count the launcher as present for as long as its connection lives.

        Parameters
        ----------
        comm : distributed.comm.Comm
            The launcher's connection.
        **_ignored : object
            What else Dask hands to an operation.

        Returns
        -------
        distributed.core.Status
            ``Status.dont_reply``, when the connection has ended.
        """
        self._holders += 1
        if self._waiting is not None:
            self._waiting.cancel()
        try:
            with suppress(CommClosedError, OSError, EOFError):
                await comm.write(HELD)
                while True:
                    await comm.read()
        finally:
            self._holders -= 1
            if self._holders == 0:
                self._wait(self.grace_s, "is gone")
        return Status.dont_reply

    def _wait(self, seconds: float, what: str) -> None:
        self._waiting = asyncio.get_running_loop().call_later(seconds, self._end, seconds, what)

    def _end(self, seconds: float, what: str) -> None:
        logger.warning("The launcher %s for %g s: closing the cluster", what, seconds)
        if self._scheduler is not None:
            self._ending = asyncio.ensure_future(self._scheduler.close(reason="lease-expired"))

    async def close(self) -> None:
        """Stop waiting."""
        if self._waiting is not None:
            self._waiting.cancel()
