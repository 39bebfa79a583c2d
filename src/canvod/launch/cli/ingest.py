"""``canvod-launch ingest``: the main job, from observation files to one commit in a store."""

from __future__ import annotations

import shlex
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from canvod.launch.cli.options import BackendOption, ConfigOption, JsonOption, MemoryOption, WorkersOption

if TYPE_CHECKING:
    from canvod.launch.ingest.progress import IngestProgress


def ingest(  # noqa: PLR0917 - typer takes all but the first by name
    inputs: Annotated[
        list[Path],
        typer.Argument(metavar="INPUT…", help="Files, and folders that hold some."),
    ],
    store: Annotated[Path, typer.Option(metavar="PATH", help="Folder of the store; made if needed.")],
    group: Annotated[
        str,
        typer.Option(metavar="GROUP", help="Group of the receiver: rosalia/reference_01."),
    ],
    config: ConfigOption = None,
    backend: BackendOption = None,
    workers: WorkersOption = None,
    memory: MemoryOption = None,
    reader: Annotated[
        str | None,
        typer.Option(metavar="rinex|canvod|NAME", help="Reader; else rinex, our own."),
    ] = None,
    mixed_stations: Annotated[
        bool | None,
        typer.Option("--mixed-stations", help="Store files of several stations in the group."),
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Use this detached cluster; else a new one."),
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
    """Read observation files on a cluster, and store them in an Icechunk store in one commit.

    One file is one task. RINEX 2, 3 and 4, also Hatanaka (.crx), .gz, .Z, .bz2, .zip. Files that are stored
    already are skipped; a file that cannot be read never costs another. The cluster is removed when the
    command ends, unless --cluster names a detached one.

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
    from canvod.launch.cli.console import print_json, results, say
    from canvod.launch.cli.progress import IngestDisplay, show_build
    from canvod.launch.cli.report_view import draw_report
    from canvod.launch.cli.session import read_settings, resource_fields
    from canvod.launch.cli.streams import report_only
    from canvod.launch.ingest.job import IngestJob
    from canvod.launch.units import format_bytes

    overrides = {"launch.backend": backend, "ingest.reader": reader, "ingest.mixed_stations": mixed_stations}
    settings = read_settings(config, overrides | resource_fields(workers, memory))
    job = IngestJob(inputs, store, group, settings, cluster)
    size = format_bytes(sum(file.size_bytes for file in job.found.files))
    count = len(job.found.files)
    say(f"found {count} observation file{'s' if count != 1 else ''} ({size})")
    for reason, count in job.found.ignored.items():
        say(f"  ignored: {count}: {reason}")
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
        if json_output:
            print_json(report.as_json())
        else:
            results().print(draw_report(report))
            if report.snapshot_id is not None:
                typer.echo(f"\nLook at it:  canvod-launch store show {shlex.quote(str(store))}")
    return report.exit_status
