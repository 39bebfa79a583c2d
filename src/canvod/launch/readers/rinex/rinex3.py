"""Epoch records of RINEX 3 and 4 (RINEX 3.04, table A3; 4.02 has the same records).

Records in the usual form are read all at once, by columns; any other one line by line. Both ways give the
same. An epoch is left out as a whole if its line, one of its satellites, their number, or a wanted
observation is wrong.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import numpy as np

from canvod.launch.readers.observations import one_line
from canvod.launch.readers.rinex.fields import WIDTH, DamagedError
from canvod.launch.readers.rinex.header import COMMENT, SYSTEMS, VERSION, Line, label_of
from canvod.launch.readers.rinex.records import (
    EVENTS,
    FEW,
    SLIPS,
    Epoch,
    Parser,
    Satellites,
    check_end,
    check_flag,
    integer,
    is_record,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from canvod.launch.readers.rinex.records import Fields, Flags, Found, Integers
    from canvod.launch.readers.rinex.table import Columns
    from canvod.launch.readers.rinex.text import Text

NAME: Final = 3
"""Characters of a satellite's name, before its observations."""

_DATE: Final = ((2, 6), (7, 9), (10, 12), (13, 15), (16, 18), (19, 21))
"""Columns of year, month, day, hour, minute and second."""

_LINE: Final = 35
"""Characters of an epoch line up to the number of satellites."""

_SATELLITE: Final = re.compile(rf"[{SYSTEMS}][ 0-9][0-9]")


class Rinex3(Parser):
    """Reads the records of RINEX 3 and 4."""

    def feed(self, text: Text) -> int:
        """Read the records of some lines; see `Parser.feed`."""
        marks = np.flatnonzero(text.byte(np.arange(len(text)), 0) == ord(">"))
        records = self.records(text)
        marks = marks[~np.isin(marks, list(records))]  # a comment may start like an epoch
        if text.is_last:
            bounds = np.append(marks, len(text))
        else:
            bounds = marks if len(marks) else np.zeros(1, np.int64)
        if bounds[0]:
            self._outside(text, 0, int(bounds[0]))
        is_row = text.ends > text.starts
        is_row[marks] = is_row[[line for line, label in records.items() if label == COMMENT]] = False
        # Other header records may change what the records after them mean.
        lines = [line for line, label in records.items() if label != COMMENT]
        changing = {int(np.searchsorted(bounds, line, side="right")) - 1 for line in lines}
        start = 0
        for index in sorted(index for index in changing if 0 <= index < len(bounds) - 1):
            self._read(text, bounds[start : index + 1], is_row)
            self._read(text, bounds[index : index + 2], is_row)
            start = index + 1
        self._read(text, bounds[start:], is_row)
        return int(bounds[-1])

    def _outside(self, text: Text, start: int, stop: int) -> None:
        """Take what stands before the first epoch."""
        lines = list(enumerate(text.lines(start, stop), start=text.number + start))
        self.stray(lines)
        self.special(lines)

    def _read(self, text: Text, bounds: Integers, is_row: Flags) -> None:
        """Read successive records, each from one bound to the next; some of the lines are of satellites."""
        if len(bounds) - 1 < FEW or self._problem:
            for start, stop in pairwise(bounds.tolist()):
                self._careful(text, start, stop)
            return
        state = self.wanted, self._problem
        times, is_usual, satellites, found = self._at_once(text, bounds, is_row[bounds[0] : bounds[-1]])
        goes_on = len(bounds) - 1
        for index in np.flatnonzero(~is_usual).tolist():
            self._careful(text, *bounds[index : index + 2].tolist())
            if (self.wanted, self._problem) != state:  # the records after it mean something else
                goes_on = index + 1
                is_usual[goes_on:] = False
                break
        self.add_usual(times, bounds[:-1] + text.number, is_usual, satellites, state[0], found)
        self._read(text, bounds[goes_on:], is_row)

    # ---- all at once

    def _at_once(
        self, text: Text, bounds: Integers, is_row: Flags
    ) -> tuple[Integers, Flags, Satellites, list[Found]]:
        """Return times of records, which of them are in the usual form, their satellites and values."""
        count = len(bounds) - 1
        marks = bounds[:-1]
        times, announced, is_usual = self._epoch_lines(
            text.fields(text.starts[marks], _LINE, text.ends[marks])
        )
        rows = np.flatnonzero(is_row) + bounds[0]
        epoch = np.repeat(np.arange(count), np.diff(bounds))[is_row]
        is_usual &= (np.bincount(epoch, minlength=count) == announced) & (announced > 0)
        if text.is_cut and bounds[-1] == len(text):
            is_usual[-1] = False
        starts, ends = text.starts[rows], text.ends[rows]
        tens, ones = text.byte(rows, 1) - 48, text.byte(rows, 2) - 48
        number = tens.astype(np.int64) * 10 + ones
        is_wrong = (tens > 9) | (ones > 9) | (number == 0) | (ends - starts < NAME)
        satellites = Satellites(epoch, text.byte(rows, 0), number, is_wrong)
        is_foreign = np.ones(len(rows), dtype=bool)

        def fields() -> Iterator[Fields]:
            for letter, columns in self.wanted.systems.items():
                mine = np.flatnonzero(satellites.letter == ord(letter))
                is_foreign[mine] = False
                first = starts[mine] + NAME
                is_wrong[mine] |= ~text.is_blank(first + columns.width, ends[mine])
                at = first[:, None] + WIDTH * columns.places
                row, column = np.nonzero(at < ends[mine, None])
                yield mine[row], column + columns.first, at[row, column], ends[mine[row]]

        found = list(self.read(text, satellites, fields()))
        is_usual[epoch[is_wrong | is_foreign | satellites.repeated()]] = False
        return times, is_usual, satellites, found

    def _epoch_lines(self, line: npt.NDArray[np.uint8]) -> tuple[Integers, Integers, Flags]:
        """Return times, numbers of satellites, and which of the lines are in their columns and possible."""
        digit = line - 48  # a character that is no digit becomes more than 9
        is_digit, is_blank = digit <= 9, line == 32
        value = np.where(is_digit, digit, 0).astype(np.int64)
        pair = is_digit | is_blank

        def number(start: int, stop: int) -> Integers:
            return value[:, start:stop] @ 10 ** np.arange(stop - start - 1, -1, -1)

        usual: Flags = is_digit[:, [2, 3, 4, 5, 8, 11, 14, 17, 20, *range(22, 29), 31, 34]].all(axis=1)
        usual &= is_blank[:, [1, 6, 9, 12, 15, 18, 29, 30]].all(axis=1)
        usual &= pair[:, [7, 10, 13, 16, 19, 32, 33]].all(axis=1) & (line[:, 21] == ord("."))
        usual &= ~(is_digit[:, 32] & is_blank[:, 33]) & (value[:, 31] <= 1)
        times, is_possible = self.times([number(*columns) for columns in _DATE], number(22, 29))
        return times, number(32, 35), usual & is_possible

    # ---- line by line

    def _careful(self, text: Text, start: int, stop: int) -> None:
        """Read one record; what is left out is noted."""
        first, *lines = text.lines(start, stop)
        number = text.number + start
        records = list(enumerate(lines, start=number + 1))
        try:
            fields, seconds, flag, count = _epoch_line(first)
            if flag in EVENTS:
                found = [line for line in records if line[1].strip()]
                if len(found) < count:
                    self.notes.add("events", number, f"{count} announced, {len(found)} found")
                self.stray(found[count:])
            elif flag != SLIPS:
                self.checked()
                self._epoch(text, Epoch(self.time(fields, seconds), number), records, count)
        except DamagedError as exc:
            self.notes.add("damaged", number, str(exc))
        self.special(records)

    def _epoch(self, text: Text, epoch: Epoch, records: Sequence[Line], count: int) -> None:
        """Add an epoch with the satellites of some lines, among which there may be header records."""
        seen: set[str] = set()
        is_beyond = False
        for number, line in records:
            if is_record(line):
                if label_of(line) == VERSION:
                    break
                continue
            if not line.strip():
                continue
            sv, columns = self._satellite(line[:NAME])
            if sv in seen:
                raise DamagedError(f"satellite {sv} is there twice")
            seen.add(sv)
            check_end(text, number - text.number, line, NAME)
            is_beyond |= self.values(sv, columns, line[NAME:], epoch)
        if len(seen) != count:
            raise DamagedError(f"{count} satellites announced, {len(seen)} found")
        if not seen:
            self.notes.add("empty", epoch.line)
            return
        if is_beyond:
            self.notes.add("beyond", epoch.line)
        self.add(epoch)

    def _satellite(self, written: str) -> tuple[str, Columns]:
        if _SATELLITE.fullmatch(written) is None or not int(written[1:]):
            raise DamagedError(f"{one_line(written, 10)!r} is not a satellite")
        sv = written.replace(" ", "0")
        columns = self.wanted.systems.get(sv[0])
        if columns is None:
            raise DamagedError(f"satellite {sv}, but the header has no observation codes for system {sv[0]}")
        return sv, columns


def _epoch_line(line: str) -> tuple[Sequence[str], str, int, int]:
    """Return date and time, seconds, flag and number of satellites of an epoch line.

    Raises
    ------
    DamagedError
        If it is no epoch line, or has a flag that RINEX does not define.
    """
    fields = [line[2:6], line[7:9], line[10:12], line[13:15], line[16:18]]
    blanks = line[1:2] + line[6:7] + line[9:10] + line[12:13] + line[15:16] + line[29:31]
    if blanks.strip(" "):
        raise DamagedError(f"not an epoch: {one_line(line, 40)!r}")
    flag, count = (
        integer(line[31:32], "an epoch flag"),
        integer(line[32:35].strip(), "a number of satellites"),
    )
    check_flag(flag)
    return fields, line[18:29], flag, count
