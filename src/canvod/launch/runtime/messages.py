"""What an ingest asks of the workers, and what they answer.

Requests are records that the workers unpickle. Answers are JSON: the launcher unpickles nothing that comes
from a worker, since a file could make its reader do anything within its container.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from canvod.launch.runtime.blocks import Span

FailureKind = Literal["unreadable", "missing", "empty", "no-reader", "memory", "killed", "station", "error"]
"""Why a file gives no data; ``killed``: the process that read it died, ``station``: it is of another one."""


@dataclass(frozen=True)
class RecordedFile:
    """A file whose values are stored, as it was then.

    Attributes
    ----------
    path : str
        Absolute path of the file.
    digest : str
        SHA-256 of its content in hexadecimal digits.
    """

    path: str
    digest: str


@dataclass(frozen=True)
class StoredRows:
    """Where the values lie that a span has in the store.

    Attributes
    ----------
    store : str
        Folder of the Icechunk store.
    snapshot : str
        ID of the snapshot.
    group : str
        Path of the group.
    start, stop : int
        Its first row in that snapshot, and the one after its last; those of its whole day, where this has
        another number of parts there.
    parts : int
        Parts that its day has there.
    recorded : tuple of RecordedFile
        The other files that have values of its time, by the log book.
    cleared : tuple of (str, int, int)
        Files that replace what they gave, with its first and last epoch (nanoseconds, GPS time): these stored
        values no longer count, where the file can be read.
    """

    store: str
    snapshot: str
    group: str
    start: int
    stop: int
    parts: int
    recorded: tuple[RecordedFile, ...] = ()
    cleared: tuple[tuple[str, int, int], ...] = ()


@dataclass(frozen=True)
class UnitRequest:
    """A span to be made of its files and of what is stored.

    Attributes
    ----------
    span : Span
        Parts of one day.
    rows : int
        Rows of each part.
    files : tuple of str
        Paths of the files that are new.
    stored : StoredRows or None
        What is stored of the span already.
    reader : str
        Name of the reader.
    variables : tuple of str
        Variables to read.
    alone : bool
        Whether each file is read in a process of its own, since workers died of one of them.
    memory_limit_bytes : int or None
        How much data such a process may allocate; None for as much as there is.
    """

    span: Span
    rows: int
    files: tuple[str, ...]
    stored: StoredRows | None
    reader: str
    variables: tuple[str, ...]
    alone: bool = False
    memory_limit_bytes: int | None = None


@dataclass(frozen=True)
class WriteRequest:
    """Where a unit is written.

    Attributes
    ----------
    group : str
        Path of the group.
    rows : dict of int to int
        First row of each part in the arrays of the group, by the part's number.
    columns : list of int
        Place of each of the unit's signals on the axis ``sid``.
    signature : str
        Of the unit that is meant.
    """

    group: str
    rows: dict[int, int]
    columns: list[int]
    signature: str


@dataclass(frozen=True)
class FileSummary:
    """What the launcher has to know of a file that was read.

    Attributes
    ----------
    path : str
        The file.
    failure : str or None
        Kind of what went wrong; None where it was read.
    reason : str
        The same in words.
    worker : str
        Where a process died of it, alone.
    size : int
        Bytes of the file.
    mtime_ns : int
        When it was modified: nanoseconds since 1970-01-01, UTC.
    digest : str
        SHA-256 of its content in hexadecimal digits; empty where it changed while it was read.
    epochs : int
        Number of its epochs.
    first, last : int
        Its first and last epoch: nanoseconds since 1970-01-01, GPS time.
    days : tuple of (int, int, int)
        For each day that it has epochs of: days since 1970-01-01, and the first and last epoch of that day.
    interval_ns : int
        Nanoseconds between most of its epochs; 0 where it has but one.
    data_bytes : int
        Size of its data as arrays.
    station : str
        MARKER NAME; empty where it has none.
    reader : str
        What has read it, with its version and that of Python.
    notes : tuple of str
        What the reader left out, each kind with its count and first line.
    gave : int
        How many values it gave to the span.
    differing : tuple of (str, int)
        Files whose values counted (empty: what was stored), and how many of its own differ from them.
    """

    path: str
    failure: FailureKind | None = None
    reason: str = ""
    worker: str = ""
    size: int = 0
    mtime_ns: int = 0
    digest: str = ""
    epochs: int = 0
    first: int = 0
    last: int = 0
    days: tuple[tuple[int, int, int], ...] = ()
    interval_ns: int = 0
    data_bytes: int = 0
    station: str = ""
    reader: str = ""
    notes: tuple[str, ...] = ()
    gave: int = 0
    differing: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class UnitReply:
    """What became of a span on its worker, which keeps the arrays; behind it follow its real epochs.

    Attributes
    ----------
    files : tuple of FileSummary
        As requested.
    epochs : tuple of int
        Real epochs of each part; -1 for a part that is as it is stored.
    replaced_epochs : int
        Real epochs that the store has in the parts that change.
    sid : tuple of str
        Signals of the span.
    parts_needed : int
        More parts than the span's day has, where one of them has more epochs than rows; else 0.
    problem : str
        Why its values could not be put into a file of the worker; empty where they were.
    not_replaced : str
        Why what a file had given could not be taken out; empty where there is nothing to say.
    displaced : tuple of (str, str, int)
        Files with stored values that do not count any more: whose values count now, and how many differ.
    signature : str
        SHA-256 of what was made, by which a unit that is made again is told from this one.
    worker : str
        Where it was made.
    peak_memory_bytes : int
        The most resident memory that the process which made it has had so far; 0 where it is not known.
    """

    files: tuple[FileSummary, ...]
    epochs: tuple[int, ...] = ()
    replaced_epochs: int = 0
    sid: tuple[str, ...] = ()
    parts_needed: int = 0
    problem: str = ""
    not_replaced: str = ""
    displaced: tuple[tuple[str, str, int], ...] = ()
    signature: str = ""
    worker: str = ""
    peak_memory_bytes: int = 0


@dataclass(frozen=True)
class WriteReply:
    """What became of writing a span; behind it follows the changed fork in Icechunk's own encoding.

    Attributes
    ----------
    problem : str
        Why it was not written; empty where it was.
    lost : bool
        Whether the unit is not the one that was asked for: it was made again after its worker had died, and
        a file had changed meanwhile.
    """

    problem: str = ""
    lost: bool = False


def encode(reply: UnitReply | WriteReply, after: bytes = b"") -> bytes:
    """Write a reply as a line of JSON, with bytes behind it.

    Parameters
    ----------
    reply : UnitReply or WriteReply
        What the launcher is told.
    after : bytes
        What follows the line.

    Returns
    -------
    bytes
        JSON in UTF-8, a line feed, and ``after``.
    """
    return json.dumps(asdict(reply), separators=(",", ":")).encode() + b"\n" + after
