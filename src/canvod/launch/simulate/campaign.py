"""A campaign: the observation files of several receivers over some hours."""

from __future__ import annotations

import gzip
import itertools
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, NaiveDatetime, ValidationError, model_validator

from canvod.launch.errors import InputError
from canvod.launch.simulate.orbits import Position
from canvod.launch.simulate.receiver import GLONASS_CHANNELS, RECEIVER_SPACING_M, observe
from canvod.launch.simulate.rinex_writer import RinexHeader, render_rinex, write_atomically
from canvod.launch.units import format_bytes

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

DEFAULT_POSITION = Position(47.7027, 16.3017, 751.3)
"""The Rosalia site, Austria (doi 10.5281/zenodo.19708759)."""
# GPS time has been 18 s ahead of UTC since then (IERS Bulletin C 52), which the header says.
EARLIEST = datetime.fromisoformat("2017-01-01")
# Two-digit years, as in the names of the folders, are ambiguous from here on (RINEX 2.11, section 6.5).
LATEST = datetime.fromisoformat("2080-01-01")
# Upper estimate of what all satellites of one epoch need in a file.
BYTES_PER_EPOCH = 10_000

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
    start: str | np.datetime64 = "2025-01-01T00:00",
    interval_s: float = 5.0,
    minutes_per_file: int = 15,
    position: Position = DEFAULT_POSITION,
    elevation_mask: float = 5.0,
    compress: bool = False,
    force: bool = False,
    progress: Progress | None = None,
) -> SimulationReport:
    """Write simulated RINEX 3.04 observation files.

    The first receiver (``01_reference``) is in the open, all others (``02_canopy``, ``03_canopy``, ...) are
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
    start : str or numpy.datetime64
        First epoch in GPS time, from 2017 on, at a full file of its day (every 15 minutes by default).
    interval_s : float
        Seconds between epochs: whole seconds, or a whole number of epochs a second.
    minutes_per_file : int
        Minutes that a file covers; a day must be a whole number of files.
    position : Position
        Position of the first receiver; the others are placed in steps of 40 m to the east.
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
        The files of the campaign, and how many of them were written.

    Raises
    ------
    InputError
        Before anything is written: for a value that is not allowed, a folder that cannot be written to, too
        little disk space, or files that exist with other content. Later: if the disk refuses a file.

    Notes
    -----
    A file depends on the seed, its receiver, its time span, and the interval, position, mask and compression
    asked for; not on the number of hours or receivers. A campaign can so be extended by asking for more
    hours: what is there is left as it is. Another version of NumPy may draw other random numbers.

    Examples
    --------
    >>> import tempfile
    >>> report = simulate(tempfile.mkdtemp(), hours=0.25, interval_s=60)
    >>> len(report.files), report.epochs
    (2, 15)
    >>> report.files[0].name
    'SIMR01XXX_R_20250010000_15M_01M_MO.rnx'
    """
    request = {
        "directory": Path(directory).absolute(),
        "hours": hours,
        "receivers": receivers,
        "seed": seed,
        "start": str(start),
        "interval_s": interval_s,
        "minutes_per_file": minutes_per_file,
        "position": position,
        "elevation_mask": elevation_mask,
        "compress": compress,
    }
    try:
        campaign = _Campaign.model_validate(request)
    except ValidationError as exc:
        raise InputError(
            f"simulate: {'; '.join(map(_problem, exc.errors()))}",
            hint="canvod-launch simulate --help has the defaults and examples",
        ) from exc
    return campaign.write(force=force, progress=progress or (lambda *_: None))


def code_of_duration(duration: timedelta) -> str | None:
    """Return two digits and the unit of a period or sampling interval (RINEX 3.04, appendix A1).

    Parameters
    ----------
    duration : datetime.timedelta
        The period, above 0.

    Returns
    -------
    str or None
        Such as ``15M``, ``05S`` or, for 0.1 seconds, ``10Z``; None where there is no such code.

    Examples
    --------
    >>> [code_of_duration(timedelta(seconds=seconds)) for seconds in (900, 5, 0.1, 86_400, 100.5)]
    ['15M', '05S', '10Z', '01D', None]
    """
    for unit, seconds in {"D": 86_400, "H": 3_600, "M": 60, "S": 1}.items():
        count, rest = divmod(duration, timedelta(seconds=seconds))
        if 0 < count < 100 and not rest:
            return f"{count:02d}{unit}"
    hertz, rest = divmod(timedelta(seconds=1), duration)
    return None if rest else f"{hertz:02d}Z"


class _Campaign(BaseModel):
    """What `simulate` is asked for: see there."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False, revalidate_instances="always")

    directory: Path
    hours: float = Field(gt=0, le=87_840)
    receivers: int = Field(ge=1, le=99)
    seed: int = Field(ge=0, lt=2**63)
    start: NaiveDatetime = Field(ge=EARLIEST)
    interval_s: float = Field(ge=0.02, le=43_200)
    minutes_per_file: int = Field(ge=1, le=1440)
    position: Position
    elevation_mask: float = Field(ge=0, le=60)
    compress: bool

    @model_validator(mode="after")
    def _fits(self) -> Self:
        minutes, interval_s = self.minutes_per_file, self.interval_s
        if 1440 % minutes or not code_of_duration(self.file_length):
            raise ValueError(
                f"minutes per file is {minutes}; allowed: part of a day, up to 99 or whole hours"
            )
        if not self.files or abs(self.files - self.hours * 60 / minutes) > 1e-6:
            raise ValueError(f"hours is {self.hours}; allowed: a whole number of files of {minutes} minutes")
        if self.file_length % self.interval or self.interval > self.file_length / 2:
            raise ValueError(
                f"interval is {interval_s}; allowed: a half of {minutes} minutes or smaller parts"
            )
        if not code_of_duration(self.interval):
            raise ValueError(f"interval is {interval_s}; allowed: whole seconds or minutes, or 1/N seconds")
        if (self.start - EARLIEST) % self.file_length:
            raise ValueError(f"start is {self.start}; allowed: multiples of {minutes} minutes from midnight")
        if self.start > LATEST - self.files * self.file_length:
            raise ValueError(f"start is {self.start}; allowed: an end before {LATEST:%Y}")
        return self

    @property
    def files(self) -> int:
        return round(self.hours * 60 / self.minutes_per_file)

    @property
    def file_length(self) -> timedelta:
        return timedelta(minutes=self.minutes_per_file)

    @property
    def interval(self) -> timedelta:
        return timedelta(seconds=self.interval_s)

    def write(self, *, force: bool, progress: Progress) -> SimulationReport:
        disk = shutil.disk_usage(_existing(self.directory))
        receivers = range(1, self.receivers + 1)
        # What no empty disk could hold is refused before so many files are even listed.
        self._check_space(self.files * len(receivers), disk.total)
        starts = [self.start + number * self.file_length for number in range(self.files)]
        targets = {self._path(*target): target for target in itertools.product(receivers, starts)}
        for folder in dict.fromkeys([self.directory, *(path.parent for path in targets)]):
            _check_folder(folder)
        missing = [path for path in targets if force or not path.exists()]
        existing = sorted(targets.keys() - missing)
        self._check_space(len(missing), disk.free)
        satellites: set[str] = set()

        def rendered(paths: list[Path], done: int = 0) -> Iterator[tuple[Path, bytes]]:
            for number, path in enumerate(paths, start=done + 1):
                content, observed = self._render(*targets[path])
                satellites.update(observed)
                yield path, content
                progress(number, len(targets))

        # Files that are there are compared before the first one is written: a refusal changes nothing.
        different = [path for path, content in rendered(existing) if not _holds(path, content)]
        if different:
            raise InputError(
                f"{len(different)} of {len(targets)} files exist with other content, such as {different[0]}; "
                "nothing was written",
                hint="choose another folder, or overwrite them with --force",
            )
        for path, content in rendered(missing, len(existing)):
            write_atomically(path, content)
        return SimulationReport(
            directory=self.directory,
            folders=tuple(map(self._folder, receivers)),
            files=tuple(targets),
            written=len(missing),
            bytes=sum(path.stat().st_size for path in targets),
            epochs=self.files * (self.file_length // self.interval),
            satellites=len(satellites),
        )

    def _check_space(self, files: int, available_bytes: int) -> None:
        needed_bytes = files * (self.file_length // self.interval) * BYTES_PER_EPOCH
        if needed_bytes > available_bytes:
            raise InputError(
                f"{self.directory} may need {format_bytes(needed_bytes)}; "
                f"its disk has {format_bytes(available_bytes)}",
                hint="ask for fewer hours or receivers, a longer interval, or choose another folder",
            )

    def _folder(self, receiver: int) -> Path:
        return self.directory / f"{receiver:02d}_{'reference' if receiver == 1 else 'canopy'}"

    def _path(self, receiver: int, start: datetime) -> Path:
        codes = f"{code_of_duration(self.file_length)}_{code_of_duration(self.interval)}"
        name = f"{_station(receiver)}_R_{start:%Y%j%H%M}_{codes}_MO.rnx"
        return self._folder(receiver) / f"{start:%y%j}" / (f"{name}.gz" if self.compress else name)

    def _render(self, receiver: int, start: datetime) -> tuple[bytes, Iterable[str]]:
        """Make the content of a file, and tell which satellites are in it."""
        steps = np.arange(self.file_length // self.interval) * np.timedelta64(self.interval)
        epochs = np.datetime64(start, "ns") + steps
        observations = observe(
            epochs,
            seed=self.seed,
            receiver=receiver,
            position=self.position,
            elevation_mask=self.elevation_mask,
        )
        x, y, z = self.position.ecef(RECEIVER_SPACING_M * (receiver - 1)).tolist()
        sky = "OPEN SKY" if receiver == 1 else "BELOW CANOPY"
        header = RinexHeader(
            marker_name=_station(receiver),
            approx_position_m=(x, y, z),
            interval_s=self.interval_s,
            glonass_channels=GLONASS_CHANNELS,
            comments=("SIMULATED DATA, NOT MEASURED", f"SEED {self.seed}, RECEIVER {receiver}, {sky}"),
        )
        content = render_rinex(header, epochs, observations)
        # No name and no time in the header of gzip: the same data make the same file.
        return gzip.compress(content, mtime=0) if self.compress else content, observations


def _problem(error: ErrorDetails) -> str:
    """Say what is wrong with a value; what is wrong with several together names them itself."""
    message = error["msg"].removeprefix("Value error, ")
    name = ".".join(map(str, error["loc"]))
    return f"{name} is {error['input']}: {message[0].lower()}{message[1:]}" if name else message


def _station(receiver: int) -> str:
    """Name of a receiver's station: four letters, two digits and the country, which is unknown."""
    return "SIMR01XXX" if receiver == 1 else f"SIMA{receiver - 1:02d}XXX"


def _existing(folder: Path) -> Path:
    """Return the folder itself, or the nearest one above it that this user can see."""
    # lexists sees a dangling link, which is in the way, too; and it does not raise where one may not look.
    return next(path for path in (folder, *folder.parents) if os.path.lexists(path))


def _check_folder(folder: Path) -> None:
    """Refuse a folder that cannot be made or written to."""
    nearest = _existing(folder)
    if not (nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK, effective_ids=True)):
        raise InputError(
            f"{folder} may not be written to by user {os.geteuid()}",
            hint=f"make {nearest} a folder that this user may write to, or choose another one",
        )


def _holds(path: Path, content: bytes) -> bool:
    try:
        return path.read_bytes() == content
    except OSError:
        return False
