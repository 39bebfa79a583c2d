"""Epoch records of RINEX observation files, of which only the sound ones are kept.

canvod-readers checks every epoch of a RINEX 3 file and drops those that fail; georinex checks nothing, and reads
a damaged line as numbers or stops. Here the same checks are made for georinex, and for RINEX 2.11 for both, so
that a file gives the same epochs whichever library reads it. What is dropped is told with its line.

Sources: RINEX 3.04, table A3; RINEX 2.11, table A2.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from typing import Final

from canvod.launch.runtime.reading import one_line
from canvod.launch.runtime.rinex_header import SYSTEMS, RinexHeader
from canvod.launch.runtime.signals import variable

FIELD: Final = 16
"""Characters of one observation: F14.3, loss of lock, signal strength."""

_VALUE: Final = 14
_NUMBER: Final = re.compile(r" *-?[0-9]*\.[0-9]{3}")
_EPOCH_3: Final = re.compile(
    r">\s*(\d{4})\s+(\d\d)\s+(\d\d)\s+(\d\d)\s+(\d\d)\s+(\d+\.\d+)\s+(\d+)\s+(\d+)\s*\d*\s*(-?\d*\.\d*)?\s*"
)
_EPOCH_2: Final = re.compile(
    r" ([ \d]\d) ([ \d]\d) ([ \d]\d) ([ \d]\d) ([ \d]\d)([ \d]{2}\d\.\d{7})  (\d)([ \d]{2}\d)(.*)"
)
_EVENT_2: Final = re.compile(r" {28}([2-5])([ \d]{2}\d).*")
_SV: Final = re.compile(rf"[{SYSTEMS}]\d\d")
_EPOCH_UNIX: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SATELLITES_PER_LINE_2: Final = 12
_CODES_PER_LINE_2: Final = 5
_PIVOT_2: Final = 80
_LAST_FLAG: Final = 6


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
        Line and reason of each epoch, or run of lines, that was dropped.
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
            which = "damaged epoch," if count == 1 else "damaged epochs, the first"
            notes.append(f"left out {count} {which} at line {line}: {reason}")
        if self.foreign:
            notes.append(
                f"left out satellites that RINEX 2.11 does not have: {', '.join(sorted(self.foreign))}"
            )
        return notes


class _DamagedError(Exception):
    """An epoch record that fails a check; the argument is the reason."""


def load_lines(path: str) -> list[str]:
    """Return the lines of a file, split where canvod-readers splits them."""
    with open(path, "rb") as file:
        return file.read().decode("utf-8", errors="replace").splitlines()


def screen(lines: list[str], header: RinexHeader, variables: Collection[str]) -> Records:
    """Check the records below a header.

    Parameters
    ----------
    lines : list of str
        The whole file.
    header : RinexHeader
        Its header.
    variables : collection of str
        Variables whose fields are checked; a bad field of another variable costs nothing.

    Returns
    -------
    Records
    """
    wanted = {
        system: [i for i, code in enumerate(codes) if variable(code) in variables]
        for system, codes in header.codes.items()
    }
    return (_screen_2 if header.is_rinex2 else _screen_3)(lines, header, wanted)


def _screen_3(lines: list[str], header: RinexHeader, wanted: dict[str, list[int]]) -> Records:
    records = Records()
    starts = [i for i, line in enumerate(lines) if line.startswith(">")]
    for start, end in pairwise([*starts, len(lines)]):
        try:
            match = _EPOCH_3.fullmatch(lines[start])
            if match is None:
                raise _DamagedError(f"not an epoch: {one_line(lines[start], 40)!r}")
            if _is_event(match[7]):
                continue
            time_ns = _time_ns(int(match[1]), match.group(2, 3, 4, 5), match[6])
            body = [line for line in lines[start + 1 : end] if line.strip()]
            satellites = [_satellite_3(line, wanted) for line in body]
            if len(satellites) != int(match[8]) or not satellites:
                raise _DamagedError(f"{int(match[8])} satellites announced, {len(satellites)} found")
        except _DamagedError as exc:
            records.damaged.append((start + 1, str(exc)))
        else:
            records.epochs.append(Epoch(start + 1, time_ns, satellites))
    return records


def _is_event(flag: str) -> bool:
    """Whether what follows are no observations: header records, moves, cycle slips; 0 and 1 are observations."""
    if int(flag) > _LAST_FLAG:
        raise _DamagedError(f"epoch flag {one_line(flag, 10)} is not known")
    return int(flag) > 1


def _satellite_3(line: str, wanted: dict[str, list[int]]) -> tuple[str, str]:
    sv, fields = line[:3].strip(), line[3:]
    if _SV.fullmatch(sv) is None:
        raise _DamagedError(f"{one_line(sv, 10)!r} is not a satellite")
    if sv[0] not in wanted:
        raise _DamagedError(f"satellite {sv}, but the header has no observation codes for system {sv[0]}")
    _check_fields(sv, fields, wanted[sv[0]], flags_alone=False)
    return sv, fields


def _check_fields(sv: str, fields: str, wanted: list[int], *, flags_alone: bool) -> None:
    for i in wanted:
        text = fields[i * FIELD : (i + 1) * FIELD]
        if not text or text.isspace():
            continue
        number, flags = text[:_VALUE].ljust(_VALUE), text[_VALUE:]
        is_number = _NUMBER.fullmatch(number) is not None or (flags_alone and number.isspace())
        if not is_number or flags.strip(" 0123456789"):
            raise _DamagedError(f"satellite {sv}: {one_line(text, 20)!r} is not an observation")


def _screen_2(lines: list[str], header: RinexHeader, wanted: dict[str, list[int]]) -> Records:
    records = Records()
    n_codes = len(next(iter(header.codes.values())))
    per_satellite = -(-n_codes // _CODES_PER_LINE_2)
    i = header.n_lines
    lost = False
    while i < len(lines):
        start, line = i, lines[i]
        i += 1
        if not line.strip():
            continue
        match = _EPOCH_2.fullmatch(line)
        event = _EVENT_2.fullmatch(line) if match is None else None
        if event is not None or (match is not None and match[7] in "2345"):
            i += int(event[2] if event is not None else match[8])
            lost = False
            continue
        try:
            if match is None:
                raise _DamagedError(f"not an epoch: {one_line(line, 40)!r}")
            announced = int(match[8])
            n_list = max(1, -(-announced // _SATELLITES_PER_LINE_2))
            body = start + n_list
            end = body + announced * per_satellite
            if _is_event(match[7]):
                i = end
                continue
            time_ns = _time_ns(_year_2(int(match[1])), match.group(2, 3, 4, 5), match[6])
            names = list(_names_2([match[9], *(each[32:] for each in lines[start + 1 : body])], announced))
            if end > len(lines):
                raise _DamagedError(
                    f"{announced} satellites announced, but the file ends before the last of them"
                )
            if not announced:
                raise _DamagedError("no satellites announced")
            satellites = []
            for k, sv in enumerate(names):
                first = body + k * per_satellite
                fields = "".join(each[:80].ljust(80) for each in lines[first : first + per_satellite])
                _check_fields(sv, fields, wanted.get(sv[0], []), flags_alone=True)
                if sv[0] in wanted:
                    satellites.append((sv, fields))
                else:
                    records.foreign.add(sv)
        except _DamagedError as exc:
            # After a damaged epoch the place of the next one is not known: every line is tried from here on.
            if not lost:
                records.damaged.append((start + 1, str(exc)))
            lost = True
        else:
            records.epochs.append(Epoch(start + 1, time_ns, satellites))
            i, lost = end, False
    return records


def _names_2(lists: list[str], announced: int) -> Iterator[str]:
    for k in range(announced):
        row, column = divmod(k, _SATELLITES_PER_LINE_2)
        text = lists[row][column * 3 : column * 3 + 3] if row < len(lists) else ""
        sv = ("G" if text[:1] == " " else text[:1]) + text[1:].strip().zfill(2)
        if _SV.fullmatch(sv) is None:
            raise _DamagedError(f"{one_line(text, 10)!r} is not a satellite")
        yield sv


def _year_2(year: int) -> int:
    return year + (1900 if year >= _PIVOT_2 else 2000)


def _time_ns(year: int, parts: tuple[str, ...], seconds: str) -> int:
    try:
        month, day, hour, minute = (int(part) for part in parts)
        since = datetime(year, month, day, hour, minute, tzinfo=UTC) - _EPOCH_UNIX
    except ValueError as exc:
        raise _DamagedError(f"not a time: {exc}") from None
    if not 0 <= float(seconds) < 60:
        raise _DamagedError(f"not a time: second {seconds.strip()} is not below 60")
    # Rounded to the 100 ns of F11.7: 0.1 as a float would lose them.
    return (since.days * 86_400 + since.seconds) * 1_000_000_000 + round(float(seconds) * 1e7) * 100
