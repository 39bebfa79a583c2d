"""The files of one ingest: which are read, what was made of each, and what the log book is to say of it."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from canvod.launch.ingest.log_book import FileRecord
from canvod.launch.ingest.report import FileOutcome
from canvod.launch.ingest.units import Interval, uncovered
from canvod.launch.runtime.messages import FileSummary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from canvod.launch.config.sections import IngestSettings
    from canvod.launch.ingest.log_book import LogBook
    from canvod.launch.ingest.progress import IngestProgress
    from canvod.launch.ingest.report import Status
    from canvod.launch.runtime.blocks import Span
    from canvod.launch.runtime.messages import UnitReply

RETRIED: Final = frozenset({"missing", "no-reader", "memory", "killed", "error"})
"""Failures that need not be the file's own: the next run tries these files again."""

MOST_ROUNDS: Final = 5
"""How often a file may have days that it did not have when it was read before."""


@dataclass(slots=True)
class OpenFile:
    """A file of which something is left to make.

    Attributes
    ----------
    record : FileRecord or None
        What the log book says of it.
    replaces : bool
        Whether what it gave before is taken out.
    digest : str or None
        SHA-256 of the content of which it was begun, or its first unit was made; None before that.
    open_units : int
        Units that are to be made of it.
    covered : list of (int, int)
        Spans that were made of it and are committed: first nanosecond, and the one after the last.
    gave : int
        Values that it gave.
    differing : Counter of str
        Files whose values count, with the number of its own that differ; empty for what was stored.
    read : bool
        Whether it was counted as read.
    rounds : int
        How often all that was known of it was made, and something was left.
    begun : bool
        Whether the log book has a row of this run for a part of it.
    """

    record: FileRecord | None = None
    replaces: bool = False
    digest: str | None = None
    open_units: int = 0
    covered: list[Interval] = field(default_factory=list)
    gave: int = 0
    differing: Counter[str] = field(default_factory=Counter)
    read: bool = False
    rounds: int = 0
    begun: bool = False


@dataclass
class Tally:
    """What was made of a file since the last commit.

    Attributes
    ----------
    summary : FileSummary
        What a worker told of the file.
    units : int
        Units that were made of it.
    gave : int
        Values that it gave.
    differing : Counter of str
        Files whose values count, with the number of its own that differ; empty for what was stored.
    covered : list of (int, int)
        Spans that were made of it: first nanosecond, and the one after the last.
    """

    summary: FileSummary
    units: int = 0
    gave: int = 0
    differing: Counter[str] = field(default_factory=Counter)
    covered: list[Interval] = field(default_factory=list)


class FileStates:
    """The files of one run.

    Parameters
    ----------
    paths : sequence of str
        Absolute paths, each once.
    progress : IngestProgress
        Is told which fail, and how many have ended.
    explain : callable, optional
        Says what is known of the last death on a worker, by its name.

    Attributes
    ----------
    paths : tuple of str
        The paths.
    run : str
        The run: when it began, in UTC.
    open : dict of str to OpenFile
        The files of which something is left to make.
    outcomes : dict of str to FileOutcome
        What became of the others.
    failed : list of FileRecord
        Rows for the log book that are not committed yet.
    late : dict of str to list of (int, int)
        Intervals that files have beyond what their names claim.
    others : dict of str to str
        Stored files that are none of this run, of which values do not count any more: which.
    bytes_read : int
        Size of the files that were read.
    bytes_data : int
        Size of their data as arrays.
    """

    def __init__(
        self,
        paths: Sequence[str],
        progress: IngestProgress,
        explain: Callable[[str], str | None] = lambda _worker: None,
    ) -> None:
        self.paths = tuple(paths)
        self._progress, self._explain = progress, explain
        self.run = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        self.open: dict[str, OpenFile] = {}
        self.outcomes: dict[str, FileOutcome] = {}
        self.failed: list[FileRecord] = []
        self.late: dict[str, list[Interval]] = {}
        self.others: dict[str, str] = {}
        self.bytes_read = self.bytes_data = 0

    def choose(self, log: LogBook, settings: IngestSettings) -> list[str]:
        """Divide the files into those that are known and those to read.

        A file of the same path, size and time is known, as for make and rsync. One that was begun is read.

        Parameters
        ----------
        log : LogBook
            The log book of the group.
        settings : IngestSettings
            Whether files that are damaged by the log book are read again, and those of other stations.

        Returns
        -------
        list of str
            Stored files whose size or time is another one now: their content decides.
        """
        recorded = log.last_of(self.paths)
        retried = RETRIED | ({"station"} if settings.mixed_stations else frozenset())
        changed = []
        for path in self.paths:
            if not _is_text(path):
                told = "its path is not text in UTF-8: rename it, or its folder"
                self.outcomes[path] = FileOutcome(path, "failed", told)
                continue
            record = recorded.get(path)
            unchanged = record is not None and _is_as_recorded(record)
            if record is None or not unchanged:
                if record is not None and record.has_values:
                    changed.append(path)
            elif record.status == "begun":
                self.open[path] = OpenFile(record, replaces=not record.digest, digest=record.digest or None)
                continue
            elif record.has_values:
                self.outcomes[path] = known_outcome(record)
                continue
            elif not settings.retry_failed and record.failure not in retried:
                told = "found earlier; it is as it was, and --retry-failed reads it again"
                self.outcomes[path] = FileOutcome(path, "failed", f"{record.reason} ({told})")
                continue
            self.open[path] = OpenFile(record)
        return changed

    def settle(self, outcome: FileOutcome) -> None:
        """End a file.

        Parameters
        ----------
        outcome : FileOutcome
            What became of it; it has to be open.
        """
        if not self.open.pop(outcome.path).read:
            self._progress.advance()
        self.outcomes[outcome.path] = outcome

    def fail(self, summary: FileSummary) -> None:
        """Record that a file gives no data; what it gave before stays.

        Parameters
        ----------
        summary : FileSummary
            Says why; a file that has ended already is passed over.
        """
        file = self.open.get(summary.path)
        if file is None:
            return
        known = self._explain(summary.worker) if summary.failure == "killed" else None
        reason = f"{summary.reason}: {known}" if known else summary.reason
        if file.covered:
            reason += " (a part of it was stored before)"
        self._progress.fail(summary.path, reason)
        self.settle(FileOutcome(summary.path, "failed", reason))
        record = FileRecord(
            path=summary.path,
            status="failed",
            failure=summary.failure or "error",
            reason=reason,
            size=summary.size,
            mtime_ns=summary.mtime_ns,
        )
        known_already = file.record is not None and replace(file.record, run="") == record
        has_values = file.covered or (file.record is not None and file.record.has_values)
        if not known_already and not has_values:
            self.failed.append(replace(record, run=self.run))

    def take(self, summaries: Iterable[FileSummary]) -> bool:
        """Take what a worker says of the files of a unit.

        Parameters
        ----------
        summaries : iterable of FileSummary
            One for each file; those with a failure end, and those of which another unit has other content.

        Returns
        -------
        bool
            Whether a file has ended.
        """
        before = len(self.open)
        for summary in summaries:
            file = self.open.get(summary.path)
            if file is None:
                continue
            if summary.failure is not None:
                self.fail(summary)
                continue
            if file.digest is not None and file.digest != summary.digest:
                reason = "has changed while it was read for several days; the same command reads it again"
                self.fail(replace(summary, failure="error", reason=reason))
                continue
            file.digest = summary.digest
            if not file.read:
                file.read = True
                self._progress.advance()
                self.bytes_read += summary.size
                self.bytes_data += summary.data_bytes
        return len(self.open) < before

    def tallies(self, made: Iterable[tuple[Span, UnitReply]]) -> dict[str, Tally]:
        """What units have made of each file.

        Parameters
        ----------
        made : iterable of (Span, UnitReply)
            The units that are to be committed.

        Returns
        -------
        dict of str to Tally
            By path; files that have ended are left out.
        """
        tallies: dict[str, Tally] = {}
        for span, reply in made:
            for summary in reply.files:
                if summary.path in self.open:
                    tally = tallies.setdefault(summary.path, Tally(summary))
                    tally.units += 1
                    tally.gave += summary.gave
                    tally.differing.update(dict(summary.differing))
                    tally.covered.append((span.start_ns, span.stop_ns))
        return tallies

    def records(self, tallies: Mapping[str, Tally], log: LogBook) -> list[FileRecord]:
        """Rows of the log book for files; ``begun`` where something is left to make after this commit.

        Parameters
        ----------
        tallies : mapping of str to Tally
            What is to be committed of each file.
        log : LogBook
            The log book of the group so far.

        Returns
        -------
        list of FileRecord
            In order of their first epochs, then paths.
        """
        records = []
        for path, tally in tallies.items():
            file, summary = self.open[path], tally.summary
            gave, differing = file.gave + tally.gave, file.differing + tally.differing
            status, reason = _status(summary, gave, differing, log)
            record = FileRecord(
                path=path,
                status=status,
                reason=reason,
                size=summary.size,
                mtime_ns=summary.mtime_ns,
                digest=summary.digest,
                first_epoch=summary.first,
                last_epoch=summary.last,
                epochs=summary.epochs,
                values=gave,
                station=summary.station,
                reader=summary.reader,
                notes=summary.notes,
                run=self.run,
            )
            if file.open_units > tally.units or uncovered(summary.days, [*file.covered, *tally.covered]):
                if file.begun:
                    continue
                record = replace(record, status="begun", reason="a part of it is stored")
                if file.replaces and file.record is not None:
                    record = replace(
                        record,
                        digest="",
                        first_epoch=min(record.first_epoch, file.record.first_epoch),
                        last_epoch=max(record.last_epoch, file.record.last_epoch),
                    )
            records.append(record)
        return sorted(records, key=lambda record: (record.first_epoch, record.path))

    def displaced(self, made: Iterable[UnitReply], log: LogBook) -> list[FileRecord]:
        """Rows of the log book for stored files of which values do not count any more.

        Parameters
        ----------
        made : iterable of UnitReply
            The units that are to be committed.
        log : LogBook
            The log book of the group so far.

        Returns
        -------
        list of FileRecord
            ``partly``, in order of their paths; without the files that have not ended.
        """
        differing: dict[str, Counter[str]] = {}
        for reply in made:
            for path, other, count in reply.displaced:
                differing.setdefault(path, Counter())[other] += count
        records = []
        for path, record in sorted(log.last_of([*differing]).items()):
            if path not in self.open and record.has_values and record.status != "begun":
                before = f"{record.reason}; " if record.status == "partly" else ""
                reason = before + _told_differing(differing[path])
                records.append(replace(record, status="partly", reason=reason, values=0, run=self.run))
        return records

    def follow(self, log: LogBook) -> None:
        """Take what another run has stored meanwhile: a file of which it had other content fails.

        Parameters
        ----------
        log : LogBook
            The log book of the group as it is now.
        """
        for path, record in log.last_of([*self.open]).items():
            file = self.open[path]
            if not record.has_values or record.run == self.run or record == file.record:
                continue
            if record.digest and file.digest in {None, record.digest}:
                file.digest = record.digest
                continue
            reason = "has changed, and another run has stored it meanwhile; the same command reads it again"
            self.fail(FileSummary(path, failure="error", reason=reason))

    def forget_failed(self, log: LogBook) -> None:
        """Leave out the failures of files of which another run has stored values meanwhile.

        Parameters
        ----------
        log : LogBook
            The log book of the group: the last row of a file is to say that the group has values of it.
        """
        known = log.last_of([record.path for record in self.failed])
        stored = {path for path, record in known.items() if record.has_values}
        self.failed = [record for record in self.failed if record.path not in stored]

    def note_displaced(self, records: Iterable[FileRecord]) -> None:
        """Tell of stored files of which values do not count any more, when that is committed.

        Parameters
        ----------
        records : iterable of FileRecord
            As of `displaced`.
        """
        for record in records:
            outcome = self.outcomes.get(record.path)
            if outcome is not None:
                self.outcomes[record.path] = replace(outcome, status="partly", reason=record.reason)
            else:
                self.others[record.path] = record.reason

    def committed(self, tallies: Mapping[str, Tally], records: Iterable[FileRecord]) -> None:
        """Note what is stored now.

        Parameters
        ----------
        tallies : mapping of str to Tally
            What was committed of each file.
        records : iterable of FileRecord
            Rows of the log book that were committed: these files end, but those that were begun.
        """
        for path, tally in tallies.items():
            file = self.open[path]
            file.open_units -= tally.units
            file.gave += tally.gave
            file.differing += tally.differing
            file.covered += tally.covered
        for record in records:
            if record.status == "begun":
                self.open[record.path].begun = True
            else:
                self.settle(_outcome(record, record.status))
        for path, tally in tallies.items():
            if path in self.open and not self.open[path].open_units:
                self.open[path].rounds += 1
                if self.open[path].rounds < MOST_ROUNDS:
                    self.late[path] = uncovered(tally.summary.days, self.open[path].covered)
                else:
                    reason = f"has other days whenever it is read; {MOST_ROUNDS} times were tried"
                    self.fail(FileSummary(path, failure="error", reason=reason))


def _is_text(path: str) -> bool:
    """Whether a path can be written in JSON and in the log book."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_as_recorded(record: FileRecord) -> bool:
    try:
        stat = Path(record.path).stat()
    except OSError:
        return False  # the worker that reads it gives the reason
    return (record.size, record.mtime_ns) == (stat.st_size, stat.st_mtime_ns)


def _status(summary: FileSummary, gave: int, differing: Counter[str], log: LogBook) -> tuple[Status, str]:
    if differing:
        return "partly", _told_differing(differing)
    if gave:
        return "stored", ""
    same = [
        record.path
        for record in log.within(summary.first, summary.last)
        if record.digest == summary.digest and record.path != summary.path
    ]
    if same:
        return "known", f"stored already, with the same content, as {same[0]}"
    return "known", "all its values are stored already, from other files"


def _told_differing(differing: Counter[str]) -> str:
    told = (
        f"{count} {'value differs' if count == 1 else 'values differ'} from what "
        f"{Path(other).name if other else 'the store'} has"
        for other, count in differing.most_common()
    )
    return f"{', '.join(told)}, which counts"


def known_outcome(record: FileRecord, told: str = "stored already") -> FileOutcome:
    """What becomes of a file that is as it was when it was stored.

    Parameters
    ----------
    record : FileRecord
        What the log book says of it.
    told : str
        Why it is known.

    Returns
    -------
    FileOutcome
        ``partly``, as before, where values of it do not count.
    """
    if record.status == "partly":
        return FileOutcome(record.path, "partly", record.reason)
    return FileOutcome(record.path, "known", told)


def _outcome(record: FileRecord, status: Status) -> FileOutcome:
    return FileOutcome(
        record.path,
        status,
        record.reason,
        record.epochs,
        record.values,
        record.notes,
        sys.intern(record.station),
        sys.intern(record.reader),
    )
