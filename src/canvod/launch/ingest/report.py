"""What an ingest did."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from canvod.launch.errors import ExitStatus

if TYPE_CHECKING:
    from collections.abc import Mapping

Status = Literal["stored", "skipped", "failed"]


@dataclass(frozen=True)
class FileOutcome:
    """What became of one file."""

    path: str
    status: Status
    reason: str = ""
    """Why it was skipped, or failed; for a stored file, why some of its epochs were not."""
    epochs: int = 0
    epochs_stored: int = 0
    """Epochs that are new, or to which it gave a value."""
    notes: tuple[str, ...] = ()
    """What the reader left out, each kind with its count and first line, and how many values differ from the
    ones that were there."""
    station: str = ""
    """MARKER NAME."""
    reader: str = ""
    """What has read it, with its version and that of Python."""


@dataclass(frozen=True)
class NoteCount:
    """How often something is told."""

    count: int
    files: int


@dataclass(frozen=True)
class IngestReport:
    """Summary of one ingest.

    Attributes
    ----------
    store, group : str
        Where the data are.
    reader : str
        Which reader read them.
    files : tuple of FileOutcome
        In the order in which they were given.
    epochs, signals : int
        Length of the group's axes now.
    first_epoch, last_epoch : int or None
        Nanoseconds since 1970-01-01, GPS time.
    bytes_read : int
        Size of the files that were read.
    bytes_data : int
        Size of the data as arrays, before compression.
    bytes_stored : int
        By how much the store has grown on disk.
    seconds_read, seconds_wait, seconds_write, seconds_commit : float
        Time to read the files, to wait for another writer, to write chunks, and to commit.
    snapshot_id : str or None
        The new snapshot; None where there was nothing to commit.
    peak_memory_bytes : mapping of str to int
        The most memory that was seen of each worker.
    workers : int
        Workers at the beginning.
    notices : tuple of str
        What could not be enforced, and other things to know.
    """

    store: str
    group: str
    reader: str
    files: tuple[FileOutcome, ...]
    epochs: int = 0
    signals: int = 0
    first_epoch: int | None = None
    last_epoch: int | None = None
    bytes_read: int = 0
    bytes_data: int = 0
    bytes_stored: int = 0
    seconds_read: float = 0.0
    seconds_wait: float = 0.0
    seconds_write: float = 0.0
    seconds_commit: float = 0.0
    snapshot_id: str | None = None
    peak_memory_bytes: Mapping[str, int] = field(default_factory=dict)
    workers: int = 0
    notices: tuple[str, ...] = ()

    def of(self, status: Status) -> tuple[FileOutcome, ...]:
        """Files with this outcome."""
        return tuple(file for file in self.files if file.status == status)

    @property
    def stored(self) -> tuple[FileOutcome, ...]:
        """Files that gave something to the store."""
        return self.of("stored")

    @property
    def skipped(self) -> tuple[FileOutcome, ...]:
        """Files that had nothing new."""
        return self.of("skipped")

    @property
    def failed(self) -> tuple[FileOutcome, ...]:
        """Files that could not be read."""
        return self.of("failed")

    @property
    def overlapping_epochs(self) -> int:
        """Epochs of stored files that were not stored, since another file had held them before."""
        return sum(file.epochs - file.epochs_stored for file in self.stored)

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
        """3 where files failed, else 0."""
        return ExitStatus.SOME_FAILED if self.failed else ExitStatus.OK

    def as_json(self) -> dict[str, Any]:
        """Everything as plain values; times in ISO 8601."""
        return with_iso_epochs(asdict(self)) | {
            "counts": {status: len(self.of(status)) for status in ("stored", "skipped", "failed")},
            "overlapping_epochs": self.overlapping_epochs,
            "notes_by_kind": {kind: asdict(count) for kind, count in self.notes_by_kind.items()},
            "exit_status": int(self.exit_status),
        }


def format_files(count: int) -> str:
    """A number of files in words."""
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


def with_iso_epochs(values: Mapping[str, Any]) -> dict[str, Any]:
    """Write ``first_epoch`` and ``last_epoch`` for JSON: in ISO 8601, and with the time scale in their names.

    Examples
    --------
    >>> with_iso_epochs({"epochs": 1, "first_epoch": 1735689600000000000, "last_epoch": None})
    {'epochs': 1, 'first_epoch_gps': '2025-01-01T00:00:00', 'last_epoch_gps': None}
    """
    written = dict(values)
    for name in ("first_epoch", "last_epoch"):
        epoch = written.pop(name)
        written[f"{name}_gps"] = None if epoch is None else format_epoch(epoch)
    return written


def format_epoch(nanoseconds: int) -> str:
    """An epoch as ISO 8601, in the time scale that it has.

    Examples
    --------
    >>> format_epoch(1735689600000000000)
    '2025-01-01T00:00:00'
    """
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{rest:09d}".rstrip("0") if rest else text
