"""The report of an ingest as a table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Table
from rich.text import Text

from canvod.launch.ingest.report import format_epoch, format_files
from canvod.launch.units import format_bytes

if TYPE_CHECKING:
    from rich.console import RenderableType

    from canvod.launch.ingest.report import IngestReport, Status

SHOWN_LINES = 12
"""Most lines for files of one status, and for kinds of notes; JSON has them all."""

STYLES: dict[Status, str] = {"failed": "red", "skipped": "yellow", "stored": "default"}
"""In the order in which files are listed."""


def draw_report(report: IngestReport) -> RenderableType:
    """Draw what an ingest did: a table of figures, then a line for each thing to know about files.

    Parameters
    ----------
    report : IngestReport
        The report.

    Returns
    -------
    rich renderable
        As wide as the console allows.
    """
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in _rows(report):
        table.add_row(name, Text(text))
    files = [line for status in STYLES for line in _files(report, status)]
    return Group(table, *files, *(Text(f"note: {notice}") for notice in report.notices))


def _rows(report: IngestReport) -> Iterator[tuple[str, str]]:
    yield "Store", f"{report.store}  group {report.group}"
    counts = f"{len(report.stored)} stored, {len(report.skipped)} skipped, {len(report.failed)} failed"
    yield "Files", counts
    if report.first_epoch is not None and report.last_epoch is not None:
        span = f"{format_epoch(report.first_epoch)} to {format_epoch(report.last_epoch)} GPS time"
        yield "Group", f"{report.epochs} epochs × {report.signals} signals, {span}"  # noqa: RUF001
    if report.overlapping_epochs:
        yield "Overlap", f"{report.overlapping_epochs} epochs were stored from another file already, and kept"
    kinds = list(report.notes_by_kind.items())
    for kind, found in kinds[:SHOWN_LINES]:
        yield "Notes", f"{kind}: {found.count:,} in {format_files(found.files)}"
    if len(kinds) > SHOWN_LINES:
        yield "Notes", f"and {len(kinds) - SHOWN_LINES} more kinds, all named by --json"
    readers = dict.fromkeys(file.reader for file in report.files if file.reader)
    yield "Reader", "; ".join(readers) or report.reader or "none"
    read = sum(file.epochs > 0 or file.status == "failed" for file in report.files)
    rate = f", {read / report.seconds_read:.1f} files/s" if read and report.seconds_read > 0 else ""
    took = f"{report.seconds_read:.1f} s on {report.workers} workers"
    yield "Read", f"{format_bytes(report.bytes_read)} in {took}{rate}"
    if report.snapshot_id is not None:
        size = f"{format_bytes(report.bytes_data)} of data in {format_bytes(report.bytes_stored)} on disk"
        yield "Written", f"{size}, {report.seconds_write:.1f} s, commit {report.seconds_commit:.1f} s"
    for worker, peak in report.peak_memory_bytes.items():
        yield f"Peak of {worker}", format_bytes(peak)
    yield "Snapshot", report.snapshot_id or "none: there was nothing to commit"


def _files(report: IngestReport, status: Status) -> Iterator[Text]:
    """Give a line for each text about files with this status; files with the same text share a line."""
    by_text: dict[str, list[str]] = {}
    for file in report.of(status):
        if text := "; ".join(filter(None, (file.reason, *file.notes))):
            by_text.setdefault(text, []).append(file.path)
    for text, paths in list(by_text.items())[:SHOWN_LINES]:
        named = paths[0] if len(paths) == 1 else format_files(len(paths))
        yield Text(f"{status}: {named}: {text}", style=STYLES[status])
    if (hidden := len(by_text) - SHOWN_LINES) > 0:
        yield Text(f"{status}: and {hidden} more, all named by --json", style=STYLES[status])
