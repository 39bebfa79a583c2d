"""The images of a plan: made sure of, compared with this environment, and named by their IDs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from canvod.launch.errors import VersionMismatchError
from canvod.launch.images.build import build_images
from canvod.launch.images.context import read_context
from canvod.launch.images.identity import LOCK_FILE
from canvod.launch.images.versions import install_versions, installed_differences, locked_versions

if TYPE_CHECKING:
    from collections.abc import Callable

    from canvod.launch.config import Settings
    from canvod.launch.docker.engine import Client
    from canvod.launch.images.build_events import BuildEvent
    from canvod.launch.plan.model import ClusterPlan, Role


def image_namer(settings: Settings) -> Callable[[Role, str], str]:
    """Give the names of the images that the settings ask for.

    Parameters
    ----------
    settings : Settings
        Their section ``launch`` counts.

    Returns
    -------
    callable
        As `canvod.launch.plan.planner.make_plan` takes it: a name for a role and a Python.

    Raises
    ------
    ImageError
        If files are missing that the images are built from.
    """
    context = read_context(packages=settings.launch.packages)
    base = settings.launch.python_image
    return lambda role, python: context.identity(role, python, base).name


def require_same_versions(
    plan: ClusterPlan, settings: Settings, *, python: str, own_tasks_only: bool
) -> None:
    """Refuse a cluster whose images are known not to go with who will use it, before anything is made.

    Parameters
    ----------
    plan : ClusterPlan
        What is to be started.
    settings : Settings
        They may name the images' Python.
    python : str
        Minor version of Python of who will use the cluster.
    own_tasks_only : bool
        Compare only what the tasks of canvod-launch need.

    Raises
    ------
    VersionMismatchError
        If Python or a package differs; names each, and what to do.
    """
    if plan.python != python and not own_tasks_only:
        raise VersionMismatchError(
            f"{settings.cite('launch.python')}, and whoever gets a client of this cluster has Python "
            f"{python}: workers could not run its functions. Nothing was started.",
            hint=f"leave launch.python out, use Python {plan.python} for the program too, or set "
            "launch.backend: process, which programs and run can",
        )
    locked = locked_versions(read_context().files[LOCK_FILE].decode(), plan.python)
    found = installed_differences(locked, own_tasks_only=own_tasks_only)
    if found:
        raise VersionMismatchError(
            "This environment and the images of scheduler and workers differ; nothing was started:\n"
            + "\n".join(f"    {name}: here {own}, images {theirs}" for name, own, theirs in found),
            hint=f"install the images' versions here: {install_versions({name: v for name, _, v in found})}; "
            "or set launch.backend: process",
        )


def use_images(
    client: Client,
    plan: ClusterPlan,
    settings: Settings,
    *,
    own_tasks_only: bool = False,
    progress: Callable[[str], None],
    build_progress: Callable[[BuildEvent], None],
) -> ClusterPlan:
    """Build what a plan's images lack, and let its containers be made by the images' IDs.

    Parameters
    ----------
    client : docker.DockerClient
        The engine.
    plan : ClusterPlan
        What is to be started.
    settings : Settings
        Their section ``launch`` says what the images are.
    own_tasks_only : bool, default: False
        Whether images of another Python will do, where none of the plan's can be had.
    progress : callable
        Called with a line of text for what should be known.
    build_progress : callable
        Called with what happens while an image is being made.

    Returns
    -------
    ClusterPlan
        The plan with the IDs of the images, and their Python.

    Raises
    ------
    ImageError
        If an image cannot be had.
    EngineError
        If the engine fails.
    """
    images = build_images(
        client, settings, python=plan.python, any_python=own_tasks_only, progress=build_progress
    )
    python = images[0].python
    if python != plan.python:
        progress(
            f"workers of Python {python}: no base image of Python {plan.python} can be had, and the tasks of "
            "canvod-launch run on either"
        )
    ids = {image.role: image.id for image in images}
    scheduler = plan.scheduler.model_copy(update={"image": ids["scheduler"]})
    workers = tuple(worker.model_copy(update={"image": ids["worker"]}) for worker in plan.workers)
    return plan.model_copy(update={"python": python, "scheduler": scheduler, "workers": workers})
