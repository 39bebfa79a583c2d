"""RINEX by georinex, under the names and with the values of canvod-readers.

At every epoch georinex aligns and copies all that it has read before, and it parses every field whatever was
asked for: a file of 180 epochs with seven systems takes 10 s. It is therefore handed the wanted fields only,
of one satellite system at a time, in epoch records of 99 lines, the most that a record can announce. Nothing
is left to align, and the file takes a twentieth of that. Which line belongs to which epoch is known from the
checks that come before (see `rinex_screen`), without which georinex would read damaged lines as numbers.

Fields are padded to their full width: a satellite without observations, whose line is empty, would otherwise
be skipped and every satellite after it get the values of its neighbour.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

import georinex
import numpy as np
import numpy.typing as npt

from canvod.launch.runtime.reading import Reading
from canvod.launch.runtime.rinex_records import FIELD, Epoch
from canvod.launch.runtime.rinex_screen import screen
from canvod.launch.runtime.rinex_text import epoch_3, header_3
from canvod.launch.runtime.signals import signal, variable

if TYPE_CHECKING:
    from canvod.launch.runtime.rinex_header import RinexHeader

MAX_LINES: Final = 99
"""Satellites that an epoch record can announce (I3, of which georinex reads two digits)."""

_Rows = list[tuple[int, str, str]]


def read(
    path: str, header: RinexHeader, variables: Sequence[str], dtypes: dict[str, npt.DTypeLike]
) -> Reading:
    """Read a plain RINEX file whose header is ``header``.

    Parameters
    ----------
    path : str
        The file.
    header : RinexHeader
        Its header.
    variables : sequence of str
        Variables to read.
    dtypes : dict of str to dtype
        Their dtypes.

    Returns
    -------
    Reading
    """
    records = screen(path, header, variables)
    columns: dict[str, int] = {}
    cells: list[tuple[str, list[int], list[int], npt.NDArray[np.float64]]] = []
    # Damage may leave a code of the other version's length, which the reference reader does not know.
    length = 3 if header.version >= 3 else 2
    for system, codes in header.codes.items():
        places = [
            i
            for i, code in enumerate(codes)
            if len(code) == length and variable(code) in variables and signal(system, code)
        ]
        if not places:
            continue
        chosen = [codes[i] for i in places]
        start = header_3({system: chosen}, header.first_epoch)
        for rows in _blocks(records.epochs, system, places):
            dataset = georinex.load(io.StringIO(start + _record(rows)))
            for code in chosen:
                name = signal(system, code)
                which = [columns.setdefault(f"{sv}|{name}", len(columns)) for _, sv, _ in rows]
                times = [index for index, _, _ in rows]
                cells.append((str(variable(code)), times, which, dataset[code].values[0]))
    arrays: dict[str, npt.NDArray[np.floating[Any]]] = {
        name: np.full((len(records.epochs), len(columns)), np.nan, dtype=dtypes[name]) for name in variables
    }
    for name, times, which, values in cells:
        # Missing observations are written as 0.0 or blanks (RINEX 3.04, table A3).
        for index in np.flatnonzero(np.isfinite(values) & (values != 0)):
            arrays[name][times[index], which[index]] = values[index]
    epoch = np.array([each.time_ns for each in records.epochs], dtype=np.int64)
    return Reading(epoch=epoch, sid=list(columns), variables=arrays, notes=records.notes())


def _blocks(epochs: list[Epoch], system: str, places: list[int]) -> Iterator[_Rows]:
    """Yield (epoch's index, satellite, wanted fields) of one system, at most `MAX_LINES` at a time."""
    rows: _Rows = []
    for index, epoch in enumerate(epochs):
        for sv, fields in epoch.satellites:
            if sv[0] == system:
                text = "".join(fields[i * FIELD : (i + 1) * FIELD].ljust(FIELD) for i in places)
                rows.append((index, sv, text))
                if len(rows) == MAX_LINES:
                    yield rows
                    rows = []
    if rows:
        yield rows


def _record(rows: _Rows) -> str:
    return epoch_3(0, len(rows)) + "".join(f"{sv}{text}\n" for _, sv, text in rows)
