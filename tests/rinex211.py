"""Small writer of RINEX 2.11 observation files, for tests of readers.

Formats are those of Tables A1 and A2 of RINEX 2.11 (Gurtner and Estey, 10 December 2007).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike

DEFAULT_TYPES = ("C1", "L1", "D1", "S1", "P1", "P2", "L2", "D2", "S2", "C2")
"""Ten types: two header lines (nine a line) and two lines a satellite (five a line)."""


def write_rinex211(
    path: str | os.PathLike[str],
    epochs: ArrayLike,
    observations: Mapping[str, Mapping[str, ArrayLike]],
    *,
    types: Sequence[str] = DEFAULT_TYPES,
    interval_s: float | None = None,
    first_epoch: np.datetime64 | None = None,
    leap_seconds: int = 18,
    blank_satellite_zero: bool = False,
) -> Path:
    """Write a RINEX 2.11 observation file.

    Parameters
    ----------
    path : path
        The file to write (by convention ``ssssdddf.yyo``, such as ``simr001a.25o``).
    epochs : array_like of datetime64, shape (n_epochs,)
        Epochs in GPS time, written in the order given. With none, ``first_epoch`` is needed.
    observations : mapping of str to mapping of str to array_like
        Satellite (``G01``, ``R24``) -> type (``S1``) -> values of shape (n_epochs,), NaN for a blank field. A
        satellite without any value at an epoch is not listed there.
    types : sequence of str
        Observation types, common to all systems in this version, in the order of the columns.
    interval_s : float, optional
        ``INTERVAL``; None leaves the record out.
    first_epoch : numpy.datetime64, optional
        ``TIME OF FIRST OBS``; by default the first epoch.
    leap_seconds : int
        ``LEAP SECONDS``.
    blank_satellite_zero : bool
        Write ``G 1`` for ``G01``, as the format A1,I2 allows.

    Returns
    -------
    Path
        The file written.
    """
    times = np.asarray(epochs, dtype="datetime64[ns]").reshape(-1)
    first = times[0] if first_epoch is None else first_epoch
    columns = {
        sv: {name: np.asarray(values, dtype=float) for name, values in kinds.items()}
        for sv, kinds in observations.items()
    }
    lines = _header(columns, types, first, interval_s, leap_seconds)
    for index, time in enumerate(times):
        visible = [
            sv for sv in sorted(columns) if any(np.isfinite(values[index]) for values in columns[sv].values())
        ]
        lines += _epoch_lines(time, visible, blank_zero=blank_satellite_zero)
        for sv in visible:
            lines += _record_lines({name: values[index] for name, values in columns[sv].items()}, types)
    target = Path(path)
    target.write_text("".join(f"{line}\n" for line in lines), encoding="ascii")
    return target


def _header(
    columns: Mapping[str, object],
    types: Sequence[str],
    first: np.datetime64,
    interval_s: float | None,
    leap_seconds: int,
) -> list[str]:
    systems = {sv[0] for sv in columns}
    system = systems.pop() if len(systems) == 1 else "M"
    year, month, day, hour, minute, second = _calendar(first)
    records = [
        (f"{2.11:9.2f}{'':11}{'OBSERVATION DATA':<20}{system}", "RINEX VERSION / TYPE"),
        (f"{'canvod-launch tests':<20}{'tests':<20}{'20250101 000000 UTC':<20}", "PGM / RUN BY / DATE"),
        ("SIMULATED", "MARKER NAME"),
        (f"{'canvod-launch':<20}{'canvod-launch':<40}", "OBSERVER / AGENCY"),
        (f"{'0':<20}{'SIMULATED':<20}{'1':<20}", "REC # / TYPE / VERS"),
        (f"{'0':<20}{'UNKNOWN        NONE':<20}", "ANT # / TYPE"),
        (f"{4127445.8715:14.4f}{1206915.1282:14.4f}{4695541.0781:14.4f}", "APPROX POSITION XYZ"),
        (f"{0:14.4f}{0:14.4f}{0:14.4f}", "ANTENNA: DELTA H/E/N"),
        (f"{1:6d}{1:6d}", "WAVELENGTH FACT L1/2"),
    ]
    for start in range(0, len(types), 9):
        head = f"{len(types):6d}" if start == 0 else " " * 6
        records.append(
            (head + "".join(f"    {name}" for name in types[start : start + 9]), "# / TYPES OF OBSERV")
        )
    if interval_s is not None:
        records.append((f"{interval_s:10.3f}", "INTERVAL"))
    records += [
        (f"{year:6d}{month:6d}{day:6d}{hour:6d}{minute:6d}{second:13.7f}{'':5}GPS", "TIME OF FIRST OBS"),
        (f"{leap_seconds:6d}", "LEAP SECONDS"),
        ("", "END OF HEADER"),
    ]
    return [f"{content:<60}{label:<20}" for content, label in records]


def _epoch_lines(time: np.datetime64, satellites: Sequence[str], *, blank_zero: bool) -> list[str]:
    year, month, day, hour, minute, second = _calendar(time)
    head = f" {year % 100:02d} {month:2d} {day:2d} {hour:2d} {minute:2d}{second:11.7f}  0{len(satellites):3d}"
    names = [sv[0] + (f"{int(sv[1:]):2d}" if blank_zero else sv[1:]) for sv in satellites]
    rows = [names[start : start + 12] for start in range(0, len(names), 12)] or [[]]
    return [head + "".join(rows[0]), *(" " * 32 + "".join(row) for row in rows[1:])]


def _record_lines(values: Mapping[str, float], types: Sequence[str]) -> list[str]:
    fields = []
    for name in types:
        value = values.get(name, np.nan)
        if not np.isfinite(value):
            fields.append(" " * 16)
            continue
        snr = values.get("S" + name[1:], np.nan)
        digit = " " if name[0] == "S" or not np.isfinite(snr) else str(min(max(int(snr / 6), 1), 9))
        fields.append(f"{value:14.3f} {digit}")
    return ["".join(fields[start : start + 5]).rstrip() for start in range(0, len(fields), 5)]


def _calendar(time: np.datetime64) -> tuple[int, int, int, int, int, float]:
    ticks = int(np.datetime64(time, "ns").astype(np.int64)) // 100
    minutes, rest = divmod(ticks, 600_000_000)
    date, clock = str(np.datetime64(minutes, "m")).split("T")
    year, month, day = (int(part) for part in date.split("-"))
    hour, minute = (int(part) for part in clock.split(":"))
    return year, month, day, hour, minute, rest / 1e7
