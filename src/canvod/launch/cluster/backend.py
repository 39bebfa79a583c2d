"""What carries a plan out: the interface of a backend."""

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

    A member is named `SCHEDULER`, or as its worker of the plan is named in Dask. `StartedCluster` starts all
    of them at once, and waits for the scheduler's address and then for its workers to register;
    `PlannedCluster` scales by starting and stopping some of the workers, and starts those again that ended.
    Neither restarts a member that has not been stopped: `stop` comes first.

    All methods may be called from any thread, also while the interpreter exits, when executors take no more
    work. `describe` and `problem` are called many times a second while members start: they answer from what
    the backend knows already, and do not ask an engine or another host each time.

    Attributes
    ----------
    plan : ClusterPlan
        What it carries out.
    on_end : callable or None
        Called from a thread of its own with each member that ends without having been stopped. None until
        the start is complete; members that end before that are seen in `describe`, by their exit codes.
    """

    plan: ClusterPlan
    on_end: Callable[[ContainerInfo], None] | None

    def start(self, names: Iterable[str]) -> None:
        """Begin to start members, all at once, and return without waiting for them.

        Members that were started and not stopped are left alone, also where they have ended. No order is to
        be kept: a worker that starts waits for its scheduler. What goes wrong later is told by `problem`.

        Parameters
        ----------
        names : iterable of str
            Names of members of the plan.

        Raises
        ------
        ClusterError
            If `close` has been called, or a member cannot be started at all.
        """

    def stop(self, names: Iterable[str]) -> None:
        """End members, and wait until they are gone; those that are not there count as gone.

        Each member may be started again afterwards, and `on_end` is not called with it.

        Parameters
        ----------
        names : iterable of str
            Names of members; an unknown one counts as gone.

        Raises
        ------
        EngineError
            If one could not be removed. The others have been; `close` tries again.
        """

    def describe(self) -> ClusterInfo:
        """Describe the cluster as it is now.

        Returns
        -------
        ClusterInfo
            The members that were started and not stopped, each with its name, its role, its ``exit_code``
            once it has ended, and an ``id`` that another start changes. The addresses of the scheduler and of
            the dashboard are empty until they are known. Who is registered is left to the caller.
        """

    def memory_bytes(self) -> int:
        """Measure how much memory all members use now.

        Returns
        -------
        int
            Bytes, without files that are only cached where that can be told; a member that has ended, or
            cannot be measured, counts as 0.
        """

    def problem(self, name: str) -> LaunchError | None:
        """Find out whether a member that was started can still come.

        Parameters
        ----------
        name : str
            Name of the member.

        Returns
        -------
        LaunchError or None
            Why it will not come, to be raised: it could not be started, has ended, or was stopped. None while
            it may come, or runs.
        """

    def failure(self, name: str, what: str) -> LaunchError:
        """Describe a member that is late.

        Parameters
        ----------
        name : str
            Name of the member.
        what : str
            What it did not do, such as ``"did not register within 60 s"``; follows the name in the message.

        Returns
        -------
        LaunchError
            To be raised: with what is known of the member, such as its last lines of output, and what to do.
        """

    def close(self) -> list[str]:
        """End all members, and remove everything that belongs to the cluster.

        That includes members whose start is under way, and those that `stop` could not remove. May be called
        any number of times; `start` is refused from the first call on.

        Returns
        -------
        list of str
            What could not be removed, with the reason; empty where nothing is left.
        """

    def release(self) -> None:
        """Leave all members running, and watch them no more; nothing else is called afterwards."""
