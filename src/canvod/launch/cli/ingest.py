"""``canvod-launch ingest``: the main job, from observation files to the days of a group."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Group
from rich.table import Table
from rich.text import Text

from canvod.launch.cli.console import print_result, say
from canvod.launch.cli.options import (
    BackendOption,
    ConfigOption,
    JsonOption,
    MemoryOption,
    WorkersOption,
    read_settings,
)
from canvod.launch.ingest.report import STATUSES, format_files
from canvod.launch.units import format_bytes

if TYPE_CHECKING:
    from rich.console import RenderableType

    from canvod.launch.ingest.progress import IngestProgress
    from canvod.launch.ingest.report import IngestReport, Status

SHOWN_LINES = 12
"""Most lines for files of one status, and for kinds of notes; JSON has them all."""

STYLES: dict[Status, str] = {"failed": "red", "partly": "yellow", "known": "default", "stored": "default"}
"""In the order in which files are listed."""


def ingest(  # noqa: PLR0917 - typer takes all but the first by name
    inputs: Annotated[
        list[Path], typer.Argument(metavar="INPUT…", help="Files, and folders that hold some.")
    ],
    store: Annotated[Path, typer.Option(metavar="PATH", help="Folder of the store; made if needed.")],
    group: Annotated[str, typer.Option(metavar="GROUP", help="Group of the receiver: rosalia/reference_01.")],
    config: ConfigOption = None,
    backend: BackendOption = None,
    workers: WorkersOption = None,
    memory: MemoryOption = None,
    reader: Annotated[
        str | None, typer.Option(metavar="rinex|canvod|NAME", help="Reader; else rinex, our own.")
    ] = None,
    mixed_stations: Annotated[
        bool | None,
        typer.Option("--mixed-stations", help="Store files of several stations in the group."),
    ] = None,
    on_change: Annotated[
        str | None,
        typer.Option(
            metavar="replace|skip|fail", help="What to do with a file that has changed since it was stored."
        ),
    ] = None,
    retry_failed: Annotated[
        bool | None,
        typer.Option("--retry-failed", help="Read files again that could not be read and are as they were."),
    ] = None,
    cluster: Annotated[
        str | None, typer.Option(metavar="NAME", help="Use this detached cluster; else a new one.")
    ] = None,
    lock_timeout: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            help="How long to wait for another writer of the store; else as long as it takes.",
        ),
    ] = None,
    json_output: JsonOption = False,
) -> int:
    """Read observation files on a cluster, and store them in an Icechunk store, a commit every so often.

    RINEX 2, 3 and 4, also Hatanaka (.crx), .gz, .Z, .bz2, .zip. Files that are stored already are not read
    again; a file that cannot be read never costs another. Whatever ends the command, what was committed is
    whole, and the same command goes on. The cluster is removed, unless --cluster names a detached one.

    Examples
    --------
    $ canvod-launch ingest /data/rosalia/01_reference --store /data/store --group rosalia/ref_01
    $ canvod-launch ingest day1 day2/*.rnx.gz --store store --group site/canopy_01 --workers 4 --memory 8
    $ canvod-launch ingest data --store store --group site/canopy_01 --backend process
    $ canvod-launch ingest /data/day1 --store /data/store --group site/canopy_01 --cluster lab
    $ canvod-launch ingest data --store store --group site/canopy_01 --json > report.json
    """
    from canvod.launch.errors import ConfigError
    from canvod.launch.paths import require_present

    # Before imports that take a second. What may not be looked at is refused with the other files.
    for given in inputs:
        with suppress(OSError):
            require_present(given)
    if cluster is not None and any(option is not None for option in (backend, workers, memory)):
        raise ConfigError(
            f"--cluster {cluster} uses a cluster as it is: --backend, --workers and --memory cannot be set.",
            hint=f"leave them out; or canvod-launch scale N --name {cluster}",
        )
    from canvod.launch.cli.progress_bars import IngestDisplay, show_build
    from canvod.launch.cli.streams import report_only
    from canvod.launch.ingest.job import IngestJob

    settings = read_settings(
        config,
        workers=workers,
        memory=memory,
        fields={
            "launch.backend": backend,
            "ingest.reader": reader,
            "ingest.mixed_stations": mixed_stations,
            "ingest.on_change": on_change,
            "ingest.retry_failed": retry_failed,
        },
    )
    job = IngestJob(inputs, store, group, settings, cluster)
    size = format_bytes(sum(file.size_bytes for file in job.found.files))
    count = len(job.found.files)
    say(f"found {count} observation file{'s' if count != 1 else ''} ({size})")
    for reason, count in job.found.ignored.items():
        say(f"  ignored: {count}: {reason}")
    if job.nothing_new is not None:
        say("nothing new: the group has a record of each of these files; no cluster is started")
    with ExitStack() as build_display:
        build_progress = build_display.enter_context(show_build())

        def ingest_progress() -> IngestProgress:
            build_display.close()  # one bar at a time
            return IngestDisplay()

        report = job.run(
            progress=say,
            build_progress=build_progress,
            ingest_progress=ingest_progress,
            lock_timeout_s=lock_timeout,
        )
    with report_only():
        print_result(report.as_json(), draw_report(report), as_json=json_output)
        if report.snapshots and not json_output:
            typer.echo(f"\nLook at it:  canvod-launch store show {shlex.quote(str(store))}")
    return report.exit_status


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
    yield "Files", ", ".join(f"{len(report.of(status))} {status}" for status in STATUSES)
    if report.first_day is not None:
        span = f"{report.first_day} to {report.last_day}, GPS time"
        yield "Group", f"{report.epochs:,} epochs × {report.signals} signals, {span}"  # noqa: RUF001
    kinds = list(report.notes_by_kind.items())
    for kind, found in kinds[:SHOWN_LINES]:
        yield "Notes", f"{kind}: {found.count:,} in {format_files(found.files)}"
    if len(kinds) > SHOWN_LINES:
        yield "Notes", f"and {len(kinds) - SHOWN_LINES} more kinds, all named by --json"
    readers = dict.fromkeys(file.reader for file in report.files if file.reader)
    if not report.seconds:
        return
    yield "Reader", "; ".join(readers) or "none"
    took = report.seconds["total"] - report.seconds["wait"]
    rate = f", {len(report.files) / took:.1f} files/s" if took else ""
    size = f"{format_bytes(report.bytes_read)}, {format_bytes(report.bytes_data)} as arrays"
    yield "Read", f"{size}, in {took:.1f} s on {report.workers} workers{rate}"
    for worker, peak in report.peak_memory_bytes.items():
        yield f"Peak of {worker}", format_bytes(peak)
    last = f"{len(report.snapshots)}, the last one {report.snapshots[-1]}" if report.snapshots else "none"
    yield "Commits", last


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
