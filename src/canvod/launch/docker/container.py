"""One container that this process starts, and what it has learned about it."""

from __future__ import annotations

import threading
import time
from collections import deque
from concurrent.futures import Future
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from canvod.launch.errors import ContainerFailedError, EngineError
from canvod.launch.host.clusters import ContainerInfo
from canvod.launch.host.cpulist import format_cpulist
from canvod.launch.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from canvod.launch.plan.model import ContainerPlan

LOG_LINES = 20
"""Lines of a container's output that are kept for an error message."""

NANNY_KILL = "memory budget. Restarting"
"""What Dask's nanny writes when it ends a worker that is about to outgrow its limit."""

KILLED = 137
"""Exit code of a container that SIGKILL has ended: the kernel's, or somebody's."""

_STREAM_GRACE_S = 3.0
_POLL_S = 0.02


class Container:
    """One container that this process starts.

    Parameters
    ----------
    plan : ContainerPlan
        What it is to be.

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
    """

    def __init__(self, plan: ContainerPlan) -> None:
        self.plan = plan
        self.id = ""
        self.address = ""
        self.dashboard_port: int | None = None
        self.started: Future[None] = Future()
        # Who waits may give up; what is being started goes on.
        self.started.set_running_or_notify_cancel()
        self.ended = threading.Event()
        self._output: deque[str] = deque(maxlen=LOG_LINES)
        self._output_ended = threading.Event()
        self._lock = threading.Lock()
        self._info = ContainerInfo(
            name=plan.dask_name,
            role=plan.role,
            state="created",
            container=plan.name,
            labels=plan.labels,
            cores=format_cpulist(plan.cpuset_cpus),
            memory_limit_bytes=plan.memory_bytes,
            dask_memory_limit_bytes=plan.dask_memory_limit_bytes,
        )

    @property
    def info(self) -> ContainerInfo:
        """What is known of it now."""
        with self._lock:
            return replace(self._info, id=self.id, output=tuple(self._output))

    def update(self, **changes: Any) -> None:
        """Note what has been learned: fields of `ContainerInfo`."""
        with self._lock:
            self._info = replace(self._info, **changes)

    def count_oom_kill(self) -> None:
        """Note that the kernel has killed a process of it at its memory limit."""
        with self._lock:
            self._info = replace(self._info, oom_kills=self._info.oom_kills + 1)

    def end(self, exit_code: int) -> None:
        """Note that it has ended."""
        self.update(exit_code=exit_code, state="exited")
        self.ended.set()

    def failure(self, what: str) -> ContainerFailedError:
        """Describe what went wrong with it as an error, with its status and its last lines of output.

        Parameters
        ----------
        what : str
            A clause such as ``"ended while the cluster was starting"``.
        """
        if self.ended.is_set():
            self._output_ended.wait(_STREAM_GRACE_S)
        deadline = time.monotonic() + _STREAM_GRACE_S
        # The engine may tell of the end before it tells why.
        while (info := self.info).exit_code == KILLED and not info.oom_kills and time.monotonic() < deadline:
            time.sleep(_POLL_S)
        status = info.state if info.exit_code is None else f"exited with code {info.exit_code}"
        oom = f"yes ({info.oom_kills} times)" if info.oom_kills else "no"
        limit = format_bytes(self.plan.memory_bytes)
        lines = "\n".join(f"    {line}" for line in info.output) or "    (no output)"
        hint = None
        if info.oom_kills:
            hint = (
                f"give each container more than {limit}: raise processing.max_memory_gb or use fewer workers"
            )
        return ContainerFailedError(
            f"Container {self.plan.name} {what}.\n"
            f"  status: {status}; killed by the kernel at its memory limit of {limit}: {oom}\n"
            f"  last lines of its output:\n{lines}",
            hint=hint,
        )

    def keep_output(self, output: Iterable[bytes]) -> None:
        """Keep the last lines of its output until it ends.

        Parameters
        ----------
        output : iterable of bytes
            Pieces of it, as they come.
        """
        rest = b""
        try:
            for piece in output:
                *lines, rest = (rest + piece).split(b"\n")
                self._keep(lines)
        except EngineError:
            pass
        finally:
            self._keep([rest] if rest else [])
            self._output_ended.set()

    def _keep(self, lines: list[bytes]) -> None:
        with self._lock:
            for line in lines:
                text = line.decode(errors="replace").rstrip()
                self._output.append(text)
                if NANNY_KILL in text:
                    self._info = replace(self._info, nanny_kills=self._info.nanny_kills + 1)
