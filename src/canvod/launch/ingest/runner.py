"""Who runs the tasks of an ingest: a Dask client, or anything else with the methods of `TaskRunner`."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, Self

from canvod.launch.errors import ClusterError
from canvod.launch.runtime import tasks

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from distributed import Client, Future

    from canvod.launch.runtime.messages import UnitRequest, WriteRequest

STALLED_TIMEOUT_S = 60.0
"""How long a cluster may be without a worker that takes tasks: nannies restart workers within seconds."""
POLL_S = 1.0
READ_TOGETHER = 4
"""Files that one task reads; a unit may have many, for several workers to read."""


class TaskDiedError(Exception):
    """Workers died whenever they ran a task, or it failed there, which our tasks do not."""


@dataclass(frozen=True, eq=False)
class Task:
    """A task that was started.

    Attributes
    ----------
    answer : future
        Of the small part, for the launcher.
    data : object
        What the workers keep; None where they keep nothing.
    """

    answer: Any
    data: Any = None


class TaskRunner(Protocol):
    """Runs tasks on workers, which keep the units that they make until these are released."""

    notices: tuple[str, ...]
    """What a user should know of this runner: limits that it cannot enforce."""

    @property
    def n_workers(self) -> int:
        """Workers that there are now, at least 1."""

    @property
    def memory_limit_bytes(self) -> int | None:
        """Memory that each worker may use; None where there is no limit."""

    def call(self, function: Callable[..., bytes], *arguments: Any) -> Task:
        """Start a function on a worker.

        Parameters
        ----------
        function : callable
            A function of `canvod.launch.runtime.tasks` that gives bytes.
        *arguments : object
            Its arguments, plain values.

        Returns
        -------
        Task
            Its answer is what the function gives.
        """

    def make(self, request: UnitRequest) -> Task:
        """Start to make a unit, which the workers keep until it is released.

        Parameters
        ----------
        request : UnitRequest
            What to make.

        Returns
        -------
        Task
            Its answer is a `UnitReply`, and the real epochs of the parts that change.
        """

    def write(self, fork: bytes, unit: Task, request: WriteRequest) -> Task:
        """Start to write a unit that was made.

        Parameters
        ----------
        fork : bytes
            ``icechunk.ForkSession`` in its own encoding.
        unit : Task
            What `make` has given.
        request : WriteRequest
            Where to write it.

        Returns
        -------
        Task
            Its answer is a `WriteReply`, and the changed fork.
        """

    def wait(self, started: Collection[Task]) -> list[Task]:
        """Wait until some of the tasks have ended.

        Parameters
        ----------
        started : collection of Task
            Tasks of this runner, at least one.

        Returns
        -------
        list of Task
            Those that have ended, at least one, however they ended.

        Raises
        ------
        ClusterError
            If no worker takes tasks any more.
        """

    def answer(self, task: Task) -> bytes:
        """The answer of a task that has ended.

        Parameters
        ----------
        task : Task
            The task.

        Returns
        -------
        bytes
            What its function gave, which is not to be trusted.

        Raises
        ------
        TaskDiedError
            If workers died of it.
        ClusterError
            If the cluster failed.
        """

    def explain(self, worker: str) -> str | None:
        """What is known of the last death on a worker, and what to do.

        Parameters
        ----------
        worker : str
            Name of the worker.

        Returns
        -------
        str or None
            In words; None where nothing is known.
        """

    def release(self, unit: Task) -> None:
        """Release what the workers keep of a unit, or cancel it.

        Parameters
        ----------
        unit : Task
            What `make` has given.
        """

    def memory(self) -> dict[str, int]:
        """Memory that each worker uses now.

        Returns
        -------
        dict of str to int
            Bytes by the worker's name.
        """


class DaskRunner:
    """Runs tasks on a Dask cluster; when a worker dies, Dask computes again what it held.

    Parameters
    ----------
    client : distributed.Client
        Client of the cluster. Its Python version may differ from the workers'.
    explain_death : callable, optional
        Called with the name of a worker that died.
    notices : sequence of str
        What a user should know of this cluster.
    stalled_timeout_s : float
        Seconds to wait for a worker when there is none that takes tasks.
    """

    def __init__(
        self,
        client: Client,
        *,
        explain_death: Callable[[str], str | None] | None = None,
        notices: Sequence[str] = (),
        stalled_timeout_s: float = STALLED_TIMEOUT_S,
    ) -> None:
        self.notices = tuple(notices)
        from canvod.launch.ingest.plain_client import PlainClient

        self._client: Any = PlainClient(client)  # most of its methods have no types
        self._explain_death = explain_death
        self._timeout_s = stalled_timeout_s
        self._limit: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection of this runner, not that of its client; may be called again."""
        self._client.close()

    @property
    def n_workers(self) -> int:
        """Workers that are connected now, at least 1."""
        return max(1, len(self._workers()))

    @property
    def memory_limit_bytes(self) -> int | None:
        """The least limit of the workers; while there are none, that of those before."""
        if workers := self._workers():
            self._limit = min(worker["memory_limit"] or 0 for worker in workers) or None
        return self._limit

    def _workers(self) -> list[dict[str, Any]]:
        return list(self._client.scheduler_info(n_workers=-1)["workers"].values())

    def _submit(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Future[Any]:
        future: Future[Any] = self._client.submit(function, *arguments, pure=False, **options)
        return future

    def call(self, function: Callable[..., bytes], *arguments: Any) -> Task:
        """Start a function on any worker; see `TaskRunner.call`."""
        return Task(self._submit(function, *arguments))

    def make(self, request: UnitRequest) -> Task:
        """Start to make a unit, which stays on its worker; see `TaskRunner.make`."""
        read = [
            self._submit(tasks.read_files, request, request.files[at : at + READ_TOGETHER])
            for at in range(0, len(request.files), READ_TOGETHER)
        ]
        unit = self._submit(tasks.make_unit, request, *read)
        # The launcher waits for replies, so they come before the next unit.
        return Task(self._submit(tasks.reply_of, unit, priority=10), unit)

    def write(self, fork: bytes, unit: Task, request: WriteRequest) -> Task:
        """Start to write a unit, where it is; see `TaskRunner.write`."""
        return Task(self._submit(tasks.write_unit, fork, unit.data, request, priority=20))

    def wait(self, started: Collection[Task]) -> list[Task]:
        """Wait until some of the tasks have ended; see `TaskRunner.wait`."""
        from distributed import wait

        of = {task.answer: task for task in started}
        since = time.monotonic()
        while True:
            try:
                # The loop of another client would not notice an end before the next second.
                with self._client.as_current():
                    done = wait(  # type: ignore[no-untyped-call]
                        list(of), timeout=POLL_S, return_when="FIRST_COMPLETED"
                    ).done
            except TimeoutError:
                done = ()
            if done:
                return [of[future] for future in done]
            since = self._not_stalled(since)

    def _not_stalled(self, since: float) -> float:
        """Raise if no worker has taken tasks for too long; else the time since when none does."""
        if self._client.status not in {"running", "connecting"}:
            raise ClusterError(
                "the cluster has gone",
                hint="the logs of scheduler and workers may show the cause; the same command goes on",
            )
        workers = self._workers()
        if any(worker.get("status", "running") == "running" for worker in workers):
            return time.monotonic()
        if time.monotonic() - since < self._timeout_s:
            return since
        if workers:
            raise ClusterError(
                f"all {len(workers)} workers have paused for {self._timeout_s:g} s: their memory is full",
                hint="raise processing.max_memory_gb, or use fewer workers; the same command goes on",
            )
        raise ClusterError(
            f"the cluster has had no workers for {self._timeout_s:g} s: they died and did not come back",
            hint="see the logs of the workers; the same command goes on",
        )

    def answer(self, task: Task) -> bytes:
        """The answer of a task that has ended; see `TaskRunner.answer`."""
        if task.answer.status == "error":
            raise TaskDiedError("workers died of it, or it failed there")
        if task.answer.status != "finished":
            raise ClusterError(
                f"the cluster has lost a task, which is {task.answer.status}",
                hint="the logs of scheduler and workers may show the cause; the same command goes on",
            )
        try:
            answer: bytes = self._client.fetch(task.answer.key)
        except (OSError, TimeoutError) as exc:
            raise ClusterError(
                f"the cluster failed: {type(exc).__name__}: {exc}",
                hint="the logs of scheduler and workers may show the cause; the same command goes on",
            ) from exc
        return answer

    def explain(self, worker: str) -> str | None:
        """What is known of the last death on a worker; see `TaskRunner.explain`."""
        return self._explain_death(worker) if self._explain_death is not None else None

    def release(self, unit: Task) -> None:
        """Release a unit: once nothing needs its future, the worker forgets it; see `TaskRunner.release`."""
        futures = [future for future in (unit.answer, unit.data) if future is not None]
        if self._client.status == "running":
            self._client.cancel(futures, force=True)

    def memory(self) -> dict[str, int]:
        """Memory that each worker uses now, as Dask samples it; see `TaskRunner.memory`."""
        return {
            str(worker["name"]): int(worker.get("metrics", {}).get("memory", 0)) for worker in self._workers()
        }
