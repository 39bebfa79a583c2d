"""The state of one ingest: of every file, whether it is stored already, was read, failed, or gave values."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from canvod.launch.ingest.group import FileRecord, GroupState
from canvod.launch.ingest.report import FileOutcome, Status
from canvod.launch.runtime.messages import STORED, FileSummary, WriteResult

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from canvod.launch.ingest.layout import Layout


@dataclass
class IngestState:
    """What is known of one ingest so far; files are numbered in the order in which they are read."""

    paths: tuple[str, ...]
    outcomes: dict[str, FileOutcome] = field(default_factory=dict)
    read: tuple[str, ...] = ()
    summaries: dict[int, FileSummary] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    reader: str = ""

    @contextmanager
    def timed(self, phase: str) -> Iterator[None]:
        """Add the time that a phase takes."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[phase] = self.seconds.get(phase, 0.0) + time.perf_counter() - started

    def fail(self, path: str, reason: str) -> None:
        """Record that a file gives no data."""
        self.outcomes[path] = FileOutcome(path, "failed", reason)


def skip_known(run: IngestState, records: Sequence[FileRecord]) -> None:
    """Divide the files into those that are stored already and those to read.

    A file of the same path, size and time is known, as for make and rsync; where only the size agrees, the
    content decides, so that files may be moved, or copied elsewhere.
    """
    by_identity = {(record.path, record.size, record.mtime_ns) for record in records}
    by_content = {(record.size, record.digest): record for record in records}
    sizes = {record.size for record in records}
    reading = []
    for path in run.paths:
        try:
            stat = Path(path).stat()
            if (path, stat.st_size, stat.st_mtime_ns) in by_identity:
                run.outcomes[path] = FileOutcome(path, "skipped", "stored already")
                continue
            if stat.st_size in sizes:
                with Path(path).open("rb") as stream:
                    digest = hashlib.file_digest(stream, "sha256").hexdigest()
                known = by_content.get((stat.st_size, digest))
                if known is not None:
                    reason = f"stored already, with the same content, as {known.path}"
                    run.outcomes[path] = FileOutcome(path, "skipped", reason)
                    continue
        except OSError:
            pass  # the worker that reads it gives the reason
        reading.append(path)
    run.read = tuple(reading)


@dataclass(frozen=True)
class Written:
    """What the files of a run have given to the group; files by their numbers."""

    stored: Counter[int] = field(default_factory=Counter)
    """Epochs that are new, or to which the file gave a value."""
    merged: Counter[int] = field(default_factory=Counter)
    """Those of them that were there already."""
    differing: Counter[tuple[int, int]] = field(default_factory=Counter)
    """Values that differ from those of another file, or of the store, which count."""

    def add(self, result: WriteResult) -> None:
        """Add what one task has written."""
        self.stored.update(result.stored)
        self.merged.update(result.merged)
        self.differing.update(result.differing)


def set_outcomes(
    run: IngestState,
    good: Mapping[int, FileSummary],
    layout: Layout,
    written: Written,
    state: GroupState | None,
) -> None:
    """Set the outcome of every file that was read: what of it is stored, and why not the rest."""
    for number, summary in good.items():
        path, epochs, stored = run.read[number], len(summary.epoch), written.stored[number]
        names = _names(run, layout.holders.get(number, ()), summary, state)
        reasons = []
        if stored < epochs:
            share = f"{epochs - stored} of {epochs} epochs were" if stored else f"all {epochs} epochs were"
            share = "its only epoch was" if epochs == 1 else share
            reasons.append(f"{share} there already, from {names}, and kept")
        if merged := written.merged[number]:
            reasons.append(f"values were added to {merged} epochs that were there already, from {names}")
        notes = list(summary.notes)
        for (file, holder), count in written.differing.items():
            if file == number:
                kept = _names(run, (holder,), summary, state)
                values = "1 value differs from the one" if count == 1 else f"{count} values differ from those"
                notes.append(f"{values} that {'was' if count == 1 else 'were'} kept: of {kept}")
        status: Status = "stored" if stored else "skipped"
        run.outcomes[path] = FileOutcome(
            path,
            status,
            "; ".join(reasons),
            epochs,
            stored,
            tuple(notes),
            station=summary.station,
            reader=summary.reader,
        )


def _names(run: IngestState, holders: Sequence[int], summary: FileSummary, state: GroupState | None) -> str:
    names = [Path(run.read[number]).name for number in holders if number != STORED]
    if STORED in holders and state is not None:
        first, last = int(summary.epoch[0]), int(summary.epoch[-1])
        older = [
            record
            for record in state.records
            if record.epochs_stored and record.first_epoch <= last and record.last_epoch >= first
        ]
        own = [record for record in older if record.path == summary.path]
        names += [f"{Path(record.path).name} as it was before" for record in own[:1]]
        names += [Path(record.path).name for record in older if record.path != summary.path]
    return ", ".join(names[:2]) + (f" and {len(names) - 2} more" if len(names) > 2 else "") or "the store"


def file_records(run: IngestState, good: Mapping[int, FileSummary], written: Written) -> list[FileRecord]:
    """Rows for all files that were read, also those that gave nothing, so that none is read again."""
    ordered = sorted(good.items(), key=lambda item: (int(item[1].epoch[0]), item[1].path))
    return [
        FileRecord(
            path=run.read[number],
            size=summary.size_bytes,
            mtime_ns=summary.mtime_ns,
            digest=summary.digest,
            first_epoch=int(summary.epoch[0]),
            last_epoch=int(summary.epoch[-1]),
            epochs=len(summary.epoch),
            epochs_stored=written.stored[number],
            reader=summary.reader,
            station=summary.station,
        )
        for number, summary in ordered
    ]
