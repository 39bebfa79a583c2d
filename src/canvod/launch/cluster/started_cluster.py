"""The life cycle of every cluster: one start that yields its state step by step, and one stop.

Ephemeral and detached clusters, of containers and of processes, are started by the same code. They differ in
what comes after the last step: an ephemeral cluster is stopped by the process that started it, a detached one
is released.
"""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from canvod.launch.cluster.backend import SCHEDULER
from canvod.launch.cluster.cluster_state import ClusterState
from canvod.launch.cluster.tls import ROLES, KeyFolder, make_keys
from canvod.launch.docker.removal import remedy
from canvod.launch.errors import ClusterError, ClusterExistsError
from canvod.launch.termination import shielded

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from canvod.launch.cluster.backend import Backend
    from canvod.launch.cluster.scheduler_connection import SchedulerConnection
    from canvod.launch.docker.engine import Client
    from canvod.launch.docker.watchdog import Watchdog
    from canvod.launch.host.clusters import ClusterInfo
    from canvod.launch.plan.model import ClusterPlan

MEMBER_POLL_S: Final = 0.02
"""How often to look whether a member has come, or ended."""

WAIT_S: Final = 0.5
"""How long to wait for the scheduler, and by it for the next worker, between two looks at what has ended."""

_lock = threading.Lock()
_in_use: set[Path] = set()
"""Folders of keys of the clusters that this process has started and not stopped."""


class StartedCluster:
    """A cluster that this process starts: its keys, its members, its lease, and their end.

    Nothing happens before `start`.

    Parameters
    ----------
    plan : ClusterPlan
        What to start: containers, or processes of this host.
    engine : docker.DockerClient, optional
        The engine, where the plan is one of containers. It is closed with the cluster.

    Attributes
    ----------
    engine : docker.DockerClient or None
        The engine.
    state : ClusterState or None
        Its plan and keys, once it has been started.
    keys : KeyFolder
        Files of the keys to reach it with, which are there once it has been started.
    backend : Backend or None
        Starts and stops its members, once it has been started.
    connection : SchedulerConnection or None
        To its scheduler, once that listens.
    """

    def __init__(self, plan: ClusterPlan, engine: Client | None = None) -> None:
        self.plan = plan
        self.engine = engine
        self.state: ClusterState | None = None
        self.keys = KeyFolder(plan.name, ("client",) if plan.backend == "docker" else ROLES)
        self.backend: Backend | None = None
        self.connection: SchedulerConnection | None = None
        self._watchdog: Watchdog | None = None
        self._has_name = False
        self._lock = threading.RLock()
        self._left: list[str] | None = None

    def start(self) -> Iterator[ClusterInfo]:
        """Start everything at once, and yield what there is after each step.

        Yields
        ------
        ClusterInfo
            First with everything begun, then with a scheduler that listens, then with one worker more each
            time; the last one has them all.

        Raises
        ------
        ClusterError
            If a member ends, or does not come in time. Whatever is raised, by a signal too, what was started
            is there until `stop`.
        EngineError
            If the engine refuses a request.
        KeysError
            If keys cannot be written.
        """
        plan = self.plan
        self._claim_name()
        if plan.backend == "docker":
            from canvod.launch.docker.watchdog import Watchdog

            # First of all: it removes the keys, too, where this process is killed.
            self._watchdog = Watchdog(plan.name, self.keys.path)
        self.state = ClusterState(make_keys(plan.name), plan)
        self.keys.write(self.state.keys)
        backend = self.backend = self._make_backend(self.state)
        deadline = time.monotonic() + plan.start_timeout_s
        workers = [worker.dask_name for worker in plan.workers]
        backend.start([SCHEDULER, *workers])
        yield backend.describe()
        # Its import takes about as long as the members' start, and both go on at the same time.
        from canvod.launch.cluster.scheduler_connection import SchedulerConnection

        while not (address := backend.describe().scheduler_address):
            require_member(backend, SCHEDULER, deadline, "did not start")
            time.sleep(MEMBER_POLL_S)
        self.connection = SchedulerConnection(address, self.keys.security())
        while not self.connection.listens(WAIT_S):
            where = address.removeprefix("tls://")
            require_member(backend, SCHEDULER, deadline, f"did not accept a connection at {where}")
        if plan.backend == "docker" and not plan.detached:
            # Now, not when the workers are there: on a slow host that takes longer than the lease may.
            self.connection.hold_lease()
        yield from await_workers(backend, self.connection, workers, deadline)

    @contextmanager
    def stopped_on_error(self) -> Iterator[None]:
        """Stop the cluster where the block raises; what could not be removed is in a note of the error.

        Yields
        ------
        None
            Once, to the block; what it raises is raised again when the cluster has been stopped.
        """
        try:
            yield
        except BaseException as error:
            with shielded():
                try:
                    self.stop()
                except ClusterError as incomplete:
                    error.add_note(str(incomplete))
            raise

    def _claim_name(self) -> None:
        """Refuse a name that a cluster of this process has: both would have the same folder of keys."""
        with _lock:
            if self.keys.path in _in_use:
                raise ClusterExistsError(
                    f"This program has a cluster {self.plan.name} already, or is just starting it.",
                    hint="take another name, or close that one first",
                )
            _in_use.add(self.keys.path)
        self._has_name = True

    def _make_backend(self, state: ClusterState) -> Backend:
        if self.engine is not None:
            from canvod.launch.cluster.docker_backend import DockerBackend

            return DockerBackend(self.engine, state)
        from canvod.launch.cluster.process_backend import ProcessBackend

        return ProcessBackend(self.plan, self.keys.path)

    def stop(self) -> None:
        """Remove everything; may be called any number of times.

        Raises
        ------
        ClusterError
            If something could not be removed; the message names it, and the command that removes it. The
            watchdog goes on with it when this process ends.
        """
        with self._lock:
            if self._left is None:
                if self.connection is not None:
                    self.connection.close()
                self._left = [] if self.backend is None else self.backend.close()
                self._end(keep_watchdog=bool(self._left))
            if self._left:
                raise ClusterError(
                    f"Cluster {self.plan.name} is not removed entirely: {'; '.join(self._left)}.",
                    hint=remedy(self.plan.name),
                )

    def release(self) -> None:
        """Leave the members running without this process, whose keys go."""
        with self._lock:
            self._left = []
            if self.connection is not None:
                self.connection.close()
            if self.backend is not None:
                self.backend.release()
            self._end()

    def _end(self, *, keep_watchdog: bool = False) -> None:
        if self._has_name:
            self.keys.remove()
        if self._watchdog is not None and not keep_watchdog:
            self._watchdog.dismiss()
        if self.engine is not None:
            self.engine.close()
        if self._has_name:
            with _lock:
                _in_use.discard(self.keys.path)
            self._has_name = False


def await_workers(
    backend: Backend, connection: SchedulerConnection, names: Collection[str], deadline: float
) -> Iterator[ClusterInfo]:
    """Wait until workers that were started are registered with the scheduler.

    Parameters
    ----------
    backend : Backend
        Has begun to start them.
    connection : SchedulerConnection
        To their scheduler.
    names : collection of str
        Their names in Dask.
    deadline : float
        When they must be there, in seconds of `time.monotonic`.

    Yields
    ------
    ClusterInfo
        Each time when one more has come; the last one has them all.

    Raises
    ------
    ClusterError
        If one ends, or is late.
    """
    registered: set[str] = set()
    known = -1
    while True:
        with suppress(ClusterError):  # a scheduler that is busy for a moment
            status = connection.ask(at_least=len(registered) + 1, wait_s=WAIT_S)
            registered = set(status["workers"])
        missing = [name for name in names if name not in registered]
        if len(registered) != known:
            known = len(registered)
            yield replace(backend.describe(), registered=tuple(sorted(registered)), target=len(names))
        if not missing:
            return
        for name in missing:
            require_member(backend, name, deadline, "did not register with the scheduler")


def require_member(backend: Backend, name: str, deadline: float, what: str) -> None:
    """Raise why a member will not come, or that it is late.

    Parameters
    ----------
    backend : Backend
        Has begun to start it.
    name : str
        Its name.
    deadline : float
        When it must have come, in seconds of `time.monotonic`.
    what : str
        What it has not done by then, such as ``"did not register"``.

    Raises
    ------
    ClusterError
        If it has ended, or the time is up.
    EngineError
        If the engine refused it.
    """
    if (problem := backend.problem(name)) is not None:
        raise problem
    if time.monotonic() > deadline:
        limit_s = backend.plan.start_timeout_s
        raise backend.failure(name, f"{what} within {limit_s:g} s (launch.start_timeout_s)")
