"""What the workers do with single files in an ingest: read them, also alone, and look into them.

Every function here is importable and takes plain values, so that host and workers may run different Python
versions.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import platform
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from canvod.launch.readers import (
    DEFAULT,
    VARIABLES,
    NoReaderError,
    Observations,
    UnreadableFileError,
    find_reader,
    plain_size,
    read_observations,
    reader_version,
)
from canvod.launch.readers.observations import one_line
from canvod.launch.runtime.blocks import DAY_NS, Source
from canvod.launch.runtime.memory_need import least_data_bytes, may_be_too_large, no_memory, too_large
from canvod.launch.runtime.messages import FailureKind, FileSummary
from canvod.launch.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from canvod.launch.runtime.blocks import Epochs

ALONE_ATTEMPTS = 2
"""How often a file is read alone: twice, since the kernel may kill a process for the greed of another."""

CLOSEST_NS = 10**6
"""Epochs of a file are at least this far apart: a day has a bounded number of rows."""

ReadFile = tuple[FileSummary, Source | None]
"""A file's summary, and its values where it could be read."""


def dask_worker() -> Any:
    """The worker of Dask that runs this task.

    Returns
    -------
    distributed.Worker or None
        None in a process that is none; it does not import Dask for that.
    """
    distributed = sys.modules.get("distributed")
    if distributed is not None:
        with suppress(ValueError):
            return distributed.get_worker()
    return None


def worker_name() -> str:
    """Name of this worker in Dask, else ``process-<pid>``.

    Returns
    -------
    str
        The name, as the launcher tells it to a user.
    """
    worker = dask_worker()
    return f"process-{os.getpid()}" if worker is None else str(worker.name)


def peak_memory_bytes() -> int:
    """The most resident memory that this process has had (``VmHWM`` of proc_pid_status(5)).

    Returns
    -------
    int
        Bytes; 0 where the system does not tell.
    """
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return 0
    for line in status.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def reader_problem(reader: str) -> bytes:
    """Why this worker cannot use a reader.

    Parameters
    ----------
    reader : str
        Name of the reader.

    Returns
    -------
    bytes
        One line of text in UTF-8; empty if it can.
    """
    try:
        find_reader(reader)
    except NoReaderError as exc:
        return one_line(str(exc)).encode()
    return b""


def digests(paths: Sequence[str]) -> bytes:
    """SHA-256 of files.

    Parameters
    ----------
    paths : sequence of str
        Paths of the files.

    Returns
    -------
    bytes
        A JSON object: hexadecimal digits by path; empty for a file that cannot be read, or that changes
        meanwhile.
    """
    found = {}
    for path in paths:
        try:
            found[path] = _digest(path, Path(path).stat())
        except OSError:
            found[path] = ""
    return json.dumps(found).encode()


def scan_files(
    paths: Sequence[str],
    reader: str,
    variables: Sequence[str],
    alone: bool = False,  # noqa: FBT001, FBT002 - Dask passes it by position
    memory_limit_bytes: int | None = None,
) -> bytes:
    """Summaries of files, as a JSON list; see `read_guarded`."""
    read = (read_guarded(path, reader, variables, memory_limit_bytes, alone=alone) for path in paths)
    return json.dumps([asdict(summary) for summary, _ in read]).encode()


def header_times(paths: Sequence[str]) -> bytes:
    """Times of RINEX files by their headers; see `canvod.launch.readers.rinex.read_times`.

    Parameters
    ----------
    paths : sequence of str
        Paths of the files.

    Returns
    -------
    bytes
        A JSON object: first and last epoch by path, of the files that tell.
    """
    from canvod.launch.readers.rinex import read_times

    times = {path: read_times(path) for path in paths}
    return json.dumps({path: ends for path, ends in times.items() if ends is not None}).encode()


def read_guarded(
    path: str, reader: str, variables: Sequence[str], memory_limit_bytes: int | None, *, alone: bool
) -> ReadFile:
    """Read one file, in a process of its own where this worker might die of it.

    Parameters
    ----------
    path : str
        The file.
    reader : str
        Name of a reader that is installed here.
    variables : sequence of str
        Variables to read.
    memory_limit_bytes : int or None
        Memory that this worker may use.
    alone : bool
        Whether it is to be read alone in any case.

    Returns
    -------
    tuple of (FileSummary, Source or None)
        As of `read_file` and `read_file_alone`.
    """
    alone = alone or may_be_too_large(plain_size(path), variables, memory_limit_bytes)
    return (read_file_alone if alone else read_file)(path, reader, tuple(variables), memory_limit_bytes)


def read_file(  # noqa: C901, PLR0911 - ways to fail
    path: str, reader: str, variables: Sequence[str], memory_limit_bytes: int | None = None
) -> ReadFile:
    """Read one file; whatever goes wrong with it is a value, not an exception.

    Parameters
    ----------
    path : str
        The file.
    reader : str
        Name of a reader that is installed here.
    variables : sequence of str
        Variables to read.
    memory_limit_bytes : int, optional
        Memory that this worker may use: a file that needs more by its length is not read.

    Returns
    -------
    tuple of (FileSummary, Source or None)
        The summary has a failure, and there are no values, where the file cannot be read.
    """
    try:
        # Before reading, so that a file that grows meanwhile is taken for changed by the next run.
        stat = Path(path).stat()
    except OSError as exc:
        return _failed(path, "missing", f"cannot be opened: {exc.strerror or exc}")
    known: dict[str, Any] = {"size": stat.st_size, "mtime_ns": stat.st_mtime_ns}
    what = f"a file of {format_bytes(stat.st_size)}"
    least = least_data_bytes(plain_size(path), variables) if reader == DEFAULT else 0
    if problem := too_large(least, memory_limit_bytes, what=what):
        return _failed(path, "memory", problem, **known)
    try:
        observations = read_observations(path, tuple(variables), reader)
    except UnreadableFileError as exc:
        return _failed(path, "unreadable", exc.reason, **known)
    except NoReaderError as exc:
        return _failed(path, "no-reader", one_line(str(exc)), **known)
    except MemoryError:
        return _failed(path, "memory", no_memory(memory_limit_bytes, what=what), **known)
    except KeyboardInterrupt:
        raise
    except BaseException as exc:  # noqa: BLE001 - a panic in a compiled reader is no Exception
        return _failed(
            path,
            "error",
            f"the reader failed: {type(exc).__name__}: {one_line(str(exc)) or 'no message'}",
            **known,
        )
    try:
        unfit = _problem(observations, variables)
    except (AttributeError, KeyError, TypeError, ValueError) as exc:
        unfit = (
            "error",
            f"the reader gave no observations: {type(exc).__name__}: {one_line(str(exc)) or 'no message'}",
        )
    if unfit is not None:
        return _failed(path, *unfit, **known)
    data = {name: np.asarray(observations.variables[name], dtype=VARIABLES[name]) for name in variables}
    epoch = np.asarray(observations.epoch, dtype=np.int64)
    data_bytes = sum(values.nbytes for values in data.values())
    rows = int(np.unique(epoch // DAY_NS, return_counts=True)[1].max())
    if problem := too_large(data_bytes * rows // len(epoch), memory_limit_bytes, what=what):
        return _failed(path, "memory", problem, **known)
    summary = FileSummary(
        path=path,
        epochs=len(epoch),
        first=int(epoch[0]),
        last=int(epoch[-1]),
        days=_days(epoch),
        interval_ns=_interval(epoch),
        data_bytes=data_bytes,
        notes=tuple(observations.notes),
        station=" ".join(observations.station.split()),
        reader=f"{reader} ({reader_version(reader)}, Python {'.'.join(platform.python_version_tuple()[:2])})",
        digest=observations.digest or _digest(path, stat),
        **known,
    )
    return summary, Source(path, epoch, tuple(observations.sid), data)


def _interval(epoch: Epochs) -> int:
    """Step between most of increasing epochs, the smallest one of several; 0 where there is but one epoch."""
    steps, counts = np.unique(np.diff(epoch), return_counts=True)
    return int(steps[np.argmax(counts)]) if len(steps) else 0


def _days(epoch: Epochs) -> tuple[tuple[int, int, int], ...]:
    """For each day of increasing epochs: the day, its first and its last epoch."""
    days, first = np.unique(epoch // DAY_NS, return_index=True)
    last = [*(first[1:] - 1), len(epoch) - 1]
    return tuple(zip(days.tolist(), epoch[first].tolist(), epoch[last].tolist(), strict=True))


def _digest(path: str, stat: os.stat_result) -> str:
    """SHA-256 of a file; empty where it is not as it was, and never taken for a known one."""
    try:
        with Path(path).open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        now = Path(path).stat()
    except OSError:
        return ""
    return digest if (now.st_size, now.st_mtime_ns) == (stat.st_size, stat.st_mtime_ns) else ""


def _problem(  # noqa: PLR0911 - one for each fault
    observations: Observations, variables: Sequence[str]
) -> tuple[FailureKind, str] | None:
    """What makes observations unfit to be stored; a reader's fault must not damage a store."""
    epoch, sid = np.asarray(observations.epoch, dtype=np.int64), observations.sid
    if len(epoch) == 0:
        return "empty", "holds no epochs"
    if len(sid) == 0:
        return "empty", f"holds no observations of {', '.join(variables)}"
    if np.any(np.diff(epoch) <= 0):
        return "error", "the reader gave epochs that do not increase"
    if np.any(np.diff(epoch) < CLOSEST_NS):
        return "error", "holds epochs less than a millisecond apart"
    if len(set(sid)) < len(sid) or any(name.count("|") != 2 for name in sid):
        return "error", "the reader gave signals that are not sv|band|code, each once"
    shape = (len(epoch), len(sid))
    for name in variables:
        if (given := np.shape(observations.variables[name])) != shape:
            return "error", f"the reader gave {name} of shape {given}, not {shape}"
    return None


def _failed(path: str, kind: FailureKind, reason: str, **known: Any) -> ReadFile:
    return FileSummary(path, failure=kind, reason=reason, **known), None


def read_file_alone(
    path: str, reader: str, variables: Sequence[str], memory_limit_bytes: int | None = None
) -> ReadFile:
    """Read one file in a process of its own, so that its death harms nothing else.

    For files that were being read when a worker died: which of them did it is only known afterwards.

    Parameters
    ----------
    path : str
        The file.
    reader : str
        Name of a reader that is installed here.
    variables : sequence of str
        Variables to read.
    memory_limit_bytes : int, optional
        How much data the process may allocate; by default as much as there is.

    Returns
    -------
    tuple of (FileSummary, Source or None)
        As of `read_file`; with a failure of the kind ``killed`` where the process died, saying how.
    """
    request = pickle.dumps((path, reader, tuple(variables), memory_limit_bytes))
    # By name and not with -m, which would pickle the result as a class of __main__.
    code = "from canvod.launch.runtime.file_tasks import read_for_parent; read_for_parent()"
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
            result: ReadFile = pickle.loads(process.stdout)  # noqa: S301 - from our own process
            return result
        ending = _how_it_ended(process)
    return _failed(path, "killed", ending, worker=worker_name())


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
        answer.write(pickle.dumps(read_file(path, reader, variables, memory_limit_bytes)))
