"""What an ingest did."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, Final, Literal

from canvod.launch.errors import ExitStatus

if TYPE_CHECKING:
    from collections.abc import Mapping


Status = Literal["stored", "known", "partly", "failed"]
RecordStatus = Status | Literal["begun"]
"""Of a row of the log book; ``begun`` where a commit has a part of the file alone."""
STATUSES: Final[tuple[Status, ...]] = ("stored", "known", "partly", "failed")


@dataclass(frozen=True, slots=True)
class FileOutcome:
    """What became of one file.

    Attributes
    ----------
    path : str
        Absolute path of the file.
    status : str
        ``stored``, ``known``, ``partly`` or ``failed``.
    reason : str
        Why it is known, or failed, or which of its values another file had first.
    epochs : int
        Number of its epochs, where this run has read it.
    values : int
        Values that it gave to the group in this run.
    notes : tuple of str
        What the reader left out, each kind with its count and first line.
    station : str
        MARKER NAME.
    reader : str
        What has read it, with its version and that of Python.
    """

    path: str
    status: Status
    reason: str = ""
    epochs: int = 0
    values: int = 0
    notes: tuple[str, ...] = ()
    station: str = ""
    reader: str = ""


@dataclass(frozen=True)
class NoteCount:
    """How often something is told.

    Attributes
    ----------
    count : int
        How much of it there is, in all files.
    files : int
        In how many files.
    """

    count: int
    files: int


@dataclass(frozen=True)
class IngestReport:
    """Summary of one ingest.

    Attributes
    ----------
    store, group : str
        Where the data are.
    files : tuple of FileOutcome
        In the order in which they were given.
    epochs, signals : int
        Real epochs of the group now, and its signals.
    first_day, last_day : str or None
        The first and the last day of the group, ISO 8601, GPS time.
    bytes_read : int
        Size of the files that were read.
    bytes_data : int
        Size of the data as arrays, before compression.
    seconds : mapping of str to float
        Time for all (``total``), to wait for another writer (``wait``), and to write and commit (``commit``).
    snapshots : tuple of str
        The new snapshots, the oldest first.
    peak_memory_bytes : mapping of str to int
        The most memory that was seen of each worker.
    workers : int
        Workers at the beginning.
    notices : tuple of str
        What could not be enforced, and other things to know.
    """

    store: str
    group: str
    files: tuple[FileOutcome, ...]
    epochs: int = 0
    signals: int = 0
    first_day: str | None = None
    last_day: str | None = None
    bytes_read: int = 0
    bytes_data: int = 0
    seconds: Mapping[str, float] = field(default_factory=dict)
    snapshots: tuple[str, ...] = ()
    peak_memory_bytes: Mapping[str, int] = field(default_factory=dict)
    workers: int = 0
    notices: tuple[str, ...] = ()

    def of(self, status: Status) -> tuple[FileOutcome, ...]:
        """Files with this outcome.

        Parameters
        ----------
        status : str
            ``stored``, ``known``, ``partly`` or ``failed``.

        Returns
        -------
        tuple of FileOutcome
            In the order in which they were given.
        """
        return tuple(file for file in self.files if file.status == status)

    @property
    def stored(self) -> tuple[FileOutcome, ...]:
        """Files that gave something to the store."""
        return self.of("stored")

    @property
    def known(self) -> tuple[FileOutcome, ...]:
        """Files that had nothing new."""
        return self.of("known")

    @property
    def partly(self) -> tuple[FileOutcome, ...]:
        """Files that have values which differ from those that count."""
        return self.of("partly")

    @property
    def failed(self) -> tuple[FileOutcome, ...]:
        """Files that gave nothing."""
        return self.of("failed")

    @property
    def notes_by_kind(self) -> dict[str, NoteCount]:
        """What the notes of all files tell, by kind: how much of it there is, and in how many files."""
        found: dict[str, NoteCount] = {}
        for file in self.files:
            for note in file.notes:
                kind, count = _kind_of(note)
                known = found.get(kind, NoteCount(0, 0))
                found[kind] = NoteCount(known.count + count, known.files + 1)
        return found

    @property
    def exit_status(self) -> ExitStatus:
        """3 where anything of the files was not stored, else 0."""
        return ExitStatus.SOME_FAILED if self.failed or self.partly else ExitStatus.OK

    def as_json(self) -> dict[str, Any]:
        """Everything as plain values.

        Returns
        -------
        dict of str to object
            The fields by name, with ``counts`` by status, ``notes_by_kind`` and ``exit_status``.
        """
        return asdict(self) | {
            "counts": {status: len(self.of(status)) for status in STATUSES},
            "notes_by_kind": {kind: asdict(count) for kind, count in self.notes_by_kind.items()},
            "exit_status": int(self.exit_status),
        }


def format_files(count: int) -> str:
    """A number of files in words.

    Parameters
    ----------
    count : int
        The number.

    Returns
    -------
    str
        ``1 file``, ``2 files``.
    """
    return f"{count} file{'s' if count != 1 else ''}"


def _kind_of(note: str) -> tuple[str, int]:
    """Split a note into its kind, in words alike for one and several, and its count, 1 where it has none."""
    clause = re.split(r", (?:at|the first at) line|: | \(line", note)[0]
    number = re.search(r"(?<![\w.])\d[\d,]*(?![\w.])", clause)
    if number is None:
        return clause, 1
    kind = re.sub(
        r"\b(epoch|line|record|satellite|code|value|time)s?\b", r"\1s", clause.replace(number[0], "", 1)
    )
    return " ".join(kind.split()), int(number[0].replace(",", ""))


def format_day(day: int) -> str:
    """A day as ISO 8601.

    Parameters
    ----------
    day : int
        Days since 1970-01-01.

    Returns
    -------
    str
        The date.

    Examples
    --------
    >>> format_day(20_089)
    '2025-01-01'
    """
    return date.fromordinal(date(1970, 1, 1).toordinal() + day).isoformat()


def format_epoch(nanoseconds: int) -> str:
    """An epoch as ISO 8601, in the time scale that it has.

    Parameters
    ----------
    nanoseconds : int
        Since 1970-01-01.

    Returns
    -------
    str
        Without a zone; fractions of a second as far as they are needed.

    Examples
    --------
    >>> format_epoch(1735689600000000000)
    '2025-01-01T00:00:00'
    """
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{rest:09d}".rstrip("0") if rest else text
