"""``canvod-launch ingest``: the main job, from observation files to one commit in a store."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from canvod.launch.cli.options import BackendOption, ConfigOption, JsonOption, WorkersOption, examples
from canvod.launch.units import format_bytes


def register(app: typer.Typer) -> None:
    """Add the command to the application.

    Parameters
    ----------
    app : typer.Typer
        The application.
    """
    app.command(
        "ingest",
        help="Read observation files on a cluster of this host, one file a task, and store them in an "
        "Icechunk store in one commit. RINEX 2, 3 and 4, also Hatanaka (.crx), .gz, .Z, .bz2, .zip. What is "
        "stored already is skipped; a file that cannot be read never costs another. The cluster is gone when "
        "the command ends, unless --cluster names one that stands.",
        epilog=examples(
            "canvod-launch ingest /data/rosalia/01_reference --store /data/store --group rosalia/ref_01",
            "canvod-launch ingest day1 day2/*.rnx.gz --store store --group site/canopy_01 --workers 4",
            "canvod-launch ingest data --store store --group site/canopy_01 --backend process",
            "canvod-launch ingest /data/day1 --store /data/store --group site/canopy_01 --cluster lab",
            "canvod-launch ingest data --store store --group site/canopy_01 --json > report.json",
        ),
    )(ingest)


def ingest(  # noqa: PLR0917 - typer takes all but the first by name
    inputs: Annotated[
        list[Path],
        typer.Argument(metavar="INPUT…", help="Files, and folders that hold some.", show_default=False),
    ],
    store: Annotated[
        Path, typer.Option(metavar="PATH", help="Folder of the store; made if needed.", show_default=False)
    ],
    group: Annotated[
        str,
        typer.Option(
            metavar="GROUP", help="Group of the receiver: rosalia/reference_01.", show_default=False
        ),
    ],
    config: ConfigOption = None,
    backend: BackendOption = None,
    workers: WorkersOption = None,
    reader: Annotated[
        str | None,
        typer.Option(metavar="rinex|canvod|NAME", help="Reader; else rinex, our own.", show_default=False),
    ] = None,
    mixed_stations: Annotated[
        bool | None,
        typer.Option(
            "--mixed-stations", help="Store files of several stations in the group.", show_default=False
        ),
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Use this detached cluster; else a new one.", show_default=False),
    ] = None,
    lock_timeout: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            help="How long to wait for another writer of the store; else as long as it takes.",
            show_default=False,
        ),
    ] = None,
    json_output: JsonOption = False,
) -> int:
    """Read observation files into a store."""
    from rich.console import Console

    from canvod.launch.cli.session import read_settings, say, workers_fields
    from canvod.launch.cli.streams import report_only
    from canvod.launch.errors import ConfigError
    from canvod.launch.images.build_progress import shown
    from canvod.launch.ingest.job import IngestJob
    from canvod.launch.ingest.progress import make_progress

    if cluster is not None and (backend is not None or workers is not None):
        raise ConfigError(
            f"--cluster {cluster} uses a cluster as it is: --backend and --workers cannot be set.",
            hint=f"leave them out; or canvod-launch scale N --name {cluster}",
        )
    overrides = {"launch.backend": backend, "ingest.reader": reader, "ingest.mixed_stations": mixed_stations}
    settings = read_settings(config, overrides | workers_fields(workers))
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    job = IngestJob(inputs, store, group, settings, cluster)
    size = format_bytes(sum(file.size_bytes for file in job.found.files))
    count = len(job.found.files)
    say(console, f"Found {count} observation file{'s' if count != 1 else ''} ({size})")
    for reason, count in job.found.ignored.items():
        say(console, f"  passed over: {count}: {reason}")
    with shown(console) as build_progress:
        report = job.run(
            progress=lambda line: say(console, line),
            build_progress=build_progress,
            ingest_progress=lambda: make_progress(console),
            lock_timeout_s=lock_timeout,
        )
    with report_only():
        if json_output:
            typer.echo(report.to_json())
        else:
            out = Console(highlight=False)
            out.print(report)
            if report.snapshot_id is not None:
                out.print(
                    f"\nLook at it:  canvod-launch store show {shlex.quote(str(store))}", soft_wrap=True
                )
    return report.exit_status
