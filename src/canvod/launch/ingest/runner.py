"""Who runs the tasks of an ingest: a Dask client, or anything else with the methods of `TaskRunner`."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from canvod.launch.errors import ClusterError, LaunchError, StoreError
from canvod.launch.runtime import tasks
from canvod.launch.runtime.messages import (
    Failure,
    FileSummary,
    SourceLostError,
    WriteBatch,
    WriteFailedError,
    WriteResult,
)

if TYPE_CHECKING:
    from distributed import Client, Future

WRITE_ATTEMPTS = 3
"""How often a batch of chunks is given to the cluster again after its workers died."""

NO_WORKER_TIMEOUT_S = 120.0
"""How long a cluster may be without any worker: nannies restart them within seconds, or tens of them."""
WATCH_INTERVAL_S = 1.0

ExplainDeath = Callable[[str], str | None]
"""What is known of the death of the worker of this name, and what to do; None where nothing is."""


class TaskRunner(Protocol):
    """Runs the tasks of one ingest after the other; keeps the data of the files that it has read."""

    notices: tuple[str, ...]
    """What a user should know of this runner: limits that it cannot enforce."""

    @property
    def n_workers(self) -> int:
        """Workers that there are now, at least 1."""

    def reader_problem(self, reader: str) -> str | None:
        """Why the workers cannot use a reader; None if they can."""

    def read(
        self, paths: Sequence[str], reader: str, variables: Sequence[str]
    ) -> Generator[tuple[int, FileSummary]]:
        """Read files, and yield each one's number and summary as it comes; the data stay with the workers."""

    def write(self, fork: bytes, batches: Sequence[WriteBatch]) -> Generator[WriteResult]:
        """Write batches of chunks, each in a copy of the fork, and yield the changed forks as they come.

        Raises
        ------
        SourceLostError
            If a file that was read cannot be read again; then everything else can be written again.
        """

    def discard(self, number: int) -> None:
        """Release the data of one file."""

    def forget(self) -> None:
        """Release all data, and cancel what is running; called at the end of every ingest."""

    def memory(self) -> dict[str, int]:
        """Memory in bytes that each worker uses now."""

    def peak_memory(self) -> dict[str, int]:
        """Peak memory of each worker in bytes."""


class DaskRunner:
    """Runs tasks on a Dask cluster.

    Every file is a task whose result stays on its worker; the summary is a second, cheap task. When a worker
    dies, Dask computes again what it held. A file that was being read too often when workers died is read
    again by itself, in a process of its own, so that only a file that kills its reader fails.

    Parameters
    ----------
    client : distributed.Client
        Client of the cluster. Its Python version may differ from the workers'.
    explain_death : callable, optional
        Called with the name of a worker that died reading a file.
    notices : sequence of str
        What a user should know of this cluster.
    no_worker_timeout_s : float
        How long to wait for a worker when there is none left.
    """

    def __init__(
        self,
        client: Client,
        *,
        explain_death: ExplainDeath | None = None,
        notices: Sequence[str] = (),
        no_worker_timeout_s: float = NO_WORKER_TIMEOUT_S,
    ) -> None:
        self.notices = tuple(notices)
        self._no_worker_timeout_s = no_worker_timeout_s
        self._no_workers = False
        self._pending: set[Future[Any]] = set()
        self._client: Any = client  # its methods have no types
        self._explain_death = explain_death
        self._paths: list[str] = []
        self._options: tuple[str, tuple[str, ...]] = ("", ())
        self._data: dict[int, Future[Any]] = {}
        self._alone: set[int] = set()
        self._peaks: dict[str, int] = {}

    @property
    def n_workers(self) -> int:
        """Workers that are connected now, at least 1."""
        return max(1, len(self._workers()))

    def _workers(self) -> list[dict[str, Any]]:
        return list(self._client.scheduler_info(n_workers=-1)["workers"].values())

    def reader_problem(self, reader: str) -> str | None:
        """Why a worker cannot use a reader; None if it can."""
        future = self._submit(tasks.reader_problem, reader)
        with self._watched([future]):
            problem: str | None = self._result(future)
        return problem

    @contextmanager
    def _watched(self, futures: Iterable[Future[Any]]) -> Iterator[None]:
        """Cancel what is awaited if the cluster stays without workers: nothing else would end it."""
        self._pending, self._no_workers = set(futures), False
        ended = threading.Event()
        thread = threading.Thread(target=self._watch, args=(ended,), name="ingest-watch", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            self._pending = set()

    def _watch(self, ended: threading.Event) -> None:
        last_seen = time.monotonic()
        while not ended.wait(WATCH_INTERVAL_S):
            try:
                has_workers = bool(self._workers())
            except Exception:  # noqa: BLE001, S112 - a lost scheduler cancels the futures itself
                continue
            now = time.monotonic()
            if has_workers:
                last_seen = now
            elif now - last_seen > self._no_worker_timeout_s:
                self._no_workers = True
                self._client.cancel([*self._pending, *self._data.values()], force=True)
                return

    def _submit(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Future[Any]:
        future: Future[Any] = self._client.submit(function, *arguments, pure=False, **options)
        return future

    def _result(self, future: Future[Any]) -> Any:
        """A result, with the errors of the cluster itself translated."""
        from distributed import KilledWorker

        try:
            return future.result()
        except (KilledWorker, SourceLostError, LaunchError):
            raise
        except WriteFailedError as exc:
            raise StoreError(
                f"a worker could not write to the store: {exc}; nothing was committed",
                hint="see that the workers may write the folder of the store and that its disk is not full",
            ) from exc
        except Exception as exc:
            if self._no_workers:
                raise ClusterError(
                    f"the cluster has had no workers for {self._no_worker_timeout_s:g} s: they died and did "
                    "not come back; nothing was committed",
                    hint="see the logs of the workers; the same command can be run again",
                ) from exc
            raise ClusterError(
                f"the cluster failed: {type(exc).__name__}: {exc}; nothing was committed",
                hint="run the same command again; the logs of scheduler and workers may show the cause",
            ) from exc

    def read(
        self, paths: Sequence[str], reader: str, variables: Sequence[str]
    ) -> Generator[tuple[int, FileSummary]]:
        """Read files; see `TaskRunner.read`."""
        from distributed import KilledWorker, as_completed

        self.forget()
        self._peaks = {}
        self._paths, self._options = list(paths), (reader, tuple(variables))
        futures = self._client.map(
            tasks.read_file, paths, reader=reader, variables=tuple(variables), pure=False
        )
        self._data = dict(enumerate(futures))
        # The host waits for summaries, so they come before the next file.
        summaries = self._client.map(tasks.summary_of, futures, priority=10, pure=False)
        numbers = {future.key: number for number, future in enumerate(summaries)}
        killed = []
        with self._watched(summaries):
            for future in as_completed(summaries):  # type: ignore[no-untyped-call]
                number = numbers[future.key]
                try:
                    summary = self._result(future)
                except KilledWorker:
                    killed.append(number)
                    continue
                yield number, self._seen(number, summary)
        with self._watched(()):
            for number in sorted(killed):
                yield number, self._seen(number, self._read_alone(number))

    def _seen(self, number: int, summary: FileSummary) -> FileSummary:
        """Note the peak; a file without data needs no place on a worker."""
        self._note_peak(summary.worker, summary.peak_memory_bytes)
        if summary.failure is not None:
            self.discard(number)
        return summary

    def _read_alone(self, number: int) -> FileSummary:
        from distributed import KilledWorker

        self._alone.add(number)
        future = self._submit(tasks.summary_of, self._ensure(number, fresh=True))
        self._pending.add(future)
        try:
            summary: FileSummary = self._result(future)
        except KilledWorker as exc:
            worker = str(exc.last_worker.name)
            path = self._paths[number]
            failure = Failure("killed", f"worker {worker} died while it read this file, alone")
            summary = FileSummary(
                path=path, epoch=np.empty(0, np.int64), sid=(), worker=worker, failure=failure
            )
        if (
            summary.failure is not None
            and summary.failure.kind == "killed"
            and self._explain_death is not None
        ):
            known = self._explain_death(summary.worker)
            if known:
                reason = f"{summary.failure.reason}: {known}"
                summary = replace(summary, failure=replace(summary.failure, reason=reason))
        return summary

    def _ensure(self, number: int, *, fresh: bool = False) -> Future[Any]:
        """The data of a file; read again where they were released or are lost."""
        future = self._data.get(number)
        if future is None or fresh or future.status in ("error", "cancelled", "lost"):
            reader, variables = self._options
            if number in self._alone:
                limit = min((worker["memory_limit"] or 0 for worker in self._workers()), default=0) or None
                future = self._submit(tasks.read_file_alone, self._paths[number], reader, variables, limit)
            else:
                future = self._submit(tasks.read_file, self._paths[number], reader, variables)
            self._data[number] = future
        return future

    def write(self, fork: bytes, batches: Sequence[WriteBatch]) -> Generator[WriteResult]:
        """Write batches; see `TaskRunner.write`."""
        from distributed import KilledWorker, as_completed

        users = Counter(number for batch in batches for number in batch.sources)
        attempts: Counter[int] = Counter()
        waiting = {self._write_batch(fork, batch): index for index, batch in enumerate(batches)}
        completed: Any = as_completed(list(waiting))  # type: ignore[no-untyped-call]
        with self._watched(waiting):
            for future in completed:
                index = waiting.pop(future)
                try:
                    result: WriteResult = self._result(future)
                except KilledWorker as exc:
                    attempts[index] += 1
                    if attempts[index] == WRITE_ATTEMPTS:
                        raise self._writers_killed(exc) from exc
                    self._recover(batches[index])
                    again = self._write_batch(fork, batches[index])
                    waiting[again] = index
                    self._pending.add(again)
                    completed.add(again)
                    continue
                self._pending.discard(future)
                self._note_peak(result.worker, result.peak_memory_bytes)
                for number in batches[index].sources:
                    users[number] -= 1
                    if users[number] == 0:
                        self.discard(number)
                yield result

    def _write_batch(self, fork: bytes, batch: WriteBatch) -> Future[Any]:
        return self._submit(
            tasks.write_chunks, fork, batch, *(self._ensure(number) for number in batch.sources)
        )

    def _recover(self, batch: WriteBatch) -> None:
        """Find out which files were lost with the workers, and read those again, alone."""
        for number in batch.sources:
            future = self._data.get(number)
            if future is not None and future.status == "error":
                summary = self._read_alone(number)
                if summary.failure is not None:
                    raise SourceLostError(number, summary.failure.reason)

    def _writers_killed(self, exc: Any) -> ClusterError:
        worker = str(exc.last_worker.name)
        known = self._explain_death(worker) if self._explain_death is not None else None
        return ClusterError(
            f"workers died repeatedly while they wrote to the store, the last one was {worker}"
            f"{': ' + known if known else ''}; nothing was committed",
            hint="raise processing.max_memory_gb or use fewer workers, and run the same command again",
        )

    def discard(self, number: int) -> None:
        """Release the data of one file."""
        self._data.pop(number, None)

    def forget(self) -> None:
        """Cancel what is running, and release all data."""
        futures = list(self._data.values())
        self._data, self._alone, self._paths = {}, set(), []
        if futures and self._client.status == "running":
            self._client.cancel(futures, force=True)

    def memory(self) -> dict[str, int]:
        """Memory in bytes that each worker uses now, as Dask samples it."""
        found = {}
        for worker in self._workers():
            name, used = str(worker["name"]), int(worker.get("metrics", {}).get("memory", 0))
            found[name] = used
            self._note_peak(name, used)
        return found

    def _note_peak(self, worker: str, used_bytes: int) -> None:
        if used_bytes:
            self._peaks[worker] = max(self._peaks.get(worker, 0), used_bytes)

    def peak_memory(self) -> dict[str, int]:
        """Peak memory of each worker in bytes: of Dask's samples, and the kernel's ``VmHWM``."""
        self.memory()
        peaks = self._client.run(tasks.worker_peak, on_error="ignore")
        for name, used in peaks.values():
            self._note_peak(name, used)
        return dict(sorted(self._peaks.items()))
