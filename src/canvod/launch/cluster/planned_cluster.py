"""A cluster of ours as Dask sees it: `PlannedCluster`, which scales within its plan.

It also starts workers again that have ended without having been told to (`PlannedCluster._replace`).
"""

from __future__ import annotations

import asyncio
import math
import os
import time
from collections import deque
from contextlib import suppress
from numbers import Real
from typing import TYPE_CHECKING, Any, Final

from distributed.core import Status
from distributed.deploy.adaptive import Adaptive
from distributed.deploy.cluster import Cluster
from distributed.deploy.spec import ProcessInterface, SpecCluster

from canvod.launch.cluster.backend import SCHEDULER
from canvod.launch.cluster.started_cluster import MEMBER_POLL_S, require_member
from canvod.launch.errors import ClusterError, PlanError
from canvod.launch.logs import get_logger
from canvod.launch.runtime.operations import RETIRED
from canvod.launch.threads import in_thread

if TYPE_CHECKING:
    from canvod.launch.cluster.backend import Backend
    from canvod.launch.cluster.started_cluster import StartedCluster
    from canvod.launch.host.clusters import ContainerInfo

MAX_RESTARTS: Final = 5
"""How often a worker is started again within `RESTART_WINDOW_S` after it has ended by itself."""

RESTART_WINDOW_S: Final = 600.0
"""A worker that ends once in a while is always started again; one that ends at once each time is not."""

_LOST = "close the cluster and start it again: tasks and results went with its scheduler"

log = get_logger("canvod.launch")


class RunningScheduler(ProcessInterface):
    """The scheduler of a cluster, which listens already.

    Parameters
    ----------
    address : str
        Its address.
    """

    def __init__(self, address: str) -> None:
        super().__init__()
        self.address = address


class PlannedWorker(ProcessInterface):
    """One worker of the plan: its container or process.

    Parameters
    ----------
    scheduler_address : str
        Address of the scheduler, as Dask hands it over.
    name : str
        The worker's name in Dask, which is its name in the plan.
    cluster : PlannedCluster
        The cluster, whose backend starts and stops it.
    """

    def __init__(self, scheduler_address: str, *, name: str, cluster: PlannedCluster) -> None:
        super().__init__()
        self.name = name
        self.scheduler_address = scheduler_address
        self._planned_cluster = cluster

    async def start(self) -> None:
        """Start it, unless it runs already, and wait until it has registered with the scheduler.

        Raises
        ------
        LaunchError
            If it does not come: what `Backend.problem` or `Backend.failure` says.
        """
        cluster, backend = self._planned_cluster, self._planned_cluster.backend
        deadline = time.monotonic() + backend.plan.start_timeout_s
        backend.start([self.name])
        while not cluster.has_worker(self.name):
            cluster.require_scheduler()
            await in_thread(
                lambda: require_member(backend, self.name, deadline, "did not register with the scheduler")
            )
            await asyncio.sleep(MEMBER_POLL_S)
        await super().start()

    async def close(self) -> None:
        """End it."""
        self.status = Status.closing
        await in_thread(lambda: self._planned_cluster.backend.stop([self.name]))
        await super().close()


class PlannedCluster(SpecCluster):
    """A cluster that has been started from a plan, and never has more workers than the plan.

    It is a `distributed.SpecCluster`: ``scale``, ``adapt``, ``get_logs``, ``Client(cluster)`` and the
    notebook widget work as they do with `distributed.LocalCluster`. Workers that end by themselves are
    started again.

    Parameters
    ----------
    started : StartedCluster
        A cluster whose start is complete. It is stopped when this is closed.

    Raises
    ------
    ValueError
        If it has not been started.

    Attributes
    ----------
    backend : Backend
        Starts and stops the workers.
    """

    def __init__(self, started: StartedCluster) -> None:
        if started.backend is None or started.connection is None:
            raise ValueError("the cluster has not been started")
        self.backend: Backend = started.backend
        self._started_cluster = started
        self._planned = [worker.dask_name for worker in started.plan.workers]
        worker = started.plan.workers[0]
        self._restarts: dict[str, deque[float]] = {}
        self._asked_again: set[str] = set()
        self._closing = False
        self._ended: dict[str, ContainerInfo] = {}
        self._process = os.getpid()
        super().__init__(
            scheduler={"cls": RunningScheduler, "options": {"address": started.connection.address}},
            workers={name: self._worker_spec(name) for name in self._planned},
            worker={
                "cls": PlannedWorker,
                "options": {"cores": worker.nthreads, "memory": worker.dask_memory_limit_bytes or 0},
            },
            security=started.keys.security(),
            loop=started.connection.loop,
            name=started.plan.name,
            shutdown_scheduler=False,
        )
        self.backend.on_end = self._member_ended
        for member in self._members().values():
            if member.exit_code is not None:  # while nobody listened
                self._member_ended(member)

    def _worker_spec(self, name: str) -> dict[str, Any]:
        return {"cls": PlannedWorker, "options": {"name": name, "cluster": self}}

    @property
    def dashboard_link(self) -> str:
        """Address of the dashboard; it can be reached from this host only."""
        return self.backend.describe().dashboard_link

    def has_worker(self, name: str) -> bool:
        """Whether a worker of this name is registered with the scheduler.

        Parameters
        ----------
        name : str
            The worker's name in Dask.

        Returns
        -------
        bool
            As the scheduler has told this process last.
        """
        return any(worker["name"] == name for worker in self.scheduler_info["workers"].values())

    def _members(self) -> dict[str, ContainerInfo]:
        return {member.name: member for member in self.backend.describe().containers}

    def require_scheduler(self) -> None:
        """Refuse to start workers where none can come any more.

        Raises
        ------
        ClusterError
            If the cluster is being closed, or its scheduler has ended.
        """
        if self._closing:
            raise ClusterError(f"The cluster {self.name} is being closed.")
        if SCHEDULER in self._ended:
            raise ClusterError(f"The scheduler of cluster {self.name} has ended.", hint=_LOST)

    def explain_death(self, name: str) -> str | None:
        """Say why a worker may have died: what engine, kernel and nanny told.

        Parameters
        ----------
        name : str
            The worker's name in Dask.

        Returns
        -------
        str or None
            A clause for a message, or None where nothing is known.
        """
        member = self._members().get(name) or self._ended.get(name)
        return None if member is None else member.cause_of_death()

    def scale(self, n: int = 0, memory: Any = None, cores: int | None = None) -> Any:
        """Start or stop workers until there are `n`, at most as many as the plan has.

        Parameters
        ----------
        n : int
            Target number of workers.
        memory : int or str, optional
            Target memory of all workers together, as in `distributed.SpecCluster.scale`.
        cores : int, optional
            Target number of threads of all workers together.

        Returns
        -------
        object
            What `distributed.SpecCluster.scale` returns: None, or an awaitable in an asynchronous cluster.

        Raises
        ------
        PlanError
            If the plan has fewer workers than asked for, or `n` is no number of workers.
        """
        from dask.utils import parse_bytes

        self._require_planned(n)
        wanted = n
        if memory is not None:
            wanted = max(wanted, math.ceil(parse_bytes(memory) / self._memory_per_worker()))
        if cores is not None:
            wanted = max(wanted, math.ceil(cores / self._threads_per_worker()))
        self._require_planned(wanted)
        if not self.asynchronous and self.status == Status.running:
            self._note_retired()
        return super().scale(wanted)

    def _note_retired(self) -> None:
        """Note which workers have been retired and have not ended yet: they are asked for again now."""
        connection = self._started_cluster.connection
        with suppress(ClusterError):
            registered = set() if connection is None else set(connection.ask()["workers"])
            self._asked_again = {
                name for name in self.workers if self._wanted(name) and name not in registered
            }

    def adapt(  # type: ignore[override] # what is left out goes through `options`
        self,
        Adaptive: type[Adaptive] = Adaptive,  # noqa: N803 - Dask's own name
        minimum: float = 0,
        maximum: float = math.inf,
        **options: Any,
    ) -> Adaptive:
        """Let Dask scale the cluster between `minimum` and `maximum`.

        Parameters
        ----------
        Adaptive : type, optional
            The policy.
        minimum, maximum : int
            Number of workers; without a maximum, as many as the plan has.
        **options : object
            As in `distributed.SpecCluster.adapt`.

        Returns
        -------
        distributed.deploy.adaptive.Adaptive
            What scales the cluster from now on.

        Raises
        ------
        PlanError
            If the plan has fewer workers than asked for, or these are no two numbers of workers in order.
        """
        if maximum == math.inf:
            maximum = len(self._planned)
        self._require_planned(minimum)
        self._require_planned(maximum)
        if minimum > maximum:
            raise PlanError(
                f"Cannot adapt to at least {minimum:g} and at most {maximum:g} workers.",
                hint="let the minimum be no more than the maximum",
            )
        return super().adapt(Adaptive, minimum=minimum, maximum=maximum, **options)

    def _require_planned(self, wanted: object) -> None:
        limit = len(self._planned)
        if not isinstance(wanted, Real) or not 0 <= float(wanted) <= limit:
            raise PlanError(
                f"Cannot scale to {wanted!r} workers: the plan of cluster {self.name} has {limit}, whose "
                "cores and memory are all that it may use.",
                hint=f"from 0 to {limit}; for more, raise processing.n_max_threads and "
                "processing.max_memory_gb, and start again",
            )

    def new_worker_spec(self) -> dict[str, dict[str, Any]]:
        """Choose the worker that is started next: the first of the plan that is not wanted yet.

        Returns
        -------
        dict of str to dict
            Its name, and how Dask makes it (``cls`` and ``options``).
        """
        name = next(name for name in self._planned if name not in self.worker_spec)
        return {name: self._worker_spec(name)}

    def _update_worker_status(self, op: str, msg: Any) -> None:
        # SpecCluster drops a worker that is gone for 15 s. A nanny on a busy machine may need longer to
        # restart it, and that one has ended for good is told by the backend.
        if op == "add":
            self._asked_again -= {worker["name"] for worker in msg["workers"].values()}
        Cluster._update_worker_status(self, op, msg)  # noqa: SLF001

    def _member_ended(self, member: ContainerInfo) -> None:
        """Act on a member that has ended by itself; called from a thread of the backend."""
        self._ended[member.name] = member
        if member.role == "scheduler":
            log.error("scheduler_ended", cluster=self.name, exit_code=member.exit_code, hint=_LOST)
        if member.role == "worker" and self.status == Status.running and self.loop is not None:
            self.loop.add_callback(self._replace, member)

    async def _replace(self, member: ContainerInfo) -> None:
        """Start a worker again that has ended, unless it has left because it was told to."""
        name = member.name
        async with self._lock:  # a start that is under way takes this one for a worker that is there
            worker = self.workers.get(name)
            # Of one that never came, the one who waits for it raises the error.
            if worker is None or worker.status != Status.running or not self._wanted(name):
                return
            found = self._members().get(name)
            if found is None or found.id != member.id:
                return  # it has been removed, or started again, meanwhile
            await self._close_worker(name)
        if member.exit_code == 0 and name not in self._asked_again and await self._retired(name):
            # `scale` starts it again.
            self.worker_spec.pop(name, None)
            return
        restarts = self._restarts.setdefault(name, deque(maxlen=MAX_RESTARTS))
        while self._wanted(name):
            now = time.monotonic()
            if len(restarts) == MAX_RESTARTS and now - restarts[0] < RESTART_WINDOW_S:
                log.error("worker_given_up", worker=name, restarts=MAX_RESTARTS, within_s=RESTART_WINDOW_S)
                self.worker_spec.pop(name, None)
                return
            restarts.append(now)
            try:
                await self._correct_state()
            except Exception as error:  # noqa: BLE001 - of whichever worker, and maybe of another one
                if not self._wanted(name):
                    return
                log.warning("worker_restart_failed", worker=name, reason=str(error))
            if name in self.workers:
                log.info("worker_restarted", worker=name, restarts=len(restarts))
                return

    async def _retired(self, name: str) -> bool:
        """Ask whether a worker that has ended in order did so because the scheduler told it to.

        A signal from outside ends it in the same way. A scheduler that does not answer is closing.
        """
        try:
            return bool(await getattr(self.scheduler_comm, RETIRED)(worker=name))
        except OSError:
            return True

    def _wanted(self, name: str) -> bool:
        return self.status == Status.running and name in self.worker_spec and SCHEDULER not in self._ended

    async def _close_worker(self, name: str) -> None:
        """End a worker; where that fails its place is free all the same."""
        worker = self.workers.pop(name)
        try:
            await worker.close()
        except Exception as error:  # noqa: BLE001 - whatever the backend says
            log.warning("worker_not_removed", worker=name, reason=str(error))

    async def _correct_state_internal(self) -> None:
        """Start and stop workers; those that go hand their results over first."""
        leaving = [name for name in set(self.workers) - set(self.worker_spec) if self.has_worker(name)]
        if leaving and self.status == Status.running and self.scheduler_comm is not None:
            # Dask's own request names workers where the scheduler expects addresses.
            await self.scheduler_comm.retire_workers(names=leaving)
        try:
            await super()._correct_state_internal()
        except Exception:
            for name in [name for name, worker in self.workers.items() if worker.status != Status.running]:
                await self._close_worker(name)
            raise

    def close(self, timeout: float | None = None) -> Any:
        """Stop the cluster and remove all that belongs to it; calling it again, or in a fork, does nothing.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait for the end.

        Returns
        -------
        object
            What `distributed.SpecCluster.close` returns: None, or an awaitable in an asynchronous cluster.

        Raises
        ------
        ClusterError
            If something could not be removed; the message names it, and the command that removes it.
        """
        if os.getpid() != self._process:
            return None
        result = super().close(timeout)
        if not self.asynchronous:
            # Dask's close does nothing where its event loop is gone; the members must go all the same.
            self._started_cluster.stop()
        return result

    async def _close(self) -> None:
        # All members are stopped together, by who started them: nothing is retired, or waited for.
        self._closing = True
        self.worker_spec.clear()
        self.workers.clear()
        for worker in self._created:
            worker.status = Status.closed
        try:
            await super()._close()
        finally:
            await in_thread(self._started_cluster.stop)
