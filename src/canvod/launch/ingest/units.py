"""Which spans of days are made in one task, and of which files: pure functions of what is claimed.

A file's name says when it begins and how long it is. A task makes one span, of the files that claim to have
a part of it; where a claim was wrong, the file is read again for the days that it really has. So names decide
how much is read twice, and never what is stored.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from canvod.launch.runtime.blocks import DAY_NS, Span, parts_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

Interval = tuple[int, int]
"""First and last nanosecond of a file, or of a part of one."""


@dataclass
class Unit:
    """A span to make, and the files to make it of.

    Attributes
    ----------
    span : Span
        Parts of one day.
    files : list of str
        Paths.
    alone : bool
        Whether files are read in processes of their own.
    """

    span: Span
    files: list[str] = field(default_factory=list)
    alone: bool = False


def make_units(claims: Mapping[str, Iterable[Interval]], parts: Callable[[int], int]) -> list[Unit]:
    """Divide the days of files into units, in order.

    A file that meets several parts of a day makes one unit of them, so that it is read once for the day.

    Parameters
    ----------
    claims : mapping of str to iterable of (int, int)
        For each path, intervals in which it may have epochs.
    parts : callable
        Gives the number of parts of a day (days since 1970-01-01).

    Returns
    -------
    list of Unit
        In order of time; units of one day share no part.

    Examples
    --------
    >>> hour = 3_600 * 10**9
    >>> [(unit.span.first, unit.span.stop, unit.files) for unit in make_units(
    ...     {"a": [(0, 1)], "b": [(hour, 7 * hour)], "c": [(13 * hour, 14 * hour)]}, lambda day: 4)]
    [(0, 2, ['a', 'b']), (2, 3, ['c'])]
    """
    by_day: dict[int, dict[str, tuple[int, int]]] = {}
    for path, intervals in claims.items():
        for first, last in intervals:
            for day in range(first // DAY_NS, last // DAY_NS + 1):
                ends = max(first, day * DAY_NS), min(last, (day + 1) * DAY_NS - 1)
                low, high = parts_of(np.array(ends, np.int64), parts(day)).tolist()
                found = by_day.setdefault(day, {})
                known = found.get(path, (low, high))
                found[path] = min(low, known[0]), max(high, known[1])
    units = []
    for day, files in sorted(by_day.items()):
        unit: Unit | None = None
        for path, (low, high) in sorted(files.items(), key=lambda item: (item[1], item[0])):
            if unit is None or low >= unit.span.stop:
                unit = Unit(Span(day, parts(day), low, high + 1))
                units.append(unit)
            span = unit.span
            unit.span = Span(day, span.parts, span.first, max(span.stop, high + 1))
            unit.files.append(path)
    return units


def uncovered(days: Iterable[tuple[int, int, int]], covered: Iterable[Interval]) -> list[Interval]:
    """What a file has beyond the intervals that were made of it.

    Parameters
    ----------
    days : iterable of (int, int, int)
        For each of the file's days: the day, its first and its last epoch.
    covered : iterable of (int, int)
        Spans that were made: first nanosecond, and the one after the last.

    Returns
    -------
    list of (int, int)
        First and last nanosecond of each interval that is left.

    Examples
    --------
    >>> uncovered([(0, 10, 50)], [(0, 20), (30, 40)])
    [(20, 29), (40, 50)]
    """
    left = [(first, last) for _, first, last in days]
    for start, stop in covered:
        left = [
            piece
            for first, last in left
            for piece in ((first, min(last, start - 1)), (max(first, stop), last))
            if piece[0] <= piece[1] and not (start <= piece[0] and piece[1] < stop)
        ]
    return left
