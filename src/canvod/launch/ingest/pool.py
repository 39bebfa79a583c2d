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
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from itertools import count
from multiprocessing.context import SpawnContext, SpawnProcess
from pathlib import Path
from queue import Empty
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from canvod.launch.cluster.orphans import prune_host
from canvod.launch.host.owner import OWNER_FILE, SCRATCH_PREFIX, owner_mark, semaphore_name
from canvod.launch.ingest.runner import Task, TaskDiedError
from canvod.launch.plan.container_plans import THREAD_VARIABLES
from canvod.launch.runtime.host_process import name_semaphores
from canvod.launch.runtime.thread_resources import apply_resources

if TYPE_CHECKING:
    # At run time they come with the first task: a process sets its threads before numpy is there.
    from collections.abc import Callable, Collection, Iterator, Sequence

    from canvod.launch.runtime.messages import UnitRequest, WriteRequest

START_TIMEOUT_S: Final = 10.0

NOTICE: Final = (
    "Dask is not installed, so a process pool runs the tasks: memory limits, cpusets and the restart of "
    "workers that outgrow their memory need Dask (the packages dask and distributed)"
)


class PoolRunner:
    """Runs the tasks of an ingest in a pool of processes of this host; a context manager.

    Units lie in a temporary folder from when they are made until they are released.

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
        What a user should know of this runner: limits that it cannot enforce.

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
        self._numbers = count()

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

    memory_limit_bytes = None
    """Processes of a pool have no limit."""

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

    def _submit(self, function: Callable[..., Any], *arguments: Any) -> Future[bytes]:
        try:
            return self._pool().submit(function, *arguments)
        except BrokenProcessPool:
            self._stop()  # it is broken as a whole; the next task starts another one
            return self._pool().submit(function, *arguments)

    def call(self, function: Callable[..., bytes], *arguments: Any) -> Task:
        """Start a function in a process of the pool; see `TaskRunner.call`."""
        return Task(self._submit(function, *arguments))

    def make(self, request: UnitRequest) -> Task:
        """Start to make a unit, which goes into a file of the pool's folder; see `TaskRunner.make`."""
        from canvod.launch.runtime import unit_tasks

        target = str(self._data / f"{next(self._numbers)}.pickle")
        return Task(self._submit(unit_tasks.spool_unit, request, target), target)

    def write(self, fork: bytes, unit: Task, request: WriteRequest) -> Task:
        """Start to write a unit, in any process of the pool; see `TaskRunner.write`."""
        from canvod.launch.runtime import unit_tasks

        return Task(self._submit(unit_tasks.write_unit, fork, unit.data, request))

    def wait(self, started: Collection[Task]) -> list[Task]:
        """Wait until some of the tasks have ended, as long as it takes; see `TaskRunner.wait`."""
        of = {task.answer: task for task in started}
        return [of[future] for future in wait(of, return_when=FIRST_COMPLETED).done]

    def answer(self, task: Task) -> bytes:
        """The answer of a task that has ended; see `TaskRunner.answer`."""
        try:
            answer: bytes = task.answer.result()
        except BrokenProcessPool as exc:
            raise TaskDiedError("a process of the pool died") from exc
        return answer

    def explain(self, worker: str) -> str | None:
        """Nothing, since processes of a pool have no name that lasts; see `TaskRunner.explain`."""

    def release(self, unit: Task) -> None:
        """Cancel the task, or remove the file of its unit; see `TaskRunner.release`."""
        unit.answer.cancel()
        Path(unit.data).unlink(missing_ok=True)

    def memory(self) -> dict[str, int]:
        """Resident memory of each process; see `TaskRunner.memory`."""
        import psutil

        found = {}
        for pid in _processes(self._executor):
            with suppress(psutil.Error):
                found[f"process-{pid}"] = psutil.Process(pid).memory_info().rss
        return found


def _processes(executor: ProcessPoolExecutor | None) -> dict[int, Any]:
    """The pool's processes by their IDs; before Python 3.14 it has no way of its own to end them."""
    found = executor._processes if executor is not None else None  # noqa: SLF001
    return dict(found or {})


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
