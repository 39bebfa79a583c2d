"""The values of a file as they are found, and the arrays that they become."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from canvod.launch.readers.observations import VARIABLES
from canvod.launch.readers.rinex.fields import DECIMALS, WIDTH
from canvod.launch.readers.rinex.signals import signal, systems_of, variable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from canvod.launch.readers.rinex.file_notes import FileNotes
    from canvod.launch.readers.rinex.header import Header

    Integers = npt.NDArray[np.int64]
    Kinds = npt.NDArray[np.int8]
    Cells = tuple[npt.NDArray[np.int32], Kinds, npt.NDArray[np.int32], npt.NDArray[np.float64]]

SATELLITES: Final = 100
"""Satellites of a system are numbered 01 to 99."""

UNDEFINED: Final = -1
"""Key of an observation whose signal has no name."""


class Column(NamedTuple):
    """An observation of a satellite system that is wanted."""

    place: int
    """Which of the observations of a satellite it is."""
    code: str
    """Observation code."""
    kind: int
    """Its variable, as its place among the variables."""
    key: int
    """Key of its signal, to which the number of the satellite is added; `UNDEFINED` where there is none."""
    factor: int
    """What stored observations are divided by."""
    is_snr: bool
    """Whether its variable is SNR."""


@dataclass(frozen=True, eq=False)
class Columns:
    """The observations of one satellite system that are wanted.

    Attributes
    ----------
    width : int
        Characters of all observations that a satellite of the system has.
    each : sequence of Column
        Those that are wanted.
    first : int
        Place of the first among what is wanted of all systems.
    places : numpy.ndarray
        Shape (n,), int64: which of the observations of a satellite they are.
    """

    width: int
    each: Sequence[Column]
    first: int
    places: Integers


class Wanted:
    """The observations of all satellite systems that are wanted under a header.

    Parameters
    ----------
    systems : mapping of str to Columns
        By system, in the order of the header.

    Attributes
    ----------
    columns : list of Column
        Those of all systems.
    kinds, keys, is_snr : numpy.ndarray
        Shape (n,), int8, int64 and bool: of each column.
    units : numpy.ndarray
        Shape (n,), float64: what the integer of each is divided by.
    """

    def __init__(self, systems: Mapping[str, Columns]) -> None:
        self.systems = systems
        self.columns = [column for columns in systems.values() for column in columns.each]
        self.kinds = np.array([column.kind for column in self.columns], dtype=np.int8)
        self.keys = np.array([column.key for column in self.columns], dtype=np.int64)
        self.is_snr = np.array([column.is_snr for column in self.columns], dtype=bool)
        self.units = np.array([column.factor * DECIMALS for column in self.columns], dtype=np.float64)


@dataclass
class Table:
    """Values by epoch and signal.

    Parameters
    ----------
    variables : sequence of str
        What is wanted, out of `VARIABLES`.

    Attributes
    ----------
    n_epochs : int
        Epochs so far; an epoch is known by its place among them, and may be added before an earlier one.
    """

    variables: Sequence[str]
    n_epochs: int = 0
    _times: list[Integers] = field(default_factory=list)
    _lines: list[Integers] = field(default_factory=list)
    _signals: dict[tuple[str, str], int] = field(default_factory=dict)
    _cells: list[Cells] = field(default_factory=list)
    _shared: bool = False

    def wanted(self, header: Header) -> Wanted:
        """Choose the observations that are wanted from those that a header announces.

        Parameters
        ----------
        header : Header
            The header.

        Returns
        -------
        Wanted
            Those of the table's variables, of each system that the version of the file has.
        """
        systems: dict[str, Columns] = {}
        first = 0
        for system, codes in header.codes.items():
            if system not in systems_of(header.version):
                continue
            columns: list[Column] = []
            seen: set[tuple[str, str]] = set()
            for place, code in enumerate(codes):
                name = variable(code)
                if name is None or name not in self.variables:
                    continue
                which = signal(system, code, header.version)
                key = UNDEFINED
                if which is not None:
                    key = self._signals.setdefault((system, which), len(self._signals)) * SATELLITES
                    self._shared |= (name, which) in seen
                    seen.add((name, which))
                factor = header.factors.get((system, code), 1)
                columns.append(Column(place, code, self.variables.index(name), key, factor, name == "SNR"))
            places = np.array([column.place for column in columns], dtype=np.int64)
            systems[system] = Columns(len(codes) * WIDTH, columns, first, places)
            first += len(columns)
        return Wanted(systems)

    def add_epochs(self, times: Integers, lines: Integers) -> None:
        """Add epochs, each of which takes the next row.

        Parameters
        ----------
        times : numpy.ndarray
            Shape (n,), int64: GPS time in ns since 1970-01-01.
        lines : numpy.ndarray
            Shape (n,), int64: numbers of their lines in the file.
        """
        self._times.append(times)
        self._lines.append(lines)
        self.n_epochs += len(times)

    def add(self, rows: Integers, kinds: Kinds, keys: Integers, values: npt.NDArray[np.float64]) -> None:
        """Add values; of two of one epoch, variable and signal the one of the first line stays.

        Parameters
        ----------
        rows : numpy.ndarray
            Shape (n,), int64: row of the epoch of each, among all epochs from 0.
        kinds : numpy.ndarray
            Shape (n,), int8: its variable, as the place among the table's variables.
        keys : numpy.ndarray
            Shape (n,), int: key of its signal plus the number of its satellite.
        values : numpy.ndarray
            Shape (n,), float64, none of them NaN, in the unit of the variable.
        """
        self._cells.append((rows.astype(np.int32), kinds, keys.astype(np.int32), values))

    def arrays(
        self, notes: FileNotes
    ) -> tuple[Integers, tuple[str, ...], dict[str, npt.NDArray[np.floating[Any]]]]:
        """Make arrays of what was added, once: the values are given up meanwhile.

        Parameters
        ----------
        notes : FileNotes
            Where it is noted which epochs and values are there more than once.

        Returns
        -------
        epoch : numpy.ndarray
            Shape (n_epoch,), int64: GPS time in ns since 1970-01-01, strictly increasing.
        sid : tuple of str
            Signals ``sv|band|code``, sorted; each has a value.
        variables : dict of str to numpy.ndarray
            Shape (n_epoch, n_sid) each, of the dtypes in `canvod.launch.readers.VARIABLES`; NaN where there
            is no value.
        """
        times, lines = (
            np.concatenate([np.empty(0, np.int64), *parts]) for parts in (self._times, self._lines)
        )
        order = np.lexsort((lines, times))
        is_first = np.diff(times[order], prepend=-1) != 0
        epoch = times[order][is_first]
        place = np.empty_like(order)
        place[order] = np.cumsum(is_first) - 1
        repeated = lines[order][~is_first]
        if len(repeated) or self._shared:
            self._cells, differing = _first_of_each(self._cells, place, lines)
            if len(differing):
                notes.add("differing", int(differing.min()), count=len(differing))
        if len(repeated):
            notes.add("repeated", int(repeated.min()), count=len(repeated))
        seen = np.zeros(len(self._signals) * SATELLITES, dtype=bool)
        for _, _, keys, _ in self._cells:
            seen[keys] = True
        signals = list(self._signals)  # their keys count up from 0
        names: dict[int, str] = {}
        for key in np.flatnonzero(seen).tolist():
            system, which = signals[key // SATELLITES]
            names[key] = f"{system}{key % SATELLITES:02d}|{which}"
        ordered = sorted(names, key=names.__getitem__)
        column = np.zeros(len(seen), dtype=np.int64)
        column[ordered] = np.arange(len(ordered))
        arrays: dict[str, npt.NDArray[np.floating[Any]]] = {
            name: np.full((len(epoch), len(ordered)), np.nan, dtype=VARIABLES[name])
            for name in self.variables
        }
        while self._cells:  # let go of each, since there may be many
            rows, kinds, keys, values = self._cells.pop()
            cell = place[rows] * len(ordered) + column[keys]
            for kind, array in enumerate(arrays.values()):
                mine = np.flatnonzero(kinds == kind)
                array.reshape(-1)[cell[mine]] = values[mine]
        return epoch, tuple(names[key] for key in ordered), arrays


def _first_of_each(cells: Sequence[Cells], place: Integers, lines: Integers) -> tuple[list[Cells], Integers]:
    """Return the first value of each cell, and the lines of the epochs of the others that differ from it."""
    if not cells:
        return [], np.empty(0, np.int64)
    rows, kinds, keys, values = (np.concatenate(parts) for parts in zip(*cells, strict=True))
    merged = place[rows]
    order = np.lexsort((lines[rows], keys, merged, kinds))  # stable: in one record in the order of its codes
    rows, kinds, keys, values, merged = (part[order] for part in (rows, kinds, keys, values, merged))
    new = np.ones(len(rows), dtype=bool)
    new[1:] = (np.diff(merged) != 0) | (np.diff(kinds) != 0) | (np.diff(keys) != 0)
    kept = values[new][np.cumsum(new) - 1]
    return [(rows[new], kinds[new], keys[new], values[new])], lines[rows[kept != values]]
