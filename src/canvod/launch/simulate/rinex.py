"""Writer of RINEX 3.04 observation files from plain arrays.

It writes what it is given: epochs may be missing, repeated or out of order, so that odd files can be made on
purpose. Formats are those of Table A3 of RINEX 3.04 (IGS/RTCM-SC104, 23 November 2018).
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from canvod.launch.errors import InputError
from canvod.launch.simulate.header import SYSTEMS, RinexHeader, calendar, check_types, render_header

Observations = Mapping[str, Mapping[str, ArrayLike]]
"""Satellite (``G01``) -> observation type (``S1C``) -> values of shape (n_epochs,), NaN where there is
none."""

_SATELLITE = re.compile(rf"[{SYSTEMS}][0-9][0-9]")
_FIELD = 16
_SPACE, _ZERO, _DOT, _MINUS, _NEWLINE = (ord(char) for char in " 0.-\n")
_LARGEST = 9_999_999_999.999
_SMALLEST = -999_999_999.999


@dataclass(frozen=True)
class _Block:
    """All observations of one system: ``values`` has the shape (n_epochs, n_satellites, n_types)."""

    satellites: tuple[str, ...]
    types: tuple[str, ...]
    values: NDArray[np.float64]
    lli: NDArray[np.uint8]


def write_rinex(
    path: str | os.PathLike[str],
    header: RinexHeader,
    epochs: ArrayLike,
    observations: Observations,
    *,
    lli: Observations | None = None,
) -> int:
    r"""Write a RINEX 3.04 observation file, atomically.

    Parameters
    ----------
    path : path
        The file to write; one that exists is replaced. Its folder must exist.
    header : RinexHeader
        What the header says; ``RinexHeader()`` makes a valid one.
    epochs : array_like of datetime64, shape (n_epochs,)
        Epochs in the time system of the header, written in the order given: they may repeat or go backwards.
        With none, the file ends after its header, and ``header.first_epoch`` is needed.
    observations : mapping of str to mapping of str to array_like
        Satellite -> observation type -> values of shape (n_epochs,). NaN is a blank field. A satellite
        without any value at an epoch has no record there; an epoch without any satellite is written with the
        count 0. Satellites are sorted within an epoch, systems in the order G, R, E, S, J, C, I.
    lli : mapping of str to mapping of str to array_like, optional
        Loss-of-lock indicators (0 to 7) in the same form, for carrier phase; 0 by default.

    Returns
    -------
    int
        Size of the file in bytes.

    Raises
    ------
    InputError
        For an unknown satellite or type, a wrong number of values, or a value that does not fit its field.

    Notes
    -----
    Values are rounded to three decimals. Where a satellite has a signal strength (``S1C``), pseudorange,
    phase and Doppler of that signal carry the strength digit of section 5.7 of the standard,
    ``min(max(int(snr / 6), 1), 9)``. Lines of records end at their last character that is not blank.

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
    return write_atomically(Path(path), render_rinex(header, epochs, observations, lli=lli))


def render_rinex(
    header: RinexHeader, epochs: ArrayLike, observations: Observations, *, lli: Observations | None = None
) -> bytes:
    """Render the file that `write_rinex` writes, with the same parameters.

    Returns
    -------
    bytes
        The whole file, ASCII with line feeds as line ends.
    """
    times = np.asarray(epochs, dtype="datetime64[ns]").reshape(-1)
    blocks = _blocks(header, times.size, observations, lli or {})
    if header.first_epoch is not None:
        first = header.first_epoch
    elif times.size:
        first = times[0]
    else:
        raise InputError(
            "RINEX header: no epochs are given, so TIME OF FIRST OBS is unknown",
            hint="set RinexHeader.first_epoch",
        )
    head = render_header(header, {system: block.types for system, block in blocks.items()}, first)
    return head + _render_records(times, list(blocks.values()))


def write_atomically(path: Path, content: bytes) -> int:
    """Write ``content`` to a temporary file beside ``path``, then rename it: no reader sees half a file.

    Returns
    -------
    int
        Number of bytes.

    Raises
    ------
    InputError
        If the folder cannot be written to.
    """
    temporary: str | None = None
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        # mkstemp makes files that only their owner can read; other users and containers shall read these too.
        umask = os.umask(0)
        os.umask(umask)
        Path(temporary).chmod(0o666 & ~umask)
        Path(temporary).replace(path)
    except BaseException as exc:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        if isinstance(exc, OSError):
            raise InputError(
                f"{path} cannot be written: {exc.strerror}",
                hint="check the folder's permissions and free space",
            ) from exc
        raise
    return len(content)


def _blocks(
    header: RinexHeader, n_epochs: int, observations: Observations, lli: Observations
) -> dict[str, _Block]:
    types: dict[str, list[str]] = {system: list(names) for system, names in header.observation_types.items()}
    members: dict[str, list[str]] = {system: [] for system in types}
    for satellite, columns in observations.items():
        if not _SATELLITE.fullmatch(satellite):
            raise InputError(
                f"RINEX record: {satellite!r} is not a satellite",
                hint="use a system letter and two digits, such as G01",
            )
        system = satellite[0]
        members.setdefault(system, []).append(satellite)
        for name in columns:
            if system in header.observation_types:
                if name not in types[system]:
                    raise InputError(
                        f"RINEX record: {satellite} has {name}, which the header does not list for system "
                        f"{system}: {' '.join(types[system])}",
                        hint="add the type to RinexHeader.observation_types",
                    )
            elif name not in types.setdefault(system, []):
                types[system].append(name)
    blocks: dict[str, _Block] = {}
    for system in sorted(types, key=SYSTEMS.find):
        check_types(system, types[system])
        satellites = tuple(sorted(members[system]))
        blocks[system] = _Block(
            satellites=satellites,
            types=tuple(types[system]),
            values=_cube(n_epochs, satellites, types[system], observations, np.nan),
            lli=_cube(n_epochs, satellites, types[system], lli, 0.0).astype(np.uint8),
        )
    return blocks


def _cube(
    n_epochs: int, satellites: Sequence[str], types: Sequence[str], columns: Observations, missing: float
) -> NDArray[np.float64]:
    cube = np.full((n_epochs, len(satellites), len(types)), missing)
    for row, satellite in enumerate(satellites):
        for name, values in columns.get(satellite, {}).items():
            array = np.asarray(values, dtype=np.float64)
            if array.shape != (n_epochs,):
                raise InputError(
                    f"RINEX record: {satellite} {name} has the shape {array.shape} for {n_epochs} epochs",
                    hint="give one value an epoch, NaN where there is none",
                )
            cube[:, row, types.index(name)] = array
    return cube


def _render_records(times: NDArray[np.datetime64], blocks: Sequence[_Block]) -> bytes:
    """Lay all lines out as rows of one byte matrix, put them in order, and cut the blanks at their ends."""
    seen = [np.isfinite(block.values).any(axis=2) for block in blocks]
    counts = sum((mask.sum(axis=1) for mask in seen), start=np.zeros(times.size, dtype=np.int64))
    too_many = np.flatnonzero(counts > 999)
    if too_many.size:
        raise InputError(f"RINEX record: {counts[too_many[0]]} satellites at one epoch; the field holds 999")
    width = max([36, *(3 + _FIELD * len(block.types) for block in blocks)]) + 1
    rows = [_epoch_rows(times, counts, width)]
    owner = [np.arange(times.size)]
    for block, mask in zip(blocks, seen, strict=True):
        epoch, satellite = np.nonzero(mask)
        rows.append(_satellite_rows(block, epoch, satellite, width))
        owner.append(epoch)
    # A stable sort keeps, within an epoch, its own line first and then the systems and satellites in their
    # order.
    order = np.argsort(np.concatenate(owner), kind="stable")
    matrix = np.concatenate(rows)[order]
    length = width - np.argmax(matrix[:, ::-1] != _SPACE, axis=1)
    matrix[np.arange(len(matrix)), length] = _NEWLINE
    return matrix[np.arange(width) <= length[:, np.newaxis]].tobytes()


def _epoch_rows(times: NDArray[np.datetime64], counts: NDArray[np.int64], width: int) -> NDArray[np.uint8]:
    rows = np.full((times.size, width), _SPACE, dtype=np.uint8)
    for row, time, count in zip(rows, times, counts, strict=True):
        year, month, day, hour, minute, second = calendar(time)
        line = f"> {year:4d} {month:02d} {day:02d} {hour:02d} {minute:02d}{second:11.7f}  0{count:3d}"
        row[: len(line)] = np.frombuffer(line.encode("ascii"), dtype=np.uint8)
    return rows


def _satellite_rows(
    block: _Block, epoch: NDArray[np.intp], satellite: NDArray[np.intp], width: int
) -> NDArray[np.uint8]:
    rows = np.full((epoch.size, width), _SPACE, dtype=np.uint8)
    names = np.array([list(name.encode("ascii")) for name in block.satellites], dtype=np.uint8).reshape(-1, 3)
    rows[:, :3] = names[satellite]
    values = block.values[epoch, satellite]
    lli = block.lli[epoch, satellite]
    for column, name in enumerate(block.types):
        field = rows[:, 3 + _FIELD * column : 3 + _FIELD * (column + 1)]
        present = np.flatnonzero(np.isfinite(values[:, column]))
        field[present, :14] = _format_f14_3(values[present, column], name)
        if name[0] == "L":
            field[present, 14] = _ZERO + lli[present, column]
        strength = "S" + name[1:]
        if name[0] in "CLD" and strength in block.types:
            snr = values[present, block.types.index(strength)]
            known = np.isfinite(snr)
            digit = np.clip(np.nan_to_num(snr) // 6, 1, 9).astype(np.uint8)
            field[present[known], 15] = _ZERO + digit[known]
    return rows


def _format_f14_3(values: NDArray[np.float64], name: str) -> NDArray[np.uint8]:
    """Render Fortran's ``F14.3`` for all values at once, as rows of 14 characters."""
    outside = (values > _LARGEST) | (values < _SMALLEST)
    if outside.any():
        raise InputError(
            f"RINEX record: {name} = {values[outside][0]!r} does not fit F14.3",
            hint=f"keep values between {_SMALLEST} and {_LARGEST}",
        )
    scaled = np.rint(values * 1000).astype(np.int64)
    rest = np.abs(scaled)
    text = np.full((values.size, 14), _SPACE, dtype=np.uint8)
    text[:, 10] = _DOT
    first = np.full(values.size, 9)
    for position in (13, 12, 11, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0):
        # Units and decimals are always written; digits before them only as far as the number reaches.
        needed = np.flatnonzero((rest > 0) | (position >= 9))
        if not needed.size:
            break
        rest, digit = np.divmod(rest, 10)
        text[needed, position] = _ZERO + digit[needed]
        if position < 9:
            first[needed] = position
    negative = np.flatnonzero(scaled < 0)
    text[negative, first[negative] - 1] = _MINUS
    return text
