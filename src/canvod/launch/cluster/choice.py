"""Which backend carries the plan out, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from canvod.launch.engine import probe_engine, require_engine

if TYPE_CHECKING:
    from canvod.launch.config import Settings
    from canvod.launch.plan.model import Backend, EngineInventory


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

    backend: Backend
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
    """
    wanted = settings.launch.backend
    if settings.processing.scheduler_address is not None:
        return Choice(
            "remote", f"using the scheduler at {settings.processing.scheduler_address}; nothing is started"
        )
    if wanted == "process":
        return Choice("process", "worker processes, as launch.backend says")
    engine = require_engine() if wanted == "docker" else probe_engine()
    if engine is not None and engine.rootless and wanted == "auto":
        return Choice(
            "process",
            "worker processes: the Docker engine is rootless, and this host cannot reach its containers, so "
            "there are no kernel limits",
        )
    if engine is not None:
        how = "as launch.backend says" if wanted == "docker" else "a Docker engine answers"
        return Choice("docker", f"containers on Docker {engine.server_version}: {how}", engine)
    return Choice("process", "worker processes: no Docker engine answers, so there are no kernel limits")
