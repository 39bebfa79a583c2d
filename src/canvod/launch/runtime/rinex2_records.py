"""Epoch records of RINEX 2.11.

A record says how many lines follow, so that after a damaged one the place of the next is not known: every
line is then tried until one is an epoch again. Source: RINEX 2.11, table A2.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from canvod.launch.runtime.reading import one_line
from canvod.launch.runtime.rinex_header import SYSTEMS
from canvod.launch.runtime.rinex_records import DamagedError, Epoch, Records, check_fields, is_event, time_ns

SATELLITES_PER_LINE: Final = 12
"""Satellites that one line of an epoch record lists."""

CODES_PER_LINE: Final = 5
"""Observations on one line of a satellite."""

LINE: Final = 80
"""Characters of a line."""

_I3: Final = r"  \d| \d\d|\d{3}"
_EPOCH: Final = re.compile(
    rf" ([ \d]\d) ([ \d]\d) ([ \d]\d) ([ \d]\d) ([ \d]\d)((?:{_I3})\.\d{{7}})  (\d)({_I3})(.*)", re.ASCII
)
_EVENT_WITHOUT_TIME: Final = re.compile(rf" {{28}}([2-5])({_I3}).*", re.ASCII)
_SATELLITE: Final = re.compile(rf"[{SYSTEMS}]\d\d")
_LIST_START: Final = 32
_CYCLE_SLIP: Final = "6"
_PIVOT: Final = 80


def screen(
    lines: list[str], wanted: dict[str, list[int]], n_header: int, n_codes: int, span_ns: tuple[int, int]
) -> Records:
    """Check the records of a RINEX 2 file.

    Parameters
    ----------
    lines : list of str
        The whole file.
    wanted : dict of str to list of int
        Observations to check, by system, as places in the header's codes.
    n_header : int
        Lines of the header.
    n_codes : int
        Observation codes of the header.
    span_ns : tuple of int
        First and last time that an epoch may have.
    """
    records = Records()
    file = _File(lines, wanted, -(-n_codes // CODES_PER_LINE), span_ns)
    i, lost = n_header, False
    while i < len(lines):
        if not lines[i].strip():
            i += 1
            continue
        try:
            epoch, end = file.epoch(i, records.foreign)
        except DamagedError as exc:
            if not lost:
                records.damaged.append((i + 1, str(exc)))
            i, lost = i + 1, True
            continue
        if epoch is not None:
            records.epochs.append(epoch)
        i, lost = end, False
    return records


@dataclass(frozen=True)
class _File:
    """The lines of a file, and what its header says of them."""

    lines: list[str]
    wanted: dict[str, list[int]]
    per_satellite: int
    span_ns: tuple[int, int]

    def epoch(self, start: int, foreign: set[str]) -> tuple[Epoch | None, int]:
        """Return the epoch at line ``start``, None for an event, and the line after it."""
        line = self.lines[start]
        event = _EVENT_WITHOUT_TIME.fullmatch(line)
        if event is not None:
            return None, start + 1 + int(event[2])
        match = _EPOCH.fullmatch(line)
        if match is None:
            raise DamagedError(f"not an epoch: {one_line(line, 40)!r}")
        announced = int(match[8])
        if is_event(match[7]) and match[7] != _CYCLE_SLIP:
            return None, start + 1 + announced
        body = start + max(1, -(-announced // SATELLITES_PER_LINE))
        end = body + announced * self.per_satellite
        if match[7] == _CYCLE_SLIP:
            return None, end
        moment = time_ns(_year(int(match[1])), match.group(2, 3, 4, 5), match[6], self.span_ns)
        names = list(_names([each[_LIST_START:] for each in self.lines[start:body]], announced))
        if not announced:
            raise DamagedError("it has no satellites")
        if end > len(self.lines):
            raise DamagedError(f"{announced} satellites announced, but the file ends before the last of them")
        satellites = list(self._satellites(names, body, foreign))
        if not satellites:
            raise DamagedError("none of its satellites is of a system of RINEX 2.11")
        return Epoch(start + 1, moment, satellites), end

    def _satellites(self, names: list[str], body: int, foreign: set[str]) -> Iterator[tuple[str, str]]:
        for k, sv in enumerate(names):
            first = body + k * self.per_satellite
            part = self.lines[first : first + self.per_satellite]
            fields = "".join(line[:LINE].ljust(LINE) for line in part)
            check_fields(sv, fields, self.wanted.get(sv[0], []), flags_alone=True)
            if sv[0] in self.wanted:
                yield sv, fields
            else:
                foreign.add(sv)


def _names(lists: list[str], announced: int) -> Iterator[str]:
    for k in range(announced):
        row, column = divmod(k, SATELLITES_PER_LINE)
        text = lists[row][column * 3 : column * 3 + 3] if row < len(lists) else ""
        # A blank system is GPS, and a number may be written without its zero.
        sv = (text[:1].strip() or "G") + text[1:].strip().zfill(2)
        if _SATELLITE.fullmatch(sv) is None or not text.strip():
            raise DamagedError(f"{one_line(text, 10)!r} is not a satellite")
        yield sv


def _year(year: int) -> int:
    return year + (1900 if year >= _PIVOT else 2000)
