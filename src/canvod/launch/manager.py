"""`DaskClusterManager`: one cluster and one client, from settings to teardown."""

from __future__ import annotations

import atexit
import os
import secrets
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from canvod.launch.cluster.client import check_versions, close_client, open_client
from canvod.launch.cluster.dask_settings import DaskDefaults
from canvod.launch.cluster.host_paths import make_mounts
from canvod.launch.cluster.keywords import require_alone, require_dask, settings_fields
from canvod.launch.cluster.preparation import StartRequest, announced_plan, ignore, prepare
from canvod.launch.config import SettingsLike, load_settings
from canvod.launch.errors import ClusterError, ConfigError
from canvod.launch.host.memory_monitor import MemoryMonitor
from canvod.launch.host.python_version import own_python
from canvod.launch.logs import get_logger, quiet_dask
from canvod.launch.termination import exit_on_signals, shielded
from canvod.launch.units import GIB

if TYPE_CHECKING:
    from types import TracebackType

    from distributed import Client

    from canvod.launch.cluster.planned_cluster import PlannedCluster
    from canvod.launch.cluster.started_cluster import StartedCluster
    from canvod.launch.detached.attach import Attachment
    from canvod.launch.images.build_log import BuildEvent
    from canvod.launch.plan.model import ClusterPlan

type BuildProgress = Callable[[BuildEvent], None]
"""Called with what happens while an image is being made."""

log = get_logger("canvod.launch")

_open: Final[weakref.WeakSet[DaskClusterManager]] = weakref.WeakSet()
"""Managers of this process that have started a cluster and are not closed."""


class _Session:
    """What a manager has opened, and the one way in which it ends.

    It does not refer to the manager, so that one that nobody refers to is closed as well.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.closed = False
        self.client: Client | None = None
        self.cluster: PlannedCluster | None = None
        self.started: StartedCluster | None = None
        self._stack = ExitStack()
        self._stack.callback(exit_on_signals().close)
        self._process = os.getpid()
        self.end_with_program()

    def end_with_program(self) -> None:
        """End when the program does; who says so last is ended first, before Dask itself."""
        atexit.unregister(self.close)
        atexit.register(self.close)

    def use_dask(self, *, certificates: bool) -> None:
        """Use Dask's own settings until the end; before anything of Dask but its settings is imported."""
        self._stack.callback(DaskDefaults(certificates=certificates).end)

    def close(self) -> None:
        """Close the client and remove the cluster; calling it again, or in a fork, does nothing."""
        if os.getpid() != self._process:
            return
        with self.lock, shielded(), quiet_dask():
            if self.closed:
                return
            self.closed = True
            atexit.unregister(self.close)
            started = time.monotonic()
            name = None if self.started is None else self.started.plan.name
            if name is not None:
                log.info("dask_cluster_shutting_down", cluster=name)
            try:
                # Whatever one of these steps raises, the next ones are done.
                with self._stack as stack:
                    if self.started is not None:
                        stack.callback(self.started.stop)
                    if self.cluster is not None:
                        stack.callback(self.cluster.close)
                    if self.client is not None:
                        stack.callback(close_client, self.client)
            finally:
                if name is not None:
                    log.info(
                        "dask_cluster_stopped", cluster=name, seconds=round(time.monotonic() - started, 2)
                    )


def _close_unreferenced(session: _Session) -> None:
    """End the session of a manager that nobody refers to, in a thread that the program's end waits for.

    Not here: Python calls this anywhere, also where a lock is held that closing needs.
    """
    if not session.closed:
        threading.Thread(target=session.close).start()


class DaskClusterManager:
    """Start a pinned, limited and contained Dask cluster, and remove it whatever happens.

    The cluster is up when the constructor returns. It is removed by `close`, at the end of a ``with`` block,
    when nothing refers to the manager any more, at the end of the program, and when SIGINT, SIGTERM or SIGHUP
    arrives. With `name`, or the address of a scheduler, a cluster that is up already is used instead, and
    left as it is.

    Parameters
    ----------
    config : Settings, mapping, str or Path, optional
        Settings, a mapping of their sections, or the path of a ``processing.yaml``. Defaults, and environment
        variables, where it is left out.
    n_workers : int, optional
        Number of workers (``processing.n_max_threads``); makes the mode manual.
    memory_limit_per_worker : str, int or float, optional
        Memory of each worker as Dask reads it: ``"4GiB"`` is 4 · 1024³ bytes and ``"4GB"`` 4 · 1000³, as
        everywhere in Dask; a number is bytes. Needs ``n_workers``. ``"auto"``, Dask's own default, is the
        same as leaving it out: an equal part of what the settings and this host have.
    cpu_affinity : sequence of int, optional
        Core IDs (``processing.cpu_affinity``).
    nice_priority : int, optional
        0 (normal) to 19 (lowest), as ``processing.nice_priority``.
    threads_per_worker : int, optional
        Threads of each worker (``processing.threads_per_worker``).
    scheduler_address : str, optional
        Use the scheduler at this address (``processing.scheduler_address``); nothing is started, and nothing
        is stopped at the end. The keys of a cluster in containers of this host are found; those of any other
        are in Dask's own settings.
    backend : {"auto", "docker", "process"}, optional
        As ``launch.backend``.
    read_only, writable : sequence of str or Path, optional
        Host paths that workers see besides those of the settings, under the same names.
    current_folder : bool, default: True
        Whether workers see the current folder too, read only; never where it is, or holds, a home.
    name : str, optional
        Use the cluster of this name, which another process has started in containers; nothing is started,
        and nothing is stopped at the end.
    cluster_name : str, optional
        Name of the cluster that is started; a random one by default.
    progress : callable, optional
        Called with a line of text for each step that takes time.
    build_progress : callable or bool, default: True
        Called with a `canvod.launch.images.build_log.BuildEvent` for each step of making an image,
        which may take minutes. True writes a line for each step to stderr, False shows nothing.
    before_start : callable, optional
        Called with the plan before anything is started, again with another plan if ``auto`` falls back from
        containers to processes. An error that it raises refuses the start.
    client_python : str, optional
        Minor version of Python of the program that will use the cluster, such as ``3.13``; that of this
        program by default.
    own_tasks_only : bool, default: False
        Whether only `task_client` will be used: then images of another Python will do where none of this
        one can be had.

    Attributes
    ----------
    settings : Settings
        The settings, with the keyword arguments among them.
    plan : ClusterPlan
        What was started, or what another process has started; without workers where that is not known.
    memory : MemoryMonitor
        Memory in use against the limit: of the cluster that was started, else of the machine.

    Raises
    ------
    ConfigError, PlanError
        If the settings cannot be used; nothing has been started then.
    EngineError, ImageError
        If containers are asked for and cannot be had.
    KeysError
        If the keys of the cluster cannot be written.
    VersionMismatchError
        If the images cannot go with this environment; nothing has been started then.
    ClusterNotFoundError
        If there is no cluster with the name to use.
    ClusterExistsError
        If there is one with the name of the cluster to start.
    ClusterError
        If the cluster does not come up; what was started has been removed.
    DependencyError
        If Dask is not installed.

    Examples
    --------
    >>> with DaskClusterManager({"launch": {"backend": "process"}}) as manager:  # doctest: +SKIP
    ...     manager.client.submit(sum, [1, 2]).result()
    3
    """

    def __init__(  # noqa: PLR0913 - canVODpy's own signature, and what a start may be told besides
        self,
        config: SettingsLike = None,
        *,
        n_workers: int | None = None,
        memory_limit_per_worker: str | float | None = None,
        cpu_affinity: Sequence[int] | None = None,
        nice_priority: int | None = None,
        threads_per_worker: int | None = None,
        scheduler_address: str | None = None,
        backend: str | None = None,
        read_only: Sequence[str | Path] = (),
        writable: Sequence[str | Path] = (),
        current_folder: bool = True,
        name: str | None = None,
        cluster_name: str | None = None,
        progress: Callable[[str], None] | None = None,
        build_progress: BuildProgress | bool = True,
        before_start: Callable[[ClusterPlan], None] | None = None,
        client_python: str | None = None,
        own_tasks_only: bool = False,
    ) -> None:
        require_dask()
        if isinstance(config, int):  # as a LocalCluster takes the number of its workers
            raise ConfigError(
                f"DaskClusterManager({config!r}, …): the first argument is settings, or a file of them.",
                hint=f"write n_workers={config!r}",
            )
        keywords = settings_fields(
            n_workers=n_workers,
            memory_limit_per_worker=memory_limit_per_worker,
            cpu_affinity=cpu_affinity,
            nice_priority=nice_priority,
            threads_per_worker=threads_per_worker,
            scheduler_address=scheduler_address,
            backend=backend,
        )
        if name is not None:
            others = {
                "cluster_name": cluster_name,
                "read_only": tuple(read_only),
                "writable": tuple(writable),
            }
            require_alone(name, keywords | others)
        memory = "" if memory_limit_per_worker is None else f"{memory_limit_per_worker=}, "
        call = f"DaskClusterManager({memory}…)"
        self.settings = load_settings(config, overrides=keywords, overridden_by=call)
        self.memory = MemoryMonitor(self.settings.processing.max_memory_gb)
        self._attached: Attachment | None = None
        self._checked: set[bool] = set()
        from canvod.launch.images.build_log import StepLines

        begun = time.monotonic()
        request = StartRequest(
            settings=self.settings,
            name=cluster_name or secrets.token_hex(3),
            mounts=make_mounts(read_only, writable),
            current_folder=current_folder,
            python=client_python or own_python(),
            own_tasks_only=own_tasks_only,
            before_start=before_start or ignore,
            progress=progress or ignore,
            build_progress=StepLines() if build_progress is True else build_progress or ignore,
        )
        self._session = _Session()
        try:
            self.plan = self._start(request, name)
        except BaseException as error:
            self._close_after(error)
            raise
        if self._session.started is not None:
            _open.add(self)
        self._session.end_with_program()
        weakref.finalize(self, _close_unreferenced, self._session).atexit = False
        log.info(
            "dask_cluster_attached" if self._session.started is None else "dask_cluster_started",
            cluster=self.plan.name,
            backend=self.plan.backend,
            scheduler_address=self.scheduler_address,
            dashboard_link=self.dashboard_link,
            **_workers_of(self.plan),
            seconds=round(time.monotonic() - begun, 2),
        )
        # Of the machine: to ask the engine for the memory of its containers takes a second.
        self.memory.log_memory_stats("cluster start")
        if self.cluster is not None:
            budget_gb = self.memory.max_memory_gb or self.plan.worker_memory_bytes / GIB
            self.memory = MemoryMonitor(budget_gb, used_bytes=self.cluster.backend.memory_bytes)

    def _start(self, request: StartRequest, name: str | None) -> ClusterPlan:
        address = self.settings.processing.scheduler_address
        self._session.use_dask(certificates=address is not None)
        if name is not None or address is not None:
            from canvod.launch.detached.attach import attach_by_address, attach_by_name

            self._attached = attach_by_address(address) if name is None and address else attach_by_name(name)
            if self._attached is None:
                request.progress(f"using the scheduler at {address}; nothing is started")
                return announced_plan(request, "remote")
            plan = self._attached.plan
            request.progress(f"using the cluster {plan.name}; nothing is started")
            request.before_start(plan)
            return plan
        for other in list(_open):
            log.warning(
                "another_cluster_is_open",
                cluster=other.plan.name,
                hint="close() it where it is not needed: it holds its cores and memory until then",
            )
        started = self._session.started = prepare(request)
        for info in started.start():
            request.report(info)
        from canvod.launch.cluster.planned_cluster import PlannedCluster

        self._session.cluster = PlannedCluster(started)
        return started.plan

    def _close_after(self, error: BaseException) -> None:
        """Close after an error, which is what the user should read: what closing raises is a note of it."""
        try:
            self.close()
        except Exception as incomplete:  # noqa: BLE001 - whatever it is comes second
            error.add_note(str(incomplete))

    @property
    def cluster(self) -> PlannedCluster | None:
        """The cluster that was started, a `distributed.SpecCluster`; None where another one is used."""
        return self._session.cluster

    @property
    def client(self) -> Client:
        """A Dask client of the cluster, the same one every time.

        Raises
        ------
        VersionMismatchError
            If Python or a package differs between this environment and the cluster.
        ClusterError
            If the manager has been closed, or the scheduler does not answer.
        """
        return self._connect(own_tasks_only=False)

    @property
    def task_client(self) -> Client:
        """The same client for the tasks of canvod-launch itself, whatever this environment's Python.

        They are importable functions with plain arguments. A function of a user's is pickled by value and
        needs the same Python on both sides: use `client`, which checks that.

        Raises
        ------
        VersionMismatchError
            If Dask, Icechunk or zarr differ between this environment and the cluster.
        ClusterError
            If the manager has been closed, or the scheduler does not answer.
        """
        return self._connect(own_tasks_only=True)

    def _connect(self, *, own_tasks_only: bool) -> Client:
        session = self._session
        with session.lock:
            if session.closed:
                raise ClusterError("This cluster has been closed; make a new DaskClusterManager.")
            attached = self._attached
            if session.client is None:
                security = None if attached is None else attached.keys.security()
                session.client = open_client(session.cluster or self.scheduler_address, security)
            # Worker processes of this host are of this environment.
            if self.plan.backend != "process" and own_tasks_only not in self._checked:
                is_detached = attached is not None and attached.plan.detached
                check_versions(
                    session.client,
                    own_tasks_only=own_tasks_only,
                    detached=self.plan.name if is_detached else None,
                )
                self._checked.add(own_tasks_only)
            return session.client

    @property
    def scheduler_address(self) -> str:
        """Address of the scheduler."""
        if self.cluster is not None:
            return str(self.cluster.scheduler_address)
        if self._attached is not None:
            return self._attached.cluster.scheduler_address
        return self.settings.processing.scheduler_address or ""

    @property
    def dashboard_link(self) -> str:
        """Address of Dask's dashboard; that of a cluster of ours can be reached from this host only."""
        if self.cluster is not None:
            return self.cluster.dashboard_link
        if self._attached is not None:
            return self._attached.cluster.dashboard_link
        client = self._session.client
        return str(client.dashboard_link) if client is not None else ""

    def environment(self) -> dict[str, str]:
        """Give the environment variables with which a ``distributed.Client()`` of another program connects.

        Returns
        -------
        dict of str to str
            The scheduler's address, and the paths of the keys, which are there until the manager is closed.
        """
        if self._attached is not None:
            return self._attached.environment()
        started = self._session.started
        keys = {} if started is None else started.keys.environment()
        return {"DASK_SCHEDULER_ADDRESS": self.scheduler_address, **keys}

    def close(self) -> None:
        """Close the client and remove the cluster; calling it again does nothing.

        A cluster that another process has started is left as it is, by a fork of this process too. SIGINT,
        SIGTERM and SIGHUP that come meanwhile take effect afterwards.

        Raises
        ------
        ClusterError
            If something could not be removed; the message names it, and the command that removes it.
        """
        _open.discard(self)
        self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            self._close_after(error)

    def __repr__(self) -> str:
        state = "closed" if self._session.closed else f"{len(self.plan.workers)} workers, {self.plan.backend}"
        return f"<DaskClusterManager {self.scheduler_address}: {state}>"


def _workers_of(plan: ClusterPlan) -> dict[str, Any]:
    """Tell of the workers what a log line should; nothing where somebody else has planned them."""
    if not plan.workers:
        return {}
    first = plan.workers[0]
    return {
        "n_workers": len(plan.workers),
        "threads_per_worker": first.nthreads,
        "memory_limit_gb": round(plan.worker_memory_bytes / GIB, 2),
        "cpu_affinity": sorted({cpu for worker in plan.workers for cpu in worker.cpuset_cpus}),
        "nice_priority": first.nice,
    }
