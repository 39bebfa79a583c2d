"""Round times on an axis: 15 minutes, 6 hours, days, months."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

DAY_S: Final = 86_400

STEPS_S: Final = (
    *(1, 2, 5, 10, 15, 30),
    *(60, 120, 300, 600, 900, 1800),
    *(3600, 2 * 3600, 3 * 3600, 6 * 3600, 12 * 3600),
    *(DAY_S, 2 * DAY_S, 7 * DAY_S, 14 * DAY_S),
)  # fmt: skip
"""Distances of ticks; the next ones are months."""

STEPS_MONTHS: Final = (1, 2, 3, 6, 12, 24, 60, 120)


@dataclass(frozen=True)
class Tick:
    """A round time on an axis.

    Attributes
    ----------
    epoch : int
        Nanoseconds since 1970-01-01.
    label : str
        The time, ``06:00``; at midnight the date.
    """

    epoch: int
    label: str


def time_ticks(start: int, end: int, limit: int) -> tuple[Tick, ...]:
    """Choose round times, as many as fit.

    Parameters
    ----------
    start, end : int
        The axis, in nanoseconds since 1970-01-01; the end is not part of it.
    limit : int
        The most ticks, at least 1.

    Returns
    -------
    tuple of Tick
        At equal distances of seconds, minutes, hours, days, weeks that begin on Monday, or months; none where
        no second begins on the axis.

    Examples
    --------
    >>> from_midnight = 1735689600 * 10**9
    >>> [tick.label for tick in time_ticks(from_midnight, from_midnight + 86400 * 10**9, 4)]
    ['2025-01-01', '06:00', '12:00', '18:00']
    """
    for step_s in STEPS_S:
        step = step_s * 10**9
        # Weeks begin on Mondays, and 1970-01-01 was a Thursday.
        origin = 4 * DAY_S * 10**9 if step_s % (7 * DAY_S) == 0 else 0
        first = origin + -((origin - start) // step) * step
        count = max(0, -((first - end) // step))
        if count <= limit:
            return tuple(_tick(first + index * step, step_s) for index in range(count))
    first_month, last_month = np.array([start, end - 1], "datetime64[ns]").astype("datetime64[M]").astype(int)
    for step in STEPS_MONTHS:
        months = np.arange(-(-first_month // step) * step, last_month + 1, step).astype("datetime64[M]")
        epochs = [int(epoch) for epoch in months.astype("datetime64[ns]").astype(np.int64)]
        inside = [epoch for epoch in epochs if epoch >= start]
        if len(inside) <= limit:
            return tuple(_tick(epoch, DAY_S) for epoch in inside)
    return ()


def _tick(epoch: int, step_s: int) -> Tick:
    date, _, time = str(np.datetime64(epoch, "ns").astype("datetime64[s]")).partition("T")
    if time == "00:00:00":
        return Tick(epoch, date)
    return Tick(epoch, time if step_s < 60 else time.removesuffix(":00"))
