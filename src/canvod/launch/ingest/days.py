"""The days of a group: which have data, and in which rows; pure functions of values.

Days are in order, and each takes a whole number of chunk rows (`canvod.launch.runtime.blocks`). A day that
comes late, or that needs more parts than it has, is put in by moving references to chunks, not data.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from canvod.launch.runtime.blocks import DAY_NS
from canvod.launch.units import MIB

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from canvod.launch.runtime.blocks import Span

Column = npt.NDArray[np.int64]

CHUNK_BYTES = 16 * MIB
"""The most that a chunk of the widest variable holds."""
SMALL_CHUNK_BYTES = 1 * MIB
"""Chunks are made no smaller than this where a day has that much."""
SHORTEST_NS = 10**7
"""Days are made for intervals of 10 ms at the least, and get more parts where they need them."""
SID_CHUNK = 64
"""Signals of a chunk, at least: about what one system has at a station."""


@dataclass(frozen=True, eq=False)
class DayTable:
    """The days that a group has data of, a row each, in order.

    Attributes
    ----------
    day : numpy.ndarray
        Shape (n,), int64: days since 1970-01-01, increasing.
    parts : numpy.ndarray
        Shape (n,), int64: chunk rows of the day.
    epochs : numpy.ndarray
        Shape (n,), int64: its real epochs.
    revision : numpy.ndarray
        Shape (n,), int64: revision of the group at which the day was changed last.
    """

    day: Column
    parts: Column
    epochs: Column
    revision: Column

    @classmethod
    def empty(cls) -> DayTable:
        """A table without days.

        Returns
        -------
        DayTable
            Columns of shape (0,).
        """
        return cls(*(np.empty(0, np.int64) for _ in fields(cls)))

    def find(self, day: int) -> int | None:
        """Row of a day.

        Parameters
        ----------
        day : int
            Days since 1970-01-01.

        Returns
        -------
        int or None
            Its row in this table; None where it has no data.
        """
        row = int(np.searchsorted(self.day, day))
        return row if row < len(self.day) and self.day[row] == day else None

    def parts_of(self, day: int) -> int | None:
        """Parts of a day.

        Parameters
        ----------
        day : int
            Days since 1970-01-01.

        Returns
        -------
        int or None
            Its number of parts; None where it has no data.
        """
        row = self.find(day)
        return None if row is None else int(self.parts[row])

    @property
    def chunk_rows(self) -> int:
        """Chunk rows of all days together."""
        return int(self.parts.sum())

    def first_row(self, span: Span, rows: int) -> int:
        """First row of a span.

        Parameters
        ----------
        span : Span
            Parts of a day that the table has, in as many parts.
        rows : int
            Rows of a part.

        Returns
        -------
        int
            The row in the arrays of the group.
        """
        row = self.find(span.day)
        assert row is not None  # noqa: S101 - for the type checker
        return (int(self.parts[:row].sum()) + span.first) * rows

    def with_days(self, parts: Mapping[int, int]) -> DayTable:
        """With these days, each in so many parts.

        Parameters
        ----------
        parts : mapping of int to int
            Number of parts by day (days since 1970-01-01).

        Returns
        -------
        DayTable
            The days of both, in order; a new one has no epochs, and revision 0.
        """
        known = {int(day): row for row, day in enumerate(self.day)}
        days = sorted({*known, *parts})
        columns: dict[str, list[int]] = {"day": days, "parts": [], "epochs": [], "revision": []}
        for day in days:
            row = known.get(day)
            columns["parts"].append(parts.get(day) or int(self.parts[row or 0]))
            columns["epochs"].append(0 if row is None else int(self.epochs[row]))
            columns["revision"].append(0 if row is None else int(self.revision[row]))
        return DayTable(**{name: np.array(values, np.int64) for name, values in columns.items()})

    def changed(self, epochs: Mapping[int, int], revision: int) -> DayTable:
        """With so many more epochs of days, which were changed at a revision.

        Parameters
        ----------
        epochs : mapping of int to int
            By day of the table (days since 1970-01-01): how many real epochs more it has; may be negative.
        revision : int
            Revision of the group.

        Returns
        -------
        DayTable
            The same days.
        """
        counts, revisions = self.epochs.copy(), self.revision.copy()
        for day, count in epochs.items():
            row = self.find(day)
            counts[row] += count
            revisions[row] = revision
        return DayTable(self.day, self.parts, counts, revisions)


def chunk_moves(old: DayTable, new: DayTable) -> dict[int, int]:
    """Where the chunk rows of the days go that have as many parts in both tables.

    Parameters
    ----------
    old, new : DayTable
        The days before and after a change.

    Returns
    -------
    dict of int to int
        New chunk row by old chunk row; the rows of all other days are left out.
    """
    old_start = np.cumsum(old.parts) - old.parts
    new_start = np.cumsum(new.parts) - new.parts
    moves = {}
    for row, day in enumerate(old.day.tolist()):
        there = new.find(day)
        if there is not None and new.parts[there] == old.parts[row]:
            for part in range(int(old.parts[row])):
                moves[int(old_start[row]) + part] = int(new_start[there]) + part
    return moves


def choose_chunk(interval_ns: int, itemsize: int) -> tuple[int, int]:
    """Rows and signals of a chunk, for files of this interval.

    The rows divide a day of the interval into a power of two of parts, as many as leave a chunk at least
    `SMALL_CHUNK_BYTES`, and as are needed to keep it below `CHUNK_BYTES`; days of small intervals are
    given more signals a chunk instead.

    Parameters
    ----------
    interval_ns : int
        Nanoseconds between epochs.
    itemsize : int
        Bytes of one value of the widest variable.

    Returns
    -------
    tuple of (int, int)
        Rows and signals.

    Examples
    --------
    >>> [choose_chunk(seconds * 10**9, 4) for seconds in (1, 5, 30)]
    [(5400, 64), (4320, 64), (2880, 128)]
    """
    epochs = max(1, DAY_NS // max(1, interval_ns))
    sids = SID_CHUNK
    while epochs * sids * itemsize < SMALL_CHUNK_BYTES and sids < 8 * SID_CHUNK:
        sids *= 2
    parts = 1
    while epochs % (2 * parts) == 0 and epochs // (2 * parts) * sids * itemsize >= SMALL_CHUNK_BYTES:
        parts *= 2
    while -(-epochs // parts) * sids * itemsize > CHUNK_BYTES:
        parts *= 2
    return -(-epochs // parts), sids


def usual_parts(interval_ns: int, rows: int) -> int:
    """Parts of a day of this interval.

    Parameters
    ----------
    interval_ns : int
        Nanoseconds between epochs.
    rows : int
        Rows of a part.

    Returns
    -------
    int
        The smallest power of two of parts that have a row for every epoch.
    """
    parts = 1
    while parts * rows * interval_ns < DAY_NS:
        parts *= 2
    return parts


def usual_interval(intervals: Iterable[int]) -> int:
    """The most frequent interval, the smaller of two that are as frequent.

    Parameters
    ----------
    intervals : iterable of int
        Nanoseconds between the epochs of each file.

    Returns
    -------
    int
        Nanoseconds, at least `SHORTEST_NS`; a second where there are no intervals.
    """
    values, counts = np.unique(np.fromiter(intervals, np.int64), return_counts=True)
    return max(SHORTEST_NS, int(values[np.argmax(counts)])) if len(values) else 10**9
