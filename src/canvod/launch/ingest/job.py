"""An ingest from start to end: find the files, start a cluster, store the files, and remove the cluster."""

from __future__ import annotations

import os
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from canvod.launch.errors import DependencyError, install_command
from canvod.launch.ingest.discover import Discovery, discover
from canvod.launch.ingest.group import check_group_name
from canvod.launch.ingest.permissions import check_inputs_readable, check_store_access, check_store_writable
from canvod.launch.ingest.run import ingest, nothing_new
from canvod.launch.ingest.store import store_exists
from canvod.launch.ingest.store_lifecycle import remove_empty_store, store_in_use
from canvod.launch.paths import absolute, is_folder
from canvod.launch.readers import DEFAULT, reader_names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from canvod.launch.config import Settings, SettingsLike
    from canvod.launch.ingest.progress import IngestProgress
    from canvod.launch.ingest.report import IngestReport
    from canvod.launch.ingest.runner import DaskRunner, TaskRunner
    from canvod.launch.ingest.store_lock import Owner
    from canvod.launch.manager import BuildProgress, DaskClusterManager
    from canvod.launch.plan.model import ClusterPlan


def ingest_files(
    inputs: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    store: str | os.PathLike[str],
    group: str,
    config: SettingsLike = None,
    *,
    cluster: DaskClusterManager | str | None = None,
    progress: Callable[[str], None] | None = None,
) -> IngestReport:
    """Store observation files in a group of a store, on a new cluster or on one that is there.

    Parameters
    ----------
    inputs : path, or sequence of path
        Observation files, and folders that hold some.
    store : path
        Folder of the store; made where there is none.
    group : str
        Group of one receiver, such as ``rosalia/reference_01``.
    config : Settings, mapping, str or Path, optional
        As in `canvod.launch.manager.DaskClusterManager`; by default the settings of the cluster's manager.
    cluster : DaskClusterManager or str, optional
        Use this manager's cluster, or the one of this name, which ``canvod-launch up`` has started. Its
        workers have to see the files, and the folder of the store as a writable one. By default a new
        cluster, which is shown just that and is gone when the function returns.
    progress : callable, optional
        Called with a line of text for each step that takes time.

    Returns
    -------
    IngestReport
        What became of every file; a file that cannot be read raises nothing.

    Raises
    ------
    LaunchError
        If anything but single files fails; what was committed before is stored.

    Examples
    --------
    >>> report = ingest_files("data", "stores/lab", "site/canopy_01")  # doctest: +SKIP
    >>> len(report.stored), len(report.failed)  # doctest: +SKIP
    (24, 0)
    """
    from canvod.launch.config import load_settings

    if config is None and cluster is not None and not isinstance(cluster, str):
        config = cluster.settings
    given = [inputs] if isinstance(inputs, str | os.PathLike) else inputs
    return IngestJob(given, store, group, load_settings(config), cluster).run(progress=progress)


class IngestJob:
    """An ingest of some inputs into a group of a store, checked before anything starts.

    Parameters
    ----------
    inputs : sequence of path
        Observation files, and folders that hold some.
    store : path
        Folder of the store; made where there is none.
    group : str
        Group of one receiver, such as ``rosalia/reference_01``.
    settings : Settings
        Resources, backend, reader and variables.
    cluster : DaskClusterManager or str, optional
        Use this manager's cluster, or the one of this name, which ``canvod-launch up`` has started; a new one
        by default.

    Attributes
    ----------
    settings : Settings
        As given.
    cluster : str or None
        Name of the cluster to join, where a name was given.
    group : str
        Path of the group.
    store : Path
        Absolute path of the store.
    found : Discovery
        The files.
    nothing_new : IngestReport or None
        What became of the files, where the log book knows all of them: nothing has to be started then.

    Raises
    ------
    InputError
        If there is nothing to read, the files are of several stations by their names, or the store or the
        group cannot be used.

    Examples
    --------
    >>> job = IngestJob(["data"], "store", "site/canopy_01", settings)  # doctest: +SKIP
    >>> job.run().exit_status  # doctest: +SKIP
    <ExitStatus.OK: 0>
    """

    def __init__(
        self,
        inputs: Sequence[str | os.PathLike[str]],
        store: str | os.PathLike[str],
        group: str,
        settings: Settings,
        cluster: DaskClusterManager | str | None = None,
    ) -> None:
        self.settings = settings
        self._manager = None if isinstance(cluster, str) else cluster
        self.cluster = cluster if isinstance(cluster, str) else None
        self.group = check_group_name(group)
        self.store = absolute(store)
        self._new = not store_exists(self.store)
        self._folders = [absolute(given) for given in inputs if is_folder(given)]
        self.found: Discovery = discover(
            [Path(given) for given in inputs], store=self.store, reader=settings.ingest.reader
        )
        paths = [str(file.path) for file in self.found.files]
        self.nothing_new = nothing_new(paths, self.store, self.group, settings.ingest)
        self._owner: Owner | None = None
        self._store_use = ExitStack()

    def run(
        self,
        *,
        progress: Callable[[str], None] | None = None,
        build_progress: BuildProgress | bool = True,
        ingest_progress: Callable[[], IngestProgress] | None = None,
        lock_timeout_s: float | None = None,
    ) -> IngestReport:
        """Start or join a cluster, or a process pool where Dask is not installed, and ingest the files.

        Parameters
        ----------
        progress : callable, optional
            Called with a line of text for each step that takes time.
        build_progress : BuildProgress or bool
            As in `canvod.launch.manager.DaskClusterManager`.
        ingest_progress : callable, optional
            Makes the display of the ingest itself, when the cluster is up.
        lock_timeout_s : float, optional
            How long to wait while another process writes to the store; by default as long as it takes.

        Returns
        -------
        IngestReport
            What became of every file.

        Raises
        ------
        LaunchError
            If anything but single files fails; what was committed before is stored, and a store that was made
            and has nothing is gone.
        """
        say = progress or (lambda _line: None)
        if self.nothing_new is not None:
            return self.nothing_new
        with self._store_use, self._runner(say, build_progress) as runner:
            return ingest(
                [file.path for file in self.found.files],
                self.store,
                self.group,
                runner=runner,
                settings=self.settings.ingest,
                progress=ingest_progress() if ingest_progress is not None else None,
                lock_timeout_s=lock_timeout_s,
                owner=self._owner,
            )

    @contextmanager
    def _runner(
        self,
        progress: Callable[[str], None],
        build_progress: BuildProgress | bool,  # noqa: FBT001 - or a callable
    ) -> Iterator[TaskRunner]:
        if find_spec("distributed") is None or find_spec("dask") is None:
            with self._pool(progress) as runner:
                yield runner
            return
        if self._manager is not None:
            self._before_start(self._manager.plan)
            with _dask_runner(self._manager) as runner:
                yield runner
            return
        from canvod.launch.manager import DaskClusterManager

        with DaskClusterManager(
            self.settings,
            name=self.cluster,
            read_only=self._folders_to_read() if self.cluster is None else (),
            writable=[self.store] if self.cluster is None else (),
            current_folder=False,
            progress=progress,
            build_progress=build_progress,
            before_start=self._before_start,
            own_tasks_only=True,
        ) as manager:
            if manager.dashboard_link:
                progress(f"dashboard: {manager.dashboard_link}")
            with _dask_runner(manager) as runner:
                yield runner

    @contextmanager
    def _pool(self, progress: Callable[[str], None]) -> Iterator[TaskRunner]:
        from canvod.launch.host.detect import read_inventory
        from canvod.launch.host.python_version import installed_version, own_python
        from canvod.launch.ingest.pool import NOTICE, PoolRunner
        from canvod.launch.plan.planner import make_plan
        from canvod.launch.termination import exit_on_signals

        processing, launch = self.settings.processing, self.settings.launch
        if launch.backend == "docker" or processing.scheduler_address is not None or self.cluster is not None:
            raise DependencyError(
                "Containers, and a scheduler of one's own, need the packages dask and distributed, which are "
                "not installed here.",
                hint=f"{install_command('dask', 'distributed')}, "
                "or leave out launch.backend and scheduler_address",
            )
        plan = make_plan(
            self.settings,
            read_inventory(),
            backend="pool",
            name="pool",
            python=own_python(),
            version=installed_version(),
        )
        self._before_start(plan)
        progress(f"a pool of {len(plan.workers)} processes, because Dask is not installed. {NOTICE}")
        with (
            exit_on_signals(),
            PoolRunner(
                len(plan.workers),
                cpus=[worker.cpuset_cpus for worker in plan.workers],
                nice=self.settings.processing.nice_priority,
                threads_per_worker=self.settings.processing.threads_per_worker,
            ) as runner,
        ):
            yield runner

    def _folders_to_read(self) -> list[Path]:
        """Return the folders that hold all the files: those that were named, and those that links lead to."""
        folders = list(self._folders)
        for parent in sorted({file.path.parent for file in self.found.files}):
            if not any(parent.is_relative_to(folder) for folder in folders):
                folders.append(parent)
        return folders

    def _before_start(self, plan: ClusterPlan) -> None:
        """Refuse what the workers could not read or write, and make the store that they will be shown."""
        if plan.backend == "docker" and (plan.detached or self._manager is not None):
            from canvod.launch.cluster.host_paths import require_visible

            require_visible(plan, self._folders_to_read(), [self.store])
        self._check_reader(plan)
        check_store_writable(self.store)
        if plan.backend == "docker":
            uid, gid = map(int, plan.workers[0].user.split(":"))
            groups = plan.workers[0].groups
            files = [file.path for file in self.found.files]
            check_inputs_readable(files, self._folders_to_read(), uid, gid, groups)
            check_store_access(self.store, uid, gid, groups)
            self._owner = (uid, gid) if os.geteuid() == 0 else None
        else:
            self._owner = None
        if plan.backend != "remote":
            self._store_use.enter_context(store_in_use(self.store, owner=self._owner, remove_empty=self._new))
        elif self._new:
            self._store_use.callback(remove_empty_store, self.store)

    def _check_reader(self, plan: ClusterPlan) -> None:
        """Refuse a reader that the workers cannot have, as far as that can be told before they start."""
        reader, launch = self.settings.ingest.reader, self.settings.launch
        if plan.backend in {"process", "pool"} and reader not in reader_names():
            install = (
                f"{install_command('canvod-readers')} (Python 3.14 or newer)"
                if reader == "canvod"
                else "install the package that offers it beside canvod-launch"
            )
            raise DependencyError(
                f"ingest.reader is {reader!r}, which is not installed here; there are: "
                f"{', '.join(reader_names())}",
                hint=f"{install}, or write ingest.reader: rinex",
            )
        if plan.backend == "docker" and not plan.detached and reader != DEFAULT and not launch.packages:
            raise DependencyError(
                f"ingest.reader is {reader!r}, and the images have {DEFAULT} alone",
                hint="name the package that offers it in launch.packages (canvod-readers for canvod), take "
                "processes (launch.backend: process), or write ingest.reader: rinex",
            )


def _dask_runner(manager: DaskClusterManager) -> DaskRunner:
    from canvod.launch.ingest.runner import DaskRunner

    cluster = manager.cluster
    return DaskRunner(manager.task_client, explain_death=None if cluster is None else cluster.explain_death)
