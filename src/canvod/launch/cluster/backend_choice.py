"""Which backend a start uses, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from canvod.launch.docker.engine import PROBE_TIMEOUT_S, EngineAbsentError, require_engine
from canvod.launch.errors import EngineError, PlanError
from canvod.launch.plan.engine_requirements import require_usable

if TYPE_CHECKING:
    from canvod.launch.config import Settings
    from canvod.launch.host.inventory import EngineInventory
    from canvod.launch.plan.model import Backend


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
    PlanError
        If ``launch.backend`` is ``docker`` and the engine is too old or runs containers elsewhere.
    """
    wanted = settings.launch.backend
    if settings.processing.scheduler_address is not None:
        return Choice(
            "remote", f"using the scheduler at {settings.processing.scheduler_address}; nothing is started"
        )
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
    if isinstance(error, PlanError):
        return f"worker processes, so there are no kernel limits: {reason}"
    return f"worker processes: no Docker engine answers, so there are no kernel limits ({reason})"
