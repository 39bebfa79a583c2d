"""What comes before every start: backend, plan, name, mounts and images."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from canvod.launch.cluster.host_paths import (
    describe_mounts,
    make_mounts,
    require_mounts,
    show_current_folder,
)
from canvod.launch.cluster.orphans import prune_engine, prune_host
from canvod.launch.cluster.started_cluster import StartedCluster
from canvod.launch.docker.discovery import refuse_second
from canvod.launch.docker.engine import PROBE_TIMEOUT_S, EngineAbsentError, connect, require_engine
from canvod.launch.errors import ConfigError, EngineError, ImageError, PlanError
from canvod.launch.host.detect import read_inventory
from canvod.launch.host.owner import owner_labels
from canvod.launch.host.python_version import installed_version, own_python
from canvod.launch.images.context import image_namer
from canvod.launch.images.image_builder import use_images
from canvod.launch.images.versions import require_same_versions
from canvod.launch.logs import get_logger
from canvod.launch.plan.engine_requirements import require_usable
from canvod.launch.plan.host_access import container_groups, container_user
from canvod.launch.plan.model import Note
from canvod.launch.plan.planner import make_plan

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from canvod.launch.config import Settings
    from canvod.launch.host.clusters import ClusterInfo
    from canvod.launch.host.inventory import EngineInventory
    from canvod.launch.images.build_log import BuildEvent
    from canvod.launch.plan.model import BackendName, ClusterPlan, Mount

REQUEST_TIMEOUT_S = 90.0
"""How long the engine may take for one request of a cluster's start or end: 40 s on a slow, busy host."""

log = get_logger("canvod.launch")


def ignore(_what: object) -> None:
    """Do nothing: the callback where the caller has given none.

    Parameters
    ----------
    _what : object
        What it is called with.
    """


@dataclass(frozen=True, kw_only=True)
class StartRequest:
    """What somebody wants to start.

    Attributes
    ----------
    settings : Settings
        What is wanted.
    name : str
        Name of the cluster.
    detached : bool
        Whether it outlives its command: containers only.
    idle_timeout_s : float or None
        End by itself after so long without a task, in seconds.
    mounts : sequence of Mount
        Host paths that workers see besides those of the settings.
    current_folder : bool
        Whether workers see the current folder too, read only; never where it is, or holds, a home.
    python : str
        Minor version of Python of who will use the cluster, such as ``3.13``.
    own_tasks_only : bool
        Whether only canvod-launch's own tasks will run: images of another Python will do then, where none of
        this one can be had.
    before_start : callable
        Called with each plan before anything is started; what it raises refuses the start.
    progress, build_progress : callable
        Called with a line of text for each step that takes time, and with a
        `canvod.launch.images.build_log.BuildEvent` for each step of making an image.
    """

    settings: Settings
    name: str
    detached: bool = False
    idle_timeout_s: float | None = None
    mounts: Sequence[Mount] = ()
    current_folder: bool = False
    python: str = field(default_factory=own_python)
    own_tasks_only: bool = False
    before_start: Callable[[ClusterPlan], None] = ignore
    progress: Callable[[str], None] = ignore
    build_progress: Callable[[BuildEvent], None] = ignore

    def report(self, info: ClusterInfo) -> None:
        """Call ``progress`` with how many workers have registered.

        Parameters
        ----------
        info : ClusterInfo
            The cluster as a step of the start has left it.
        """
        if info.registered:
            self.progress(f"{len(info.registered)} of {info.target} workers registered")


@dataclass(frozen=True)
class Choice:
    """The backend that was chosen.

    Attributes
    ----------
    backend : str
        ``docker``, ``process`` or ``remote``.
    reason : str
        Why, in one line.
    engine : EngineInventory or None
        The Docker engine, where it is used.
    """

    backend: BackendName
    reason: str
    engine: EngineInventory | None = None


def choose_backend(settings: Settings) -> Choice:
    """Choose the backend that the settings ask for, or the best that this host has.

    Parameters
    ----------
    settings : Settings
        ``processing.scheduler_address`` and ``launch.backend`` decide.

    Returns
    -------
    Choice
        The backend with the reason.

    Raises
    ------
    EngineError
        If ``launch.backend`` is ``docker`` and no engine answers; says why, and what to do.
    PlanError
        If ``launch.backend`` is ``docker`` and the engine is too old or runs containers elsewhere.
    """
    wanted = settings.launch.backend
    if (address := settings.processing.scheduler_address) is not None:
        return Choice("remote", f"using the scheduler at {address}; nothing is started")
    if wanted == "process":
        return Choice("process", "worker processes, as launch.backend says")
    try:
        engine = require_engine() if wanted == "docker" else require_engine(timeout_s=PROBE_TIMEOUT_S)
        require_usable(engine)
    except (EngineError, PlanError) as error:
        if wanted == "docker":
            raise
        return Choice("process", _why_processes(error))
    how = "as launch.backend says" if wanted == "docker" else "a Docker engine answers"
    return Choice("docker", f"containers on Docker {engine.server_version}: {how}", engine)


def _why_processes(error: EngineError | PlanError) -> str:
    """Say why there are no containers, and what to do about an engine that is there and cannot be used."""
    reason = error.message.removeprefix("Could not reach the Docker engine: ").rstrip(".")
    if error.hint is not None and not isinstance(error, EngineAbsentError):
        reason += f"; to have containers, {error.hint.partition('or set launch.backend')[0].rstrip('; ,')}"
    if isinstance(error, EngineAbsentError):
        return f"worker processes: no Docker engine answers, so there are no kernel limits ({reason})"
    return f"worker processes, so there are no kernel limits: {reason}"


def plan_request(
    request: StartRequest, backend: BackendName, engine: EngineInventory | None = None
) -> ClusterPlan:
    """Plan what is wanted for this host as it is now, marked as this process's; nothing is started.

    Parameters
    ----------
    request : StartRequest
        What is wanted.
    backend : {"docker", "process", "remote", "pool"}
        What will carry it out.
    engine : EngineInventory, optional
        The Docker engine.

    Returns
    -------
    ClusterPlan
        The plan.

    Raises
    ------
    PlanError
        If the settings do not fit this host.
    ImageError
        If files are missing that the images are built from.
    """
    settings = request.settings
    inventory = read_inventory()
    # Those of the settings once more, for what links in them lead to.
    mounts = [*make_mounts(settings.launch.read_only, settings.launch.writable), *request.mounts]
    reason = ""
    if request.current_folder and backend == "docker":
        user = container_user(settings, inventory, os.environ)
        uid, gid = map(int, user.split(":"))
        groups = {gid, *container_groups(user, inventory, engine)}
        shown, reason = show_current_folder(mounts, uid, groups, os.environ)
        mounts += shown
    plan = make_plan(
        settings,
        inventory,
        backend=backend,
        name=request.name,
        engine=engine,
        mounts=mounts,
        image_for=image_namer(settings) if backend == "docker" else None,
        python=request.python,
        environ=os.environ,
        version=installed_version(),
        labels=owner_labels(detached=request.detached) if backend == "docker" else None,
        detached=request.detached,
        idle_timeout_s=request.idle_timeout_s,
    )
    if plan.backend != "docker":
        return plan
    note = Note(level="info", text=f"Workers see {describe_mounts(plan)}. {reason}".strip())
    return plan.model_copy(update={"notes": (*plan.notes, note)})


def announced_plan(
    request: StartRequest, backend: BackendName, engine: EngineInventory | None = None
) -> ClusterPlan:
    """Plan what is wanted, log what the plan warns of, and show it to who may refuse it.

    Parameters
    ----------
    request : StartRequest
        What is wanted.
    backend : {"docker", "process", "remote", "pool"}
        What will carry it out.
    engine : EngineInventory, optional
        The Docker engine.

    Returns
    -------
    ClusterPlan
        The plan. What ``before_start`` raises refuses it.

    Raises
    ------
    PlanError
        If the settings do not fit this host.
    ImageError
        If files are missing that the images are built from.
    """
    plan = plan_request(request, backend, engine)
    for note in plan.notes:
        if note.level == "warning":
            log.warning("plan_note", note=note.text)
    request.before_start(plan)
    return plan


def prepare(request: StartRequest) -> StartedCluster:
    """Make everything ready for a start.

    Parameters
    ----------
    request : StartRequest
        What is wanted.

    Returns
    -------
    StartedCluster
        A cluster whose start has not begun.

    Raises
    ------
    ConfigError, PlanError
        If the settings cannot be used.
    EngineError, ImageError
        If containers are asked for and cannot be had.
    VersionMismatchError
        If the images cannot go with who will use the cluster.
    ClusterExistsError
        If there is a cluster of this name.
    """
    if request.detached:
        require_containers(request.settings)
    choice = choose_backend(request.settings)
    request.progress(choice.reason)
    if choice.backend == "docker":
        try:
            return _prepare_containers(request, choice.engine)
        except ImageError as error:
            if request.settings.launch.backend == "docker" or request.detached:
                raise
            way = f"\n  To have containers: {error.hint}" if error.hint else ""
            request.progress(f"worker processes: the images cannot be had. {error.message}{way}")
            log.warning("docker_backend_not_used", reason=error.message, hint=error.hint)
    elif request.detached:
        raise ConfigError(
            f"A detached cluster runs in containers. {choice.reason}", hint="set launch.backend: docker"
        )
    plan = announced_plan(request, "process")
    prune_host(plan.workers[0].spill_path)
    request.progress(f"starting {_count(plan)} as processes")
    return StartedCluster(plan)


def _prepare_containers(request: StartRequest, inventory: EngineInventory | None) -> StartedCluster:
    plan = announced_plan(request, "docker", inventory)
    # Afterwards: who is shown the plan may make what is missing, the folder of a store.
    require_mounts(plan)
    require_same_versions(
        plan, request.settings, python=request.python, own_tasks_only=request.own_tasks_only
    )
    engine = connect(timeout_s=REQUEST_TIMEOUT_S)
    try:
        prune_host()
        try:
            prune_engine(engine)
        except EngineError as error:  # it keeps nothing from being started
            log.warning("prune_failed", reason=error.message)
        refuse_second(engine, plan.name)
        plan = use_images(
            engine,
            plan,
            request.settings,
            own_tasks_only=request.own_tasks_only,
            progress=request.progress,
            build_progress=request.build_progress,
        )
        request.progress(f"starting {_count(plan)} in containers, which see {describe_mounts(plan)}")
    except BaseException:
        engine.close()
        raise
    return StartedCluster(plan, engine)


def _count(plan: ClusterPlan) -> str:
    return "1 worker" if len(plan.workers) == 1 else f"{len(plan.workers)} workers"


def require_containers(settings: Settings) -> None:
    """Refuse settings that no detached cluster can be started with.

    Parameters
    ----------
    settings : Settings
        What is wanted.

    Raises
    ------
    ConfigError
        If they name a scheduler that exists, or ask for processes.
    """
    if settings.processing.scheduler_address is not None:
        raise ConfigError(
            f"{settings.cite('processing.scheduler_address')} names a scheduler that exists: there is "
            "nothing to start.",
            hint="leave it out",
        )
    if settings.launch.backend == "process":
        raise ConfigError(
            f"{settings.cite('launch.backend')}: a detached cluster runs in containers; processes end with "
            "the one that started them.",
            hint="set launch.backend: docker; or for one command: canvod-launch run -- COMMAND",
        )
