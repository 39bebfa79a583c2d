"""One container that this process starts, and what it has learned about it."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING

from canvod.launch.docker.create_request import create_request
from canvod.launch.docker.engine import EngineNotFoundError, attach_input, attach_output, translate
from canvod.launch.docker.removal import remove_object
from canvod.launch.errors import ContainerFailedError, EngineError
from canvod.launch.host.clusters import ContainerInfo
from canvod.launch.host.cpulist import format_cpulist
from canvod.launch.logs import get_logger
from canvod.launch.plan.model import DASHBOARD_PORT
from canvod.launch.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from canvod.launch.docker.engine import Client
    from canvod.launch.plan.model import ClusterPlan, ContainerPlan

LOG_LINES = 20
"""Lines of a container's output that are kept for an error message."""

NANNY_KILL = "memory budget. Restarting"
"""What Dask's nanny writes when it ends a worker that is about to outgrow its limit."""

KILLED = 137
"""Exit code of a container that SIGKILL has ended: the kernel's, or somebody's."""

_STREAM_GRACE_S = 3.0
_POLL_S = 0.02

log = get_logger("canvod.launch")


class Container:
    """One container that this process starts.

    Parameters
    ----------
    client : docker.DockerClient
        The engine.
    plan : ContainerPlan
        What it is to be.
    cluster : ClusterPlan
        The cluster that it belongs to.

    Attributes
    ----------
    id, address : str
        By which the engine knows it, and its address on the cluster's network; empty before they are known.
    dashboard_port : int or None
        Port of 127.0.0.1 that leads to its dashboard.
    started : concurrent.futures.Future of None
        Done when it runs; holds the error if it could not be started.
    ended : threading.Event
        Set when it has ended.
    oom_kills : int
        How often the kernel has killed a process of it at its memory limit.
    """

    def __init__(self, client: Client, plan: ContainerPlan, cluster: ClusterPlan) -> None:
        self.plan = plan
        self.id = ""
        self.address = ""
        self.dashboard_port: int | None = None
        self.started: Future[None] = Future()
        # Who waits may give up; what is being started goes on.
        self.started.set_running_or_notify_cancel()
        self.ended = threading.Event()
        self.oom_kills = 0
        self._client = client
        self._cluster = cluster
        self._state = "created"
        self._created_s: float | None = None
        self._exit_code: int | None = None
        self._nanny_kills = 0
        self._output: tuple[str, ...] = ()
        self._output_ended = threading.Event()

    def create(self, standard_input: bytes, dashboard_port: int | None) -> None:
        """Create and start it.

        Parameters
        ----------
        standard_input : bytes
            What it reads when it has started.
        dashboard_port : int or None
            Port of 127.0.0.1 for a scheduler's dashboard, as in `create_request`.

        Raises
        ------
        EngineError
            If the engine refuses.
        ContainerFailedError
            If it ends at once.
        """
        plan = self.plan
        body = create_request(plan, self._cluster, dashboard_port=dashboard_port)
        with translate(f"create the container {plan.name}"):
            answer = self._client.api.create_container_from_config(body, plan.name)
        self.id, self._created_s = answer["Id"], time.time()
        for warning in answer.get("Warnings") or ():
            log.info("engine_warning", container=plan.name, warning=warning)
        with translate(f"start the container {plan.name}"):
            output = attach_output(self._client, self.id)
            threading.Thread(target=self._keep_output, args=(output,), daemon=True).start()
            with attach_input(self._client, self.id) as send:
                self._client.api.start(self.id)
                # A container that ends before it has read its keys explains itself.
                with suppress(EngineError):
                    send(standard_input)
        self._state = "running"
        if plan.role == "scheduler":
            self._look_up()

    def _look_up(self) -> None:
        """Ask for its address, and for the port that was published."""
        try:
            with translate(f"look at the container {self.plan.name}"):
                network = self._client.api.inspect_container(self.id)["NetworkSettings"]
        except EngineNotFoundError:
            raise self.failure("ended as soon as it was started") from None
        if bindings := (network["Ports"] or {}).get(f"{DASHBOARD_PORT}/tcp"):
            self.dashboard_port = int(bindings[0]["HostPort"])
        self.address = (network["Networks"].get(self._cluster.network.name) or {}).get("IPAddress", "")

    def remove(self) -> None:
        """Remove it if this process has created it; what only has its name is somebody else's.

        Raises
        ------
        EngineError
            If it could not be removed.
        """
        if self.id:
            remove_object(self._client, "container", self.id)
            self.id = ""

    @property
    def info(self) -> ContainerInfo:
        """What is known of it now."""
        plan = self.plan
        return ContainerInfo(
            name=plan.dask_name,
            role=plan.role,
            state=self._state if self._exit_code is None else "exited",
            id=self.id,
            container=plan.name,
            created_s=self._created_s,
            labels=plan.labels,
            cores=format_cpulist(plan.cpuset_cpus),
            memory_limit_bytes=plan.memory_bytes,
            dask_memory_limit_bytes=plan.dask_memory_limit_bytes,
            exit_code=self._exit_code,
            oom_kills=self.oom_kills,
            nanny_kills=self._nanny_kills,
            output=self._output,
        )

    def end(self, exit_code: int) -> None:
        """Note that it has ended.

        Parameters
        ----------
        exit_code : int
            Its exit code.
        """
        self._exit_code = exit_code
        self.ended.set()

    def failure(self, what: str) -> ContainerFailedError:
        """Describe what went wrong with it as an error, with its status and its last lines of output.

        Parameters
        ----------
        what : str
            A clause such as ``"ended while the cluster was starting"``.

        Returns
        -------
        ContainerFailedError
            The error, which the caller raises.
        """
        if self.ended.is_set():
            self._output_ended.wait(_STREAM_GRACE_S)
        deadline = time.monotonic() + _STREAM_GRACE_S
        # The engine may tell of the end before it tells why.
        while self._exit_code == KILLED and not self.oom_kills and time.monotonic() < deadline:
            time.sleep(_POLL_S)
        info = self.info
        status = info.state if info.exit_code is None else f"exited with code {info.exit_code}"
        oom = f"yes ({info.oom_kills} times)" if info.oom_kills else "no"
        limit = format_bytes(self.plan.memory_bytes)
        lines = "\n".join(f"    {line}" for line in info.output) or "    (no output)"
        hint = f"give each container more than {limit}: raise processing.max_memory_gb or use fewer workers"
        return ContainerFailedError(
            f"Container {self.plan.name} {what}.\n"
            f"  status: {status}; killed by the kernel at its memory limit of {limit}: {oom}\n"
            f"  last lines of its output:\n{lines}",
            hint=hint if info.oom_kills else None,
        )

    def _keep_output(self, output: Iterator[str]) -> None:
        """Keep the last lines of its output until it ends."""
        try:
            for line in output:
                self._output = (*self._output, line.rstrip())[-LOG_LINES:]
                self._nanny_kills += NANNY_KILL in line
        except EngineError:
            pass
        finally:
            self._output_ended.set()
