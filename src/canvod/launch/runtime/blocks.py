"""Days, parts and blocks: how the epochs of a group lie in rows of chunks, and how files are merged by cell.

A GPS day that has data takes a whole number of chunk rows, its parts: each an equal share of the day's time.
The rows of a part are its real epochs, as they are in the files, and filler epochs: times of the part's
nominal grid that no observation has, whose values are NaN. So every part is independent of every other, its
times increase strictly, and its content is a function of its files alone.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Epochs = npt.NDArray[np.int64]
Values = npt.NDArray[np.floating[Any]]

DAY_NS: Final = 86_400 * 10**9
"""Nanoseconds of a GPS day, which has no leap second."""


@dataclass(frozen=True, order=True)
class Span:
    """Parts of one day: ``first`` to ``stop - 1`` of so many.

    Attributes
    ----------
    day : int
        Days since 1970-01-01.
    parts : int
        Parts that the day is divided into.
    first, stop : int
        The first of the parts, and the one after the last.
    """

    day: int
    parts: int
    first: int
    stop: int

    @property
    def start_ns(self) -> int:
        """When it starts: nanoseconds since 1970-01-01, GPS time."""
        return self.day * DAY_NS + DAY_NS // self.parts * self.first

    @property
    def stop_ns(self) -> int:
        """When it has ended."""
        if self.stop == self.parts:
            return (self.day + 1) * DAY_NS
        return self.day * DAY_NS + DAY_NS // self.parts * self.stop


def parts_of(epoch: Epochs, parts: int) -> npt.NDArray[np.int64]:
    """Part of its day that each epoch belongs to, where days have so many.

    Parameters
    ----------
    epoch : numpy.ndarray
        Shape (n,), int64: nanoseconds since 1970-01-01, GPS time.
    parts : int
        Parts that every day is divided into.

    Returns
    -------
    numpy.ndarray
        Shape (n,), int64: numbers of parts, 0 to ``parts - 1``.
    """
    return np.minimum(epoch % DAY_NS // (DAY_NS // parts), parts - 1)


def parts_needed(epoch: Epochs, parts: int, rows: int) -> int:
    """Parts of a day that have room for its epochs.

    Parameters
    ----------
    epoch : numpy.ndarray
        Shape (n,), int64: nanoseconds since 1970-01-01, GPS time, of one day.
    parts : int
        Parts that it has at least.
    rows : int
        Rows of a part.

    Returns
    -------
    int
        ``parts``, doubled until no part has more epochs than rows.
    """
    while np.bincount(parts_of(epoch, parts)).max(initial=0) > rows:
        parts *= 2
    return parts


def fill_part(real: Epochs, span: Span, part: int, rows: int) -> Epochs:
    """Epochs of the rows of one part: the real ones, and fillers up to its length.

    Parameters
    ----------
    real : numpy.ndarray
        Shape (n,), int64 nanoseconds, strictly increasing, within the part; n is at most ``rows``.
    span : Span
        Says day and number of parts.
    part : int
        Number of the part in its day.
    rows : int
        Rows of a part.

    Returns
    -------
    numpy.ndarray
        Shape (rows,), int64 nanoseconds, strictly increasing; fillers are the last free times of the grid.
    """
    length = DAY_NS // span.parts
    start = span.day * DAY_NS + length * part
    grid = start + np.arange(rows, dtype=np.int64) * (length // rows)
    missing = rows - len(real)
    free = np.setdiff1d(grid, real, assume_unique=True)
    return np.sort(np.concatenate([real, free[len(free) - missing :]]))


@dataclass(frozen=True, eq=False)
class Source:
    """The values that one file, or the store, has for a span.

    Attributes
    ----------
    name : str
        Path of the file; empty for the store.
    epoch : numpy.ndarray
        Shape (n_epoch,), int64 nanoseconds, strictly increasing.
    sid : tuple of str
        Signals.
    variables : dict of str to numpy.ndarray
        Shape (n_epoch, n_sid) each.
    """

    name: str
    epoch: Epochs
    sid: tuple[str, ...]
    variables: dict[str, Values]

    @property
    def nbytes(self) -> int:
        """Size of its values."""
        return sum(values.nbytes for values in self.variables.values())

    def __sizeof__(self) -> int:
        """Size with its values, by which Dask decides what to spill."""
        return object.__sizeof__(self) + self.epoch.nbytes + self.nbytes

    def cut(self, span: Span) -> Source:
        """The part of it that lies in a span.

        Parameters
        ----------
        span : Span
            Parts of one day.

        Returns
        -------
        Source
            The epochs of the span, with all signals.
        """
        rows = slice(*np.searchsorted(self.epoch, [span.start_ns, span.stop_ns]))
        kept = {name: values[rows] for name, values in self.variables.items()}
        return Source(self.name, self.epoch[rows], self.sid, kept)

    def with_values(self) -> Source:
        """Without the epochs and signals that have no value.

        Returns
        -------
        Source
            Every epoch and every signal of it has a value of at least one variable.
        """
        has = [~np.isnan(values) for values in self.variables.values()]
        rows = np.logical_or.reduce([given.any(axis=1) for given in has])
        columns = np.logical_or.reduce([given.any(axis=0) for given in has])
        sid = tuple(name for name, kept in zip(self.sid, columns, strict=True) if kept)
        kept = {name: values[rows][:, columns] for name, values in self.variables.items()}
        return Source(self.name, self.epoch[rows], sid, kept)

    def without(self, first: int, last: int) -> Source:
        """Without the epochs from ``first`` to ``last``.

        Parameters
        ----------
        first, last : int
            Nanoseconds since 1970-01-01, GPS time; both are left out too.

        Returns
        -------
        Source
            The other epochs, with all signals.
        """
        rows = (self.epoch < first) | (self.epoch > last)
        kept = {name: values[rows] for name, values in self.variables.items()}
        return Source(self.name, self.epoch[rows], self.sid, kept)


@dataclass(frozen=True, eq=False)
class Merged:
    """Sources merged by cell.

    Attributes
    ----------
    source : Source
        What they give together.
    gave : tuple of int
        For each source, how many values it gave.
    differing : Counter of (int, int)
        For a source and one before it: how many of its values differ from the other's, which count.
    """

    source: Source
    gave: tuple[int, ...]
    differing: Counter[tuple[int, int]]


def merge(sources: Sequence[Source], variables: Iterable[str]) -> Merged:
    """Merge sources by cell: each epoch and signal takes its value from the first source that has one.

    Parameters
    ----------
    sources : sequence of Source
        In the order in which their values count; there may be none.
    variables : iterable of str
        Names of the variables, which all sources have.

    Returns
    -------
    Merged
        The epochs of all sources, increasing, and their signals, sorted.
    """
    epoch = np.unique(np.concatenate([np.empty(0, np.int64), *(source.epoch for source in sources)]))
    sid = tuple(sorted({name for source in sources for name in source.sid}))
    column = {name: index for index, name in enumerate(sid)}
    shape = len(epoch), len(sid)
    places = [
        np.ix_(np.searchsorted(epoch, source.epoch), [column[name] for name in source.sid])
        for source in sources
    ]
    alone = len(sources) < 2 or not _overlap(sources)
    gave, differing = [0] * len(sources), Counter[tuple[int, int]]()
    blocks: dict[str, Values] = {}
    for name in variables:
        dtype = next((source.variables[name].dtype for source in sources), None)
        block: Values = np.full(shape, np.nan, dtype)
        owner = None if alone else np.full(shape, -1, np.int32)
        for number, (source, place) in enumerate(zip(sources, places, strict=True)):
            values = source.variables[name]
            given = ~np.isnan(values)
            if owner is None:
                block[place] = values
                gave[number] += int(np.count_nonzero(given))
                continue
            here, owners = block[place], owner[place]
            free = np.isnan(here)
            others, counts = np.unique(owners[given & ~free & (here != values)], return_counts=True)
            for other, count in zip(others.tolist(), counts.tolist(), strict=True):
                differing[number, other] += count
            new = given & free
            gave[number] += int(np.count_nonzero(new))
            block[place] = np.where(free, values, here)
            owner[place] = np.where(new, number, owners)
        blocks[name] = block
    return Merged(Source("", epoch, sid, blocks), tuple(gave), differing)


def _overlap(sources: Sequence[Source]) -> bool:
    """Whether any two sources lie over each other in time."""
    spans = sorted((source.epoch[0], source.epoch[-1]) for source in sources if len(source.epoch))
    return any(first <= last for (_, last), (first, _) in pairwise(spans))
