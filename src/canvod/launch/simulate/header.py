"""Header of a RINEX 3.04 observation file.

Formats are those of Table A2 of RINEX 3.04 (IGS/RTCM-SC104, 23 November 2018): columns 1-60 hold the values,
columns 61-80 the label.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from canvod.launch.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

SYSTEMS = "GRESJCI"
"""Letters of the satellite systems in RINEX 3.04: GPS, GLONASS, Galileo, SBAS, QZSS, BeiDou, NavIC."""

_OBSERVATION_TYPE = re.compile(r"[CLDSIX][0-9][A-Z]")


@dataclass(frozen=True)
class PhaseShift:
    """One ``SYS / PHASE SHIFT`` record.

    Parameters
    ----------
    system : str
        System letter.
    code : str
        Carrier phase type, such as ``L1C``.
    cycles : float, optional
        Correction that has been applied, in cycles; None leaves it blank, as for the reference signal of a
        band.
    """

    system: str
    code: str
    cycles: float | None = None


@dataclass(frozen=True)
class RinexHeader:
    """What the header of an observation file says; every field has a default that makes a valid file.

    Parameters
    ----------
    observation_types : mapping of str to sequence of str, optional
        Types of each system in the order of the columns, such as ``{"G": ["C1C", "S1C"]}``. Systems that are
        not named take the types that their observations have, in the order of first appearance.
    marker_name, marker_number, marker_type, observer, agency, program, run_by : str
        Texts of the records of these names.
    receiver : tuple of str
        Number, type and firmware version of the receiver.
    antenna : tuple of str
        Number and type of the antenna.
    approx_position_m : tuple of float
        Geocentric X, Y, Z in metres (ITRF/WGS 84).
    antenna_delta_m : tuple of float
        Height, east and north offset in metres.
    created : numpy.datetime64, optional
        Date of ``PGM / RUN BY / DATE`` (UTC); by default the first epoch, so that equal data make equal
        files.
    interval_s : float, optional
        ``INTERVAL`` in seconds; None leaves the record out.
    first_epoch, last_epoch : numpy.datetime64, optional
        ``TIME OF FIRST OBS`` (by default the first epoch as given; needed where there is none) and
        ``TIME OF LAST OBS`` (None leaves the record out).
    time_system : str
        ``GPS``, ``GLO``, ``GAL``, ``QZS``, ``BDT`` or ``IRN``.
    glonass_slots : mapping of str to int
        Frequency number (-7 to 6) of each GLONASS satellite.
    glonass_biases_m : mapping of str to float
        Code-phase bias corrections in metres for C1C, C1P, C2C, C2P.
    phase_shifts : sequence of PhaseShift
        The ``SYS / PHASE SHIFT`` records, a mandatory part of the header of version 3.04.
    leap_seconds : int, optional
        GPS time minus UTC in seconds.
    comments : sequence of str
        One ``COMMENT`` record each, at most 60 characters.
    """

    observation_types: Mapping[str, Sequence[str]] = field(default_factory=dict)
    marker_name: str = "SIMULATED"
    marker_number: str = ""
    marker_type: str = "GEODETIC"
    observer: str = "canvod-launch"
    agency: str = "canvod-launch"
    program: str = "canvod-launch"
    run_by: str = "simulate"
    receiver: tuple[str, str, str] = ("0", "SIMULATED", "1")
    antenna: tuple[str, str] = ("0", "UNKNOWN        NONE")
    approx_position_m: tuple[float, float, float] = (4127445.8715, 1206915.1282, 4695541.0781)
    antenna_delta_m: tuple[float, float, float] = (0.0, 0.0, 0.0)
    created: np.datetime64 | None = None
    interval_s: float | None = None
    first_epoch: np.datetime64 | None = None
    last_epoch: np.datetime64 | None = None
    time_system: str = "GPS"
    glonass_slots: Mapping[str, int] = field(default_factory=dict)
    glonass_biases_m: Mapping[str, float] = field(default_factory=dict)
    phase_shifts: Sequence[PhaseShift] = ()
    leap_seconds: int | None = 18
    comments: Sequence[str] = ()


def check_types(system: str, types: Sequence[str]) -> None:
    """Refuse a system or observation types that RINEX 3.04 does not know.

    Raises
    ------
    InputError
        For an unknown system letter, a malformed type, a type named twice, or more than 999 of them.
    """
    if system not in SYSTEMS or len(system) != 1:
        raise InputError(
            f"RINEX header: unknown satellite system {system!r}", hint=f"use one of {', '.join(SYSTEMS)}"
        )
    for name in types:
        if not _OBSERVATION_TYPE.fullmatch(name):
            raise InputError(
                f"RINEX header: {name!r} (system {system}) is not an observation type of RINEX 3.04",
                hint="a type is kind (C, L, D, S), band (1-9) and code (A-Z), such as S1C",
            )
    if len(set(types)) != len(types):
        raise InputError(f"RINEX header: system {system} names an observation type twice: {' '.join(types)}")


def calendar(epoch: np.datetime64) -> tuple[int, int, int, int, int, float]:
    """Split a date into year, month, day, hour, minute and seconds (rounded to RINEX's 0.1 microseconds)."""
    ticks = (int(epoch.astype("datetime64[ns]").astype(np.int64)) + 50) // 100
    minute, rest = divmod(ticks, 600_000_000)
    text = str(np.datetime64(minute, "m"))
    date, clock = text.split("T")
    year, month, day = (int(part) for part in date.split("-"))
    hour, minutes = (int(part) for part in clock.split(":"))
    return year, month, day, hour, minutes, rest / 1e7


def render_header(
    header: RinexHeader, types: Mapping[str, Sequence[str]], first_epoch: np.datetime64
) -> bytes:
    """Render the header, down to ``END OF HEADER`` and its line end.

    Parameters
    ----------
    header : RinexHeader
    types : mapping of str to sequence of str
        Observation types of every system in the file, in the order in which they are to appear.
    first_epoch : numpy.datetime64
        ``TIME OF FIRST OBS``.

    Returns
    -------
    bytes
        Lines of exactly 80 characters.

    Raises
    ------
    InputError
        If a value does not fit its field.
    """
    lines = [_line(content, label) for content, label in _records(header, types, first_epoch)]
    return "".join(lines).encode("ascii")


def _line(content: str, label: str) -> str:
    if len(content) > 60 or not content.isascii() or not content.isprintable():
        raise InputError(
            f"RINEX header: the value of {label!r} does not fit 60 columns of plain ASCII: {content!r}",
            hint="shorten it, and leave out line ends and letters outside ASCII",
        )
    return f"{content:<60}{label:<20}\n"


def _records(
    header: RinexHeader, types: Mapping[str, Sequence[str]], first_epoch: np.datetime64
) -> Iterator[tuple[str, str]]:
    system = next(iter(types)) if len(types) == 1 else "M"
    yield f"{3.04:9.2f}{'':11}{'OBSERVATION DATA':<20}{system}", "RINEX VERSION / TYPE"
    year, month, day, hour, minute, second = calendar(
        first_epoch if header.created is None else header.created
    )
    date = f"{year:04d}{month:02d}{day:02d} {hour:02d}{minute:02d}{int(second):02d} UTC"
    yield _columns(header.program, header.run_by, date), "PGM / RUN BY / DATE"
    for comment in header.comments:
        yield comment, "COMMENT"
    yield header.marker_name, "MARKER NAME"
    if header.marker_number:
        yield _columns(header.marker_number), "MARKER NUMBER"
    yield _columns(header.marker_type), "MARKER TYPE"
    yield _columns(header.observer) + header.agency, "OBSERVER / AGENCY"
    yield _columns(*header.receiver), "REC # / TYPE / VERS"
    yield _columns(*header.antenna), "ANT # / TYPE"
    yield "".join(f"{value:14.4f}" for value in header.approx_position_m), "APPROX POSITION XYZ"
    yield "".join(f"{value:14.4f}" for value in header.antenna_delta_m), "ANTENNA: DELTA H/E/N"
    for letter, names in types.items():
        for start in range(0, max(len(names), 1), 13):
            head = f"{letter}  {len(names):3d}" if start == 0 else " " * 6
            yield head + "".join(f" {name}" for name in names[start : start + 13]), "SYS / # / OBS TYPES"
    yield "DBHZ", "SIGNAL STRENGTH UNIT"
    if header.interval_s is not None:
        yield f"{header.interval_s:10.3f}", "INTERVAL"
    yield _time(first_epoch, header.time_system), "TIME OF FIRST OBS"
    if header.last_epoch is not None:
        yield _time(header.last_epoch, header.time_system), "TIME OF LAST OBS"
    for shift in header.phase_shifts:
        value = "" if shift.cycles is None else f" {shift.cycles:8.5f}"
        yield f"{shift.system} {shift.code}{value}", "SYS / PHASE SHIFT"
    yield from _glonass(header)
    if header.leap_seconds is not None:
        yield f"{header.leap_seconds:6d}", "LEAP SECONDS"
    yield "", "END OF HEADER"


def _glonass(header: RinexHeader) -> Iterator[tuple[str, str]]:
    slots = sorted(header.glonass_slots.items())
    for start in range(0, len(slots), 8):
        head = f"{len(slots):3d} " if start == 0 else " " * 4
        yield (
            head + "".join(f"{sv} {slot:2d} " for sv, slot in slots[start : start + 8]),
            "GLONASS SLOT / FRQ #",
        )
    if header.glonass_slots or header.glonass_biases_m:
        biases = "".join(f" {code} {value:8.3f}" for code, value in header.glonass_biases_m.items())
        yield biases, "GLONASS COD/PHS/BIS"


def _columns(*texts: str) -> str:
    return "".join(f"{text:<20.20}" for text in texts)


def _time(epoch: np.datetime64, system: str) -> str:
    year, month, day, hour, minute, second = calendar(epoch)
    return f"{year:6d}{month:6d}{day:6d}{hour:6d}{minute:6d}{second:13.7f}{'':5}{system:<3}"
