"""Times of epochs, and time systems.

Sources: RINEX 3.04, section 8.1 and table 21; for leap seconds IERS Bulletin C.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

SECOND_NS: Final = 1_000_000_000
DAY_NS: Final = 86_400 * SECOND_NS

TIME_SYSTEMS: Final = ("GPS", "GLO", "GAL", "QZS", "BDT", "IRN")
"""Time systems that a file may name; GAL, QZS and IRN equal GPS time to much less than a microsecond."""

SYSTEM_OF: Final = {
    "G": "GPS", "S": "GPS", "R": "GLO", "E": "GAL", "J": "QZS", "C": "BDT", "I": "IRN", "M": "GPS",
}  # fmt: skip
"""Time system of a file that names none, by its satellite system; one of mixed systems (M) has to name it."""

BDT_BEHIND_GPS_NS: Final = 14 * SECOND_NS

LEAP_DAYS: Final = (
    "1981-07-01", "1982-07-01", "1983-07-01", "1985-07-01", "1988-01-01", "1990-01-01", "1991-01-01",
    "1992-07-01", "1993-07-01", "1994-07-01", "1996-01-01", "1997-07-01", "1999-01-01", "2006-01-01",
    "2009-01-01", "2012-07-01", "2015-07-01", "2017-01-01",
)  # fmt: skip
"""First days (UTC) on which GPS time was one more second ahead of UTC; no later one is announced."""

_LEAP_NS: Final = np.array(LEAP_DAYS, dtype="datetime64[ns]").astype(np.int64)
_UNIX_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def moment_ns(year: int, month: int, day: int, hour: int, minute: int) -> int:
    """Return the start of a minute as nanoseconds since 1970-01-01, without leap seconds.

    Parameters
    ----------
    year, month, day, hour, minute : int
        Date and time in any time system.

    Returns
    -------
    int
        Nanoseconds in the same time system.

    Raises
    ------
    ValueError
        If there is no such minute.

    Examples
    --------
    >>> moment_ns(1970, 1, 1, 0, 1)
    60000000000
    """
    since = datetime(year, month, day, hour, minute, tzinfo=UTC) - _UNIX_EPOCH
    return (since.days * 86_400 + since.seconds) * SECOND_NS


def to_gps(
    minute_ns: npt.NDArray[np.int64], seconds_ns: npt.NDArray[np.int64], time_system: str
) -> npt.NDArray[np.int64]:
    """Convert times of epochs to GPS time.

    Parameters
    ----------
    minute_ns : numpy.ndarray
        Shape (n,), int64: their minutes as written, in ns since 1970-01-01.
    seconds_ns : numpy.ndarray
        Shape (n,), int64: ns within the minute; 60 s and more in a leap second of UTC.
    time_system : str
        One of `TIME_SYSTEMS`.

    Returns
    -------
    numpy.ndarray
        Shape (n,), int64: GPS time in ns since 1970-01-01.
    """
    written = minute_ns + seconds_ns
    if time_system == "BDT":
        return written + BDT_BEHIND_GPS_NS
    if time_system == "GLO":  # that is UTC
        return written + np.searchsorted(_LEAP_NS, minute_ns, side="right") * SECOND_NS
    return written
