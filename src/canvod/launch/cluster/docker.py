"""A Dask cluster whose scheduler and workers are containers."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from distributed.comm.core import connect
from distributed.core import Status
from distributed.deploy.spec import ProcessInterface
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_fixed

from canvod.launch.cluster.base import PlannedCluster, in_thread
from canvod.launch.docker.removal import remedy
from canvod.launch.errors import ClusterError
from canvod.launch.logs import get_logger
from canvod.launch.plan.model import DASHBOARD_PORT, SCHEDULER_PORT
from canvod.launch.runtime.lease import OPERATION
from canvod.launch.units import format_bytes

if TYPE_CHECKING:
    from distributed.security import Security

    from canvod.launch.docker.container import Container
    from canvod.launch.docker.containers import ContainerSet
    from canvod.launch.plan.model import ClusterPlan

RECONNECT_INTERVAL_S = 1.0
"""How long to wait before the lease is taken again, where its connection broke."""

_POLL_S = 0.02

log = get_logger("canvod.launch")


class SchedulerContainer(ProcessInterface):
    """The scheduler's container. Its start starts the first workers too, which wait for it by themselves."""

    def __init__(self, cluster: DockerCluster) -> None:
        super().__init__()
        self._docker_cluster = cluster
        self.container: Container | None = None

    async def start(self) -> None:
        """Start all containers of the plan, and wait until the scheduler listens."""
        cluster = self._docker_cluster
        fleet, plan = cluster.fleet, cluster.container_plan
        fleet.begin()
        tls = cluster.security.get_connection_args("client")["ssl_context"]
        self.container = container = await asyncio.wrap_future(fleet.start(plan.scheduler))
        attempts = AsyncRetrying(
            retry=retry_if_exception_type(OSError),
            wait=wait_fixed(_POLL_S),
            stop=stop_after_delay(plan.start_timeout_s),
            reraise=True,
        )
        try:
            async for attempt in attempts:
                with attempt:
                    if container.ended.is_set():
                        raise await in_thread(
                            lambda: container.failure("ended while the cluster was starting")
                        )
                    _, writer = await asyncio.open_connection(container.address, SCHEDULER_PORT, ssl=tls)
                    writer.close()
        except OSError as error:
            what = (
                f"did not accept a connection at {container.address}:{SCHEDULER_PORT} within "
                f"{plan.start_timeout_s:g} s (launch.start_timeout_s)"
            )
            raise await in_thread(lambda: container.failure(what)) from error
        self.address = f"tls://{container.address}:{SCHEDULER_PORT}"
        # Now, not when the workers are there: on a slow host they may take longer than the first contact may.
        cluster.hold_lease(self.address)
        await super().start()

    async def close(self) -> None:
        """Remove the container."""
        await in_thread(
            lambda: self._docker_cluster.fleet.remove(self._docker_cluster.container_plan.scheduler.dask_name)
        )
        await super().close()


class WorkerContainer(ProcessInterface):
    """A worker's container: one nanny and the worker process that it watches."""

    def __init__(self, scheduler_address: str, *, name: str, cluster: DockerCluster) -> None:
        super().__init__()
        self.name = name
        self.scheduler_address = scheduler_address
        self._docker_cluster = cluster

    async def start(self) -> None:
        """Wait until the container runs and its worker has registered with the scheduler."""
        cluster = self._docker_cluster
        timeout_s = cluster.container_plan.start_timeout_s
        container = await asyncio.wrap_future(cluster.fleet.start(cluster.slots[self.name]))
        try:
            async with asyncio.timeout(timeout_s):
                while not cluster.has_worker(self.name):
                    if container.ended.is_set():
                        raise await in_thread(
                            lambda: container.failure("ended while the cluster was starting")
                        )
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            what = f"did not register with the scheduler within {timeout_s:g} s (launch.start_timeout_s)"
            raise await in_thread(lambda: container.failure(what)) from None
        await super().start()

    async def close(self) -> None:
        """Remove the container."""
        self.status = Status.closing
        await in_thread(lambda: self._docker_cluster.fleet.remove(self.name))
        await super().close()


class DockerCluster(PlannedCluster):
    """A cluster of pinned, capped containers on this host, made from a plan.

    It is a `distributed.SpecCluster`: ``scale``, ``adapt``, ``get_logs``, ``Client(cluster)`` and the
    notebook widget work as they do with `distributed.LocalCluster`, within the plan: there are never more
    workers than it has.

    Parameters
    ----------
    plan : ClusterPlan
        What to start.
    fleet : ContainerSet
        The plan's containers; their start may have begun already.
    security : distributed.security.Security
        The client's keys of this cluster.
    asynchronous : bool, default False
        Whether the cluster is used from a running event loop.

    Raises
    ------
    ClusterError
        If a container ends, or does not answer in time, while the cluster starts. All that was started is
        removed.
    EngineError
        If the engine refuses a request.
    """

    def __init__(
        self,
        plan: ClusterPlan,
        fleet: ContainerSet,
        security: Security,
        *,
        asynchronous: bool = False,
    ) -> None:
        self.container_plan = plan
        self.fleet = fleet
        self.fleet.on_end = self._container_ended
        self._deaths: dict[str, Container] = {}
        self._lease: asyncio.Task[None] | None = None
        try:
            super().__init__(
                scheduler={"cls": SchedulerContainer, "options": {"cluster": self}},
                workers={name: self.slot_spec(name) for name in self.slots},
                worker={"cls": WorkerContainer},
                security=security,
                asynchronous=asynchronous,
                name=plan.name,
            )
        except BaseException as error:
            # A signal interrupts the start anywhere; from now on the fleet starts nothing more.
            if self.fleet.left is None:
                self.fleet.close()
            cause = error.__cause__ if isinstance(error, RuntimeError) else error
            if cause is not None and cause is not error:
                raise cause from None
            raise

    def slot_spec(self, name: str) -> dict[str, Any]:
        """Return the container of one worker."""
        return {"cls": WorkerContainer, "options": {"name": name, "cluster": self}}

    @property
    def dashboard_link(self) -> str:
        """Address of the dashboard; it can be reached from this host only."""
        container = self.scheduler.container if self.scheduler else None
        if container is None:
            return ""
        if self.container_plan.network.internal:
            return f"http://{container.address}:{DASHBOARD_PORT}/status"
        port = container.dashboard_port
        return f"http://127.0.0.1:{port}/status" if port else ""

    def has_worker(self, name: str) -> bool:
        """Whether a worker of this name is registered with the scheduler."""
        return any(worker["name"] == name for worker in self.scheduler_info["workers"].values())

    def explain_death(self, name: str) -> str | None:
        """Say why a worker may have died: what engine, kernel and nanny told."""
        container = self.fleet.containers.get(name) or self._deaths.get(name)
        if container is None:
            return None
        plan, advice = container.plan, "raise processing.max_memory_gb or use fewer workers"
        if container.oom_kills:
            return f"the kernel killed it at its memory cap of {format_bytes(plan.memory_bytes)}; {advice}"
        if container.nanny_kills:
            limit = format_bytes(plan.dask_memory_limit_bytes or 0)
            return f"its nanny ended it near its memory limit of {limit}; {advice}"
        if container.exit_code is not None:
            return f"its container ended with exit code {container.exit_code}"
        return None

    def _container_ended(self, container: Container) -> None:
        """Called from the fleet's thread when a container ends by itself."""
        log.warning(
            "container_ended",
            container=container.plan.name,
            exit_code=container.exit_code,
            oom_kills=container.oom_kills,
            output=list(container.output)[-3:],
        )
        if container.plan.role == "worker" and self.loop is not None:
            self.loop.add_callback(self._replace, container)

    async def _replace(self, container: Container) -> None:
        self._deaths[container.plan.dask_name] = container
        await self.replace(container.plan.dask_name)

    def hold_lease(self, address: str) -> None:
        """Be connected to the scheduler for as long as this process lives: without that it would end.

        Parameters
        ----------
        address : str
            The scheduler's.
        """
        if not self.container_plan.detached:
            self._lease = asyncio.create_task(self._hold_lease(address))

    async def _hold_lease(self, address: str) -> None:
        while True:
            with suppress(OSError):
                comm = await connect(address, **self.security.get_connection_args("client"))
                await comm.write({"op": OPERATION})
                while True:
                    await comm.read()
            await asyncio.sleep(RECONNECT_INTERVAL_S)

    async def _close(self) -> None:
        if self.status == Status.closed:
            return
        if self._lease is not None:
            self._lease.cancel()
        # Containers go at once: there is nobody left to retire their data to.
        if self.scheduler is not None and self.status != Status.closing:
            self.scheduler.status = Status.closing
        try:
            await super()._close()
        finally:
            left = await in_thread(self.fleet.close)
        if left:
            raise ClusterError(
                f"Cluster {self.container_plan.name} is not gone entirely: {'; '.join(left)}.",
                hint=remedy(self.container_plan.name),
            )

    def close(self, timeout: float | None = None) -> Any:
        """Stop the cluster and remove all that belongs to it; calling it again does nothing.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait for the end.
        """
        if self.fleet.inherited:
            return None
        result = super().close(timeout)
        # Dask gives up silently where its event loop is gone; containers must go all the same.
        if not self.asynchronous and self.fleet.left is None:
            self.fleet.close()
        return result
