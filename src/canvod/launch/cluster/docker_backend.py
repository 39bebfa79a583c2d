"""The backend whose members are containers: the only place where they are created, watched and removed.

Every request to the engine runs in a plain thread. Executors refuse work once the interpreter is on its way
out, and that is when the last containers have to go.
"""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import Future, wait
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from canvod.launch.cluster.backend import SCHEDULER
from canvod.launch.docker.container import Container
from canvod.launch.docker.container_memory import container_memory
from canvod.launch.docker.create_request import NETWORK_OPTIONS
from canvod.launch.docker.discovery import dashboard_link, scheduler_address
from canvod.launch.docker.engine import (
    NETWORK_ATTEMPTS,
    EngineConflictError,
    EngineNetworkError,
    EngineTimeoutError,
    translate,
)
from canvod.launch.docker.removal import REMOVAL_TIMEOUT_S, cluster_label, remove_objects
from canvod.launch.errors import ClusterError, ClusterExistsError, EngineError, LaunchError
from canvod.launch.host.clusters import ClusterInfo, ContainerInfo
from canvod.launch.host.labels import OWNER_LABEL
from canvod.launch.host.ports import choose_dashboard_port
from canvod.launch.logs import get_logger
from canvod.launch.runtime.keys import STATE
from canvod.launch.threads import in_threads, settle_in_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from canvod.launch.cluster.cluster_state import ClusterState
    from canvod.launch.docker.engine import Client
    from canvod.launch.plan.model import ClusterPlan, Role

_NETWORK_PAUSE_S: Final = 0.2
_EVENTS_PAUSE_S: Final = 0.5

log = get_logger("canvod.launch")


class DockerBackend:
    """Pinned, limited and hardened containers and their network, made from a plan.

    Parameters
    ----------
    engine : docker.DockerClient
        The engine.
    state : ClusterState
        The plan, and the keys that each container reads from its standard input. The scheduler keeps both for
        those who come later.
    joins : bool, default: False
        Whether the cluster is there, and workers are added to its network.
    """

    def __init__(self, engine: Client, state: ClusterState, *, joins: bool = False) -> None:
        self.plan: ClusterPlan = state.plan
        self.on_end: Callable[[ContainerInfo], None] | None = None
        self._engine = engine
        self._state = state
        self._plans = {each.dask_name: each for each in (self.plan.scheduler, *self.plan.workers)}
        self._lock = threading.Lock()
        self._containers: dict[str, Container] = {}
        self._leaving: list[Container] = []
        self._network: Future[None] = Future()
        if joins:
            self._network.set_result(None)
        self._opened = False
        self._closing = threading.Event()
        self._silent = False
        self._events: Any = None

    def start(self, names: Iterable[str]) -> None:
        """Begin to create and start containers; see `Backend.start`.

        Nothing has to wait for anything but the network: workers look for their scheduler by themselves.
        """
        for name in names:
            with self._lock:
                if self._closing.is_set():
                    raise ClusterError(f"The cluster {self.plan.name} is being closed.")
                if name in self._containers:
                    continue
                container = self._containers[name] = Container(self._engine, self._plans[name], self.plan)
                first, self._opened = not self._opened, True
            if first:
                threading.Thread(target=self._watch_events, args=(time.time(),), daemon=True).start()
                if not self._network.done():
                    settle_in_thread(self._network, self._create_network)
            settle_in_thread(container.started, partial(self._create, container))

    def _create_network(self) -> None:
        network = self.plan.network
        try:
            with translate(f"create the network {network.name}"):
                self._engine.api.create_network(
                    network.name,
                    driver="bridge",
                    internal=network.internal,
                    options=NETWORK_OPTIONS,
                    labels=network.labels,
                    check_duplicate=True,
                )
        except EngineConflictError as error:
            raise ClusterExistsError(
                f"There is a cluster {self.plan.name} already, or one that is just being started or removed: "
                f"{error.message}",
                hint="take another name, or look at it: canvod-launch status",
            ) from error
        except EngineTimeoutError:
            self._silent = True
            raise

    def _create(self, container: Container) -> None:
        """Create and start a container; what it can do without, and the engine refuses, is left out."""
        self._network.result(timeout=self.plan.start_timeout_s)
        is_scheduler = container.plan.role == "scheduler"
        port = choose_dashboard_port(self.plan.dashboard_port) if is_scheduler else None
        attempts = NETWORK_ATTEMPTS
        while True:
            plan = container.plan
            try:
                container.create(self._standard_input(plan.role), port)
            except EngineConflictError:
                raise
            except EngineTimeoutError:
                self._silent = True
                raise
            except EngineError as error:
                container.remove()
                if self._closing.is_set():
                    raise
                # A folder on NFS or FUSE that only its user may look at is closed to the engine.
                mounts = [each for each in plan.mounts if not (each.optional and each.path in error.message)]
                attempts -= 1
                if isinstance(error, EngineNetworkError) and attempts > 0:
                    self._closing.wait(_NETWORK_PAUSE_S)
                elif len(mounts) < len(plan.mounts):
                    log.warning("current_folder_not_shown", container=plan.name, reason=error.message)
                    container.plan = plan.model_copy(update={"mounts": tuple(mounts)})
                elif port:
                    port = 0  # another program took it between our look and the engine's
                else:
                    raise
            else:
                return

    def _standard_input(self, role: Role) -> bytes:
        files = self._state.keys.files(role)
        if role == "scheduler":
            files[STATE] = json.dumps(self._state.as_json())
        return json.dumps(files).encode() + b"\n"

    def stop(self, names: Iterable[str]) -> None:
        """Remove containers, all at once; see `Backend.stop`.

        An engine that has stopped answering is not asked for each one: `close` asks it for all of them, once.
        It also removes what could not be removed here.
        """
        with self._lock:
            leaving = [self._containers.pop(name) for name in names if name in self._containers]
            # What is being created is removed when that is done; `close` waits for it, too.
            self._leaving += [container for container in leaving if not container.started.done()]
        errors: list[EngineError] = []

        def remove(container: Container) -> None:
            limit_s = 0 if self._silent else REMOVAL_TIMEOUT_S
            if wait([container.started], timeout=limit_s).not_done:
                container.started.add_done_callback(lambda _: remove(container))
            elif not self._silent:
                try:
                    container.remove()
                except EngineError as error:
                    if isinstance(error, EngineTimeoutError):
                        self._silent = True
                    errors.append(error)

        in_threads(remove, leaving)
        if errors:
            raise errors[0]

    def describe(self) -> ClusterInfo:
        """Describe what this process knows of its containers; see `Backend.describe`."""
        members = self._members()
        scheduler = members.get(SCHEDULER)
        address, port = ("", None) if scheduler is None else (scheduler.address, scheduler.dashboard_port)
        return ClusterInfo(
            self.plan.name,
            tuple(members[name].info for name in self._plans if name in members),
            scheduler_address(address),
            dashboard_link(address, port),
        )

    def _members(self) -> dict[str, Container]:
        with self._lock:
            return dict(self._containers)

    def memory_bytes(self) -> int:
        """Ask the engine for the memory of all containers; see `Backend.memory_bytes`."""
        sizes: list[int] = []

        def measure(identifier: str) -> None:
            with suppress(EngineError):  # it may have ended
                sizes.append(container_memory(self._engine, identifier, peak=False)[0] or 0)

        in_threads(measure, [each.id for each in self._members().values() if each.id])
        return sum(sizes)

    def problem(self, name: str) -> LaunchError | None:
        """Say whether the engine refused a container, or it has ended; see `Backend.problem`."""
        container = self._members().get(name)
        if container is None:
            return ClusterError(f"{name} of cluster {self.plan.name} was removed while it was starting.")
        if container.started.done() and (error := container.started.exception()) is not None:
            if isinstance(error, LaunchError):
                return error
            raise error
        return container.failure("ended while the cluster was starting") if container.ended.is_set() else None

    def failure(self, name: str, what: str) -> LaunchError:
        """Describe a container that is late, with its last lines of output; see `Backend.failure`."""
        container = self._members().get(name)
        return ClusterError(f"{name} {what}.") if container is None else container.failure(what)

    def close(self) -> list[str]:
        """Remove every container of this cluster, and its network; see `Backend.close`.

        What the engine lists under the cluster's label is removed, not only what this process remembers; but
        nothing that another process has started, who may have been the first to use the name.
        """
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
        left = remove_objects(self._engine, self.plan.name, *own)
        if not left and (unfinished or self._silent or not self._network.done()):
            left = ["what the engine had not finished creating, or did not answer about"]
        self.release()
        return left

    def release(self) -> None:
        """Leave the containers as they are, and watch them no more; see `Backend.release`."""
        with self._lock:
            self._closing.set()
            self._containers.clear()
            events, self._events = self._events, None
        if events is not None:
            events.close()

    def _watch_events(self, since: float) -> None:
        """Follow the engine's events until the end; where the stream breaks, it is opened again."""
        filters = {"type": "container", "event": ["die", "oom"], "label": cluster_label(self.plan.name)}
        last_ns = 0
        told = False
        while not self._closing.is_set():
            try:
                with translate("follow the engine's events"):
                    events: Any = self._engine.api.events(since=int(since), filters=filters, decode=True)
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
        """Note an event of a container; that of one that has been removed meanwhile is nobody's concern."""
        identifier = event["Actor"]["ID"]
        container = next((each for each in self._members().values() if each.id == identifier), None)
        if container is None:
            return
        if event["Action"] == "oom":
            container.oom_kills += 1
            log.warning(
                "container_out_of_memory",
                container=container.plan.name,
                memory_limit_bytes=container.plan.memory_bytes,
            )
            return
        code = event["Actor"]["Attributes"].get("exitCode", "")
        container.end(int(code) if code.isdecimal() else -1)
        if not self._closing.is_set():
            # What a listener raises must not end this thread, which watches the other containers.
            threading.Thread(target=self._ended, args=(container.info,), daemon=True).start()

    def _ended(self, container: ContainerInfo) -> None:
        log.warning(
            "container_ended",
            container=container.container,
            exit_code=container.exit_code,
            oom_kills=container.oom_kills,
            output=list(container.output)[-3:],
        )
        if self.on_end is not None:
            self.on_end(container)
