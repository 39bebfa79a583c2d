"""One container of a cluster, and what is known about it."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from canvod.launch.errors import ContainerFailedError, EngineError
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
        deadline = time.monotonic() + _STREAM_GRACE_S
        # The engine may tell of the end before it tells why.
        while self.exit_code == KILLED and not self.oom_kills and time.monotonic() < deadline:
            time.sleep(_POLL_S)
        status = "running" if self.exit_code is None else f"exited with code {self.exit_code}"
        oom = f"yes ({self.oom_kills} times)" if self.oom_kills else "no"
        cap = format_bytes(self.plan.memory_bytes)
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
                for line in lines:
                    text = line.decode(errors="replace").rstrip()
                    self.output.append(text)
                    self.nanny_kills += NANNY_KILL in text
        except EngineError:
            pass
        finally:
            if rest:
                self.output.append(rest.decode(errors="replace").rstrip())
            self.output_ended.set()
