"""The log book of a group: what became of every file, in the same commit as its values.

It is the subgroup ``files``, with a row for each time that a file was ingested; the last row of a path
counts. The numbers by which files are looked up are read whole, 8 bytes a row each; the records, which are
JSON, are read in blocks, where a row is wanted.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
from zarr.codecs import BloscCodec

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import zarr

    from canvod.launch.ingest.report import RecordStatus
    from canvod.launch.runtime.messages import FailureKind


COLUMNS: Final = {
    "path_key": ("int64", 2**11),
    "first_epoch": ("int64", 2**11),
    "last_epoch": ("int64", 2**11),
}
"""The columns that are read whole: dtype, and rows in a chunk."""
RECORD: Final = ("str", 2**9)
"""The same of the records."""


@dataclass(frozen=True)
class FileRecord:
    """What became of one file in one run.

    Attributes
    ----------
    path : str
        Absolute path of the file.
    status : str
        ``stored``, ``known``, ``partly`` or ``failed``; ``begun`` where the commit has a part of the file
        alone, and the next run goes on with it.
    failure : str or None
        Kind of what went wrong; None where it is not ``failed``.
    reason : str
        Why it is known, or failed, or which of its values another file had first.
    size : int
        Bytes of the file.
    mtime_ns : int
        When it was modified: nanoseconds since 1970-01-01, UTC.
    digest : str
        SHA-256 of its content in hexadecimal digits; empty where it failed, or the group still has values
        of an earlier content of it.
    first_epoch, last_epoch : int
        Nanoseconds since 1970-01-01, GPS time; 0 where it failed.
    epochs : int
        Number of its epochs.
    values : int
        Values that it gave to the group.
    station : str
        MARKER NAME, as the file has it.
    reader : str
        What has read it, with its version and that of Python.
    notes : tuple of str
        What the reader left out, each kind with its count and first line.
    run : str
        The run: when it began, ISO 8601, UTC.
    """

    path: str
    status: RecordStatus
    failure: FailureKind | None = None
    reason: str = ""
    size: int = 0
    mtime_ns: int = 0
    digest: str = ""
    first_epoch: int = 0
    last_epoch: int = 0
    epochs: int = 0
    values: int = 0
    station: str = ""
    reader: str = ""
    notes: tuple[str, ...] = ()
    run: str = ""

    @property
    def has_values(self) -> bool:
        """Whether the group holds values of it, or equal ones of another file."""
        return self.status != "failed"


def path_key(path: str) -> int:
    """A number by which the rows of a path are found.

    Parameters
    ----------
    path : str
        Absolute path of a file.

    Returns
    -------
    int
        63 bits of its BLAKE2b; two paths may have the same.
    """
    return int.from_bytes(hashlib.blake2b(path.encode(errors="surrogateescape"), digest_size=8).digest()) >> 1


def make_log(group: zarr.Group) -> None:
    """Make an empty log book in a new group.

    Parameters
    ----------
    group : zarr.Group
        The group, in a writable session.
    """
    book = group.create_group("files", attributes={"title": "What became of the files that were ingested"})
    for name, (dtype, rows) in {**COLUMNS, "record": RECORD}.items():
        is_time = name.endswith("_epoch")
        book.create_array(
            name,
            shape=(0,),
            dtype=dtype,
            chunks=(rows,),
            dimension_names=["file"],
            attributes={"units": "nanoseconds since 1970-01-01"} if is_time else {},
            # Every commit writes the last chunk anew: times that increase take a byte each so.
            compressors=[BloscCodec(cname="zstd", shuffle="shuffle")],
        )


class LogBook:
    """The log book as it is in one snapshot.

    Parameters
    ----------
    group : zarr.Group or None
        The group; None where there is none yet.

    Attributes
    ----------
    length : int
        Number of its rows.
    """

    def __init__(self, group: Any) -> None:
        self._book = None if group is None else group["files"]
        self.length = 0 if self._book is None else int(self._book["path_key"].shape[0])
        self._scanned: dict[str, npt.NDArray[np.int64]] = {}

    def _column(self, name: str) -> npt.NDArray[np.int64]:
        if name not in self._scanned:
            empty = np.empty(0, np.int64)
            self._scanned[name] = empty if self._book is None else np.asarray(self._book[name][:], np.int64)
        return self._scanned[name]

    def last_of(self, paths: Sequence[str]) -> dict[str, FileRecord]:
        """The last record of each of these paths that has one.

        Parameters
        ----------
        paths : sequence of str
            Absolute paths.

        Returns
        -------
        dict of str to FileRecord
            By path.
        """
        if not paths:  # the column need not be read
            return {}
        keys = {path_key(path): path for path in paths}
        column = self._column("path_key")
        rows = np.flatnonzero(np.isin(column, np.fromiter(keys, np.int64, len(keys))))
        last = {int(column[row]): int(row) for row in rows}  # later rows come later
        found = self.read(sorted(last.values()))
        return {record.path: record for record in found if keys.get(path_key(record.path)) == record.path}

    def within(self, first: int, last: int) -> list[FileRecord]:
        """The last records of the files with values whose time meets that from ``first`` to ``last``.

        Parameters
        ----------
        first, last : int
            Nanoseconds since 1970-01-01, GPS time; both belong to it.

        Returns
        -------
        list of FileRecord
            In the order of their rows.
        """
        begins, ends = self._column("first_epoch"), self._column("last_epoch")
        rows = self._counting[(begins[self._counting] <= last) & (ends[self._counting] >= first)]
        return [record for record in self.read(rows) if record.has_values]

    @cached_property
    def _counting(self) -> npt.NDArray[np.int64]:
        """The rows after which no other one has their path."""
        keys = self._column("path_key")
        _, from_end = np.unique(keys[::-1], return_index=True)
        return np.sort(len(keys) - 1 - from_end)

    def read(self, rows: Iterable[int]) -> list[FileRecord]:
        """Records by their rows.

        Parameters
        ----------
        rows : iterable of int
            Numbers of rows.

        Returns
        -------
        list of FileRecord
            In the order of ``rows``.
        """
        chosen = np.fromiter(rows, np.int64)
        if not len(chosen) or self._book is None:
            return []
        return [_decoded(str(record)) for record in self._book["record"].oindex[chosen]]

    def all(self) -> list[FileRecord]:
        """All records.

        Returns
        -------
        list of FileRecord
            The oldest first.
        """
        return self.read(range(self.length))


def append(group: Any, records: Sequence[FileRecord]) -> None:
    """Append records to the log book of a group.

    Parameters
    ----------
    group : zarr.Group
        The group, in a writable session.
    records : sequence of FileRecord
        The new rows.
    """
    book = group["files"]
    held = int(book["path_key"].shape[0])
    columns: dict[str, Any] = {
        "path_key": [path_key(record.path) for record in records],
        "first_epoch": [record.first_epoch for record in records],
        "last_epoch": [record.last_epoch for record in records],
    }
    encoded = [json.dumps(asdict(record)) for record in records]
    rows = {name: np.array(values, np.int64) for name, values in columns.items()}
    for name, values in {**rows, "record": np.array(encoded, np.dtypes.StringDType())}.items():
        book[name].resize((held + len(records),))
        book[name][held:] = values


def _decoded(record: str) -> FileRecord:
    values = json.loads(record)
    return FileRecord(**values | {"notes": tuple(values["notes"])})


@dataclass(frozen=True)
class RunSummary:
    """What became of the files of one run.

    Attributes
    ----------
    run : str
        When it began, ISO 8601, UTC.
    counts : dict of str to int
        Number of files by status.
    values : int
        Values that they gave.
    """

    run: str
    counts: dict[str, int]
    values: int


def runs(records: Iterable[FileRecord]) -> list[RunSummary]:
    """Sum up records by their run.

    Parameters
    ----------
    records : iterable of FileRecord
        Records, the oldest first; the last one of a path in a run counts.

    Returns
    -------
    list of RunSummary
        The oldest run first.
    """
    of_run: dict[str, dict[str, FileRecord]] = {}
    for record in records:
        of_run.setdefault(record.run, {})[record.path] = record
    return [
        RunSummary(
            run,
            dict(Counter(record.status for record in found.values())),
            sum(record.values for record in found.values()),
        )
        for run, found in sorted(of_run.items())
    ]
