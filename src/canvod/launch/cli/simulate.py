"""``canvod-launch simulate``: make observation files to try things out with."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from canvod.launch.cli.console import print_result
from canvod.launch.cli.options import JsonOption
from canvod.launch.errors import InputError
from canvod.launch.units import format_bytes

if TYPE_CHECKING:
    from canvod.launch.simulate import Position, SimulationReport


def simulate(  # noqa: PLR0917 - typer takes all but the first by name
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Folder for the files; made if needed.")],
    hours: Annotated[float, typer.Option(help="Length in hours, a whole number of files.")] = 6.0,
    receivers: Annotated[
        int, typer.Option(help="Receivers: the first in the open, others below canopy.")
    ] = 2,
    seed: Annotated[int, typer.Option(help="The same seed makes the same files.")] = 0,
    start: Annotated[str, typer.Option(metavar="TIME", help="First epoch in GPS time.")] = "2025-01-01T00:00",
    interval: Annotated[float, typer.Option(metavar="SECONDS", help="Seconds between epochs.")] = 5.0,
    minutes_per_file: Annotated[int, typer.Option(metavar="MINUTES", help="Minutes in each file.")] = 15,
    position: Annotated[
        str | None,
        typer.Option(metavar="LAT,LON,HEIGHT", help="Position of the reference; else Rosalia, Austria."),
    ] = None,
    mask: Annotated[float, typer.Option(metavar="DEGREES", help="Lowest elevation that is tracked.")] = 5.0,
    gzip: Annotated[bool, typer.Option("--gzip", help="Compress the files: .rnx.gz.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace files that have other content.")] = False,
    json_output: JsonOption = False,
) -> None:
    """Write simulated RINEX 3.04 files of GPS, GLONASS, Galileo and BeiDou.

    One receiver is in the open, the others below a canopy. Orbits are nominal; signal strengths follow
    elevation and canopy as those of real receivers do. Files with other content are never overwritten without
    --force.

    Examples
    --------
    $ canvod-launch simulate demo
    $ canvod-launch simulate demo --hours 24 --receivers 3 --seed 7
    $ canvod-launch simulate demo --start 2025-06-01T12:00 --position 48.2,16.37,200
    """
    from canvod.launch.cli.progress_bars import delayed_bar
    from canvod.launch.simulate import DEFAULT_POSITION
    from canvod.launch.simulate import simulate as write_campaign

    with delayed_bar("simulating", "files") as report_progress:
        report = write_campaign(
            directory,
            hours=hours,
            receivers=receivers,
            seed=seed,
            start=start,
            interval_s=interval,
            minutes_per_file=minutes_per_file,
            position=DEFAULT_POSITION if position is None else parse_position(position),
            elevation_mask=mask,
            compress=gzip,
            force=force,
            progress=report_progress,
        )
    values = asdict(report) | {
        "directory": str(report.directory),
        "folders": [str(folder) for folder in report.folders],
        "files": len(report.files),
        "next": next_command(report),
    }
    print_result(values, _as_text(report), as_json=json_output)


def parse_position(text: str) -> Position:
    """Read a position from the command line.

    Parameters
    ----------
    text : str
        ``LAT,LON,HEIGHT`` in degrees north, degrees east and metres above the ellipsoid.

    Returns
    -------
    Position
        The position; whether its values are in range is not looked at.

    Raises
    ------
    InputError
        If the text is not three numbers.
    """
    from canvod.launch.simulate import Position

    try:
        latitude, longitude, height_m = (float(part) for part in text.split(","))
    except ValueError as exc:
        raise InputError(
            f"simulate: position is {text!r}; allowed: three numbers, LAT,LON,HEIGHT",
            hint="write it as 47.7027,16.3017,751.3 (degrees north, degrees east, metres)",
        ) from exc
    return Position(latitude, longitude, height_m)


def next_command(report: SimulationReport) -> str:
    """Write the command that stores the reference receiver's files.

    Parameters
    ----------
    report : SimulationReport
        What was simulated.

    Returns
    -------
    str
        A command for a shell.
    """
    source = shlex.quote(str(report.folders[0]))
    store = shlex.quote(str(report.directory / "store"))
    return f"canvod-launch ingest {source} --store {store} --group sim/reference_01"


def _as_text(report: SimulationReport) -> str:
    unchanged = len(report.files) - report.written
    same = f", {unchanged} were there already" if unchanged else ""
    folders = "\n".join(f"  {folder}" for folder in report.folders)
    return (
        f"{report.written} files written{same}: {format_bytes(report.bytes)}, "
        f"{report.epochs} epochs a receiver, {report.satellites} satellites\n"
        f"{folders}\n"
        f"Next: {next_command(report)}"
    )
