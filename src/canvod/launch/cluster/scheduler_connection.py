"""One connection to a scheduler: to ask it, to hold its lease, and to wait for its workers."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from canvod.launch.cluster.dask_settings import DaskDefaults
from canvod.launch.errors import ClusterError
from canvod.launch.logs import get_logger
from canvod.launch.runtime.operations import STATUS

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from concurrent.futures import Future

    from distributed.security import Security

ANSWER_TIMEOUT_S: Final = 5.0
"""How long a scheduler may take to answer; it is busy for moments, not for seconds."""

RECONNECT_INTERVAL_S: Final = 1.0
"""How long to wait before the lease is taken again, where its connection broke."""

log = get_logger("canvod.launch")


class SchedulerConnection:
    """A connection to a scheduler, with an event loop in a thread of its own.

    Parameters
    ----------
    address : str
        Address of the scheduler, which need not listen yet.
    security : distributed.security.Security
        A client's keys.
    """

    def __init__(self, address: str, security: Security) -> None:
        self._dask = DaskDefaults()
        from distributed.utils import LoopRunner

        self.address = address
        self._security = security
        self._lease: Future[None] | None = None
        self._rpc: Any = None
        self._runner = LoopRunner()
        self._runner.start()

    @property
    def loop(self) -> Any:
        """The event loop of its thread, a `tornado.ioloop.IOLoop`."""
        return self._runner.loop

    def _run[T](self, coroutine: Coroutine[Any, Any, T], timeout_s: float | None = None) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._runner.loop.asyncio_loop).result(timeout_s)

    def ask(self, operation: str = STATUS, *, timeout_s: float = ANSWER_TIMEOUT_S, **arguments: Any) -> Any:
        """Call an operation of the scheduler.

        Parameters
        ----------
        operation : str
            One of the scheduler's operations.
        timeout_s : float, default: 5
            How long it may take, in seconds.
        **arguments : object
            Arguments of the operation.

        Returns
        -------
        object
            The answer.

        Raises
        ------
        ClusterError
            If there is no answer in time.
        """
        try:
            return self._run(self._ask(operation, timeout_s, arguments))
        except (OSError, TimeoutError, ValueError) as error:
            reason = str(error) or f"none within {timeout_s:g} s"
            raise ClusterError(
                f"The scheduler at {self.address} gives no answer: {reason}.",
                hint="look at its log: canvod-launch logs",
            ) from error

    def listens(self, timeout_s: float) -> bool:
        """Wait until something takes connections at the scheduler's address.

        Parameters
        ----------
        timeout_s : float
            How long to wait, in seconds.

        Returns
        -------
        bool
            Whether something listens there.
        """
        from canvod.launch.runtime.worker import listens

        tls = self._security.get_connection_args("client")["ssl_context"]
        return self._run(listens(self.address, tls, timeout_s))

    async def _ask(self, operation: str, timeout_s: float, arguments: dict[str, Any]) -> Any:
        from distributed.core import rpc

        if self._rpc is None:
            connection_args = self._security.get_connection_args("client")
            self._rpc = rpc(self.address, connection_args=connection_args)
        async with asyncio.timeout(timeout_s):
            return await getattr(self._rpc, operation)(**arguments)

    def hold_lease(self) -> None:
        """Be connected for as long as this process lives: without that the scheduler ends its cluster."""
        loop = self._runner.loop.asyncio_loop
        self._lease = asyncio.run_coroutine_threadsafe(self._hold_lease(), loop)

    async def _hold_lease(self) -> None:
        from distributed.comm.core import connect

        from canvod.launch.runtime.lease import OPERATION

        while True:
            try:
                comm = await connect(self.address, **self._security.get_connection_args("client"))
                await comm.write({"op": OPERATION})
                while True:
                    await comm.read()
            # Whatever it is: without a lease the cluster would end.
            except Exception as error:  # noqa: BLE001
                log.debug("lease_interrupted", scheduler_address=self.address, reason=str(error))
            await asyncio.sleep(RECONNECT_INTERVAL_S)

    def close(self) -> None:
        """Close the connection, and let the lease go; calling it again does nothing."""
        if self._runner.is_started():
            # Where the loop is gone already, so is the connection.
            with suppress(Exception):
                self._run(self._close(), ANSWER_TIMEOUT_S)
            self._runner.stop()
        self._dask.end()

    async def _close(self) -> None:
        if self._lease is not None:
            self._lease.cancel()
        if self._rpc is not None:
            await self._rpc.close_rpc()
