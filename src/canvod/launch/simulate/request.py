"""What a campaign is asked to be, checked before anything is done."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from canvod.launch.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    from canvod.launch.simulate.geometry import Position

EARLIEST = np.datetime64("2017-01-01T00:00:00", "ns")
"""GPS time has been 18 s ahead of UTC since then (IERS Bulletin C 52), which the header says."""
LATEST = np.datetime64("2080-01-01T00:00:00", "ns")
"""Two-digit years, as in the names of the folders, are ambiguous from here on (RINEX 2.11, section 6.5)."""
MAX_RECEIVERS = 99
MAX_HOURS = 87_840
"""Ten years."""
MAX_SEED = 2**63 - 1

_SECOND_NS = 1_000_000_000
_DAY_MINUTES = 1440
_FILE_MINUTES = [n for n in range(1, _DAY_MINUTES + 1) if _DAY_MINUTES % n == 0 and (n < 100 or n % 60 == 0)]
_HERTZ = (2, 4, 5, 10, 20, 50)
_MAX_SECONDS = 99
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.0+)?)?)?")
_LATITUDES, _LONGITUDES, _HEIGHTS_M, _MASKS = (-90.0, 90.0), (-180.0, 360.0), (-500.0, 9000.0), (0.0, 60.0)


@dataclass(frozen=True)
class Request:
    """What `canvod.launch.simulate.simulate` is asked for: see there; times are nanoseconds."""

    directory: Path
    files: int
    receivers: int
    seed: int
    start: np.datetime64
    interval_ns: int
    minutes_per_file: int
    position: Position
    elevation_mask: float
    compress: bool

    @property
    def file_ns(self) -> int:
        """Time that a file covers."""
        return self.minutes_per_file * 60 * _SECOND_NS

    @property
    def interval_s(self) -> float:
        """Seconds between epochs."""
        return self.interval_ns / _SECOND_NS

    @property
    def epochs_per_file(self) -> int:
        """Number of epochs in each file."""
        return self.file_ns // self.interval_ns


def check_receivers(receivers: int) -> int:
    """Return the number of receivers, or raise InputError."""
    if not 1 <= receivers <= MAX_RECEIVERS:
        raise _wrong(
            "receivers", receivers, f"a number from 1 to {MAX_RECEIVERS}", "the first is the reference"
        )
    return receivers


def check_seed(seed: int) -> int:
    """Return the seed, or raise InputError."""
    if not 0 <= seed <= MAX_SEED:
        raise _wrong("seed", seed, "a number from 0 to 2**63 - 1", "take a small one, such as 1")
    return seed


def check_file_minutes(minutes: int) -> int:
    """Return the minutes that a file covers, or raise InputError."""
    if minutes not in _FILE_MINUTES:
        raise _wrong(
            "minutes per file",
            minutes,
            "a part of a day (1440 minutes) without a rest, up to 99 minutes or whole hours",
            f"take one of {', '.join(map(str, _FILE_MINUTES))}",
        )
    return minutes


def check_files(hours: float, minutes_per_file: int) -> int:
    """Return the number of files for each receiver, or raise InputError."""
    if not (math.isfinite(hours) and 0 < hours <= MAX_HOURS):
        raise _wrong("hours", hours, f"more than 0 and at most {MAX_HOURS}", "take 6, for example")
    files = hours * 60 / minutes_per_file
    if abs(files - round(files)) > 1e-6 or round(files) < 1:
        fitting = max(1, math.ceil(files)) * minutes_per_file / 60
        raise _wrong(
            "hours",
            hours,
            f"a whole number of files of {minutes_per_file} minutes",
            f"take {fitting:g} hours, or other minutes per file",
        )
    return round(files)


def check_interval(interval_s: float, minutes_per_file: int) -> int:
    """Return the interval in nanoseconds, or raise InputError."""
    rates = ", ".join(map(str, _HERTZ))
    allowed = f"1 to {_MAX_SECONDS} whole seconds, whole minutes, or 1/N seconds with N one of {rates}"
    hint = "take 5, for example; two epochs or more must fill a file without a rest"
    file_ns = minutes_per_file * 60 * _SECOND_NS
    if not (math.isfinite(interval_s) and 0 < interval_s <= minutes_per_file * 30):
        raise _wrong("interval", interval_s, f"{allowed}, and no longer than half a file", hint)
    interval_ns = round(interval_s * _SECOND_NS)
    whole = interval_ns % _SECOND_NS == 0 and (1 <= interval_s <= _MAX_SECONDS or interval_s % 60 == 0)
    if not whole and interval_ns not in [_SECOND_NS // hertz for hertz in _HERTZ]:
        raise _wrong("interval", interval_s, allowed, hint)
    if file_ns % interval_ns:
        raise _wrong("interval", interval_s, f"a part of {minutes_per_file} minutes without a rest", hint)
    return interval_ns


def check_start(start: np.datetime64 | str, minutes_per_file: int, files: int) -> np.datetime64:
    """Return the first epoch, or raise InputError."""
    hint = "write it as 2025-01-01T00:00, in GPS time, without a time zone"
    if isinstance(start, str) and not _DATE.fullmatch(start):
        raise _wrong("start", start, "a date, or a date and time", hint)
    try:
        first: np.datetime64 = np.datetime64(start).astype("datetime64[ns]")
    except ValueError as exc:
        raise _wrong("start", start, "a date of the calendar", hint) from exc
    end = first + np.timedelta64(files * minutes_per_file, "m")
    if not (first >= EARLIEST and end <= LATEST):
        raise _wrong(
            "start", start, f"from {EARLIEST.astype('datetime64[D]')} on, and the end before 2080", hint
        )
    if (first - first.astype("datetime64[D]")) % np.timedelta64(minutes_per_file, "m"):
        raise _wrong(
            "start",
            start,
            f"a multiple of {minutes_per_file} minutes after midnight",
            "choose such a time (every file then covers a part of one day), or other minutes per file",
        )
    return first


def check_position(position: Position) -> Position:
    """Return the position, or raise InputError."""
    for name, value, (low, high), unit in (
        ("latitude", position.latitude, _LATITUDES, "degrees"),
        ("longitude", position.longitude, _LONGITUDES, "degrees"),
        ("height", position.height_m, _HEIGHTS_M, "metres"),
    ):
        if not low <= value <= high:
            raise _wrong(
                f"position: {name}",
                value,
                f"{low:g} to {high:g} {unit}",
                "give latitude, longitude and height, such as 47.7027,16.3017,751.3",
            )
    return position


def check_mask(elevation_mask: float) -> float:
    """Return the elevation mask, or raise InputError."""
    low, high = _MASKS
    if not low <= elevation_mask <= high:
        raise _wrong("elevation mask", elevation_mask, f"{low:g} to {high:g} degrees", "take 5, for example")
    return elevation_mask


def _wrong(name: str, value: object, allowed: str, hint: str) -> InputError:
    return InputError(f"simulate: {name} is {value}; allowed: {allowed}", hint=hint)
