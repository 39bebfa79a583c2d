"""Writer of RINEX 3.04 observation files from plain arrays.

It writes what it is given: epochs may be missing, repeated or out of order, so that odd files can be made on
purpose. Formats are those of tables A2 (header) and A3 (records) of RINEX 3.04 (IGS/RTCM-SC104, 23 November
2018).
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from canvod.launch.errors import InputError

SimulatedObservations = Mapping[str, Mapping[str, ArrayLike]]
"""Satellite (``G01``) -> observation type (``S1C``) -> values of shape (n_epochs,), NaN where none."""

_SPACE, _ZERO, _DOT, _MINUS = b" 0.-"
_LIMIT = 999_999_999


@dataclass(frozen=True)
class RinexHeader:
    """What the header of an observation file says; the other records follow from the observations.

    Parameters
    ----------
    marker_name : str
        Name of the station.
    approx_position_m : tuple of float
        Geocentric X, Y, Z in metres (WGS 84).
    interval_s : float, optional
        ``INTERVAL`` in seconds; None leaves the record out.
    glonass_channels : mapping of str to int
        Frequency channel (-7 to 6) of each GLONASS satellite.
    comments : sequence of str
        One ``COMMENT`` record each.
    """

    marker_name: str = "SIMULATED"
    approx_position_m: tuple[float, float, float] = (4127445.8715, 1206915.1282, 4695541.0781)
    interval_s: float | None = None
    glonass_channels: Mapping[str, int] = field(default_factory=dict)
    comments: Sequence[str] = ()


def write_rinex(
    path: str | os.PathLike[str], header: RinexHeader, epochs: ArrayLike, observations: SimulatedObservations
) -> int:
    r"""Write a RINEX 3.04 observation file, atomically.

    Parameters
    ----------
    path : path
        The file to write; one that exists is replaced. Its folder is made if it is not there.
    header : RinexHeader
        What the header says; ``RinexHeader()`` makes a valid one.
    epochs : array_like of datetime64, shape (n_epochs,)
        Epochs in GPS time, at least one, written in the order given: they may repeat or go backwards.
    observations : mapping of str to mapping of str to array_like of float
        Satellite -> observation type -> values of shape (n_epochs,). NaN is a blank field. A satellite
        without any value at an epoch has no record there; an epoch without any satellite is written with the
        count 0. Satellites and types are written in the order given.

    Returns
    -------
    int
        Size of the file in bytes.

    Raises
    ------
    InputError
        For a value that does not fit its field, or a file that cannot be written.

    Notes
    -----
    Values are rounded to three decimals. Where a satellite has an SNR (``S1C``), pseudorange, phase and
    Doppler of that signal carry the strength digit of section 5.7 of the standard. Lines of records end at
    their last character that is not blank.

    Examples
    --------
    >>> import numpy as np, tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "one.rnx"
    >>> epochs = np.array(["2025-01-01T00:00:00", "2025-01-01T00:00:05"], "datetime64[ns]")
    >>> size = write_rinex(path, RinexHeader(), epochs, {"G01": {"S1C": [45.25, np.nan]}})
    >>> print(*path.read_text().splitlines()[-3:], sep="\n")
    > 2025 01 01 00 00  0.0000000  0  1
    G01        45.250
    > 2025 01 01 00 00  5.0000000  0  0
    """
    content = render_rinex(header, epochs, observations)
    write_atomically(Path(path), content)
    return len(content)


def render_rinex(header: RinexHeader, epochs: ArrayLike, observations: SimulatedObservations) -> bytes:
    """Render the file that `write_rinex` writes.

    Parameters
    ----------
    header : RinexHeader
        What the header says.
    epochs : array_like of datetime64, shape (n_epochs,)
        Epochs in GPS time, at least one, in the order of the file.
    observations : mapping of str to mapping of str to array_like of float
        Satellite -> observation type -> values of shape (n_epochs,), NaN for a blank field.

    Returns
    -------
    bytes
        The complete file, ASCII with line feeds as line ends.

    Raises
    ------
    InputError
        For a value that does not fit its field.
    """
    times = np.asarray(epochs, dtype="datetime64[us]").reshape(-1).tolist()
    types: dict[str, list[str]] = {}
    for satellite, columns in observations.items():
        known = types.setdefault(satellite[0], [])
        known += [name for name in columns if name not in known]
    records: list[list[bytes]] = [[] for _ in times]
    for satellite, columns in observations.items():
        fields, present = _fields(columns, types[satellite[0]], len(times))
        for epoch in np.flatnonzero(present).tolist():
            records[epoch].append(satellite.encode("ascii") + fields[epoch].tobytes().rstrip())
    lines = [f"{text:<60}{label:<20}".encode("ascii") for text, label in _header(header, types, times[0])]
    for time, rows in zip(times, records, strict=True):
        lines.append(f"> {time:%Y %m %d %H %M}{_seconds(time):11.7f}  0{len(rows):3d}".encode("ascii"))
        lines += rows
    return b"\n".join(lines) + b"\n"


def write_atomically(path: Path, content: bytes) -> None:
    """Write ``content`` to a temporary file beside ``path``, then rename it: no reader sees half a file.

    Parameters
    ----------
    path : Path
        The file to write or replace.
    content : bytes
        All of its content.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            file.write(content)
        temporary.replace(path)
    except OSError as exc:
        raise InputError(
            f"{path} cannot be written: {exc.strerror}",
            hint="check the permissions and free space of its folder",
        ) from exc
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def _fields(
    observations: Mapping[str, ArrayLike], types: Sequence[str], n_epochs: int
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Lay the fields F14.3, I1, I1 of a satellite out as characters, and tell at which epochs there are any.

    Returns
    -------
    fields : ndarray of uint8, shape (n_epochs, n_types, 16)
    present : ndarray of bool, shape (n_epochs,)
    """
    missing = np.full(n_epochs, np.nan)
    values = np.stack(
        [np.asarray(observations.get(name, missing), dtype=np.float64) for name in types], axis=1
    )
    known = np.isfinite(values)
    if (np.abs(values[known]) >= _LIMIT).any():
        raise InputError(
            f"RINEX record: a value of {', '.join(types)} does not fit F14.3",
            hint=f"keep values between -{_LIMIT} and {_LIMIT}",
        )
    fields = np.full((*values.shape, 16), _SPACE, dtype=np.uint8)
    fields[known, :14] = _render_f14_3(values[known])
    for column, name in enumerate(types):
        if name[0] == "L":
            fields[known[:, column], column, 14] = _ZERO
        strength = "S" + name[1:]
        if name[0] in "CLD" and strength in types:
            snr = values[:, types.index(strength)]
            both = known[:, column] & np.isfinite(snr)
            fields[both, column, 15] = _ZERO + (snr[both] // 6).clip(1, 9).astype(np.uint8)
    return fields, known.any(axis=1)


def _render_f14_3(values: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Render Fortran's ``F14.3`` for all values at once, as rows of 14 characters."""
    scaled = np.rint(values * 1000).astype(np.int64)
    digits = np.abs(scaled)[:, np.newaxis] // 10 ** np.arange(12, -1, -1) % 10
    # Units and decimals are always written; digits before them only as far as the number reaches.
    written = np.logical_or.accumulate(digits > 0, axis=1) | (np.arange(13) >= 9)
    text = np.insert(np.where(written, _ZERO + digits, _SPACE), 10, _DOT, axis=1).astype(np.uint8)
    negative = np.flatnonzero(scaled < 0)
    text[negative, written[negative].argmax(axis=1) - 1] = _MINUS
    return text


def _header(
    header: RinexHeader, types: Mapping[str, Sequence[str]], first: datetime
) -> Iterator[tuple[str, str]]:
    """Yield value and label of each record."""
    yield f"{3.04:9.2f}{'':11}{'OBSERVATION DATA':<20}M", "RINEX VERSION / TYPE"
    # The time of the data, not of today: equal data make equal files.
    yield f"{'canvod-launch':<20}{'simulate':<20}{first:%Y%m%d %H%M%S} UTC", "PGM / RUN BY / DATE"
    for comment in header.comments:
        yield comment, "COMMENT"
    yield header.marker_name, "MARKER NAME"
    yield "GEODETIC", "MARKER TYPE"
    yield f"{'canvod-launch':<20}canvod-launch", "OBSERVER / AGENCY"
    yield f"{'0':<20}{'SIMULATED':<20}1", "REC # / TYPE / VERS"
    yield f"{'0':<20}{'SIMULATED':<16}NONE", "ANT # / TYPE"
    yield "".join(f"{value:14.4f}" for value in header.approx_position_m), "APPROX POSITION XYZ"
    yield f"{0:14.4f}" * 3, "ANTENNA: DELTA H/E/N"
    for system, names in types.items():
        for line in _continued(f"{system}  {len(names):3d}", [f" {name}" for name in names], 13):
            yield line, "SYS / # / OBS TYPES"
    yield "DBHZ", "SIGNAL STRENGTH UNIT"
    if header.interval_s is not None:
        yield f"{header.interval_s:10.3f}", "INTERVAL"
    date = f"{first.year:6d}{first.month:6d}{first.day:6d}{first.hour:6d}{first.minute:6d}"
    yield f"{date}{_seconds(first):13.7f}     GPS", "TIME OF FIRST OBS"
    for system, names in types.items():
        for name in names:
            if name[0] == "L":
                yield f"{system} {name} {0:8.5f}", "SYS / PHASE SHIFT"
    channels = [f"{satellite} {channel:2d} " for satellite, channel in header.glonass_channels.items()]
    for line in _continued(f"{len(channels):3d} ", channels, 8):
        yield line, "GLONASS SLOT / FRQ #"
    yield "".join(f" {code} {0:8.3f}" for code in ("C1C", "C1P", "C2C", "C2P")), "GLONASS COD/PHS/BIS"
    yield f"{18:6d}", "LEAP SECONDS"
    yield "", "END OF HEADER"


def _continued(head: str, items: Sequence[str], per_line: int) -> Iterator[str]:
    """Yield lines of so many items each, of which the first has a head, and the others blanks instead."""
    for start in range(0, len(items), per_line):
        yield (head if start == 0 else " " * len(head)) + "".join(items[start : start + per_line])


def _seconds(time: datetime) -> float:
    return time.second + time.microsecond / 1e6
