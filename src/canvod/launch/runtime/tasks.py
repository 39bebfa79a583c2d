"""What the workers do in an ingest: read one file, write some chunks.

Every function here is importable and takes plain values, so that host and workers may run different Python
versions. Data stay where they were read; the host sees a `FileSummary` of each file.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import platform
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from canvod.launch.readers import (
    VARIABLES,
    NoReaderError,
    Observations,
    UnreadableFileError,
    find_reader,
    read_observations,
    reader_version,
)
from canvod.launch.runtime.merge import Columns, merge_chunk
from canvod.launch.runtime.messages import (
    STORED,
    Failure,
    FailureKind,
    FileResult,
    FileSummary,
    Segment,
    SourceLostError,
    Values,
    WriteBatch,
    WriteFailedError,
    WriteResult,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

ALONE_ATTEMPTS = 2
"""How often a file is read alone: twice, since the kernel may kill a process for the greed of another."""


def worker_name() -> str:
    """Name of this worker in Dask, else ``process-<pid>``."""
    distributed = sys.modules.get("distributed")  # a pool process must not import it
    if distributed is not None:
        try:
            return str(distributed.get_worker().name)
        except ValueError:
            pass
    return f"process-{os.getpid()}"


def peak_memory_bytes() -> int:
    """The most resident memory that this process has had (``VmHWM``); 0 where the system does not tell."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return 0
    for line in status.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def worker_peak(dask_worker: Any) -> tuple[str, int]:
    """Name of this worker, and its `peak_memory_bytes`; for ``Client.run``, which passes the worker."""
    return str(dask_worker.name), peak_memory_bytes()


def reader_problem(reader: str) -> str | None:
    """Why this worker cannot use a reader; None if it can."""
    try:
        find_reader(reader)
    except NoReaderError as exc:
        return _one_line(exc)
    return None


def read_file(  # noqa: PLR0911 - one for each way to fail
    path: str, reader: str, variables: Sequence[str]
) -> FileResult:
    """Read one file; whatever goes wrong with it is a value, not an exception.

    Parameters
    ----------
    path : str
        The file.
    reader : str
        Name of a reader that is installed here.
    variables : sequence of str
        Variables to read.

    Returns
    -------
    FileResult
        With ``summary.failure`` set where there are no data.
    """
    started = time.perf_counter()
    try:
        # Before reading, so that a file that grows meanwhile is taken for changed by the next run.
        stat = Path(path).stat()
    except OSError as exc:
        return _failed(path, "missing", f"cannot be opened: {exc.strerror or exc}", started)
    known: dict[str, Any] = {"size_bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns}
    try:
        observations = read_observations(path, tuple(variables), reader)
    except UnreadableFileError as exc:
        return _failed(path, "unreadable", exc.reason, started, **known)
    except NoReaderError as exc:
        return _failed(path, "no-reader", _one_line(exc), started, **known)
    except MemoryError:
        return _failed(path, "memory", "needs more memory than this worker may use", started, **known)
    except KeyboardInterrupt:
        raise
    except BaseException as exc:  # noqa: BLE001 - a panic in a compiled reader is no Exception
        return _failed(
            path, "error", f"the reader failed: {type(exc).__name__}: {_one_line(exc)}", started, **known
        )
    try:
        problem = _problem(observations, variables)
    except (AttributeError, KeyError, TypeError, ValueError) as exc:
        problem = "error", f"the reader gave no observations: {type(exc).__name__}: {_one_line(exc)}"
    if problem is not None:
        return _failed(path, *problem, started, **known)
    data = {name: np.asarray(observations.variables[name], dtype=VARIABLES[name]) for name in variables}
    summary = FileSummary(
        path=path,
        epoch=np.asarray(observations.epoch, dtype=np.int64),
        sid=tuple(observations.sid),
        data_bytes=sum(values.nbytes for values in data.values()),
        notes=tuple(observations.notes),
        station=" ".join(observations.station.split()),
        reader=f"{reader} ({reader_version(reader)}, Python {'.'.join(platform.python_version_tuple()[:2])})",
        digest=observations.digest or _digest(path, stat),
        **_where(started),
        **known,
    )
    return FileResult(summary, data)


def _digest(path: str, stat: os.stat_result) -> str:
    """SHA-256 of a file; empty where it is not as it was, and never taken for a known one."""
    try:
        with Path(path).open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        now = Path(path).stat()
    except OSError:
        return ""
    return digest if (now.st_size, now.st_mtime_ns) == (stat.st_size, stat.st_mtime_ns) else ""


def _problem(observations: Observations, variables: Sequence[str]) -> tuple[FailureKind, str] | None:
    """What makes observations unfit to be stored; a reader's fault must not damage a store."""
    epoch, sid = np.asarray(observations.epoch, dtype=np.int64), observations.sid
    if len(epoch) == 0:
        return "empty", "holds no epochs"
    if len(sid) == 0:
        return "empty", f"holds no observations of {', '.join(variables)}"
    if np.any(np.diff(epoch) <= 0):
        return "error", "the reader gave epochs that do not increase"
    if len(set(sid)) < len(sid) or any(name.count("|") != 2 for name in sid):
        return "error", "the reader gave signals that are not sv|band|code, each once"
    shape = (len(epoch), len(sid))
    for name in variables:
        if (given := np.shape(observations.variables[name])) != shape:
            return "error", f"the reader gave {name} of shape {given}, not {shape}"
    return None


def _one_line(exc: BaseException) -> str:
    return " ".join(str(exc).split()) or "no message"


def _where(started: float) -> dict[str, Any]:
    return {
        "seconds": time.perf_counter() - started,
        "worker": worker_name(),
        "pid": os.getpid(),
        "peak_memory_bytes": peak_memory_bytes(),
    }


def _failed(path: str, kind: FailureKind, reason: str, started: float, **known: Any) -> FileResult:
    summary = FileSummary(
        path=path,
        epoch=np.empty(0, np.int64),
        sid=(),
        failure=Failure(kind, reason),
        **_where(started),
        **known,
    )
    return FileResult(summary)


def summary_of(result: FileResult) -> FileSummary:
    """The small part of a result, for the host."""
    return result.summary


def read_file_alone(
    path: str, reader: str, variables: Sequence[str], memory_limit_bytes: int | None = None
) -> FileResult:
    """Read one file in a process of its own, so that its death harms nothing else.

    For files that were being read when a worker died: which of them did it is only known afterwards.

    Parameters
    ----------
    path, reader, variables
        As in `read_file`.
    memory_limit_bytes : int, optional
        How much data the process may allocate; by default as much as there is.

    Returns
    -------
    FileResult
        With a failure of the kind ``killed`` where the process died, saying by which signal.
    """
    started = time.perf_counter()
    request = pickle.dumps((path, reader, tuple(variables), memory_limit_bytes))
    # By name and not with -m, which would pickle the result as a class of __main__.
    code = "from canvod.launch.runtime.tasks import read_for_parent; read_for_parent()"
    search = [os.environ.get("PYTHONPATH", ""), *sys.path]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, search))}
    ending = ""
    for _ in range(ALONE_ATTEMPTS):
        process = subprocess.run(
            [sys.executable, "-P", "-c", code],
            input=request,
            capture_output=True,
            check=False,
            env=environment,
        )
        if process.returncode == 0:
            result: FileResult = pickle.loads(process.stdout)  # noqa: S301 - from our own process
            return replace(result, summary=replace(result.summary, **_where(started)))
        ending = _how_it_ended(process)
    return _failed(path, "killed", ending, started)


def _how_it_ended(process: subprocess.CompletedProcess[bytes]) -> str:
    who = f"the process that read it, alone, on worker {worker_name()}"
    if process.returncode < 0:
        number = -process.returncode
        name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
        return f"{who}, was ended by {name}"
    last = process.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["no message"]
    return f"{who}, ended with status {process.returncode}: {last[0]}"


def read_for_parent() -> None:
    """Be the child of `read_file_alone`: request on stdin, pickled result on stdout."""
    answer = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a reader prints must not mix with the answer
    path, reader, variables, memory_limit_bytes = pickle.loads(sys.stdin.buffer.read())  # noqa: S301 - from our own process
    if memory_limit_bytes is not None and sys.platform == "linux":
        import resource

        # RLIMIT_DATA and not RLIMIT_AS: libraries reserve address space that they never use.
        resource.setrlimit(resource.RLIMIT_DATA, (memory_limit_bytes, memory_limit_bytes))
    with answer:
        answer.write(pickle.dumps(read_file(path, reader, variables)))


def spool_file(path: str, reader: str, variables: Sequence[str], target: str) -> FileSummary:
    """Read one file and put the result into the file ``target``, for workers that keep nothing.

    Returns
    -------
    FileSummary
        Without the data.
    """
    return _spooled(read_file(path, reader, variables), target)


def spool_file_alone(
    path: str, reader: str, variables: Sequence[str], target: str, memory_limit_bytes: int | None = None
) -> FileSummary:
    """`read_file_alone`, with the result put into the file ``target``."""
    return _spooled(read_file_alone(path, reader, variables, memory_limit_bytes), target)


def _spooled(result: FileResult, target: str) -> FileSummary:
    if result.summary.failure is None:
        partial = f"{target}.{uuid.uuid4().hex}"
        with Path(partial).open("wb") as stream:
            pickle.dump(result, stream, protocol=pickle.HIGHEST_PROTOCOL)
        Path(partial).replace(target)
    return result.summary


def write_spooled_chunks(fork: bytes, batch: WriteBatch, *targets: str) -> WriteResult:
    """`write_chunks` with results that `spool_file` put into files."""
    results = []
    for target in targets:
        try:
            with Path(target).open("rb") as stream:
                results.append(pickle.load(stream))  # noqa: S301 - from our own process
        except OSError as exc:
            raise WriteFailedError(f"data that were read are gone: {exc}") from exc
    return write_chunks(fork, batch, *results)


_quiet = threading.Lock()


def quiet_icechunk() -> None:
    """Silence Icechunk's warning about local storage: canvod-launch has one committer, under a lock.

    A filter that the user has set in ``ICECHUNK_LOG`` stays.
    """
    import icechunk

    with _quiet:
        if "ICECHUNK_LOG" not in os.environ:
            icechunk.set_logs_filter("error")


def write_chunks(fork: bytes, batch: WriteBatch, *results: FileResult) -> WriteResult:
    """Write chunks into a forked session.

    Parameters
    ----------
    fork : bytes
        Pickled ``icechunk.ForkSession``; bytes, so that a task that is repeated starts from the same state.
    batch : WriteBatch
        What to write.
    *results : FileResult
        The batch's sources, in its order.

    Returns
    -------
    WriteResult
        With the changed fork.

    Raises
    ------
    SourceLostError
        If a source is not what it was when it was first read.
    WriteFailedError
        If the store refuses.
    """
    for source, digest, result in zip(batch.sources, batch.digests, results, strict=True):
        if result.summary.failure is not None:
            raise SourceLostError(source, f"was read once, but not again: {result.summary.failure.reason}")
        if result.summary.digest != digest:
            raise SourceLostError(source, "changed while it was being ingested")
    try:
        return _write(fork, batch, results)
    except KeyboardInterrupt:
        raise
    except Exception as exc:
        raise WriteFailedError(f"{type(exc).__name__}: {_one_line(exc)}") from exc


def _write(fork: bytes, batch: WriteBatch, results: Sequence[FileResult]) -> WriteResult:
    import zarr

    quiet_icechunk()
    # Two copies: what one chunk's write replaces, another chunk may still have to be copied from.
    base, session = pickle.loads(fork), pickle.loads(fork)  # noqa: S301 - from our own process
    position = {name: index for index, name in enumerate(batch.sid)}
    columns = [np.array([position[name] for name in result.summary.sid], dtype=np.intp) for result in results]
    paths = {name: f"{batch.group}/{name}" for name in batch.variables}
    old: dict[str, Any] = {
        name: zarr.open_array(base.store, path=path, mode="r") for name, path in paths.items()
    }
    new: dict[str, Any] = {
        name: zarr.open_array(session.store, path=path, mode="r+") for name, path in paths.items()
    }
    dtypes = {name: array.dtype for name, array in old.items()}

    def values_of(segment: Segment, name: str) -> tuple[Values, Columns]:
        rows = slice(segment.source_start, segment.source_start + segment.length)
        if segment.source == STORED:
            return old[name][rows], slice(None)
        return results[segment.source].variables[name][rows], columns[segment.source]

    numbers = (*batch.sources, STORED)  # so that STORED, which is -1, stays what it is
    stored, merged, differing = Counter[int](), Counter[int](), Counter[tuple[int, int]]()
    for chunk in batch.chunks:
        found = merge_chunk(chunk, dtypes, len(batch.sid), values_of)
        if not found.in_place:
            for name, block in found.variables.items():
                new[name][chunk.start : chunk.stop] = block
        stored.update({numbers[source]: count for source, count in found.stored.items()})
        merged.update({numbers[source]: count for source, count in found.merged.items()})
        differing.update({(numbers[a], numbers[b]): count for (a, b), count in found.differing.items()})
    return WriteResult(
        fork=pickle.dumps(session),
        chunks=len(batch.chunks),
        worker=worker_name(),
        pid=os.getpid(),
        peak_memory_bytes=peak_memory_bytes(),
        stored=dict(stored),
        merged=dict(merged),
        differing=dict(differing),
    )
