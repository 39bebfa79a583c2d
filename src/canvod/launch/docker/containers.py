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
from typing import TYPE_CHECKING, Any, Final, Literal

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
from canvod.launch.threads import in_threads, settle_in_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from canvod.launch.host.clusters import ContainerInfo
    from canvod.launch.plan.model import ClusterPlan

_NETWORK_PAUSE_S: Final = 0.2
_EVENTS_PAUSE_S: Final = 0.5

log = get_logger("canvod.launch")


class ContainerSet:
    """Create, watch and remove the containers and the network of one cluster.

    All methods may be called from any thread.

    Parameters
    ----------
    client : docker.DockerClient
        The engine.
    plan : ClusterPlan
        What to create.
    keys : callable
        Gives what a container of a role reads from its standard input, once.
    joins : bool, default: False
        Whether the cluster is there, and containers are added to its network.

    Attributes
    ----------
    on_end : callable or None
        Called from a thread of its own with each container that ends without having been removed by this set.
    """

    def __init__(
        self,
        client: Client,
        plan: ClusterPlan,
        keys: Callable[[Literal["scheduler", "worker"]], bytes],
        *,
        joins: bool = False,
    ) -> None:
        self.plan = plan
        self.on_end: Callable[[ContainerInfo], None] | None = None
        self._client = client
        self._keys = keys
        self._plans = {each.dask_name: each for each in (plan.scheduler, *plan.workers)}
        self._lock = threading.Lock()
        self._containers: dict[str, Container] = {}
        self._leaving: list[Container] = []
        self._process = os.getpid()
        self._network: Future[str] = Future()
        self._joins = joins
        if joins:
            self._network.set_result(plan.network.name)
        self._opened = False
        self._closing = threading.Event()
        self._silent = False
        self._events: Any = None

    @property
    def inherited(self) -> bool:
        """Whether this process is a fork of the one that made the set: containers are not its to remove."""
        return os.getpid() != self._process

    @property
    def containers(self) -> dict[str, Container]:
        """The containers that were started and not removed, by their names in Dask."""
        with self._lock:
            return dict(self._containers)

    def start(self, names: Iterable[str]) -> None:
        """Begin to create and start containers, all at once; those that were started already are left alone.

        Nothing has to wait for anything but the network: workers look for their scheduler by themselves. What
        fails is held by the container's future.

        Parameters
        ----------
        names : iterable of str
            Their names in Dask.
        """
        for name in names:
            with self._lock:
                if name in self._containers:
                    continue
                container = self._containers[name] = Container(self._plans[name])
                if self._closing.is_set():
                    container.started.set_exception(
                        ClusterError(f"The cluster {self.plan.name} is being closed.")
                    )
                    continue
                first, self._opened = not self._opened, True
            if first:
                threading.Thread(target=self._watch_events, args=(time.time(),), daemon=True).start()
                if not self._joins:
                    settle_in_thread(self._network, self._create_network)
            settle_in_thread(container.started, partial(self._create, container))

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

    def _create(self, container: Container) -> None:
        self._network.result(timeout=self.plan.start_timeout_s)
        try:
            self._create_on_a_free_port(container)
        except EngineError as error:
            # A folder that only its user may look at, on NFS or FUSE, is closed to the engine, which is root.
            plan = container.plan
            mounts = tuple(each for each in plan.mounts if not (each.optional and each.path in error.message))
            if len(mounts) == len(plan.mounts):
                raise
            log.warning("current_folder_not_shown", container=plan.name, reason=error.message)
            container.plan = plan.model_copy(update={"mounts": mounts})
            self._create(container)

    def _create_on_a_free_port(self, container: Container) -> None:
        ports: list[int | None] = [None]
        if container.plan.role == "scheduler":
            wanted = self.plan.dashboard_port
            # Another program may take the port between our look and the engine's: then any free one will do.
            ports = [wanted, 0] if free_port(wanted) else [0]
        for port in ports:
            try:
                self._create_patiently(container, port)
            except EngineConflictError:
                raise
            except EngineTimeoutError:
                self._silent = True
                raise
            except EngineError:
                self._discard(container)
                if not port or self._closing.is_set():
                    raise
            else:
                return

    def _create_patiently(self, container: Container, dashboard_port: int | None) -> None:
        attempts = Retrying(
            retry=retry_if_exception_type(EngineNetworkError),
            stop=stop_after_attempt(NETWORK_ATTEMPTS),
            wait=wait_fixed(_NETWORK_PAUSE_S),
            before_sleep=lambda _: self._discard(container),
            reraise=True,
        )
        attempts(self._create_once, container, dashboard_port)

    def _create_once(self, container: Container, dashboard_port: int | None) -> None:
        plan = container.plan
        body = create_request(plan, self.plan, dashboard_port=dashboard_port)
        with translate(f"create the container {plan.name}"):
            answer = self._client.api.create_container_from_config(body, plan.name)
            container.id = answer["Id"]
        container.update(created_s=time.time())
        for warning in answer.get("Warnings") or ():
            log.info("engine_warning", container=plan.name, warning=warning)
        with translate(f"start the container {plan.name}"):
            output = attach_output(self._client, container.id)
            threading.Thread(target=container.keep_output, args=(output,), daemon=True).start()
            with attach_input(self._client, container.id) as send:
                self._client.api.start(container.id)
                # A container that ends before it has read its keys explains itself.
                with suppress(EngineError):
                    send(self._keys(plan.role))
        if not container.ended.is_set():
            container.update(state="running")
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
        bindings = (state["NetworkSettings"]["Ports"] or {}).get(f"{DASHBOARD_PORT}/tcp")
        if bindings:
            container.dashboard_port = int(bindings[0]["HostPort"])
        container.address = network.get("IPAddress", "")

    def remove(self, names: Iterable[str]) -> None:
        """Remove containers, all at once; those that do not exist count as removed.

        An engine that has stopped answering is not asked for each one: `close` asks it for all of them, once.

        Parameters
        ----------
        names : iterable of str
            Their names in Dask.

        Raises
        ------
        EngineError
            If one could not be removed; it is of this set no more, and `close` removes it.
        """
        with self._lock:
            leaving = [self._containers.pop(name) for name in names if name in self._containers]
            # What is being created is removed when that is done; `close` waits for it, too.
            self._leaving += [container for container in leaving if not container.started.done()]
        errors: list[EngineError] = []

        def discard(container: Container) -> None:
            limit_s = 0 if self._silent else REMOVAL_TIMEOUT_S
            if wait([container.started], timeout=limit_s).not_done:
                container.started.add_done_callback(partial(_call_with, discard, container))
                return
            if self._silent:
                return
            try:
                self._discard(container)
            except EngineError as error:
                if isinstance(error, EngineTimeoutError):
                    self._silent = True
                errors.append(error)

        in_threads(discard, leaving)
        if errors:
            raise errors[0]

    def _discard(self, container: Container) -> None:
        """Remove a container that this set has created; what only has its name is somebody else's."""
        if container.id:
            remove_container(self._client, container.id)
            container.id = ""

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
            self._closing.set()
            pending = [container.started for container in (*self._containers.values(), *self._leaving)]
            if not self._opened:
                return []
        # What is being created would be missed by a look at what is there.
        wait([self._network], timeout=REMOVAL_TIMEOUT_S)
        unfinished = wait(pending, timeout=REMOVAL_TIMEOUT_S).not_done
        owner = self.plan.network.labels.get(OWNER_LABEL)
        own = () if owner is None else (f"{OWNER_LABEL}={owner}",)
        left = remove_objects(self._client, self.plan.name, *own)
        if not left and (unfinished or self._silent or not self._network.done()):
            left = ["what the engine had not finished creating, or did not answer about"]
        self.release()
        return left

    def release(self) -> None:
        """Leave the containers as they are, and watch them no more. May be called any number of times."""
        with self._lock:
            self._closing.set()
            self._containers.clear()
            events, self._events = self._events, None
        if events is not None:
            events.close()

    def _watch_events(self, since: float) -> None:
        """Follow the engine's events until the set is closed; where the stream breaks, it is opened again."""
        filters = {"type": "container", "event": ["die", "oom"], "label": cluster_label(self.plan.name)}
        last_ns = 0
        told = False
        while not self._closing.is_set():
            try:
                with translate("follow the engine's events"):
                    events: Any = self._client.api.events(since=int(since), filters=filters, decode=True)
                    with self._lock:
                        self._events = events
                        told = False
                        if self._closing.is_set():  # nobody else closes it any more
                            events.close()
                    for event in events:
                        # Opened again, the stream begins with events that were told already.
                        if event["timeNano"] > last_ns:
                            last_ns, since = event["timeNano"], event["time"]
                            self._take(event)
            # Whatever it is, half an answer too: without events no container that ends is replaced.
            except Exception as error:  # noqa: BLE001
                if not self._closing.is_set() and not told:
                    told = True
                    reason = error.message if isinstance(error, EngineError) else repr(error)
                    log.warning("engine_events_interrupted", cluster=self.plan.name, reason=reason)
            self._closing.wait(_EVENTS_PAUSE_S)

    def _take(self, event: dict[str, Any]) -> None:
        """Note an event of a container; one that is no more of this set is nobody's concern."""
        identifier = event["Actor"]["ID"]
        with self._lock:
            container = next((c for c in self._containers.values() if c.id == identifier), None)
        if container is None:
            return
        if event["Action"] == "oom":
            container.count_oom_kill()
            log.warning(
                "container_out_of_memory",
                container=container.plan.name,
                memory_limit_bytes=container.plan.memory_bytes,
            )
            return
        code = event["Actor"]["Attributes"].get("exitCode", "")
        container.end(int(code) if code.isdecimal() else -1)
        if self.on_end is not None and not self._closing.is_set():
            # What a listener raises must not end this thread, which watches the other containers.
            threading.Thread(target=self.on_end, args=(container.info,), daemon=True).start()


def _call_with(function: Callable[[Container], None], container: Container, _future: Future[None]) -> None:
    """Call a function with a container, as what is called when its future is done."""
    function(container)
