"""What crosses the wire between host and workers: plain values, alike in every Python version."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

FailureKind = Literal["unreadable", "missing", "empty", "no-reader", "memory", "killed", "error"]
"""Why a file could not be read; ``killed`` means that the process that read it died."""

STORED: Final = -1
"""The source of values that the store holds already."""

Values = npt.NDArray[np.floating[Any]]


class SourceLostError(Exception):
    """A file that was read before cannot be read again, or has changed since; the arguments are plain.

    Parameters
    ----------
    source : int
        Number of the file in the run.
    reason : str
        What happened to it.
    """

    def __init__(self, source: int, reason: str) -> None:
        super().__init__(source, reason)
        self.source = source
        self.reason = reason


class WriteFailedError(Exception):
    """Chunks could not be written; the reason is one line, so that the error crosses processes."""


@dataclass(frozen=True)
class Failure:
    """Why a file gave no data."""

    kind: FailureKind
    reason: str


@dataclass(frozen=True, eq=False)
class FileSummary:
    """What the host has to know of a file that was read.

    Attributes
    ----------
    path : str
        The file.
    epoch : numpy.ndarray
        Shape (n_epoch,), int64 nanoseconds since 1970-01-01; empty where reading failed.
    sid : tuple of str
        Signals, sorted.
    size_bytes, mtime_ns, digest
        Of the file itself: size, time of modification, SHA-256.
    data_bytes : int
        Size of the data that the worker holds.
    seconds : float
        Time to read.
    worker, pid, peak_memory_bytes
        Where it was read, and the most resident memory that this process has had so far.
    notes : tuple of str
        What the reader left out of the file.
    station : str
        MARKER NAME.
    reader : str
        What has read it, with its version and that of Python.
    failure : Failure or None
        Why there are no data.
    """

    path: str
    epoch: npt.NDArray[np.int64]
    sid: tuple[str, ...]
    size_bytes: int = 0
    mtime_ns: int = 0
    digest: str = ""
    data_bytes: int = 0
    seconds: float = 0.0
    worker: str = ""
    pid: int = 0
    peak_memory_bytes: int = 0
    notes: tuple[str, ...] = ()
    station: str = ""
    reader: str = ""
    failure: Failure | None = None


@dataclass(frozen=True, eq=False)
class FileResult:
    """A file's summary together with its data, which stay on the worker."""

    summary: FileSummary
    variables: dict[str, Values] = field(default_factory=dict)

    def __sizeof__(self) -> int:
        """Size with the arrays, by which Dask decides what to spill."""
        return object.__sizeof__(self) + self.summary.epoch.nbytes + self.summary.data_bytes


@dataclass(frozen=True)
class Segment:
    """Successive epochs of one source that are successive in the store, too."""

    source: int
    """Position in the batch's ``sources``, or `STORED`."""
    source_start: int
    target_start: int
    """Position on the epoch axis of the store."""
    length: int


@dataclass(frozen=True)
class ChunkWrite:
    """All that one chunk of epochs (over all signals) consists of."""

    start: int
    stop: int
    segments: tuple[Segment, ...]
    """Of segments with the same epoch the first counts; the others give the values that it does not have."""


@dataclass(frozen=True)
class WriteBatch:
    """Chunks that one task writes.

    Attributes
    ----------
    group : str
        Path of the group in the store.
    variables : tuple of str
        Arrays to write.
    sid : tuple of str
        The signals of the store's axis, in its order.
    chunks : tuple of ChunkWrite
        No other task writes any of these.
    sources : tuple of int
        Numbers of the files in the run; the task gets their results in this order.
    digests : tuple of str
        What the content of each source must still be, since a lost result is computed again from its file.
    """

    group: str
    variables: tuple[str, ...]
    sid: tuple[str, ...]
    chunks: tuple[ChunkWrite, ...]
    sources: tuple[int, ...]
    digests: tuple[str, ...]


@dataclass(frozen=True)
class WriteResult:
    """The changed fork of the session (pickled), what the files gave to it, and what it took.

    Attributes
    ----------
    stored, merged : dict of int to int
        For each file (its number in the run): its epochs that are new or to which it gave a value, and those
        of them that were there already.
    differing : dict of (int, int) to int
        For each file, and each file (or `STORED`) whose values counted before: how many of its values differ.
    """

    fork: bytes
    chunks: int
    worker: str
    pid: int
    peak_memory_bytes: int
    stored: dict[int, int] = field(default_factory=dict)
    merged: dict[int, int] = field(default_factory=dict)
    differing: dict[tuple[int, int], int] = field(default_factory=dict)
