"""A campaign: the observation files of several receivers over some hours."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from canvod.launch.errors import InputError
from canvod.launch.simulate import request as checks
from canvod.launch.simulate.geometry import Position
from canvod.launch.simulate.header import PhaseShift, RinexHeader
from canvod.launch.simulate.names import file_name, folder_name, station, year_day
from canvod.launch.simulate.observe import RECEIVER_SPACING_M, observe
from canvod.launch.simulate.orbits import GLONASS_SLOTS
from canvod.launch.simulate.place import check_folder, check_space, make_folder
from canvod.launch.simulate.request import Request
from canvod.launch.simulate.rinex import render_rinex, write_atomically
from canvod.launch.simulate.signals import SIGNALS

if TYPE_CHECKING:
    import os

DEFAULT_POSITION = Position(47.7027, 16.3017, 751.3)
"""The Rosalia site, Austria (doi 10.5281/zenodo.19708759)."""
DEFAULT_START = np.datetime64("2025-01-01T00:00:00", "ns")
BYTES_PER_EPOCH = 12_000
"""Upper estimate of what all satellites of one epoch need in a file."""

Progress = Callable[[int, int], None]
"""Called with the number of files done and of all files."""


@dataclass(frozen=True)
class SimulationReport:
    """What `simulate` made.

    Attributes
    ----------
    directory : Path
        The absolute path of the campaign.
    folders : tuple of Path
        One folder a receiver: the reference first.
    files : tuple of Path
        All files of the campaign, in the order of receivers and time.
    written : int
        How many of them were written; the others were there already, with the same content.
    bytes : int
        Size of all files.
    epochs : int
        Number of epochs for each receiver.
    satellites : int
        Number of satellites that were observed by any receiver.
    """

    directory: Path
    folders: tuple[Path, ...]
    files: tuple[Path, ...]
    written: int
    bytes: int
    epochs: int
    satellites: int


def simulate(  # noqa: PLR0913 - a campaign has this many properties, all but the folder with defaults
    directory: str | os.PathLike[str],
    *,
    hours: float = 6.0,
    receivers: int = 2,
    seed: int = 0,
    start: np.datetime64 | str = DEFAULT_START,
    interval_s: float = 5.0,
    minutes_per_file: int = 15,
    position: Position = DEFAULT_POSITION,
    elevation_mask: float = 5.0,
    compress: bool = False,
    force: bool = False,
    progress: Progress | None = None,
) -> SimulationReport:
    """Write simulated RINEX 3.04 observation files.

    The first receiver (``01_reference``) stands in the open, all others (``02_canopy``, ``03_canopy``, ...)
    below a canopy. Files are ``DIR/01_reference/YYDDD/SIMR01XXX_R_YYYYDDDHHMM_15M_05S_MO.rnx``.

    Parameters
    ----------
    directory : path
        Where the campaign goes; made if it is not there.
    hours : float
        Length of the campaign: a whole number of files.
    receivers : int
        Number of receivers, 1 to 99.
    seed : int
        Seed of everything random, 0 to 2**63 - 1.
    start : numpy.datetime64 or str
        First epoch in GPS time, from 2017 on, at a full file of its day (every 15 minutes by default).
    interval_s : float
        Seconds between epochs: whole seconds, or a whole number of epochs a second.
    minutes_per_file : int
        Minutes that a file covers; a day must be a whole number of files.
    position : Position
        Position of the first receiver; the others stand in steps of 40 m to the east.
    elevation_mask : float
        Elevation in degrees, 0 to 60, below which nothing is tracked.
    compress : bool
        Write ``.rnx.gz``.
    force : bool
        Replace files that are there with other content.
    progress : callable, optional
        Called after each file with the number of files done and of all.

    Returns
    -------
    SimulationReport

    Raises
    ------
    InputError
        Before anything is written: for a value that is not allowed, a folder that cannot be written to, too
        little disk space, or files that exist with other content. Later: if the disk refuses a file.

    Notes
    -----
    A file depends on the seed, its receiver, its time span, and the interval, position, mask and compression
    asked for; not on the number of hours or receivers. A campaign can so be extended by asking for more
    hours: what is there is left as it is.

    Examples
    --------
    >>> import tempfile
    >>> report = simulate(tempfile.mkdtemp(), hours=0.25, interval_s=60)
    >>> len(report.files), report.epochs
    (2, 15)
    >>> report.files[0].name
    'SIMR01XXX_R_20250010000_15M_01M_MO.rnx'
    """
    minutes = checks.check_file_minutes(minutes_per_file)
    files = checks.check_files(hours, minutes)
    request = Request(
        directory=Path(directory).absolute(),
        files=files,
        receivers=checks.check_receivers(receivers),
        seed=checks.check_seed(seed),
        start=checks.check_start(start, minutes, files),
        interval_ns=checks.check_interval(interval_s, minutes),
        minutes_per_file=minutes,
        position=checks.check_position(position),
        elevation_mask=checks.check_mask(elevation_mask),
        compress=compress,
    )
    targets = _targets(request)
    existing = {target.path for target in targets if target.path.exists()}
    missing = [target for target in targets if force or target.path not in existing]
    for folder in dict.fromkeys(target.path.parent for target in missing):
        check_folder(folder)
    check_space(request.directory, len(missing) * request.epochs_per_file * BYTES_PER_EPOCH)
    run = _Run(request, len(targets), progress)
    # Files that are there are compared before the first one is written: a refusal leaves all as it was.
    run.compare([target for target in targets if not force and target.path in existing])
    run.write(missing)
    return SimulationReport(
        directory=request.directory,
        folders=tuple(request.directory / folder_name(receiver) for receiver in range(1, receivers + 1)),
        files=tuple(target.path for target in targets),
        written=len(missing),
        bytes=sum(target.path.stat().st_size for target in targets),
        epochs=request.files * request.epochs_per_file,
        satellites=len(run.satellites),
    )


@dataclass(frozen=True)
class _Target:
    """One file to come."""

    receiver: int
    start: np.datetime64
    path: Path


class _Run:
    """One run through the files of a campaign, each of which is rendered once."""

    def __init__(self, request: Request, total: int, progress: Progress | None) -> None:
        self.request = request
        self.total = total
        self.progress = progress
        self.done = 0
        self.satellites: set[str] = set()

    def compare(self, targets: list[_Target]) -> None:
        different = [target.path for target in targets if _read(target.path) != self._render(target)]
        if different:
            raise InputError(
                f"{len(different)} of {self.total} files exist with other content, such as {different[0]}; "
                "nothing was written",
                hint="choose another folder, or overwrite them with --force",
            )

    def write(self, targets: list[_Target]) -> None:
        for target in targets:
            content = self._render(target)
            make_folder(target.path.parent)
            write_atomically(target.path, content)

    def _render(self, target: _Target) -> bytes:
        content, satellites = _render(self.request, target.receiver, target.start)
        self.satellites |= satellites
        self.done += 1
        if self.progress is not None:
            self.progress(self.done, self.total)
        return content


def _targets(request: Request) -> list[_Target]:
    check_folder(request.directory)
    # What no empty disk would hold is refused before so many files are even named.
    whole = request.files * request.receivers * request.epochs_per_file * BYTES_PER_EPOCH
    check_space(request.directory, whole, empty_disk=True)
    targets = []
    for receiver in range(1, request.receivers + 1):
        for index in range(request.files):
            start = request.start + np.timedelta64(index * request.file_ns, "ns")
            name = file_name(receiver, start, request.minutes_per_file, request.interval_s)
            folder = request.directory / folder_name(receiver) / year_day(start, 2)
            targets.append(_Target(receiver, start, folder / (f"{name}.gz" if request.compress else name)))
    return targets


def _read(path: Path) -> bytes | None:
    """Content of a file, or None for what is no file that can be read: as good as another content."""
    try:
        return path.read_bytes()
    except OSError:
        return None


def _render(request: Request, receiver: int, start: np.datetime64) -> tuple[bytes, set[str]]:
    """Make the content of one file, and tell which satellites are in it."""
    steps = np.arange(request.epochs_per_file) * np.timedelta64(request.interval_ns, "ns")
    observed = observe(
        start + steps,
        seed=request.seed,
        receiver=receiver,
        position=request.position,
        elevation_mask=request.elevation_mask,
    )
    content = render_rinex(
        _header(request, receiver), observed.epochs, observed.observations, lli=observed.lli
    )
    if request.compress:
        # No name and no time in the header of gzip: the same data make the same file.
        content = gzip.compress(content, compresslevel=6, mtime=0)
    seen = {
        name
        for name, types in observed.observations.items()
        if any(np.isfinite(values).any() for values in types.values())
    }
    return content, seen


def _header(request: Request, receiver: int) -> RinexHeader:
    types: dict[str, list[str]] = {}
    for signal in SIGNALS:
        types.setdefault(signal.system, []).extend(signal.types())
    x, y, z = request.position.ecef(east_m=RECEIVER_SPACING_M * (receiver - 1))
    return RinexHeader(
        observation_types=types,
        marker_name=station(receiver),
        marker_number=f"{receiver:02d}",
        receiver=(str(receiver), "SIMULATED", "1"),
        antenna=(str(receiver), "SIMULATED       NONE"),
        approx_position_m=(float(x), float(y), float(z)),
        interval_s=request.interval_s,
        glonass_slots=GLONASS_SLOTS,
        glonass_biases_m={"C1C": 0.0, "C1P": 0.0, "C2C": 0.0, "C2P": 0.0},
        phase_shifts=[PhaseShift(signal.system, f"L{signal.code}", 0.0) for signal in SIGNALS],
        comments=(
            "SIMULATED DATA, NOT MEASURED",
            f"SEED {request.seed}, RECEIVER {receiver}, {'BELOW CANOPY' if receiver > 1 else 'OPEN SKY'}",
        ),
    )
