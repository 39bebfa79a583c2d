"""The plan of a cluster that this process is about to start, on this host as it is now."""

from __future__ import annotations

import os
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
    from collections.abc import Sequence

    from canvod.launch.config import Settings
    from canvod.launch.host.inventory import EngineInventory
    from canvod.launch.plan.model import Backend, ClusterPlan, Mount

log = get_logger("canvod.launch")


def plan_here(  # noqa: PLR0913 - what `make_plan` is told, and what this host adds
    settings: Settings,
    name: str,
    *,
    backend: Backend,
    engine: EngineInventory | None = None,
    mounts: Sequence[Mount] = (),
    current_folder: bool = False,
    python: str | None = None,
    detached: bool = False,
    idle_timeout_s: float | None = None,
) -> ClusterPlan:
    """Plan a cluster for this host, marked as this process's.

    Parameters
    ----------
    settings : Settings
        What is wanted.
    name : str
        Name of the cluster.
    backend : {"docker", "process", "remote", "pool"}
        What carries it out.
    engine, mounts, python, detached, idle_timeout_s
        As in `canvod.launch.plan.planner.make_plan`.
    current_folder : bool
        Whether workers in containers see the current folder too, read only; never a home.

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
    inventory = read_inventory()
    # Those of the settings once more, for what links in them lead to.
    mounts = [*make_mounts(settings.launch.read_only, settings.launch.writable), *mounts]
    reason = ""
    if current_folder and backend == "docker":
        user = container_user(settings, inventory, os.environ)
        uid, gid = map(int, user.split(":"))
        groups = {gid, *container_groups(user, inventory, engine)}
        shown, reason = show_current_folder(mounts, uid, groups, os.environ)
        mounts += shown
    plan = make_plan(
        settings,
        inventory,
        backend=backend,
        name=name,
        engine=engine,
        mounts=mounts,
        image_for=image_namer(settings) if backend == "docker" else None,
        python=python or own_python(),
        environ=os.environ,
        version=installed_version(),
        labels=owner_labels(detached=detached) if backend == "docker" else None,
        detached=detached,
        idle_timeout_s=idle_timeout_s,
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
