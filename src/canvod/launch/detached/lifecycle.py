"""A cluster that stands: started once, used by many, removed when somebody says so."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from canvod.launch.cluster.host_paths import require_mounts
from canvod.launch.cluster.planning import log_warnings, plan_here
from canvod.launch.cluster.prune import prune_keys, prune_quietly
from canvod.launch.cluster.tls import keys_folder
from canvod.launch.detached.credentials import scheduler_mark
from canvod.launch.detached.start import start_containers
from canvod.launch.docker.discovery import choose_cluster, find_clusters, refuse_second
from canvod.launch.docker.engine import require_engine
from canvod.launch.docker.removal import cluster_label, list_objects, remedy, remove_objects
from canvod.launch.errors import ClusterError, ClusterNotFoundError, ConfigError
from canvod.launch.host.python_version import own_python
from canvod.launch.images.build import use_images
from canvod.launch.images.versions import require_same_versions
from canvod.launch.termination import exit_on_signals, shielded

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from canvod.launch.config import Settings
    from canvod.launch.docker.discovery import ClusterInfo
    from canvod.launch.docker.engine import Client
    from canvod.launch.images.build_log import BuildEvent
    from canvod.launch.plan.model import ClusterPlan, Mount


def start_detached(
    client: Client,
    settings: Settings,
    name: str,
    *,
    idle_timeout_s: float | None = None,
    mounts: Sequence[Mount] = (),
    progress: Callable[[str], None],
    build_progress: Callable[[BuildEvent], None],
) -> ClusterInfo:
    """Start a cluster that stands until it is stopped.

    Parameters
    ----------
    client : docker.DockerClient
        The engine.
    settings : Settings
        What to start.
    name : str
        Its name.
    idle_timeout_s : float, optional
        End by itself after so long without a task, in seconds.
    mounts : sequence of Mount, optional
        Host paths that workers see besides those of the settings.
    progress : callable
        Called with a line of text for each step that takes time.
    build_progress : callable
        Called with what happens while an image is being made.

    Returns
    -------
    ClusterInfo
        What is there now; all its workers have registered.

    Raises
    ------
    ClusterExistsError
        If there is a cluster of this name.
    ConfigError, PlanError
        If the settings cannot be used.
    EngineError, ImageError
        If the engine or the images cannot be had.
    ClusterError
        If the cluster does not come up; what was started has been removed.
    """
    exit_on_signals()
    _require_containers(settings)
    prune_quietly(client)
    refuse_second(client, name)
    plan = plan_detached(settings, name, idle_timeout_s=idle_timeout_s, mounts=mounts)
    log_warnings(plan)
    require_same_versions(plan, settings, python=own_python(), own_tasks_only=False)
    plan = use_images(client, plan, settings, progress=progress, build_progress=build_progress)
    count = len(plan.workers)
    progress(f"starting {count} worker{'s' if count != 1 else ''} in containers")
    return start_containers(client, plan)


def plan_detached(
    settings: Settings, name: str, *, idle_timeout_s: float | None = None, mounts: Sequence[Mount] = ()
) -> ClusterPlan:
    """Plan what `start_detached` starts, and start nothing.

    Parameters
    ----------
    settings : Settings
        What to start.
    name : str
        Its name.
    idle_timeout_s : float, optional
        End by itself after so long without a task, in seconds.
    mounts : sequence of Mount, optional
        Host paths that workers see besides those of the settings.

    Returns
    -------
    ClusterPlan
        The plan.

    Raises
    ------
    ConfigError, PlanError
        If the settings cannot be used.
    EngineError
        If no engine answers.
    """
    _require_containers(settings)
    plan = plan_here(
        settings,
        name,
        backend="docker",
        engine=require_engine(),
        mounts=mounts,
        detached=True,
        idle_timeout_s=idle_timeout_s,
    )
    require_mounts(plan)
    return plan


def stop_cluster(client: Client, name: str | None) -> tuple[str, list[str]]:
    """Remove a cluster, whatever state it is in.

    Parameters
    ----------
    client : docker.DockerClient
        The engine.
    name : str or None
        Its name; None means the only one of this user's that stands.

    Returns
    -------
    tuple of str and list of str
        Its name, and what was removed.

    Raises
    ------
    ClusterNotFoundError
        If there is nothing of that name, or it is not this user's to remove.
    ClusterError
        If something could not be removed; the message names it, and the command that removes it.
    """
    clusters = find_clusters(client)
    own: str | None = None
    if name is not None and all(cluster.name != name for cluster in clusters):
        # Of a cluster that ended by itself a network may be left.
        if not list_objects(client, cluster_label(name)):
            choose_cluster(clusters, name)
    else:
        cluster = choose_cluster(clusters, name)
        name = cluster.name
        _refuse_strangers(cluster)
        if cluster.scheduler is not None:
            own = scheduler_mark(client, cluster)
    objects = [str(item) for item in list_objects(client, cluster_label(name))]
    with shielded():
        left = remove_objects(client, name)
        if own is not None:
            shutil.rmtree(keys_folder(name, own), ignore_errors=True)
        prune_keys()
    if left:
        raise ClusterError(f"Cluster {name} is not gone entirely: {'; '.join(left)}.", hint=remedy(name))
    return name, objects


def _require_containers(settings: Settings) -> None:
    if settings.processing.scheduler_address is not None:
        raise ConfigError(
            f"{settings.cite('processing.scheduler_address')} names a scheduler that exists: there is "
            "nothing to start.",
            hint="leave it out",
        )
    if settings.launch.backend == "process":
        raise ConfigError(
            f"{settings.cite('launch.backend')}: a cluster stands in containers only, processes end with "
            "who started them.",
            hint="set launch.backend: docker; or for one command: canvod-launch run -- COMMAND",
        )


def _refuse_strangers(cluster: ClusterInfo) -> None:
    if cluster.kind == "compose":
        raise ClusterNotFoundError(
            f"Cluster {cluster.name} belongs to docker compose.",
            hint="docker compose down, in the folder that it was started from",
        )
    if not cluster.mine:
        raise ClusterNotFoundError(
            f"Cluster {cluster.name} belongs to the user with uid {cluster.uid}.",
            hint=f"ask them; or as root: sudo canvod-launch down {cluster.name}",
        )
