"""What a Docker engine must be for a cluster of this host to run on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from canvod.launch.errors import PlanError

if TYPE_CHECKING:
    from canvod.launch.config import Settings
    from canvod.launch.host.inventory import EngineInventory

OLDEST_ENGINE: Final = "20.10"
OLDEST_API: Final = (1, 41)
"""The oldest Docker engine whose requests have all that a cluster needs (namespaces of control groups)."""


def require_usable(engine: EngineInventory) -> None:
    """Refuse an engine that is too old, or whose containers this host cannot reach.

    Parameters
    ----------
    engine : EngineInventory
        What it says of itself.

    Raises
    ------
    PlanError
        If it is rootless, runs containers on another kernel than this host's, or is older than 20.10.
    """
    known = f"The Docker engine {engine.server_version}"
    other = "use the engine of the system (DOCKER_HOST=unix:///var/run/docker.sock), or set "
    process = "launch.backend: process"
    if engine.elsewhere:
        raise PlanError(
            f"{known} runs containers {engine.elsewhere}: this host cannot reach their addresses, and its "
            "paths are not theirs.",
            hint=other + process,
        )
    if engine.rootless:
        raise PlanError(
            f"{known} is rootless: its containers are in a network of their own, where this host cannot "
            "reach them, and their users are not the host's.",
            hint=other + process,
        )
    if engine.api_version and tuple(map(int, engine.api_version.split("."))) < OLDEST_API:
        needed = ".".join(map(str, OLDEST_API))
        raise PlanError(
            f"{known} (API {engine.api_version}) is too old: a cluster needs {OLDEST_ENGINE} (API {needed}) "
            "or newer.",
            hint=f"install a newer Docker engine, or set {process}",
        )


def check_engine(settings: Settings, engine: EngineInventory | None) -> None:
    """Refuse an engine that cannot run a cluster of this host, and a parent group that it would refuse.

    Parameters
    ----------
    settings : Settings
        Validated settings.
    engine : EngineInventory or None
        The engine, if there is one.

    Raises
    ------
    PlanError
        If `require_usable` refuses the engine, or its systemd driver is to use a parent that is not a slice.
    """
    if engine is not None:
        require_usable(engine)
    parent = settings.launch.cgroup_parent
    if parent and engine and engine.cgroup_driver == "systemd" and not parent.endswith(".slice"):
        raise PlanError(
            f"{settings.cite('launch.cgroup_parent')} is not a slice: "
            "the engine uses the systemd cgroup driver, which takes only names that end in .slice.",
            hint="write the name of a slice, such as canvod.slice",
        )
