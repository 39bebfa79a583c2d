"""The clusters of this host as they are seen: one record of a container, one of a cluster.

Whoever looks fills in what it can see: the process that starts a cluster, the engine's list of containers, or
the scheduler. What a cluster should be is its plan, `canvod.launch.plan.model.ClusterPlan`.
"""

from __future__ import annotations

import os
import pwd
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from canvod.launch.host.labels import COMPOSE_LABEL, DETACHED_LABEL, OWNER_LABEL, uid_of
from canvod.launch.host.owner import owner_lives
from canvod.launch.units import format_bytes

type Kind = Literal["ephemeral", "detached", "compose"]
"""Ends with the process that started it, outlives it (``canvod-launch up``), or is run by Compose."""

type State = Literal["up", "degraded", "starting", "silent", "stopped"]
"""All workers are registered; some are missing; some are on their way; the scheduler does not answer; it does
not run."""

_ADVICE = "raise processing.max_memory_gb or use fewer workers"


@dataclass(frozen=True)
class ContainerInfo:
    """One container of a cluster; where the backend has no containers, one process.

    Attributes
    ----------
    name : str
        Name in Dask, or ``scheduler``; of a replica of ``docker compose``, ``worker-`` and its number.
    role : str
        ``scheduler`` or ``worker``.
    state : str
        The engine's word, such as ``running``; ``gone`` where it is missing, ``not registered`` where it runs
        and the scheduler does not know it.
    id, container : str
        By which the engine, and people, know it; empty before it exists.
    created_s : float or None
        When it was created, in seconds since 1970.
    labels : mapping of str to str
        Its labels on the engine.
    cores : str
        Its cpuset, such as ``0-3``.
    memory_limit_bytes, dask_memory_limit_bytes : int or None
        The kernel's limit for all of it, and Dask's for the worker process.
    memory_bytes, peak_bytes : int or None
        Memory now, without files that are only cached, and the most that it ever had, with them.
    tasks : int or None
        Tasks that it runs now.
    exit_code : int or None
        None while it has not ended.
    oom_kills, nanny_kills : int
        How often the kernel killed a process of it at its memory limit, and its nanny the worker process near
        Dask's.
    output : tuple of str
        Last lines of its output, where they are kept.
    """

    name: str
    role: str
    state: str = "gone"
    id: str = ""
    container: str = ""
    created_s: float | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    cores: str = ""
    memory_limit_bytes: int | None = None
    dask_memory_limit_bytes: int | None = None
    memory_bytes: int | None = None
    peak_bytes: int | None = None
    tasks: int | None = None
    exit_code: int | None = None
    oom_kills: int = 0
    nanny_kills: int = 0
    output: tuple[str, ...] = ()

    @property
    def runs(self) -> bool:
        """Whether it runs."""
        return self.state in {"running", "not registered"}

    @property
    def uptime_s(self) -> int | None:
        """Seconds since it was created."""
        return None if self.created_s is None else max(0, int(time.time() - self.created_s))

    def cause_of_death(self) -> str | None:
        """Say why its worker may have died.

        Returns
        -------
        str or None
            A clause for a message; None where nothing is known.
        """
        if self.oom_kills:
            limit = format_bytes(self.memory_limit_bytes or 0)
            return f"the kernel killed it at its memory limit of {limit}; {_ADVICE}"
        if self.nanny_kills:
            limit = format_bytes(self.dask_memory_limit_bytes or 0)
            return f"its nanny ended it near its memory limit of {limit}; {_ADVICE}"
        if self.exit_code is not None:
            return f"its container ended with exit code {self.exit_code}"
        return None


@dataclass(frozen=True)
class ClusterInfo:
    """One cluster.

    Attributes
    ----------
    name : str
        Its name.
    containers : tuple of ContainerInfo
        The scheduler first, then the workers by number.
    scheduler_address, dashboard_link : str
        Where it is reached from this host; empty where it cannot be.
    registered : tuple of str
        Names of the workers that the scheduler knows, where it could be asked.
    target : int or None
        How many workers there should be, where that is known.
    tasks : mapping of str to int
        Tasks by state, where the scheduler could be asked.
    state : str or None
        How it is, where somebody has looked (`canvod.launch.detached.cluster_status.cluster_status`).
    """

    name: str
    containers: tuple[ContainerInfo, ...]
    scheduler_address: str = ""
    dashboard_link: str = ""
    registered: tuple[str, ...] = ()
    target: int | None = None
    tasks: Mapping[str, int] = field(default_factory=dict)
    state: State | None = None

    @property
    def kind(self) -> Kind:
        """Who started it, and for how long."""
        if any(COMPOSE_LABEL in container.labels for container in self.containers):
            return "compose"
        detached = any(container.labels.get(DETACHED_LABEL) == "true" for container in self.containers)
        return "detached" if detached else "ephemeral"

    @property
    def uid(self) -> int | None:
        """Whose it is, where a label says so."""
        uids = {uid_of(container.labels) for container in self.containers}
        return min((uid for uid in uids if uid is not None), default=None)

    @property
    def user(self) -> str:
        """Name of the user whose it is; the number of one without a name, nothing where it is unknown."""
        if self.uid is None:
            return ""
        try:
            return pwd.getpwuid(self.uid).pw_name
        except KeyError:
            return str(self.uid)

    @property
    def mine(self) -> bool:
        """Whether it belongs to this user: to root, and where nobody knows, everything does."""
        return self.uid is None or os.getuid() in {0, self.uid}

    @property
    def scheduler(self) -> ContainerInfo | None:
        """The scheduler, where it runs."""
        return next((item for item in self.containers if item.role == "scheduler" and item.runs), None)

    @property
    def workers(self) -> tuple[ContainerInfo, ...]:
        """The workers, in whatever state."""
        return tuple(item for item in self.containers if item.role == "worker")

    @property
    def owner_lives(self) -> bool:
        """Whether the process that started it, or some of it, is still there."""
        marks = {container.labels.get(OWNER_LABEL, "") for container in self.containers}
        return any(owner_lives(mark) for mark in marks)

    def as_json(self) -> dict[str, Any]:
        """Give what a program may want to know, as plain values.

        Returns
        -------
        dict
            What ``canvod-launch status --json`` prints of a cluster: amounts in bytes, times in seconds.
        """
        shown = (
            "name",
            "container",
            "state",
            "cores",
            "memory_limit_bytes",
            "memory_bytes",
            "peak_bytes",
            "tasks",
        )
        return {
            "name": self.name,
            "kind": self.kind,
            "user": self.user,
            "state": self.state,
            "workers": len(self.registered),
            "workers_wanted": self.target,
            "scheduler_address": self.scheduler_address,
            "dashboard_link": self.dashboard_link,
            "uptime_s": None if self.scheduler is None else self.scheduler.uptime_s,
            "tasks": dict(self.tasks),
            "containers": [
                {name: getattr(each, name) for name in shown} | {"uptime_s": each.uptime_s}
                for each in self.containers
            ],
        }
