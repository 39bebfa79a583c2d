"""What comes before every start: backend, plan, name, mounts and images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from canvod.launch.cluster.backend_choice import choose_backend
from canvod.launch.cluster.host_paths import describe_mounts, require_mounts
from canvod.launch.cluster.planning import StartRequest, log_warnings, plan_request
from canvod.launch.cluster.orphans import prune_engine, prune_host
from canvod.launch.cluster.started_cluster import StartedCluster
from canvod.launch.docker.discovery import refuse_second
from canvod.launch.docker.engine import connect
from canvod.launch.errors import ConfigError, EngineError, ImageError
from canvod.launch.images.image_builder import use_images
from canvod.launch.images.versions import require_same_versions
from canvod.launch.logs import get_logger

if TYPE_CHECKING:
    from canvod.launch.config import Settings
    from canvod.launch.host.inventory import EngineInventory
    from canvod.launch.plan.model import Backend, ClusterPlan

REQUEST_TIMEOUT_S = 30.0
"""How long the engine may take for one request of a cluster's start or end."""

log = get_logger("canvod.launch")


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


def announced_plan(
    request: StartRequest, backend: Backend, engine: EngineInventory | None = None
) -> ClusterPlan:
    """Plan what is wanted, log what the plan warns of, and show it to who may refuse it.

    Parameters, result and errors are those of `plan_request`, and what ``before_start`` raises.
    """
    plan = plan_request(request, backend, engine)
    log_warnings(plan)
    request.before_start(plan)
    if backend == "docker":
        # Afterwards: who is shown the plan may make what is missing, the folder of a store.
        require_mounts(plan)
    return plan


def _prepare_containers(request: StartRequest, inventory: EngineInventory | None) -> StartedCluster:
    plan = announced_plan(request, "docker", inventory)
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
