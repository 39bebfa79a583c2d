"""Who runs the tasks of an ingest: a Dask client, or anything else with the methods of `TaskRunner`."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, Self

from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from canvod.launch.errors import ClusterError
from canvod.launch.ingest.stalls import is_busy, stalled, stuck_keys
from canvod.launch.runtime import unit_tasks

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from distributed import Client, Future

    from canvod.launch.runtime.messages import UnitRequest, WriteRequest

STALLED_TIMEOUT_S = 45.0
"""How long a cluster may run nothing at all: nannies restart workers within seconds."""
MOVED_AFTER_S = 5.0
"""How long tasks wait for a worker that has paused, until they are started again elsewhere."""
POLL_S = 1.0
READ_TOGETHER = 4
"""Files that one task reads; a unit may have many, for several workers to read."""


class AnswerLostError(ClusterError):
    """The worker that had the answer of a task is gone; Dask computes it again."""


class TaskDiedError(Exception):
    """Workers died whenever they ran a task, or it failed there, which our tasks do not."""

    def repeatedly(self, doing: str) -> ClusterError:
        """The error of a run that ends because of it.

        Parameters
        ----------
        doing : str
            What the workers did when they died.

        Returns
        -------
        ClusterError
            With what to do.
        """
        return ClusterError(
            f"workers died repeatedly while they {doing}: {self}",
            hint="raise processing.max_memory_gb or use fewer workers; the same command goes on",
        )


@dataclass(eq=False)
class Task:
    """A task that was started.

    Attributes
    ----------
    answer : future
        Of the small part, for the launcher.
    data : object
        What the workers keep; None where they keep nothing.
    keys : frozenset of object
        What Dask calls its steps.
    again : callable, optional
        Starts the same task anew.
    """

    answer: Any
    data: Any = None
    keys: frozenset[object] = frozenset()
    again: Callable[[], Task] | None = None


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
            A function of `canvod.launch.runtime.unit_tasks` that gives bytes.
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
            self._limit = min(worker["memory_limit"] or 0 for worker in workers.values()) or None
        return self._limit

    def _workers(self) -> dict[str, dict[str, Any]]:
        return dict(self._client.scheduler_info(n_workers=-1)["workers"])

    def _submit(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Future[Any]:
        future: Future[Any] = self._client.submit(function, *arguments, pure=False, **options)
        return future

    def call(self, function: Callable[..., bytes], *arguments: Any) -> Task:
        """Start a function on any worker; see `TaskRunner.call`."""
        future = self._submit(function, *arguments)
        return Task(future, None, frozenset([future.key]), lambda: self.call(function, *arguments))

    def make(self, request: UnitRequest) -> Task:
        """Start to make a unit, which stays on its worker; see `TaskRunner.make`."""
        read = [
            self._submit(unit_tasks.read_files, request, request.files[at : at + READ_TOGETHER])
            for at in range(0, len(request.files), READ_TOGETHER)
        ]
        unit = self._submit(unit_tasks.make_unit, request, *read)
        # The launcher waits for replies, so they come before the next unit.
        reply = self._submit(unit_tasks.reply_of, unit, priority=10)
        keys = frozenset(future.key for future in (*read, unit, reply))
        return Task(reply, unit, keys, lambda: self.make(request))

    def write(self, fork: bytes, unit: Task, request: WriteRequest) -> Task:
        """Start to write a unit, where it is; see `TaskRunner.write`."""
        future = self._submit(unit_tasks.write_unit, fork, unit.data, request, priority=20)
        return Task(future, None, unit.keys | {future.key}, lambda: self.write(fork, unit, request))

    def wait(self, started: Collection[Task]) -> list[Task]:
        """Wait until some of the tasks have ended; see `TaskRunner.wait`.

        Dask leaves a task to a worker that has paused since it got it; such tasks are started again.
        """
        from distributed import wait

        since = moved = time.monotonic()
        while True:
            of = {task.answer: task for task in started}
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
            if self._client.status not in {"running", "connecting"}:
                raise ClusterError(
                    "the cluster has gone",
                    hint="the logs of scheduler and workers may show the cause; the same command goes on",
                )
            workers, on_workers = self._workers(), self._on_workers()
            ours = frozenset[object]().union(*(task.keys for task in started))
            if any(
                is_busy(worker, ours.intersection(on_workers.get(at, ()))) for at, worker in workers.items()
            ):
                since = time.monotonic()
            elif time.monotonic() - since > self._timeout_s:
                raise stalled(list(workers.values()), self._timeout_s)
            if time.monotonic() - moved > MOVED_AFTER_S:
                stuck = stuck_keys(workers, on_workers)
                for task in started:
                    if task.again is not None and task.keys & stuck:
                        new = task.again()
                        self.release(task)
                        task.answer, task.data, task.keys = new.answer, new.data, new.keys
                moved = time.monotonic()

    def _on_workers(self) -> dict[str, list[str]]:
        """Tasks that each worker has got, by its address; none where the scheduler does not answer."""
        try:
            return dict(self._client.processing())
        except (OSError, TimeoutError):
            return {}

    def answer(self, task: Task) -> bytes:
        """The answer of a task that has ended; see `TaskRunner.answer`."""
        retrying = Retrying(
            retry=retry_if_exception_type(AnswerLostError),
            stop=stop_after_delay(self._timeout_s),
            wait=wait_fixed(POLL_S / 10),
            reraise=True,
        )
        return retrying(self._fetch, task)

    def _fetch(self, task: Task) -> bytes:
        if task.answer.status in {"lost", "pending"}:  # its worker has died: Dask computes it again
            self.wait([task])
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
            str(worker["name"]): int(worker.get("metrics", {}).get("memory", 0))
            for worker in self._workers().values()
        }
