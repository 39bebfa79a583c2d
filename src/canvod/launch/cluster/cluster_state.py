"""What the scheduler of a cluster keeps for those who come later: its plan and its keys."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final

from canvod.launch.cluster.tls import ClusterKeys
from canvod.launch.plan.model import ClusterPlan
from canvod.launch.runtime.keys import CONFIRM

CONFIRM_GRACE_S: Final = 30.0
"""How much longer than its start may take a cluster waits to hear that the start is finished."""


@dataclass(frozen=True, repr=False)
class ClusterState:
    """Plan and keys of a cluster. Never printed."""

    keys: ClusterKeys
    plan: ClusterPlan

    def as_json(self) -> dict[str, Any]:
        """All of it, for the scheduler."""
        plan = self.plan.model_dump(mode="json", exclude_defaults=True, exclude={"notes"})
        # Longer than who starts it waits for its workers; an ephemeral cluster has a lease.
        limit = self.plan.start_timeout_s + CONFIRM_GRACE_S if self.plan.detached else None
        return {"keys": asdict(self.keys), "plan": plan, CONFIRM: limit}

    @classmethod
    def from_json(cls, kept: dict[str, Any]) -> ClusterState:
        """Take back what `as_json` gave."""
        return cls(ClusterKeys.from_json(kept["keys"]), ClusterPlan.model_validate(kept["plan"]))
