"""`DaskClusterManager`: one cluster and one client, from settings to teardown."""

from __future__ import annotations

import atexit
import os
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from canvod.launch.cluster.choice import choose_backend
from canvod.launch.cluster.client import check_versions, close_client, open_client
from canvod.launch.cluster.dask_settings import DaskDefaults
from canvod.launch.cluster.host_paths import describe_mounts, make_mounts, require_mounts
from canvod.launch.cluster.keywords import require_alone, require_dask, settings_fields
from canvod.launch.cluster.planning import log_warnings, plan_here
from canvod.launch.cluster.prune import prune_host, prune_quietly
from canvod.launch.cluster.tls import ROLES, KeyFolder, keys_folder, make_keys
from canvod.launch.config import Settings, load_settings
from canvod.launch.docker.removal import remedy
from canvod.launch.docker.watchdog import Watchdog
from canvod.launch.errors import ClusterError, ImageError
from canvod.launch.host.memory_monitor import MemoryMonitor
from canvod.launch.host.owner import owner_mark
from canvod.launch.host.python_version import own_python
from canvod.launch.logs import get_logger, quiet_dask
from canvod.launch.plan.model import Backend, ClusterPlan
from canvod.launch.termination import exit_on_signals, shielded
from canvod.launch.units import GIB

if TYPE_CHECKING:
    from types import TracebackType

    from distributed import Client

    from canvod.launch.cluster.base import PlannedCluster
    from canvod.launch.detached.attach import Attachment
    from canvod.launch.docker.containers import ContainerSet
    from canvod.launch.host.inventory import EngineInventory
    from canvod.launch.images.build_log import BuildEvent

type Source = Settings | Mapping[str, Any] | str | Path | None
"""Where settings come from: settings, a mapping with their sections, a YAML file, or the defaults."""

type Progress = Callable[[str], None]
"""Called with one line for each step that takes time."""

type BuildProgress = Callable[[BuildEvent], None]
"""Called with what happens while an image is being made."""

type BeforeStart = Callable[[ClusterPlan], None]
"""Called with the plan before anything is started; what it raises refuses the start."""

REQUEST_TIMEOUT_S = 30.0
"""How long the engine may take for one request of a cluster's start or end."""

log = get_logger("canvod.launch")


class DaskClusterManager:
    """Start a pinned, capped and contained Dask cluster, and remove it whatever happens.

    The cluster is up when the constructor returns. It is removed by `close`, at the end of a ``with`` block,
    at the end of the program, and when SIGINT, SIGTERM or SIGHUP arrives. With `name`, or the address of a
    scheduler, a cluster that stands already is used instead, and left as it is.

    Parameters
    ----------
    config : Settings, mapping, str or Path, optional
        Settings, a mapping of their sections, or the path of a ``processing.yaml``. Defaults, and environment
        variables, where it is left out.
    n_workers : int, optional
        Number of workers (``processing.n_max_threads``); makes the mode manual.
    memory_limit_per_worker : str, int or float, optional
        Memory of each worker as Dask reads it: ``"4GiB"`` is 4 · 1024³ bytes and ``"4GB"`` 4 · 1000³, as
        everywhere in Dask; a number is bytes. Needs ``n_workers``.
    cpu_affinity : sequence of int, optional
        Core IDs (``processing.cpu_affinity``).
    nice_priority : int, optional
        0 (normal) to 19 (lowest), as ``processing.nice_priority``.
    threads_per_worker : int, optional
        Threads of each worker (``processing.threads_per_worker``).
    scheduler_address : str, optional
        Use the scheduler at this address; nothing is started, and nothing is stopped at the end. Of a
        cluster of this host the keys are found.
    backend : {"auto", "docker", "process"}, optional
        As ``launch.backend``.
    read_only, writable : sequence of path, optional
        Host paths that workers see besides those of the settings, under the same names.
    current_folder : bool, optional
        Whether workers see the current folder too, read only; never where it is, or holds, a home.
    name : str, optional
        Use the cluster of this name, which ``canvod-launch up`` has started; nothing is started, and nothing
        is stopped at the end.
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
        Python of who will use the cluster, such as ``3.13``, where it is not this program.
    own_tasks_only : bool, default: False
        Whether only `task_client` will be used: then images of another Python will do where none of this
        one can be had.

    Raises
    ------
    ConfigError, PlanError
        If the settings cannot be used; nothing has been started then.
    EngineError, ImageError
        If containers are asked for and cannot be had.
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
        config: Source = None,
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
        progress: Progress | None = None,
        build_progress: BuildProgress | bool = True,
        before_start: BeforeStart | None = None,
        client_python: str | None = None,
        own_tasks_only: bool = False,
    ) -> None:
        require_dask()
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
            require_alone(name, cluster_name, read_only, writable, keywords)
        self.settings = load_settings(config, overrides=keywords, overridden_by="DaskClusterManager(…)")
        self.cluster: PlannedCluster | None = None
        self.memory = MemoryMonitor(self.settings.processing.max_memory_gb)
        self._client: Client | None = None
        self._engine: Any = None
        self._fleet: ContainerSet | None = None
        self._keys: KeyFolder | None = None
        self._attached: Attachment | None = None
        self._attach_to = name
        self._reaper: Watchdog | None = None
        self._dask: DaskDefaults | None = None
        self._checked: set[bool] = set()
        self._lock = threading.RLock()
        self._closed = False
        started = time.monotonic()
        self._name = cluster_name or secrets.token_hex(3)
        self._may_be_taken = cluster_name is not None
        self._process = os.getpid()
        self._mounts = make_mounts(read_only, writable)
        self._current_folder = current_folder
        self._progress = progress or _ignore
        self._build_progress = build_progress
        self._python = client_python or own_python()
        self._own_tasks_only = own_tasks_only
        self._before_start = before_start or _ignore
        exit_on_signals()
        atexit.register(self.close)
        try:
            self.plan = self._start()
        except BaseException as error:
            try:
                self.close()
            except ClusterError as incomplete:
                error.add_note(str(incomplete))
            raise
        # Before Dask's own end, which another Ctrl-C can interrupt: what is registered last is called first.
        atexit.unregister(self.close)
        atexit.register(self.close)
        starts = self.plan.backend != "remote" and not self.plan.detached
        log.info(
            "dask_cluster_started" if starts else "dask_cluster_attached",
            cluster=self.plan.name,
            backend=self.plan.backend,
            scheduler_address=self.scheduler_address,
            dashboard_link=self.dashboard_link,
            **_workers_of(self.plan),
            seconds=round(time.monotonic() - started, 2),
        )
        self.memory.log_memory_stats("cluster start")

    def _start(self) -> ClusterPlan:
        address = self.settings.processing.scheduler_address
        # Before anything of Dask but its settings is imported.
        self._dask = DaskDefaults(certificates=address is not None)
        from canvod.launch.detached.attach import attach_by_address, attach_by_name

        if self._attach_to is not None:
            self._attached = attach_by_name(self._attach_to)
        elif address is not None:
            self._attached = attach_by_address(address)
        if self._attached is not None and self._attached.plan is not None:
            self._progress(f"using the cluster {self._attached.name}; nothing is started")
            self._before_start(self._attached.plan)
            return self._attached.plan
        return self._start_own()

    def _start_own(self) -> ClusterPlan:
        choice = choose_backend(self.settings)
        self._progress(choice.reason)
        if choice.backend == "docker":
            try:
                return self._start_containers(choice.engine)
            except ImageError as error:
                if self.settings.launch.backend == "docker":
                    raise
                way = f"\n  To have containers: {error.hint}" if error.hint else ""
                self._progress(f"worker processes: the images cannot be had. {error.message}{way}")
                log.warning("docker_backend_not_used", reason=error.message, hint=error.hint)
        plan = self._make_plan("remote" if choice.backend == "remote" else "process")
        if plan.backend == "process":
            from canvod.launch.cluster.local import ProcessCluster

            prune_host(plan.workers[0].spill_path)
            self._progress(f"starting {len(plan.workers)} worker processes")
            self._keys = KeyFolder(plan.name, make_keys(plan.name), ROLES)
            self.cluster = ProcessCluster(plan, self._keys)
        return plan

    def _start_containers(self, engine: EngineInventory | None) -> ClusterPlan:
        from canvod.launch.docker.containers import ContainerSet
        from canvod.launch.docker.discovery import refuse_second
        from canvod.launch.docker.engine import connect
        from canvod.launch.images.build import use_images
        from canvod.launch.images.build_log import StepLines
        from canvod.launch.images.versions import require_same_versions

        plan = self._make_plan("docker", engine)
        require_same_versions(plan, self.settings, python=self._python, own_tasks_only=self._own_tasks_only)
        self._engine = connect(timeout_s=REQUEST_TIMEOUT_S)
        prune_quietly(self._engine)
        if self._may_be_taken:
            refuse_second(self._engine, plan.name)
        plan = use_images(
            self._engine,
            plan,
            self.settings,
            own_tasks_only=self._own_tasks_only,
            progress=self._progress,
            build_progress=StepLines() if self._build_progress is True else self._build_progress or _ignore,
        )
        count = "1 worker" if len(plan.workers) == 1 else f"{len(plan.workers)} workers"
        self._progress(f"starting {count} in containers, which see {describe_mounts(plan)}")
        self._reaper = Watchdog(plan.name, keys_folder(plan.name, owner_mark()))
        keys = make_keys(plan.name)
        self._keys = KeyFolder(plan.name, keys)
        self._fleet = ContainerSet(self._engine, plan, keys)
        self._fleet.begin()
        # The import takes about as long as the containers' start, and both go on at the same time.
        from canvod.launch.cluster.docker import DockerCluster

        self.cluster = DockerCluster(plan, self._fleet, self._keys.security())
        return plan

    def _make_plan(self, backend: Backend, engine: EngineInventory | None = None) -> ClusterPlan:
        plan = plan_here(
            self.settings,
            self._name,
            backend=backend,
            engine=engine,
            mounts=self._mounts,
            current_folder=self._current_folder,
            python=self._python,
        )
        log_warnings(plan)
        self._before_start(plan)
        if backend == "docker":
            require_mounts(plan)
        return plan

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
        with self._lock:
            if self._closed:
                raise ClusterError("This cluster has been closed; make a new DaskClusterManager.")
            if self._client is None:
                security = None if self._attached is None else self._attached.keys.security()
                address = self.scheduler_address
                self._client = open_client(self.cluster or address, address, security)
            # Worker processes of this host are of this environment.
            if self.plan.backend != "process" and own_tasks_only not in self._checked:
                attached = self._attached
                check_versions(
                    self._client,
                    own_tasks_only=own_tasks_only,
                    detached=None if attached is None else attached.name,
                    compose=attached is not None and attached.plan is None,
                )
                self._checked.add(own_tasks_only)
            return self._client

    @property
    def scheduler_address(self) -> str:
        """Address of the scheduler."""
        if self.cluster is not None:
            return str(self.cluster.scheduler_address)
        if self._attached is not None:
            return self._attached.scheduler_address
        return self.settings.processing.scheduler_address or ""

    @property
    def dashboard_link(self) -> str:
        """Address of Dask's dashboard; that of a cluster of ours can be reached from this host only."""
        if self.cluster is not None:
            return str(self.cluster.dashboard_link)
        if self._attached is not None:
            return self._attached.dashboard_link
        return str(self._client.dashboard_link) if self._client is not None else ""

    def environment(self) -> dict[str, str]:
        """Environment variables with which a bare ``distributed.Client()`` of another program connects.

        Returns
        -------
        dict of str to str
            The scheduler's address, and the paths of the keys, which are there until the manager is closed.
        """
        if self._attached is not None:
            return self._attached.environment()
        keys = {} if self._keys is None else self._keys.environment()
        return {"DASK_SCHEDULER_ADDRESS": self.scheduler_address, **keys}

    def close(self) -> None:
        """Close the client and remove the cluster; calling it again does nothing.

        A cluster that somebody else has started is left as it is, by a fork of this process too.

        SIGINT, SIGTERM and SIGHUP that come meanwhile take effect afterwards.

        Raises
        ------
        ClusterError
            If something could not be removed; the message names it, and the command that removes it.
        """
        if os.getpid() != self._process:
            return
        with self._lock, shielded(), quiet_dask():
            if self._closed:
                return
            self._closed = True
            atexit.unregister(self.close)
            started = time.monotonic()
            name = self.cluster.name if self.cluster is not None else None
            if name is not None:
                log.info("dask_cluster_shutting_down", cluster=name)
            try:
                if self._client is not None:
                    close_client(self._client)
                if self.cluster is not None:
                    self.cluster.close()
            finally:
                if self._dask is not None:
                    self._dask.end()
                self._remove_the_rest()
            if name is not None:
                log.info("dask_cluster_stopped", cluster=name, seconds=round(time.monotonic() - started, 2))

    def _remove_the_rest(self) -> None:
        """Remove what outlives the cluster object, or was there before it."""
        left: list[str] = []
        if self._fleet is not None:
            left = self._fleet.close() if self._fleet.left is None else self._fleet.left
        if self._engine is not None:
            self._engine.close()
        if self._keys is not None:
            self._keys.remove()
        if left:
            # The reaper is kept: it goes on when this process ends.
            raise ClusterError(
                f"Cluster {self._name} is not gone entirely: {'; '.join(left)}.", hint=remedy(self._name)
            )
        if self._reaper is not None:
            self._reaper.dismiss()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"{len(self.plan.workers)} workers, {self.plan.backend}"
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


def _ignore(_what: object) -> None:
    """Take no notice."""
