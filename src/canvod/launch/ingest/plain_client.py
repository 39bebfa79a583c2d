"""A Dask client that takes bytes from workers, and unpickles nothing that they send.

Dask unpickles results and exceptions of tasks where they arrive. A file that makes its reader run code has a
worker's container; by a pickle it would have the launcher, too. What the scheduler itself says is unpickled.
"""

from __future__ import annotations

import warnings
from typing import Any, override

import dask
from distributed import Client
from distributed.core import rpc
from distributed.protocol.compression import decompress
from distributed.protocol.serialize import Serialized
from distributed.versions import VersionMismatchWarning

from canvod.launch.errors import ClusterError
from canvod.launch.ingest.runner import AnswerLostError
from canvod.launch.runtime.scheduler import SHORT_LOGS


class PlainClient(Client):
    """A client whose tasks give bytes.

    Parameters
    ----------
    client : distributed.Client
        A client of the same cluster.
    """

    def __init__(self, client: Client) -> None:
        known: Any = client  # its attributes have no types
        self._results: Any = None  # a connection for results, from when there are some
        with warnings.catch_warnings(), dask.config.set(SHORT_LOGS):
            # Versions were compared when the other client was opened.
            warnings.simplefilter("ignore", VersionMismatchWarning)
            super().__init__(  # type: ignore[no-untyped-call]
                known.scheduler.address, security=known.security, set_as_default=False, name="ingest"
            )

    @override
    async def _ensure_connected(self, timeout: float | None = None) -> None:
        await super()._ensure_connected(timeout)  # type: ignore[no-untyped-call]
        stream: Any = self.scheduler_comm
        stream.comm.deserialize = False

    @override
    def _handle_task_erred(self, key: Any = None, exception: Any = None, traceback: Any = None) -> None:
        del exception, traceback
        super()._handle_task_erred(key, "the task failed", None)  # type: ignore[no-untyped-call]

    def fetch(self, key: Any) -> bytes:
        """Fetch the result of a task that has ended.

        Parameters
        ----------
        key : str
            Key of the task.

        Returns
        -------
        bytes
            The result.

        Raises
        ------
        AnswerLostError
            If the worker that had it is gone.
        ClusterError
            If it is anything but bytes.
        """
        reply: Any = self.sync(self._gather_plain, key)  # type: ignore[no-untyped-call]
        if reply.get("status") != "OK":
            raise AnswerLostError(
                "the cluster has lost the answer of a task",
                hint="the logs of scheduler and workers may show the cause; the same command goes on",
            )
        value = reply.get("data", {}).get(key)
        if isinstance(value, bytes):
            return value
        if not isinstance(value, Serialized) or value.header.get("serializer") != "dask":
            raise ClusterError(
                "a worker answered with something else than bytes, which is not looked at",
                hint="see that all workers run the code of this launcher, and which file they were reading",
            )
        frames: Any = value.frames
        if "compression" in value.header:
            frames = decompress(value.header, frames)
        return b"".join(frames)

    async def _gather_plain(self, key: Any) -> Any:
        if self._results is None:
            address: Any = self.scheduler
            self._results = rpc(  # type: ignore[no-untyped-call]
                address.address, deserialize=False, connection_args=self.connection_args
            )
        return await self._results.gather(keys=[key])

    @override
    async def _close(self, fast: bool = False) -> None:
        if self._results is not None:
            await self._results.close_rpc()
        await super()._close(fast)
