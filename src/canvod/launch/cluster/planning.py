"""The plan of a cluster that this process is about to start, on this host as it is now."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from canvod.launch.cluster.host_paths import describe_mounts, make_mounts, show_current_folder
from canvod.launch.host.detect import read_inventory
from canvod.launch.host.owner import owner_labels
from canvod.launch.host.python_version import installed_version, own_python
from canvod.launch.images.context import image_namer
from canvod.launch.logs import get_logger
from canvod.launch.plan.host_access import container_groups, container_user
from canvod.launch.plan.model import Note
from canvod.launch.plan.planner import make_plan

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from canvod.launch.config import Settings
    from canvod.launch.host.clusters import ClusterInfo
    from canvod.launch.host.inventory import EngineInventory
    from canvod.launch.images.build_log import BuildEvent
    from canvod.launch.plan.model import Backend, ClusterPlan, Mount

log = get_logger("canvod.launch")


def ignore(_what: object) -> None:
    """Take no notice: what a callback does that nobody has asked for."""


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
        """Tell how far a start is."""
        if info.registered:
            self.progress(f"{len(info.registered)} of {info.target} workers registered")


def plan_request(
    request: StartRequest, backend: Backend, engine: EngineInventory | None = None
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


def log_warnings(plan: ClusterPlan) -> None:
    """Log what a plan warns of.

    Parameters
    ----------
    plan : ClusterPlan
        A plan that is about to be carried out.
    """
    for note in plan.notes:
        if note.level == "warning":
            log.warning("plan_note", note=note.text)
