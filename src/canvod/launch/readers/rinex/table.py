"""The values of a file as they are found, and the arrays that they become."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from canvod.launch.readers.observations import VARIABLES
from canvod.launch.readers.rinex.fields import DECIMALS, WIDTH, decode
from canvod.launch.readers.rinex.signals import signal, systems_of, variable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from canvod.launch.readers.rinex.header import Header
    from canvod.launch.readers.rinex.text import Text

    Integers = npt.NDArray[np.int64]
    Kinds = npt.NDArray[np.int8]
    Cells = tuple[npt.NDArray[np.int32], Kinds, npt.NDArray[np.int32], npt.NDArray[np.float64]]

SATELLITES: Final = 100
"""Satellites of a system are numbered 01 to 99."""

UNDEFINED: Final = -1
"""Key of an observation whose signal has no name."""

AT_ONCE: Final = 16384
"""Fields that are read at once; what is made of them meanwhile stays in a processor's cache."""

MAX_SNR: Final = 100.0
"""No receiver measures an SNR outside 0 to 100 dB-Hz; strong signals have about 55."""


@dataclass(frozen=True, eq=False)
class Columns:
    """The observations of one satellite system that are wanted.

    Attributes
    ----------
    codes : sequence of str
        Observations that a satellite of the system has.
    places : numpy.ndarray
        Shape (n,), int64: which of them are wanted.
    first : int
        Place of the first among what is wanted of all systems.
    rows : sequence of tuple
        Place, variable, key, factor and whether it is SNR of each.
    """

    codes: Sequence[str]
    places: Integers
    first: int
    rows: Sequence[tuple[int, int, int, int, bool]]


@dataclass(frozen=True, eq=False)
class Wanted:
    """The observations of all satellite systems that are wanted under a header.

    Attributes
    ----------
    systems : mapping of str to Columns
        By system, in the order of the header.
    kinds : numpy.ndarray
        Shape (n,), int8: variable of each, as its place among the variables.
    keys : numpy.ndarray
        Shape (n,), int64: key of the signal, to which the number of the satellite is added; `UNDEFINED` where
        RINEX defines no such band.
    units : numpy.ndarray
        Shape (n,), float64: what the integer of each is divided by.
    is_snr : numpy.ndarray
        Shape (n,), bool.
    codes : sequence of str
        Observation code of each.
    """

    systems: Mapping[str, Columns]
    kinds: Kinds
    keys: Integers
    units: npt.NDArray[np.float64]
    is_snr: npt.NDArray[np.bool_]
    codes: Sequence[str]

    def read(self, text: Text, at: Integers, stop: Integers, column: Integers) -> Decoded:
        """Read fields of the usual form, so many at once as stay in a processor's cache.

        Parameters
        ----------
        text : Text
            The lines.
        at, stop : numpy.ndarray
            Shape (n,), int64: where each field starts, and where its line ends.
        column : numpy.ndarray
            Shape (n,), int64: which of the wanted observations each is.
        """
        parts = [self._read(text, at, stop, column, start) for start in range(0, len(at), AT_ONCE)]
        if not parts:
            return Decoded(column, np.empty(0), column)
        kept, values, wrong = (np.concatenate(each) for each in zip(*parts, strict=True))
        return Decoded(kept, values, wrong)

    def _read(
        self, text: Text, at: Integers, stop: Integers, column: Integers, start: int
    ) -> tuple[Integers, npt.NDArray[np.float64], Integers]:
        part = slice(start, start + AT_ONCE)
        numbers, usual = decode(text.fields(at[part], WIDTH, stop[part]))
        kept = np.flatnonzero(numbers)
        which = column[part][kept]
        values = numbers[kept] / self.units[which]
        is_outside = ((values < 0) | (values > MAX_SNR)) & self.is_snr[which]
        wrong = np.concatenate([np.flatnonzero(~usual), kept[is_outside]])
        return kept + start, values, wrong + start


@dataclass(frozen=True, eq=False)
class Decoded:
    """Fields that were read.

    Attributes
    ----------
    kept : numpy.ndarray
        Places of those that hold an observation.
    values : numpy.ndarray
        Their values, float64.
    wrong : numpy.ndarray
        Places of those that are not in the usual form, or hold what no receiver can have.
    """

    kept: Integers
    values: npt.NDArray[np.float64]
    wrong: Integers


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
        Epochs so far; an epoch is known by its place among them.
    """

    variables: Sequence[str]
    n_epochs: int = 0
    _times: list[Integers] = field(default_factory=list)
    _lines: list[Integers] = field(default_factory=list)
    _signals: dict[tuple[str, str], int] = field(default_factory=dict)
    _cells: list[Cells] = field(default_factory=list)
    _shared: bool = False

    def wanted(self, header: Header) -> Wanted:
        """Return what is wanted of the observations under a header."""
        systems: dict[str, Columns] = {}
        names: list[str] = []
        all_rows: list[tuple[int, int, int, int, bool]] = []
        known = systems_of(header.version)
        for system, codes in header.codes.items():
            if system not in known:
                continue
            rows: list[tuple[int, int, int, int, bool]] = []
            seen: set[tuple[str | None, str]] = set()
            for place, code in enumerate(codes):
                name = variable(code)
                if name not in self.variables:
                    continue
                which = signal(system, code, header.version)
                key = UNDEFINED
                if which is not None:
                    key = self._signals.setdefault((system, which), len(self._signals)) * SATELLITES
                    self._shared |= (name, which) in seen
                    seen.add((name, which))
                factor = header.factors.get((system, code), 1)
                rows.append((place, self.variables.index(str(name)), key, factor, name == "SNR"))
            places = np.array([row[0] for row in rows], dtype=np.int64)
            systems[system] = Columns(codes, places, len(all_rows), rows)
            all_rows += rows
            names += [codes[row[0]] for row in rows]
        _, kinds, keys, factors, is_snr = np.array(all_rows, dtype=np.int64).reshape(-1, 5).T.copy()
        units = (factors * DECIMALS).astype(np.float64)
        return Wanted(systems, kinds.astype(np.int8), keys, units, is_snr != 0, names)

    def add_epochs(self, times: Integers, lines: Integers) -> int:
        """Add epochs, of ns since 1970-01-01 in GPS time, with their lines; return the place of the first."""
        first = self.n_epochs
        self._times.append(times)
        self._lines.append(lines)
        self.n_epochs += len(times)
        return first

    def add(self, rows: Integers, kinds: Kinds, keys: Integers, values: npt.NDArray[np.float64]) -> None:
        """Add values by epoch, variable and signal; of two for one cell the one of the first epoch stays."""
        self._cells.append((rows.astype(np.int32), kinds, keys.astype(np.int32), values))

    def arrays(self) -> Arrays:
        """Return what was added as arrays, and forget it: epochs sorted, each once; signals observed."""
        times = np.concatenate([np.empty(0, np.int64), *self._times])
        is_sorted = bool((np.diff(times) > 0).all())
        epoch, place = (times, np.arange(len(times))) if is_sorted else np.unique(times, return_inverse=True)
        lines = np.concatenate([np.empty(0, np.int64), *self._lines])
        is_first = np.zeros(len(times), dtype=bool)
        is_first[np.arange(len(times)) if is_sorted else np.unique(times, return_index=True)[1]] = True
        repeated = lines[~is_first]
        seen = np.zeros(len(self._signals) * SATELLITES, dtype=bool)
        for _, _, keys, _ in self._cells:
            seen[keys] = True
        names = {
            int(key): f"{system}{key % SATELLITES:02d}|{which}"
            for (system, which), base in self._signals.items()
            for key in np.flatnonzero(seen[base * SATELLITES : (base + 1) * SATELLITES]) + base * SATELLITES
        }
        ordered = sorted(names, key=names.__getitem__)
        column = np.zeros(len(seen), dtype=np.int64)
        column[ordered] = np.arange(len(ordered))
        differing = np.empty(0, np.int64)
        if len(repeated) or self._shared:
            self._cells, others = _first_of_each(self._cells, place)
            differing = lines[others]
        arrays: list[npt.NDArray[np.floating[Any]]] = [
            np.full((len(epoch), len(ordered)), np.nan, dtype=VARIABLES[name]) for name in self.variables
        ]
        while self._cells:  # let go of each, since there may be many
            rows, kinds, keys, values = self._cells.pop()
            cell = place[rows] * len(ordered) + column[keys]
            if len(arrays) == 1:
                arrays[0].reshape(-1)[cell] = values
                continue
            order = np.argsort(kinds, kind="stable")
            cell, values = cell[order], values[order]
            bounds = np.searchsorted(kinds[order], np.arange(len(arrays) + 1))
            for kind, array in enumerate(arrays):
                part = slice(bounds[kind], bounds[kind + 1])
                array.reshape(-1)[cell[part]] = values[part]
        sid = tuple(names[key] for key in ordered)
        return Arrays(epoch, sid, dict(zip(self.variables, arrays, strict=True)), repeated, differing)


@dataclass(frozen=True, eq=False)
class Arrays:
    """What a table becomes.

    Attributes
    ----------
    epoch : numpy.ndarray
        Shape (n_epoch,), int64, strictly increasing.
    sid : tuple of str
        Signals, sorted; each has a value.
    variables : mapping of str to numpy.ndarray
        Shape (n_epoch, n_sid) each.
    repeated : numpy.ndarray
        Shape (n,), int64: lines of epochs that were there before.
    differing : numpy.ndarray
        Shape (n,), int64: lines of the epochs of values that were left out since their cell had another one.
    """

    epoch: Integers
    sid: tuple[str, ...]
    variables: Mapping[str, npt.NDArray[np.floating[Any]]]
    repeated: Integers
    differing: Integers


def _first_of_each(cells: Sequence[Cells], place: Integers) -> tuple[list[Cells], Integers]:
    """Return the first value of each cell, and the epochs of the others that differ from it."""
    if not cells:
        return [], np.empty(0, np.int64)
    rows, kinds, keys, values = (np.concatenate(parts) for parts in zip(*cells, strict=True))
    merged = place[rows]
    order = np.lexsort((rows, keys, merged, kinds))  # stable: in one record in the order of its codes
    rows, kinds, keys, values, merged = (part[order] for part in (rows, kinds, keys, values, merged))
    new = np.ones(len(rows), dtype=bool)
    new[1:] = (np.diff(merged) != 0) | (np.diff(kinds) != 0) | (np.diff(keys) != 0)
    kept = values[new][np.cumsum(new) - 1]
    return [(rows[new], kinds[new], keys[new], values[new])], rows[kept != values].astype(np.int64)
