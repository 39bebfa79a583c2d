"""Epoch records of RINEX observation files, and the checks that versions 2.11 and 3.0x share.

Sources: RINEX 3.04, table A3; RINEX 2.11, table A2.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from canvod.launch.runtime.reading import one_line

FIELD: Final = 16
"""Characters of one observation: F14.3, loss of lock, signal strength."""

_NUMBER_WIDTH: Final = 14
_NUMBER: Final = re.compile(r" *-?[0-9]*\.[0-9]{3}")
_FLAGS: Final = " 0123456789"
_MINUTE_S: Final = 60
_LAST_FLAG: Final = 6
_UNIX_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Epoch:
    """One epoch record.

    Attributes
    ----------
    line : int
        Its line in the file, from 1.
    time_ns : int
        ns since 1970-01-01, as written, to the 100 ns of the format.
    satellites : list of (str, str)
        Satellite, and its observations in fields of `FIELD` characters in the order of the header's codes.
    """

    line: int
    time_ns: int
    satellites: list[tuple[str, str]]


@dataclass
class Records:
    """The epochs of a file that passed, and what did not.

    Attributes
    ----------
    epochs : list of Epoch
        In the order of the file.
    damaged : list of (int, str)
        Line and reason of each epoch, or run of lines, that was left out.
    foreign : set of str
        Satellites that the version of RINEX does not have.
    """

    epochs: list[Epoch] = field(default_factory=list)
    damaged: list[tuple[int, str]] = field(default_factory=list)
    foreign: set[str] = field(default_factory=set)

    def notes(self) -> list[str]:
        """What was left out, in words."""
        notes = []
        if self.damaged:
            line, reason = self.damaged[0]
            count = len(self.damaged)
            which = "damaged or empty epoch," if count == 1 else "damaged or empty epochs, the first"
            notes.append(f"left out {count} {which} at line {line}: {reason}")
        if self.foreign:
            names = ", ".join(sorted(self.foreign))
            notes.append(f"left out satellites that RINEX 2.11 does not have: {names}")
        return notes


class DamagedError(Exception):
    """An epoch record that fails a check; the argument is the reason."""


def is_event(flag: str) -> bool:
    """Whether an epoch flag announces no observations: header records, moves, cycle slips (2 to 6).

    Raises
    ------
    DamagedError
        If there is no such flag.
    """
    if int(flag) > _LAST_FLAG:
        raise DamagedError(f"epoch flag {one_line(flag, 10)} is not known")
    return int(flag) > 1


def check_fields(sv: str, fields: str, wanted: list[int], *, flags_alone: bool) -> None:
    """Check the wanted observations of one satellite.

    Parameters
    ----------
    sv : str
        Satellite, for the reason.
    fields : str
        Its observations, `FIELD` characters each; it may end early.
    wanted : list of int
        Which of them to check.
    flags_alone : bool
        Whether a blank number may carry flags, as some writers of RINEX 2 have it.

    Raises
    ------
    DamagedError
        If one is neither blank nor a number in the standard form.
    """
    for i in wanted:
        text = fields[i * FIELD : (i + 1) * FIELD]
        if not text or text.isspace():
            continue
        number, flags = text[:_NUMBER_WIDTH].ljust(_NUMBER_WIDTH), text[_NUMBER_WIDTH:]
        is_number = _NUMBER.fullmatch(number) is not None or (flags_alone and number.isspace())
        if not is_number or flags.strip(_FLAGS):
            raise DamagedError(f"satellite {sv}: {one_line(text, 20)!r} is not an observation")


def time_ns(year: int, parts: tuple[str, ...], seconds: str, span_ns: tuple[int, int]) -> int:
    """Time of an epoch in ns since 1970-01-01.

    Parameters
    ----------
    year : int
        With its century.
    parts : tuple of str
        Month, day, hour, minute.
    seconds : str
        Seconds with their fraction.
    span_ns : tuple of int
        First and last time that is possible.

    Raises
    ------
    DamagedError
        If there is no such time, or it is not possible in this file.

    Examples
    --------
    >>> time_ns(1970, ("01", "01", "00", "01"), "0.1000000", (0, 10**11))
    60100000000
    """
    try:
        month, day, hour, minute = (int(part) for part in parts)
        since = datetime(year, month, day, hour, minute, tzinfo=UTC) - _UNIX_EPOCH
    except ValueError as exc:
        raise DamagedError(f"not a time: {exc}") from None
    if not 0 <= float(seconds) < _MINUTE_S:
        raise DamagedError(f"not a time: second {seconds.strip()} is not below 60")
    # Rounded to the 100 ns of F11.7, which 0.1 as a float would lose.
    time = (since.days * 86_400 + since.seconds) * 1_000_000_000 + round(float(seconds) * 1e7) * 100
    if not span_ns[0] <= time <= span_ns[1]:
        raise DamagedError(f"{year:04d}-{month:02d}-{day:02d} is more than a year from TIME OF FIRST OBS")
    return time
