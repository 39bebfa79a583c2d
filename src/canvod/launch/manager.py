"""`DaskClusterManager`: one cluster and one client, from settings to teardown."""

from __future__ import annotations

import atexit
import os
import secrets
import sys
import threading
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from canvod.launch.cluster.choice import choose_backend
from canvod.launch.config import Settings, load_settings
from canvod.launch.errors import ClusterError, ConfigError, DependencyError, ImageError, VersionMismatchError
from canvod.launch.logs import get_logger
from canvod.launch.memory import GB, MemoryMonitor
from canvod.launch.plan.inventory import read_inventory
from canvod.launch.plan.model import Backend, ClusterPlan, EngineInventory, Mount
from canvod.launch.plan.naming import installed_version
from canvod.launch.plan.planner import make_plan
from canvod.launch.signals import exit_on_signals, shielded

if TYPE_CHECKING:
    from types import TracebackType

    from distributed import Client

    from canvod.launch.cluster.fleet import ContainerFleet
    from canvod.launch.cluster.slots import SlotCluster
    from canvod.launch.images.events import BuildEvent

type Source = Settings | Mapping[str, Any] | str | Path | None
"""Where settings come from: settings, a mapping with their sections, a YAML file, or the defaults."""

type Progress = Callable[[str], None]
"""Called with one line for each step that takes time."""

type BuildProgress = Callable[[BuildEvent], None]
"""Called with what happens while an image is being made."""

type BeforeStart = Callable[[ClusterPlan], None]
"""Called with the plan before anything is started; what it raises refuses the start."""

CLIENT_TIMEOUT_S = 30.0

log = get_logger("canvod.launch")


class DaskClusterManager:
    """Start a pinned, capped and contained Dask cluster, and remove it whatever happens.

    The cluster is up when the constructor returns. It is removed by `close`, at the end of a ``with`` block,
    at the end of the program, and when SIGINT, SIGTERM or SIGHUP arrives.

    Parameters
    ----------
    config : Settings, mapping, str or Path, optional
        Settings, a mapping of their sections, or the path of a ``processing.yaml``. Defaults, and environment
        variables, where it is left out.
    n_workers : int, optional
        Number of workers (``processing.n_max_threads``); makes the mode manual.
    memory_limit_per_worker : str, int or float, optional
        Memory of each worker as Dask writes it: ``"4GiB"``, or a number of bytes. Needs ``n_workers``.
    cpu_affinity : sequence of int, optional
        Core IDs (``processing.cpu_affinity``).
    nice_priority : int, optional
        0 (normal) to 19 (lowest), as ``processing.nice_priority``.
    threads_per_worker : int, optional
        Threads of each worker (``processing.threads_per_worker``).
    scheduler_address : str, optional
        Use the scheduler at this address; nothing is started, and nothing is stopped at the end.
    backend : {"auto", "docker", "process"}, optional
        As ``launch.backend``.
    read_only, writable : sequence of path, optional
        Host paths that workers see besides those of the settings, under the same names.
    name : str, optional
        Name of the cluster; a random one by default.
    progress : callable, optional
        Called with a line of text for each step that takes time.
    build_progress : callable, optional
        Called with a `canvod.launch.images.events.BuildEvent` for each step of making an image.
    before_start : callable, optional
        Called with the plan before anything is started, again with another plan if ``auto`` falls back from
        containers to processes. An error that it raises refuses the start.

    Raises
    ------
    ConfigError, PlanError
        If the settings cannot be used; nothing has been started then.
    EngineError, ImageError
        If containers are asked for and cannot be had.
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
        name: str | None = None,
        progress: Progress | None = None,
        build_progress: BuildProgress | None = None,
        before_start: BeforeStart | None = None,
    ) -> None:
        _require_dask()
        keywords = _keywords(
            n_workers=n_workers,
            memory_limit_per_worker=memory_limit_per_worker,
            cpu_affinity=cpu_affinity,
            nice_priority=nice_priority,
            threads_per_worker=threads_per_worker,
            scheduler_address=scheduler_address,
            backend=backend,
        )
        self.settings = load_settings(config, overrides=keywords, overridden_by="DaskClusterManager(…)")
        self.cluster: SlotCluster | None = None
        self.memory = MemoryMonitor(self.settings.processing.max_memory_gb)
        self._client: Client | None = None
        self._engine: Any = None
        self._fleet: ContainerFleet | None = None
        self._checked: set[bool] = set()
        self._lock = threading.RLock()
        self._closed = False
        started = time.monotonic()
        self._name = name or secrets.token_hex(3)
        self._mounts = _mounts(read_only, writable)
        self._progress = progress or _ignore
        self._build_progress = build_progress or _ignore
        self._before_start = before_start or _ignore
        exit_on_signals()
        atexit.register(self.close)
        try:
            self.plan = self._start()
        except BaseException:
            self.close()
            raise
        log.info(
            "dask_cluster_started",
            cluster=self.plan.name,
            backend=self.plan.backend,
            scheduler_address=self.scheduler_address,
            dashboard_link=self.dashboard_link,
            n_workers=len(self.plan.workers),
            threads_per_worker=self.settings.processing.threads_per_worker,
            memory_limit_gb=round(self.plan.worker_memory_bytes / GB, 2),
            cpu_affinity=sorted({cpu for worker in self.plan.workers for cpu in worker.cpuset_cpus}),
            nice_priority=self.settings.processing.nice_priority,
            seconds=round(time.monotonic() - started, 2),
        )
        self.memory.log_memory_stats("cluster start")

    def _start(self) -> ClusterPlan:
        choice = choose_backend(self.settings)
        self._progress(choice.reason)
        if choice.backend == "docker":
            try:
                return self._start_containers(choice.engine)
            except ImageError as error:
                if self.settings.launch.backend == "docker":
                    raise
                self._progress(f"worker processes: the images cannot be had. {error.message}")
                log.warning("docker_backend_not_used", reason=error.message, hint=error.hint)
        plan = self._make_plan("remote" if choice.backend == "remote" else "process")
        if plan.backend == "process":
            from canvod.launch.cluster.process import ProcessCluster

            self._progress(f"starting {len(plan.workers)} worker processes")
            self.cluster = ProcessCluster(plan)
        return plan

    def _start_containers(self, engine: EngineInventory | None) -> ClusterPlan:
        from canvod.launch.cluster.fleet import ContainerFleet
        from canvod.launch.engine import connect
        from canvod.launch.images.build import ensure_images

        plan = self._make_plan("docker", engine)
        self._engine = connect()
        ensure_images(self._engine, self.settings, progress=self._build_progress)
        self._progress(f"starting {len(plan.workers)} workers in containers")
        self._fleet = ContainerFleet(self._engine, plan)
        self._fleet.begin()
        # The import takes about as long as the containers' start, and both go on at the same time.
        from canvod.launch.cluster.docker import DockerCluster

        self.cluster = DockerCluster(plan, self._engine, fleet=self._fleet)
        return plan

    def _make_plan(self, backend: Backend, engine: EngineInventory | None = None) -> ClusterPlan:
        plan = make_plan(
            self.settings,
            read_inventory(),
            backend=backend,
            name=self._name,
            engine=engine,
            mounts=self._mounts,
            environ=os.environ,
            version=installed_version(),
        )
        for note in plan.notes:
            if note.level == "warning":
                log.warning("plan_note", note=note.text)
        self._before_start(plan)
        if backend == "docker":
            _require_mounts(plan)
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
        from distributed import Client
        from distributed.versions import VersionMismatchWarning

        with self._lock:
            if self._closed:
                raise ClusterError("This cluster has been closed; make a new DaskClusterManager.")
            if self._client is None:
                with warnings.catch_warnings():
                    # Dask warns of what is checked below, and refused where it matters.
                    warnings.simplefilter("ignore", VersionMismatchWarning)
                    try:
                        self._client = Client(
                            self.cluster or self.settings.processing.scheduler_address,
                            timeout=CLIENT_TIMEOUT_S,
                        )
                    except (OSError, TimeoutError) as error:
                        raise ClusterError(
                            f"No scheduler answers at {self.scheduler_address} "
                            f"within {CLIENT_TIMEOUT_S:g} s: {error}",
                            hint="check processing.scheduler_address, and that the scheduler is running",
                        ) from error
            if own_tasks_only not in self._checked:
                self._check_versions(self._client, own_tasks_only=own_tasks_only)
                self._checked.add(own_tasks_only)
            return self._client

    def _check_versions(self, client: Client, *, own_tasks_only: bool) -> None:
        from canvod.launch.cluster.versions import CLIENT_PACKAGES, version_differences

        if self.plan.backend == "process":
            return
        answer: Any = client.get_versions(packages=list(CLIENT_PACKAGES))
        found = version_differences(answer, own_tasks_only=own_tasks_only)
        if not found:
            return
        python = f"{sys.version_info.major}.{sys.version_info.minor}"
        install = "install the versions of requirements.lock here (uv pip install -r requirements.lock)"
        hints = []
        if any(line.startswith("python:") for line in found):
            hints.append(f'set launch.python: "{python}" (CANVOD_LAUNCH__PYTHON={python})')
        if any(not line.startswith("python:") for line in found):
            hints.append(install)
        raise VersionMismatchError(
            "This environment and the cluster differ:\n" + "\n".join(f"    {line}" for line in found),
            hint="; ".join(hints),
        )

    @property
    def scheduler_address(self) -> str:
        """Address of the scheduler."""
        if self.cluster is not None:
            return str(self.cluster.scheduler_address)
        return self.settings.processing.scheduler_address or ""

    @property
    def dashboard_link(self) -> str:
        """Address of Dask's dashboard; that of a cluster of ours can be reached from this host only."""
        if self.cluster is not None:
            return str(self.cluster.dashboard_link)
        return str(self._client.dashboard_link) if self._client is not None else ""

    def close(self) -> None:
        """Close the client and remove the cluster; calling it again does nothing.

        SIGINT, SIGTERM and SIGHUP that come meanwhile take effect afterwards.

        Raises
        ------
        ClusterError
            If something could not be removed; the message names it, and the command that removes it.
        """
        with self._lock, shielded():
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
                    self._client.close()
                if self.cluster is not None:
                    self.cluster.close()
            finally:
                # Also where the start was interrupted before there was a cluster.
                if self._fleet is not None:
                    self._fleet.close()
                if self._engine is not None:
                    self._engine.close()
            if name is not None:
                log.info("dask_cluster_stopped", cluster=name, seconds=round(time.monotonic() - started, 2))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"{len(self.plan.workers)} workers, {self.plan.backend}"
        return f"<DaskClusterManager {self.scheduler_address}: {state}>"


def _require_dask() -> None:
    if find_spec("distributed") is None or find_spec("dask") is None:
        raise DependencyError(
            "DaskClusterManager needs the packages dask and distributed, which are not installed here.",
            hint="pip install dask distributed; canvod-launch ingest works without them, without limits",
        )


def _keywords(**given: Any) -> dict[str, Any]:
    """Turn canVODpy's keyword arguments into fields of the settings."""
    from dask.utils import parse_bytes

    per_worker = given.pop("memory_limit_per_worker")
    workers = given.pop("n_workers")
    fields = {"launch.backend": given.pop("backend")}
    fields |= {f"processing.{name}": value for name, value in given.items()}
    if workers is not None:
        fields |= {"processing.resource_mode": "manual", "processing.n_max_threads": workers}
    if per_worker is not None:
        if workers is None:
            raise ConfigError(
                f"memory_limit_per_worker={per_worker!r} needs n_workers.",
                hint="pass n_workers too, or set max_memory_gb, the limit for all workers together",
            )
        try:
            fields["processing.max_memory_gb"] = workers * parse_bytes(per_worker) / GB
        except ValueError as error:
            raise ConfigError(
                f"memory_limit_per_worker={per_worker!r} is not an amount of memory.",
                hint='write it as "4GiB", or as a number of bytes',
            ) from error
    return fields


def _ignore(_what: object) -> None:
    """Take no notice."""


def _mounts(read_only: Sequence[str | Path], writable: Sequence[str | Path]) -> tuple[Mount, ...]:
    """Name what containers see of the host; in the plan writable wins where a path is asked for both ways."""
    return tuple(
        Mount(path=str(Path(path).resolve()), read_only=mode)
        for paths, mode in ((read_only, True), (writable, False))
        for path in paths
    )


def _require_mounts(plan: ClusterPlan) -> None:
    """Refuse a plan whose containers are to see what is not there."""
    paths = {mount.path for worker in plan.workers for mount in worker.mounts}
    missing = sorted(path for path in paths if not Path(path).exists())
    if missing:
        raise ConfigError(
            f"Workers cannot see what is not there: {', '.join(missing)}.",
            hint="create the path, or correct launch.read_only, launch.writable and launch.spill_dir",
        )
