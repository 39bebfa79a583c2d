"""The containers of one cluster: the only place where they are created, watched and removed.

Every request to the engine runs in a plain thread. Executors refuse work once the interpreter is on its way
out, and that is when the last containers have to go.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from canvod.launch.cluster.body import container_body, network_options
from canvod.launch.cluster.ports import free_port
from canvod.launch.engine import (
    Client,
    EngineConflictError,
    EngineNotFoundError,
    attach_output,
    translate,
)
from canvod.launch.errors import ClusterError, ContainerFailedError, EngineError
from canvod.launch.logs import get_logger
from canvod.launch.plan.command import DASHBOARD_PORT
from canvod.launch.plan.model import LABEL_PREFIX, ClusterPlan, ContainerPlan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

LOG_LINES = 20
"""Lines of a container's output that are kept for an error message."""

NANNY_KILL = "memory budget. Restarting"
"""What Dask's nanny writes when it ends a worker that is about to outgrow its limit."""

REMOVAL_TIMEOUT_S = 30.0
"""How long to go on removing what the engine says is still in use."""

_PAUSE_S = 0.05
_STREAM_GRACE_S = 1.0

log = get_logger("canvod.launch")


@dataclass
class Container:
    """One container of the fleet, and what is known about it.

    Attributes
    ----------
    plan : ContainerPlan
        What was asked for.
    id : str
        The engine's identifier; empty before it exists.
    address : str
        Its address on the cluster's network; empty before it runs.
    dashboard_port : int or None
        Port of the host's 127.0.0.1 that leads to its dashboard.
    exit_code : int or None
        None while it has not ended.
    oom_kills : int
        How often the kernel killed a process of it at the memory cap.
    nanny_kills : int
        How often the nanny ended the worker process near Dask's memory limit.
    output : deque of str
        Its last lines of output.
    """

    plan: ContainerPlan
    id: str = ""
    address: str = ""
    dashboard_port: int | None = None
    exit_code: int | None = None
    oom_kills: int = 0
    nanny_kills: int = 0
    output: deque[str] = field(default_factory=lambda: deque(maxlen=LOG_LINES))
    output_ended: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)

    def failure(self, what: str) -> ContainerFailedError:
        """Describe the end of this container as an error.

        Parameters
        ----------
        what : str
            What went wrong, a clause such as ``"ended while the cluster was starting"``.
        """
        self.output_ended.wait(_STREAM_GRACE_S)
        status = "running" if self.exit_code is None else f"exited with code {self.exit_code}"
        oom = f"yes ({self.oom_kills} times)" if self.oom_kills else "no"
        cap = f"{self.plan.memory_bytes / 1024**3:.2f} GiB"
        lines = "\n".join(f"    {line}" for line in self.output) or "    (no output)"
        hint = None
        if self.oom_kills:
            hint = f"give each container more than {cap}: raise processing.max_memory_gb or use fewer workers"
        return ContainerFailedError(
            f"Container {self.plan.name} {what}.\n"
            f"  status: {status}; killed by the kernel at its memory cap of {cap}: {oom}\n"
            f"  last lines of its output:\n{lines}",
            hint=hint,
        )


class ContainerFleet:
    """Create, watch and remove the containers and the network of one cluster.

    All methods block and may be called from any thread.

    Parameters
    ----------
    client : docker.DockerClient
        The engine.
    plan : ClusterPlan
        What to create.
    on_end : callable, optional
        Called from a thread of the fleet with each container that ends without having been removed by it.
    """

    def __init__(
        self, client: Client, plan: ClusterPlan, *, on_end: Callable[[Container], None] | None = None
    ) -> None:
        self.plan = plan
        self.on_end = on_end
        self._client = client
        self._lock = threading.Lock()
        self._containers: dict[str, Container] = {}
        self._futures: dict[str, Future[Container]] = {}
        self._network: Future[str] = Future()
        self._opened = False
        self._closing = False
        self._events: Any = None
        self._dashboard_ports: list[int] = []

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
            if self._closing:
                future.set_exception(ClusterError(f"The cluster {self.plan.name} is being closed."))
                return future
            container = Container(plan)
            self._containers[plan.dask_name] = container
            self._futures[plan.dask_name] = future
            first, self._opened = not self._opened, True
        if first:
            threading.Thread(target=self._watch_events, args=(time.time(),), daemon=True).start()
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
        with translate(f"create the network {network.name}"):
            answer = self._client.api.create_network(
                network.name,
                driver="bridge",
                options=network_options(),
                labels=network.labels,
                check_duplicate=True,
            )
        return str(answer["Id"])

    def _create(self, container: Container) -> Container:
        plan = container.plan
        self._network.result(timeout=self.plan.start_timeout_s)
        ports: Iterable[int | None] = [None]
        if plan.role == "scheduler":
            wanted = self.plan.dashboard_port
            # Another program may take the port between our look and the engine's: then any free one will do.
            ports = [wanted, 0] if free_port(wanted) else [0]
        refusal: EngineError | None = None
        for port in ports:
            try:
                self._create_once(container, port)
            except EngineConflictError:
                raise
            except EngineError as error:
                refusal = error
                self._remove(container.id or plan.name)
                if not port:
                    raise
            else:
                return container
        raise refusal or ClusterError(f"Could not start {plan.name}.")

    def _create_once(self, container: Container, dashboard_port: int | None) -> None:
        plan = container.plan
        body = container_body(plan, self.plan, dashboard_port=dashboard_port)
        with translate(f"create the container {plan.name}"):
            container.id = self._client.api.create_container_from_config(body, plan.name)["Id"]
        with translate(f"start the container {plan.name}"):
            output = attach_output(self._client, container.id)
            threading.Thread(target=_keep_output, args=(output, container), daemon=True).start()
            self._client.api.start(container.id)
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

        Parameters
        ----------
        dask_name : str
            The container's name in Dask.
        """
        with self._lock:
            container = self._containers.pop(dask_name, None)
            self._futures.pop(dask_name, None)
        if container is not None:
            self._remove(container.id or container.plan.name)

    def _remove(self, identifier: str) -> None:
        deadline = time.monotonic() + REMOVAL_TIMEOUT_S
        while True:
            try:
                with translate(f"remove the container {identifier}"):
                    self._client.api.remove_container(identifier, v=True, force=True)
            except EngineNotFoundError:
                return
            except EngineConflictError:  # "removal already in progress": wait for its end
                if time.monotonic() > deadline:
                    raise
                time.sleep(_PAUSE_S)
            else:
                return

    def close(self) -> list[str]:
        """Remove every container of this cluster, and its network. May be called any number of times.

        What the engine lists under the cluster's label is removed, not only what this process remembers.

        Returns
        -------
        list of str
            What could not be removed, with the reason; empty when nothing is left.
        """
        with self._lock:
            self._closing = True
            pending = list(self._futures.values())
            if not self._opened:
                return []
        self._network.exception(timeout=REMOVAL_TIMEOUT_S)
        for future in pending:
            future.exception(timeout=REMOVAL_TIMEOUT_S)
        left: list[str] = []
        try:
            with translate("list the containers of the cluster"):
                found = self._client.api.containers(all=True, filters={"label": self.label})
        except EngineError as error:
            return [f"containers of {self.plan.name}: {error.message}"]
        names = [(item["Names"] or [item["Id"]])[0].lstrip("/") for item in found]
        _in_threads(lambda name: self._remove_or_tell(name, left), names)
        with self._lock:
            self._containers.clear()
            self._futures.clear()
        self._remove_network(left)
        if self._events is not None:
            self._events.close()
            self._events = None
        return left

    def _remove_or_tell(self, name: str, left: list[str]) -> None:
        try:
            self._remove(name)
        except EngineError as error:
            left.append(f"container {name}: {error.message}")

    def _remove_network(self, left: list[str]) -> None:
        if self._network.exception() is not None:
            return
        deadline = time.monotonic() + REMOVAL_TIMEOUT_S
        while True:
            try:
                with translate(f"remove the network {self.plan.network.name}"):
                    self._client.api.remove_network(self._network.result())
            except EngineNotFoundError:
                break
            except EngineError as error:  # the last endpoint leaves a moment after its container
                if time.monotonic() > deadline:
                    left.append(f"network {self.plan.network.name}: {error.message}")
                    return
                time.sleep(_PAUSE_S)
            else:
                break

    @property
    def label(self) -> str:
        """Filter that matches all objects of this cluster."""
        return f"{LABEL_PREFIX}.cluster={self.plan.name}"

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


def _keep_output(output: Iterable[bytes], container: Container) -> None:
    """Keep the last lines of a container's output until it ends."""
    rest = b""
    try:
        for piece in output:
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                text = line.decode(errors="replace").rstrip()
                container.output.append(text)
                container.nanny_kills += NANNY_KILL in text
    except EngineError:
        pass
    finally:
        if rest:
            container.output.append(rest.decode(errors="replace").rstrip())
        container.output_ended.set()


def _in_threads(function: Callable[[str], None], arguments: Iterable[str]) -> None:
    threads = [threading.Thread(target=function, args=(argument,)) for argument in arguments]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
