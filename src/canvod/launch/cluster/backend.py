"""What carries a plan out: the interface of a backend, and how long its members may take to come."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from canvod.launch.errors import LaunchError
    from canvod.launch.host.clusters import ClusterInfo, ContainerInfo
    from canvod.launch.plan.model import ClusterPlan

SCHEDULER = "scheduler"
"""Name of the scheduler among the members of a cluster; its workers have their names in Dask."""


class Backend(Protocol):
    """Starts, stops and describes the members of one cluster: its scheduler and its workers.

    To scale is to start or stop some of the plan's workers. All methods but `start` block, and all may be
    called from any thread, also while the interpreter exits.

    Attributes
    ----------
    plan : ClusterPlan
        What it carries out.
    on_end : callable or None
        Called from a thread of its own with each member that ends without having been stopped.
    """

    plan: ClusterPlan
    on_end: Callable[[ContainerInfo], None] | None

    def start(self, names: Iterable[str]) -> None:
        """Begin to start members, all at once, and return; those that were started already are left alone."""

    def stop(self, names: Iterable[str]) -> None:
        """End members, and wait until they are gone; those that are not there count as gone.

        Raises
        ------
        EngineError
            If one could not be removed.
        """

    def describe(self) -> ClusterInfo:
        """Tell what there is now. The scheduler's address is empty until it is known."""

    def memory_bytes(self) -> int:
        """Measure how much memory all members use now."""

    def problem(self, name: str) -> LaunchError | None:
        """Say why a member that was started will not come; None while it may."""

    def failure(self, name: str, what: str) -> LaunchError:
        """Describe a member that did not do in time what was expected, such as ``"did not register"``."""

    def close(self) -> list[str]:
        """End and remove everything; may be called any number of times.

        Returns
        -------
        list of str
            What could not be removed, with the reason.
        """

    def release(self) -> None:
        """Leave everything as it is, and watch it no more."""
