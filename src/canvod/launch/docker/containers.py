"""The containers of one cluster: the only place where they are created, watched and removed.

Every request to the engine runs in a plain thread. Executors refuse work once the interpreter is on its way
out, and that is when the last containers have to go.
"""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import Future, wait
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_fixed

from canvod.launch.docker.container import Container
from canvod.launch.docker.create_request import create_request, network_options
from canvod.launch.docker.engine import (
    NETWORK_ATTEMPTS,
    Client,
    EngineConflictError,
    EngineNetworkError,
    EngineNotFoundError,
    EngineTimeoutError,
    attach_input,
    attach_output,
    translate,
)
from canvod.launch.docker.removal import (
    REMOVAL_TIMEOUT_S,
    cluster_label,
    remove_container,
    remove_objects,
)
from canvod.launch.errors import ClusterError, ClusterExistsError, EngineError
from canvod.launch.host.labels import OWNER_LABEL
from canvod.launch.host.ports import free_port
from canvod.launch.logs import get_logger
from canvod.launch.plan.model import DASHBOARD_PORT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from canvod.launch.cluster.tls import ClusterKeys
    from canvod.launch.plan.model import ClusterPlan, ContainerPlan

_NETWORK_PAUSE_S = 0.2

log = get_logger("canvod.launch")


class ContainerSet:
    """Create, watch and remove the containers and the network of one cluster.

    All methods block and may be called from any thread.

    Parameters
    ----------
    client : docker.DockerClient
        The engine.
    plan : ClusterPlan
        What to create.
    keys : ClusterKeys
        What each container is told on its standard input.
    state : dict, optional
        What the scheduler keeps of a cluster that stands without its launcher.
    on_end : callable, optional
        Called from a thread of the fleet with each container that ends without having been removed by it.
    joins : bool, default: False
        Whether the cluster is there, and containers are added to its network.
    """

    def __init__(
        self,
        client: Client,
        plan: ClusterPlan,
        keys: ClusterKeys,
        *,
        state: dict[str, Any] | None = None,
        on_end: Callable[[Container], None] | None = None,
        joins: bool = False,
    ) -> None:
        self.plan = plan
        self.keys = keys
        self.state = state
        self.on_end = on_end
        self.left: list[str] | None = None
        """What could not be removed when the fleet was last closed; None before."""
        self._client = client
        self._lock = threading.Lock()
        self._containers: dict[str, Container] = {}
        self._futures: dict[str, Future[Container]] = {}
        self._late: list[Future[Container]] = []
        self._process = os.getpid()
        self._network: Future[str] = Future()
        self._joins = joins
        if joins:
            self._network.set_result(plan.network.name)
        self._opened = False
        self._closing = False
        self._silent = False
        self._events: Any = None

    @property
    def inherited(self) -> bool:
        """Whether this process is a fork of the one that has the fleet: it must leave it as it is."""
        return os.getpid() != self._process

    @property
    def containers(self) -> dict[str, Container]:
        """The containers that were started and not removed, by their names in Dask."""
        with self._lock:
            return dict(self._containers)

    def begin(self) -> None:
        """Start everything that is planned, all at once, and return without waiting for it.

        Workers look for their scheduler by themselves, so nothing has to wait for anything but the network.
        What fails is raised by the futures that `start` returns.
        """
        for plan in (self.plan.scheduler, *self.plan.workers):
            self.start(plan)

    def start(self, plan: ContainerPlan) -> Future[Container]:
        """Create and start a container in a thread of its own, unless that was done already.

        Parameters
        ----------
        plan : ContainerPlan
            The container.

        Returns
        -------
        concurrent.futures.Future of Container
            Done when the container runs. It holds an `EngineError` if the engine refuses, a `ClusterError` if
            the fleet is being closed.
        """
        with self._lock:
            if plan.dask_name in self._futures:
                return self._futures[plan.dask_name]
            future: Future[Container] = Future()
            # Who waits may give up; what is being started goes on, and close() waits for it.
            future.set_running_or_notify_cancel()
            if self._closing:
                future.set_exception(ClusterError(f"The cluster {self.plan.name} is being closed."))
                return future
            container = Container(plan)
            self._containers[plan.dask_name] = container
            self._futures[plan.dask_name] = future
            first, self._opened = not self._opened, True
        if first:
            threading.Thread(target=self._watch_events, args=(time.time(),), daemon=True).start()
            if not self._joins:
                threading.Thread(
                    target=self._settle, args=(self._network, self._create_network), daemon=True
                ).start()
        create = partial(self._create, container)
        threading.Thread(target=self._settle, args=(future, create), daemon=True).start()
        return future

    @staticmethod
    def _settle[T](future: Future[T], work: Callable[[], T]) -> None:
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001 - whatever it is belongs to the one who waits
            future.set_exception(error)
        else:
            future.set_result(result)

    def _create_network(self) -> str:
        network = self.plan.network
        try:
            with translate(f"create the network {network.name}"):
                answer = self._client.api.create_network(
                    network.name,
                    driver="bridge",
                    internal=network.internal,
                    options=network_options(),
                    labels=network.labels,
                    check_duplicate=True,
                )
        except EngineConflictError as error:
            raise ClusterExistsError(
                f"There is a cluster {self.plan.name} already, or one that is just being started or removed: "
                f"{error.message}",
                hint="take another name, or look at it: canvod-launch status",
            ) from error
        return str(answer["Id"])

    def _create(self, container: Container) -> Container:
        self._network.result(timeout=self.plan.start_timeout_s)
        try:
            return self._create_as_planned(container)
        except EngineError as error:
            # A folder that only its user may look at, on NFS or FUSE, is closed to the engine, which is root.
            plan = container.plan
            mounts = tuple(each for each in plan.mounts if not (each.optional and each.path in error.message))
            if len(mounts) == len(plan.mounts):
                raise
            log.warning("current_folder_not_shown", container=plan.name, reason=error.message)
            container.plan = plan.model_copy(update={"mounts": mounts})
            return self._create(container)

    def _create_as_planned(self, container: Container) -> Container:
        plan = container.plan
        ports: Iterable[int | None] = [None]
        if plan.role == "scheduler":
            wanted = self.plan.dashboard_port
            # Another program may take the port between our look and the engine's: then any free one will do.
            ports = [wanted, 0] if free_port(wanted) else [0]
        refusal: EngineError | None = None
        for port in ports:
            try:
                self._create_patiently(container, port)
            except EngineConflictError:
                raise
            except EngineTimeoutError:
                self._silent = True
                raise
            except EngineError as error:
                refusal = error
                self._discard(container)
                if not port or self._closing:
                    raise
            else:
                return container
        raise refusal or ClusterError(f"Could not start {plan.name}.")

    def _create_patiently(self, container: Container, dashboard_port: int | None) -> None:
        attempts = Retrying(
            retry=retry_if_exception_type(EngineNetworkError),
            stop=stop_after_attempt(NETWORK_ATTEMPTS),
            wait=wait_fixed(_NETWORK_PAUSE_S),
            before_sleep=lambda _: self._discard(container),
            reraise=True,
        )
        attempts(self._create_once, container, dashboard_port)

    def _discard(self, container: Container) -> None:
        """Remove a container that this fleet has created; what only has its name is somebody else's."""
        if container.id:
            remove_container(self._client, container.id)
            container.id = ""

    def _create_once(self, container: Container, dashboard_port: int | None) -> None:
        plan = container.plan
        body = create_request(plan, self.plan, dashboard_port=dashboard_port)
        with translate(f"create the container {plan.name}"):
            answer = self._client.api.create_container_from_config(body, plan.name)
            container.id = answer["Id"]
        for warning in answer.get("Warnings") or ():
            log.info("engine_warning", container=plan.name, warning=warning)
        with translate(f"start the container {plan.name}"):
            output = attach_output(self._client, container.id)
            threading.Thread(target=container.keep_output, args=(output,), daemon=True).start()
            with attach_input(self._client, container.id) as send:
                self._client.api.start(container.id)
                # A container that ends before it has read its keys explains itself.
                with suppress(EngineError):
                    send(self.keys.line(plan.role, self.state if plan.role == "scheduler" else None))
        if plan.role == "scheduler":
            self._look_up(container)

    def _look_up(self, container: Container) -> None:
        """Ask for the address of a container, and for the port that was published."""
        try:
            with translate(f"look at the container {container.plan.name}"):
                state = self._client.api.inspect_container(container.id)
        except EngineNotFoundError:
            raise container.failure("ended as soon as it was started") from None
        network = state["NetworkSettings"]["Networks"].get(self.plan.network.name) or {}
        container.address = network.get("IPAddress", "")
        bindings = (state["NetworkSettings"]["Ports"] or {}).get(f"{DASHBOARD_PORT}/tcp")
        if bindings:
            container.dashboard_port = int(bindings[0]["HostPort"])

    def remove(self, dask_name: str) -> None:
        """Remove a container; one that does not exist counts as removed.

        An engine that has stopped answering is not asked for each one: `close` asks it for all of them, once.

        Parameters
        ----------
        dask_name : str
            The container's name in Dask.
        """
        with self._lock:
            container = self._containers.pop(dask_name, None)
            future = self._futures.pop(dask_name, None)
            if future is not None and not future.done():
                self._late.append(future)
        if container is None or self._silent:
            return
        if future is not None and not future.done():
            future.add_done_callback(partial(self._discard_quietly, container))
            return
        try:
            self._discard(container)
        except EngineTimeoutError:
            self._silent = True
            raise

    def _discard_quietly(self, container: Container, _future: Future[Container]) -> None:
        """Remove a container that nobody waits for any more; what stays is found by its label."""
        with suppress(EngineError):
            self._discard(container)

    def close(self) -> list[str]:
        """Remove every container of this cluster, and its network. May be called any number of times.

        What the engine lists under the cluster's label is removed, not only what this process remembers; but
        nothing that another process has started, who may have been the first to use the name.

        Returns
        -------
        list of str
            What could not be removed, with the reason; empty when nothing is left.
        """
        if self.inherited:
            return []
        with self._lock:
            self._closing = True
            pending = [*self._futures.values(), *self._late]
            if not self._opened:
                self.left = []
                return self.left
        # What is being created would be missed by a look at what is there.
        wait([self._network], timeout=REMOVAL_TIMEOUT_S)
        unfinished = wait(pending, timeout=REMOVAL_TIMEOUT_S).not_done
        mark = self.plan.network.labels.get(OWNER_LABEL)
        own = () if mark is None else (f"{OWNER_LABEL}={mark}",)
        self.left = remove_objects(self._client, self.plan.name, *own)
        if not self.left and (unfinished or self._silent or not self._network.done()):
            self.left = ["what the engine had not finished creating, or did not answer about"]
        self.release()
        return self.left

    def release(self) -> None:
        """Forget the containers, and leave them as they are. May be called any number of times."""
        with self._lock:
            self._closing = True
            self._containers.clear()
            self._futures.clear()
        if self._events is not None:
            self._events.close()
            self._events = None

    @property
    def label(self) -> str:
        """Filter that matches all objects of this cluster."""
        return cluster_label(self.plan.name)

    def _watch_events(self, since: float) -> None:
        """Follow the engine's events until the fleet is closed."""
        filters = {"type": "container", "event": ["die", "oom"], "label": self.label}
        try:
            with translate("follow the engine's events"):
                self._events = self._client.api.events(since=int(since), filters=filters, decode=True)
                for event in self._events:
                    self._take(event)
        except EngineError as error:
            if not self._closing:
                log.warning("engine_events_lost", cluster=self.plan.name, reason=error.message)

    def _take(self, event: dict[str, Any]) -> None:
        identifier = event["Actor"]["ID"]
        with self._lock:
            container = next((c for c in self._containers.values() if c.id == identifier), None)
            closing = self._closing
        if container is None:
            return
        if event["Action"] == "oom":
            container.oom_kills += 1
            log.warning(
                "container_out_of_memory",
                container=container.plan.name,
                cap_bytes=container.plan.memory_bytes,
            )
            return
        container.exit_code = int(event["Actor"]["Attributes"].get("exitCode", -1))
        container.ended.set()
        if self.on_end is not None and not closing:
            self.on_end(container)
