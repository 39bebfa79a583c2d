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
    """Plan and keys of a cluster. Never printed.

    Attributes
    ----------
    keys : ClusterKeys
        Certificates and keys of all roles.
    plan : ClusterPlan
        What was started.
    """

    keys: ClusterKeys
    plan: ClusterPlan

    def as_json(self) -> dict[str, Any]:
        """Give all of it as plain values, for the scheduler.

        Returns
        -------
        dict
            ``keys``, ``plan``, and `CONFIRM`: how long the scheduler of a detached cluster waits to hear that
            the start is finished, in seconds; None for an ephemeral one.
        """
        plan = self.plan.model_dump(mode="json", exclude_defaults=True, exclude={"notes"})
        # Longer than who starts it waits for its workers; an ephemeral cluster has a lease.
        limit = self.plan.start_timeout_s + CONFIRM_GRACE_S if self.plan.detached else None
        return {"keys": asdict(self.keys), "plan": plan, CONFIRM: limit}

    @classmethod
    def from_json(cls, kept: dict[str, Any]) -> ClusterState:
        """Read what `as_json` gave.

        Parameters
        ----------
        kept : dict
            As `as_json` gave it.

        Returns
        -------
        ClusterState
            The same plan and keys.

        Raises
        ------
        KeyError, TypeError, ValueError
            If it is not of this version of canvod-launch.
        """
        return cls(ClusterKeys.from_json(kept["keys"]), ClusterPlan.model_validate(kept["plan"]))
