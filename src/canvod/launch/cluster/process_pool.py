"""The tasks of an ingest on `concurrent.futures.ProcessPoolExecutor`, for where Dask is not installed.

The result is the same; limits are not: there is no memory cap, no cpuset, and no nanny restarts a worker. A
process that dies is replaced, and the files that were in flight are read again, each alone.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import tempfile
import threading
from collections import Counter
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from multiprocessing.context import SpawnContext, SpawnProcess
from pathlib import Path
from queue import Empty
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any, Final, Protocol, Self

from canvod.launch.cluster.orphans import prune_host
from canvod.launch.errors import ClusterError, StoreError
from canvod.launch.host.owner import OWNER_FILE, SCRATCH_PREFIX, owner_mark, semaphore_name
from canvod.launch.plan.container_plans import THREAD_VARIABLES
from canvod.launch.runtime.host_process import name_semaphores
from canvod.launch.runtime.thread_resources import apply_resources

if TYPE_CHECKING:
    # At run time they come with the first task: a process sets its threads before numpy is there.
    from collections.abc import Generator, Iterator, Sequence

    from canvod.launch.runtime.messages import FileSummary, WriteBatch, WriteResult

MOST_DEATHS: Final = 3
"""How often processes may die under one task before the run is given up."""
START_TIMEOUT_S: Final = 10.0

NOTICE: Final = (
    "Dask is not installed, so a process pool runs the tasks: memory limits, cpusets and the restart of "
    "workers that outgrow their memory need Dask (the packages dask and distributed)"
)


class _Start[T](Protocol):
    """Gives a task to the pool; ``alone`` where it must not take its process along when it dies."""

    def __call__(self, number: int, /, *, alone: bool) -> Future[T]: ...


class PoolRunner:
    """Runs the tasks of an ingest in a pool of processes of this host; a context manager.

    Data that a process has read lie in a temporary folder until the ingest ends.

    Parameters
    ----------
    n_workers : int
        Processes.
    cpus : sequence of sequence of int, optional
        Core IDs for each process; by default all that this process may use.
    nice : int
        Nice value of the processes, 0 to 19.
    threads_per_worker : int
        Threads that numerical libraries may start in a process.
    spool_dir : path, optional
        Folder in which the temporary folder is made; by default the system's.
    notices : sequence of str
        What a user should know of this runner.

    Examples
    --------
    >>> with PoolRunner(2) as runner:  # doctest: +SKIP
    ...     report = ingest(files, "store", "rosalia/reference_01", runner=runner, settings=settings)
    """

    def __init__(
        self,
        n_workers: int,
        *,
        cpus: Sequence[Sequence[int]] | None = None,
        nice: int = 0,
        threads_per_worker: int = 1,
        spool_dir: str | os.PathLike[str] | None = None,
        notices: Sequence[str] = (NOTICE,),
    ) -> None:
        self.notices = tuple(notices)
        self._n_workers = max(1, n_workers)
        self._cpus = [list(slot) for slot in cpus] if cpus else []
        self._nice = nice
        self._threads = threads_per_worker
        prune_host(spool_dir)
        self._spool = tempfile.TemporaryDirectory(
            prefix=f"{SCRATCH_PREFIX}pool-", dir=spool_dir, ignore_cleanup_errors=True
        )
        Path(self._spool.name, OWNER_FILE).write_text(owner_mark())
        self._data = Path(self._spool.name, "data")
        self._data.mkdir()
        self._executor: ProcessPoolExecutor | None = None
        self._paths: list[str] = []
        self._options: tuple[str, tuple[str, ...]] = ("", ())
        self._peaks: dict[str, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the processes and remove the temporary folder; may be called again."""
        self._stop()
        self._spool.cleanup()

    @property
    def n_workers(self) -> int:
        """Processes that the pool may have."""
        return self._n_workers

    def _pool(self) -> ProcessPoolExecutor:
        if self._executor is None:
            name_semaphores(semaphore_name("pool", "process"))
            context = _Context()
            with _apart():  # the process that looks after semaphores starts with the first one
                slots = context.Queue()
            for index in range(self._n_workers):
                slots.put(self._cpus[index % len(self._cpus)] if self._cpus else [])
            arguments = (slots, self._nice, self._threads, self._spool.name)
            self._executor = ProcessPoolExecutor(self._n_workers, context, _start_process, arguments)
        return self._executor

    def _stop(self) -> None:
        executor, self._executor = self._executor, None
        if executor is None:
            return
        processes = list(_processes(executor).values())
        executor.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.terminate()
        for process in processes:
            process.join(START_TIMEOUT_S)

    def reader_problem(self, reader: str) -> str | None:
        """Why a process cannot use a reader; None if it can."""
        from canvod.launch.runtime import tasks

        return self._pool().submit(tasks.reader_problem, reader).result()

    def _target(self, number: int) -> str:
        return str(self._data / f"{number}.pickle")

    def read(
        self, paths: Sequence[str], reader: str, variables: Sequence[str]
    ) -> Generator[tuple[int, FileSummary]]:
        """Read files; see `canvod.launch.ingest.runner.TaskRunner.read`."""
        from canvod.launch.runtime import tasks

        self.forget()
        self._peaks = {}
        self._paths, self._options = list(paths), (reader, tuple(variables))

        def start(number: int, *, alone: bool) -> Future[FileSummary]:
            function = tasks.spool_file_alone if alone else tasks.spool_file
            return self._pool().submit(function, self._paths[number], *self._options, self._target(number))

        for number, summary in self._run(len(paths), start):
            self._note_peak(summary.worker, summary.peak_memory_bytes)
            yield number, summary

    def write(self, fork: bytes, batches: Sequence[WriteBatch]) -> Generator[WriteResult]:
        """Write batches; see `canvod.launch.ingest.runner.TaskRunner.write`."""
        from canvod.launch.runtime import tasks
        from canvod.launch.runtime.messages import WriteFailedError

        def start(index: int, **_: bool) -> Future[WriteResult]:
            targets = [self._target(number) for number in batches[index].sources]
            return self._pool().submit(tasks.write_spooled_chunks, fork, batches[index], *targets)

        try:
            for _, result in self._run(len(batches), start):
                self._note_peak(result.worker, result.peak_memory_bytes)
                yield result
        except WriteFailedError as exc:
            raise StoreError(
                f"a worker could not write to the store: {exc}; nothing was committed",
                hint="see that the disk of the store is not full",
            ) from exc

    def _run[T](self, count: int, start: _Start[T]) -> Generator[tuple[int, T]]:
        """Run numbered tasks, few at a time, so that the death of a process touches few of them."""
        waiting = list(range(count))[::-1]
        suspects: list[int] = []
        deaths: Counter[int] = Counter()
        running: dict[Future[T], int] = {}
        try:
            while waiting or running or suspects:
                # Suspects run one at a time: whatever dies then, it is known which task it was.
                alone = not waiting and not running
                if alone:
                    number = suspects.pop()
                    running[self._started(start, number, alone=True)] = number
                while waiting and len(running) < 2 * self._n_workers:
                    number = waiting.pop()
                    running[self._started(start, number, alone=False)] = number
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                finished = {future: running.pop(future) for future in done}
                ended = [number for future, number in finished.items() if _died(future)]
                if ended:
                    # The pool is broken as a whole: nothing that was in flight will come back.
                    ended += running.values()
                    running = {}
                    self._stop()
                    deaths.update(ended)
                    suspects += ended
                    if max(deaths.values()) > MOST_DEATHS:
                        raise ClusterError(
                            "processes of the pool died again and again, also when nothing else was running; "
                            "nothing was committed",
                            hint="see dmesg whether the machine is out of memory, use fewer workers, "
                            "and run it again",
                        )
                for future, number in finished.items():
                    if number not in ended:
                        yield number, future.result()
        finally:
            if running:
                self._stop()

    def _started[T](self, start: _Start[T], number: int, *, alone: bool) -> Future[T]:
        try:
            return start(number, alone=alone)
        except BrokenProcessPool as exc:
            failed: Future[T] = Future()
            failed.set_exception(exc)
            return failed

    def discard(self, number: int) -> None:
        """Remove the data of one file."""
        Path(self._target(number)).unlink(missing_ok=True)

    def forget(self) -> None:
        """Remove all data; what was running has been ended when its iterator was closed."""
        for entry in self._data.iterdir():
            entry.unlink(missing_ok=True)

    def memory(self) -> dict[str, int]:
        """Resident memory in bytes of each process."""
        import psutil

        found = {}
        for pid in _processes(self._executor):
            try:
                found[f"process-{pid}"] = psutil.Process(pid).memory_info().rss
            except psutil.Error:
                continue
        for name, used in found.items():
            self._note_peak(name, used)
        return found

    def _note_peak(self, worker: str, used_bytes: int) -> None:
        self._peaks[worker] = max(self._peaks.get(worker, 0), used_bytes)

    def peak_memory(self) -> dict[str, int]:
        """The most memory in bytes that each process has had, as it said itself after every task."""
        return dict(sorted(self._peaks.items()))


def _processes(executor: ProcessPoolExecutor | None) -> dict[int, Any]:
    """The pool's processes by their IDs; before Python 3.14 it has no way of its own to end them."""
    found = executor._processes if executor is not None else None  # noqa: SLF001
    return dict(found or {})


def _died(future: Future[Any]) -> bool:
    return isinstance(future.exception(), BrokenProcessPool)


_lock = threading.Lock()


@contextmanager
def _apart() -> Iterator[None]:
    """Start processes that import neither this program nor what lies in the current folder.

    `multiprocessing` has its processes import the script of their parent, and begin with the current folder
    first in their search path, unless a variable says otherwise.
    """
    with _lock:
        program, safe = sys.modules["__main__"], os.environ.get("PYTHONSAFEPATH")
        sys.modules["__main__"] = ModuleType("__main__")
        os.environ["PYTHONSAFEPATH"] = "1"
        try:
            yield
        finally:
            sys.modules["__main__"] = program
            if safe is None:
                del os.environ["PYTHONSAFEPATH"]
            else:
                os.environ["PYTHONSAFEPATH"] = safe


class _Process(SpawnProcess):
    @staticmethod
    def _Popen(process_obj: Any) -> Any:  # noqa: N802 - the name that multiprocessing calls
        with _apart():
            return SpawnProcess._Popen(process_obj)  # noqa: SLF001


class _Context(SpawnContext):
    Process = _Process


def _start_process(slots: Any, nice: int, threads: int, folder: str) -> None:
    """Set up one process of the pool."""
    # Whatever a process that is killed leaves, goes with the pool's folder.
    os.environ["TMPDIR"] = tempfile.tempdir = folder
    # Ctrl-C reaches the whole group; the host alone decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(OSError):  # there may be no standard error
        os.dup2(2, 1)  # what a reader prints must not mix with this program's output
    threading.Thread(target=_end_with_parent, daemon=True).start()
    for name in THREAD_VARIABLES:
        os.environ.setdefault(name, str(threads))
    try:
        cpus = slots.get(timeout=START_TIMEOUT_S)
    except Empty:
        cpus = []
    for problem in apply_resources(cpus or None, nice):
        sys.stderr.write(f"process of the pool: {problem}\n")


def _end_with_parent() -> None:
    """End this process when its parent is gone, even if that was killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
