"""Scaling within a plan: the plan's workers are slots, which are filled or free."""

from __future__ import annotations

import asyncio
import math
import threading
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any

from distributed.core import Status
from distributed.deploy.adaptive import Adaptive
from distributed.deploy.cluster import Cluster
from distributed.deploy.spec import SpecCluster

from canvod.launch.errors import EngineError, PlanError
from canvod.launch.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from canvod.launch.plan.model import ClusterPlan, ContainerPlan


RESTARTS = 5
"""How often a worker is started again after its container or process has ended by itself."""

log = get_logger("canvod.launch")


async def in_thread[T](function: Callable[[], T]) -> T:
    """Run a blocking function in a plain thread, which also works while the interpreter is going down."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(setter: Callable[[Any], None], value: object) -> None:
        if not future.done():
            setter(value)

    def run() -> None:
        try:
            result = function()
        except BaseException as error:  # noqa: BLE001 - handed to the one who awaits
            loop.call_soon_threadsafe(settle, future.set_exception, error)
        else:
            loop.call_soon_threadsafe(settle, future.set_result, result)

    threading.Thread(target=run, daemon=True).start()
    return await future


class PlannedCluster(SpecCluster):
    """Base of clusters that never have more workers than their plan.

    Attributes
    ----------
    container_plan : ClusterPlan
        The plan.
    """

    container_plan: ClusterPlan

    @cached_property
    def restarts(self) -> dict[str, int]:
        """How often each worker has been started again after it had ended by itself."""
        return {}

    @property
    def slots(self) -> dict[str, ContainerPlan]:
        """The plan's workers by their names in Dask."""
        return {worker.dask_name: worker for worker in self.container_plan.workers}

    def slot_spec(self, name: str) -> dict[str, Any]:
        """Return the specification of one worker, as `distributed.SpecCluster` wants it."""
        raise NotImplementedError

    def explain_death(self, name: str) -> str | None:
        """Say why a worker may have died.

        Parameters
        ----------
        name : str
            The worker's name in Dask.

        Returns
        -------
        str or None
            A clause for a message, or None where nothing is known.
        """
        del name
        return None

    def scale(self, n: int = 0, memory: Any = None, cores: int | None = None) -> Any:
        """Start or stop workers until there are `n`, at most as many as the plan has.

        Parameters
        ----------
        n : int
            Target number of workers.
        memory, cores : optional
            As in `distributed.SpecCluster.scale`.

        Raises
        ------
        PlanError
            If the plan has fewer workers than asked for.
        """
        from dask.utils import parse_bytes

        wanted = n
        if memory is not None:
            wanted = max(wanted, math.ceil(parse_bytes(memory) / self._memory_per_worker()))
        if cores is not None:
            wanted = max(wanted, math.ceil(cores / self._threads_per_worker()))
        if wanted > len(self.slots):
            raise PlanError(
                f"Cannot scale to {wanted} workers: the plan of cluster {self.container_plan.name} has "
                f"{len(self.slots)}, whose cores and memory are all that it may use.",
                hint="raise processing.n_max_threads and processing.max_memory_gb, and start again",
            )
        return super().scale(wanted)

    def adapt(  # type: ignore[override] # what is left out goes through `options`
        self,
        Adaptive: type[Adaptive] = Adaptive,  # noqa: N803 - Dask's own name
        minimum: float = 0,
        maximum: float = math.inf,
        **options: Any,
    ) -> Adaptive:
        """Let Dask scale the cluster between `minimum` and `maximum`, which is at most what the plan has.

        Parameters
        ----------
        Adaptive : type, optional
            The policy.
        minimum, maximum : int
            Number of workers.
        **options
            As in `distributed.SpecCluster.adapt`.
        """
        limit = len(self.slots)
        return super().adapt(Adaptive, minimum=min(minimum, limit), maximum=min(maximum, limit), **options)

    def new_worker_spec(self) -> dict[str, dict[str, Any]]:
        """Return the first worker of the plan that does not run."""
        name = next(name for name in self.slots if name not in self.worker_spec)
        return {name: self.slot_spec(name)}

    def _update_worker_status(self, op: str, msg: Any) -> None:
        # SpecCluster gives up a worker that is gone for 15 s. A nanny on a busy machine may need longer to
        # restart it, and who ends for good is told otherwise: by the engine, or by the nanny.
        Cluster._update_worker_status(self, op, msg)  # noqa: SLF001

    async def replace(self, name: str) -> None:
        """Start a worker anew whose container or process has ended by itself.

        Parameters
        ----------
        name : str
            Its name in Dask.
        """
        if self.status != Status.running:
            return
        async with self._lock:
            pass  # a start that is under way takes this one for a worker that is there
        worker = self.workers.get(name)
        # Of one that never came, the one who waits for it raises the error.
        if worker is None or worker.status != Status.running or not self._wanted(name):
            return
        await self.workers.pop(name).close()
        restarts = self.restarts
        while self._wanted(name):
            restarts[name] = restarts.get(name, 0) + 1
            if restarts[name] > RESTARTS:
                log.error("worker_given_up", worker=name, restarts=RESTARTS)
                self.worker_spec.pop(name, None)
                return
            try:
                await self._correct_state()
            except Exception as error:  # noqa: BLE001 - of whichever worker, and maybe of another one
                log.warning("worker_restart_failed", worker=name, reason=str(error))
            if name in self.workers:
                log.info("worker_restarted", worker=name, restarts=restarts[name])
                return

    def _wanted(self, name: str) -> bool:
        return self.status == Status.running and name in self.worker_spec

    async def _correct_state_internal(self) -> None:
        """Start and stop workers; one that does not come leaves its place to the next attempt."""
        try:
            await super()._correct_state_internal()
        except Exception:
            for name in [name for name, worker in self.workers.items() if worker.status != Status.running]:
                with suppress(EngineError):
                    await self.workers.pop(name).close()
            raise

    def _threads_per_worker(self) -> int:
        return self.container_plan.workers[0].nthreads

    def _memory_per_worker(self) -> int:
        return self.container_plan.workers[0].dask_memory_limit_bytes or 0
