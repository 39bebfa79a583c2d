"""The backend whose members are containers on this host."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Literal

from canvod.launch.cluster.backend import SCHEDULER
from canvod.launch.docker.container_memory import container_memory
from canvod.launch.docker.containers import ContainerSet
from canvod.launch.docker.discovery import dashboard_link, scheduler_address
from canvod.launch.errors import ClusterError, EngineError, LaunchError
from canvod.launch.host.clusters import ClusterInfo, ContainerInfo
from canvod.launch.logs import get_logger
from canvod.launch.runtime.keys import STATE
from canvod.launch.threads import in_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from canvod.launch.cluster.cluster_state import ClusterState
    from canvod.launch.docker.engine import Client
    from canvod.launch.plan.model import ClusterPlan

log = get_logger("canvod.launch")


class DockerBackend:
    """Pinned, limited and hardened containers, made from a plan.

    Parameters
    ----------
    engine : docker.DockerClient
        The engine.
    state : ClusterState
        The plan, and the keys that each container reads from its standard input. The scheduler keeps both for
        those who come later.
    joins : bool, default: False
        Whether the cluster is there, and workers are added to it.
    """

    def __init__(self, engine: Client, state: ClusterState, *, joins: bool = False) -> None:
        self.plan: ClusterPlan = state.plan
        self.on_end: Callable[[ContainerInfo], None] | None = None
        self._engine = engine
        self._state = state
        self._containers = ContainerSet(engine, state.plan, self._standard_input, joins=joins)
        self._containers.on_end = self._ended

    def _standard_input(self, role: Literal["scheduler", "worker"]) -> bytes:
        files = self._state.keys.files(role)
        if role == "scheduler":
            files[STATE] = json.dumps(self._state.as_json())
        return json.dumps(files).encode() + b"\n"

    def start(self, names: Iterable[str]) -> None:
        """Begin to create and start containers."""
        self._containers.start(names)

    def stop(self, names: Iterable[str]) -> None:
        """Remove containers."""
        self._containers.remove(names)

    def describe(self) -> ClusterInfo:
        """Tell what this process knows of its containers; the engine is not asked."""
        members = self._containers.containers
        planned = (each.dask_name for each in (self.plan.scheduler, *self.plan.workers))
        containers = tuple(members[name].info for name in planned if name in members)
        scheduler = members.get(SCHEDULER)
        if scheduler is None or not scheduler.address:
            return ClusterInfo(self.plan.name, containers)
        return ClusterInfo(
            self.plan.name,
            containers,
            scheduler_address(scheduler.address),
            dashboard_link(scheduler.address, scheduler.dashboard_port),
        )

    def memory_bytes(self) -> int:
        """Ask the engine for the memory of all containers, without files that are only cached."""
        sizes: list[int] = []

        def measure(identifier: str) -> None:
            with suppress(EngineError):  # it may have ended
                sizes.append(container_memory(self._engine, identifier, peak=False)[0] or 0)

        in_threads(measure, [each.id for each in self._containers.containers.values() if each.id])
        return sum(sizes)

    def problem(self, name: str) -> LaunchError | None:
        """Say why a container will not come: the engine refused it, or it has ended."""
        container = self._containers.containers.get(name)
        if container is None:
            return ClusterError(f"{name} of cluster {self.plan.name} was removed while it was starting.")
        if container.started.done() and (error := container.started.exception()) is not None:
            if isinstance(error, LaunchError):
                return error
            raise error
        return container.failure("ended while the cluster was starting") if container.ended.is_set() else None

    def failure(self, name: str, what: str) -> LaunchError:
        """Describe a container that is late, with its last lines of output."""
        container = self._containers.containers.get(name)
        return ClusterError(f"{name} {what}.") if container is None else container.failure(what)

    def close(self) -> list[str]:
        """Remove all containers and the network of the cluster."""
        return self._containers.close()

    def release(self) -> None:
        """Leave the containers as they are."""
        self._containers.release()

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
