"""Epoch records of RINEX 2 (RINEX 2.11, table A2).

A record says how many lines follow, so that after a damaged one the place of the next is not known: every
line is then tried until one is an epoch again. Records in the usual form are read all at once, any other line
by line; both ways give the same.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from typing import TYPE_CHECKING, Final

import numpy as np

from canvod.launch.readers.observations import one_line
from canvod.launch.readers.rinex.fields import WIDTH, DamagedError, parse
from canvod.launch.readers.rinex.header import END, SYSTEMS, VERSION, Line, label_of
from canvod.launch.readers.rinex.records import (
    EVENTS,
    FEW,
    PIVOT,
    SLIPS,
    Epoch,
    Parser,
    Satellites,
    check_end,
    check_flag,
    is_record,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from canvod.launch.readers.rinex.records import Fields, Flags, Integers
    from canvod.launch.readers.rinex.table import Columns
    from canvod.launch.readers.rinex.text import Text

SATELLITES_PER_LINE: Final = 12
"""Satellites that one line of an epoch record lists."""

CODES_PER_LINE: Final = 5
"""Observations on one line of a satellite."""

LINE: Final = 80
"""Characters of a line; what stands beyond is not part of it."""

_LIST: Final = 32
"""Column of the first satellite."""

_POINT: Final = 18
"""Column of the point of the seconds, where no row of observations has one."""

_CLOCK: Final = 68
"""Column of the receiver's clock offset, behind the last satellite."""

_USUAL: Final = re.compile(rb"(?: [ \d]\d){6}\.\d{7}  [01](?:  [1-9]| [1-9]\d|[1-9]\d\d)(?=[GRESJC ][ \d]\d)")
"""An epoch line of observations, up to its first satellite."""

_DATE: Final = re.compile(r"([ 0-9][0-9]|  ){5}")
_SECONDS: Final = re.compile(r" *(0 *|[0-9]{0,3})\.[0-9]* *")
_COUNT: Final = re.compile(r" *[0-9]{0,3} *")
_SATELLITE: Final = re.compile(rf"[{SYSTEMS}][0-9][0-9]")
_LETTERS: Final = np.frombuffer(SYSTEMS.encode(), np.uint8)


Run = list[tuple[int, int, int]]
"""Successive records: index of the line, number of satellites, index of what follows."""


class _MoreError(Exception):
    """A record goes on beyond the lines that are there; the file has more."""


class Rinex2(Parser):
    """Reads the records of RINEX 2."""

    _is_lost = False

    def feed(self, text: Text) -> int:
        """Read the records of some lines; see `Parser.feed`."""
        records = list(self.records(text))
        index = 0
        while index < len(text):
            run = [] if self._problem else self._usual_run(text, index, records)
            if len(run) >= FEW:
                index = self._at_once(text, run)
                continue
            try:
                index = self._careful(text, index)
            except _MoreError:
                break
        return index

    @property
    def _lines_per_satellite(self) -> int:
        return max(1, -(-len(next(iter(self.header.codes.values()), ())) // CODES_PER_LINE))

    # ---- all at once

    def _usual_run(self, text: Text, index: int, records: Sequence[int]) -> Run:
        """Return the records from a line on as far as they look usual, and no header record is among them."""
        # What follows the last line may belong to its record.
        last = len(text) - (text.is_cut or not text.is_last)
        stop = min([last, *records[bisect_left(records, index) :][:1]])
        run: Run = []
        per_satellite = self._lines_per_satellite
        while index < stop:
            start = int(text.starts[index])
            if _USUAL.match(text.data, start) is None:
                break
            count = int(text.data[start + 29 : start + 32])
            end = index + -(-count // SATELLITES_PER_LINE) + count * per_satellite
            if end > stop:
                break
            run.append((index, count, end))
            index = end
        # What follows the last one says whether it has a line too many.
        if run and index < len(text) and (not text.line(index).strip() or _is_row(text.line(index))):
            run.pop()
        return run

    def _at_once(self, text: Text, run: Run) -> int:
        """Read successive records; return the index of the line to go on with."""
        line, count, end = np.array(run, dtype=np.int64).T
        times, is_usual = self._times(text.fields(text.starts[line], _LIST, text.ends[line]))
        record = np.repeat(np.arange(len(run)), count)
        place = np.arange(len(record)) - np.repeat(np.cumsum(count) - count, count)
        satellites = self._satellites(text, line[record], place, record)
        letter, is_wrong = satellites.letter, satellites.is_wrong
        is_wrong |= satellites.repeated()
        lists = -(-count // SATELLITES_PER_LINE)
        first = line[record] + lists[record] + place * self._lines_per_satellite
        is_foreign = ~np.isin(letter, np.frombuffer("".join(self.wanted.systems).encode(), np.uint8))
        # The lists end with the last satellite that is announced.
        last = line + lists - 1
        listed = _LIST + 3 * (count - SATELLITES_PER_LINE * (lists - 1))
        is_usual &= text.is_blank(
            text.starts[last] + listed, np.minimum(text.ends[last], text.starts[last] + _CLOCK)
        )

        def fields() -> Iterator[Fields]:
            for system, columns in self.wanted.systems.items():
                mine = np.flatnonzero((letter == ord(system)) & ~is_wrong)
                (satellite, column, at, stop), is_beyond = self._fields(text, first[mine], columns)
                is_wrong[mine] |= is_beyond
                yield mine[satellite], column, at, stop

        found, wanted = list(self.read(text, satellites, fields())), self.wanted
        is_usual[record[is_wrong]] = False
        is_usual[self._with_epoch_lines(text, line, lists, int(end[-1]))] = False
        goes_on = int(end[-1])
        for index in np.flatnonzero(~is_usual).tolist():
            after = self._careful(text, run[index][0])
            while after < end[index] and not _is_start(text.line(after)):
                after += 1
            if after != end[index]:  # what follows was taken for something that it is not
                goes_on = after
                is_usual[index + 1 :] = False
                break
        if is_usual[-1]:
            self._is_lost = False
        lines = line + text.number
        is_foreign &= is_usual[record]
        if is_foreign.any():
            at = int(np.argmax(is_foreign))
            many = int(np.count_nonzero(is_foreign))
            self.notes.add("foreign", int(lines[record[at]]), satellites.name(at), many)
        self.add_usual(times, lines, is_usual, satellites, wanted, found)
        return goes_on

    def _with_epoch_lines(self, text: Text, line: Integers, lists: Integers, stop: int) -> Integers:
        """Return records that may have an epoch line among their rows, by the point of its seconds."""
        rows = np.arange(line[0], stop)
        rows = rows[(text.ends[rows] - text.starts[rows] > _POINT) & (text.byte(rows, _POINT) == ord("."))]
        record = np.searchsorted(line, rows, side="right") - 1
        found: Integers = record[rows >= line[record] + lists[record]]
        return found

    def _satellites(self, text: Text, line: Integers, place: Integers, record: Integers) -> Satellites:
        """Return satellites by their places in the lists of their records, which start at some lines."""
        row, column = np.divmod(place, SATELLITES_PER_LINE)
        at = line + row
        name = text.fields(text.starts[at] + _LIST + 3 * column, 3, text.ends[at])
        letter = np.where(name[:, 0] == ord(" "), ord(self._own_system), name[:, 0]).astype(np.uint8)
        digit = name[:, 1:] - 48
        digit[name[:, 1] == ord(" "), 0] = 0
        number = digit[:, 0].astype(np.int64) * 10 + digit[:, 1]
        is_wrong = (digit > 9).any(axis=1) | (number == 0) | ~np.isin(letter, _LETTERS)
        return Satellites(record, letter, number, is_wrong)

    def _fields(self, text: Text, first: Integers, columns: Columns) -> tuple[Fields, Flags]:
        """Return the wanted fields of satellites by their first lines, and which have text beyond them."""
        last = first + self._lines_per_satellite - 1
        width = columns.width - WIDTH * CODES_PER_LINE * (self._lines_per_satellite - 1)
        stop = np.minimum(text.ends[last], text.starts[last] + LINE)
        is_beyond = ~text.is_blank(text.starts[last] + width, stop)
        row, column = np.divmod(columns.places, CODES_PER_LINE)
        line = first[:, None] + row
        at = text.starts[line] + WIDTH * column
        stop = np.minimum(text.ends[line], text.starts[line] + LINE)
        row, column = np.nonzero(at < stop)
        return (row, column + columns.first, at[row, column], stop[row, column]), is_beyond

    def _times(self, line: npt.NDArray[np.uint8]) -> tuple[Integers, Flags]:
        """Return times of epoch lines that match `_USUAL`, and which of them are possible."""
        value = np.where(line == 32, 0, line - 48).astype(np.int64)
        parts = [value[:, i] * 10 + value[:, i + 1] for i in (1, 4, 7, 10, 13, 16)]
        fraction = value[:, 19:26] @ 10 ** np.arange(6, -1, -1)
        year = parts[0] + np.where(parts[0] >= PIVOT, 1900, 2000)
        return self.times([year, *parts[1:]], fraction)

    # ---- line by line

    @property
    def _own_system(self) -> str:
        """System of a satellite that names none."""
        return "G" if self.header.system == "M" else self.header.system

    def _careful(self, text: Text, index: int) -> int:
        """Read one record, or a line that is none; return the index of the line to go on with."""
        line = text.line(index)
        if not line.strip():
            self._blank(text, index)
            return index + 1
        if is_record(line):
            return self._header(text, index)
        try:
            end = self._epoch(text, index)
        except DamagedError as exc:
            if not self._is_lost or _is_start(line):  # else it belongs to what was left out before
                self.notes.add("damaged", text.number + index, str(exc))
            self._is_lost = True
            return index + 1
        self._is_lost = False
        return end

    def _blank(self, text: Text, index: int) -> None:
        """Note a blank line between records, which may be a row too many; at the end it means nothing."""
        if self._is_lost:
            return
        following = range(index + 1, min(index + 20, len(text)))
        if any(text.line(i).strip() for i in following):
            self.notes.add("blank", text.number + index)
        elif len(following) < 19 and not text.is_last:
            raise _MoreError

    def _header(self, text: Text, index: int) -> int:
        end = index + 1
        if label_of(text.line(index)) == VERSION:
            while end < len(text) and label_of(text.line(end - 1)) != END:
                end += 1
            if end == len(text) and label_of(text.line(end - 1)) != END and not text.is_last:
                raise _MoreError
        self.special(list(enumerate(text.lines(index, end), start=text.number + index)))
        return end

    def _epoch(self, text: Text, index: int) -> int:
        """Read the epoch or event at a line, and return the index of what follows.

        Raises
        ------
        DamagedError
            If it is none, or wrong.
        """
        first = text.line(index)
        fields, seconds, flag, count = _epoch_line(first)
        if flag in EVENTS:
            end = index + 1 + count
            if end > len(text) and not text.is_last:
                raise _MoreError
            end = next(
                (i for i in range(index + 1, min(end, len(text))) if _is_epoch(text.line(i))),
                min(end, len(text)),
            )
            self.special(list(enumerate(text.lines(index + 1, end), start=text.number + index + 1)))
            return end
        n_lists = max(1, -(-count // SATELLITES_PER_LINE))
        lines, records, end = self._record(text, index, n_lists + count * self._lines_per_satellite)
        if flag != SLIPS:
            self._check_rows(text, lines[n_lists:], end)
            self.checked()
            epoch = Epoch(self.time(fields, seconds), text.number + index)
            self._observations(text, index, epoch, count, lines)
        self.special(records)
        return end

    def _check_rows(self, text: Text, rows: list[str], end: int) -> None:
        """Refuse rows of satellites of which one is missing or too many, so that others are displaced."""
        following = next((i for i in range(end, len(text)) if text.line(i).strip()), len(text))
        if following == len(text) and not text.is_last:
            raise _MoreError
        if any(row[_POINT : _POINT + 1] == "." and _is_epoch(row) for row in rows):
            raise DamagedError("another epoch follows before the last of its satellites")
        is_blank = end < min(following, len(text)) and not all(row.strip() for row in rows)
        if is_blank or (following == end < len(text) and _is_row(text.line(end))):
            raise DamagedError("more lines follow than its satellites have")

    def _record(self, text: Text, index: int, count: int) -> tuple[list[str], list[Line], int]:
        """Return so many lines, header records that stand among them, and the index of what follows."""
        lines: list[str] = []
        records: list[Line] = []
        stop = min(len(text), index + count)
        while len(lines) < count:
            if index >= len(text):
                if not text.is_last:
                    raise _MoreError
                raise DamagedError("the file ends before the last of its satellites")
            for line in text.lines(index, stop):
                if is_record(line):
                    if label_of(line) == VERSION:
                        raise DamagedError("another header follows before the last of its satellites")
                    records.append((text.number + index, line))
                else:
                    lines.append(line)
                index += 1
            stop = min(len(text), index + count - len(lines))
        return lines, records, index

    def _observations(self, text: Text, index: int, epoch: Epoch, count: int, lines: list[str]) -> None:
        if not count:
            self.notes.add("empty", epoch.line)
            return
        names = list(self._names(lines, count))
        twice = next((sv for i, sv in enumerate(names) if sv in names[:i]), None)
        if twice is not None:
            raise DamagedError(f"satellite {twice} is there twice")
        is_beyond = False
        foreign: list[str] = []
        body, step = -(-count // SATELLITES_PER_LINE), self._lines_per_satellite
        if index + len(lines) >= len(text):
            check_end(text, len(text) - 1, lines[-1], 0)
        for i, sv in enumerate(names):
            columns = self.wanted.systems.get(sv[0])
            if columns is None:
                foreign.append(sv)
                continue
            part = lines[body + i * step : body + (i + 1) * step]
            is_beyond |= self.values(sv, columns, "".join(line[:LINE].ljust(LINE) for line in part), epoch)
        if foreign:
            self.notes.add("foreign", epoch.line, foreign[0], len(foreign))
        if is_beyond:
            raise DamagedError("a satellite has more observations than there are observation codes")
        self.add(epoch)

    def _names(self, lines: list[str], count: int) -> Iterator[str]:
        row = column = 0
        for place in range(count):
            row, column = divmod(place, SATELLITES_PER_LINE)
            written = lines[row][_LIST + column * 3 : _LIST + column * 3 + 3]
            if not written.strip():
                raise DamagedError(f"{count} satellites announced, {place} listed")
            # A blank system is that of the file, and a number may be written without its zero.
            number = written[1:2].replace(" ", "0") + written[2:3]
            sv = (written[:1].strip() or self._own_system) + number
            if _SATELLITE.fullmatch(sv) is None or not int(sv[1:]):
                raise DamagedError(f"{one_line(written, 10)!r} is not a satellite")
            yield sv
        if count and lines[row][_LIST + column * 3 + 3 : _CLOCK].strip():
            raise DamagedError(f"{count} satellites announced, and more listed")


def _epoch_line(line: str) -> tuple[Sequence[str], str, int, int]:
    """Return date and time, seconds, flag and number of satellites or lines of an epoch line.

    Raises
    ------
    DamagedError
        If it is no epoch line.
    """
    fields = [line[1:3], line[4:6], line[7:9], line[10:12], line[13:15]]
    blanks = line[:1] + line[3:4] + line[6:7] + line[9:10] + line[12:13] + line[26:28]
    written = line[28:29]
    is_blank = not line[:26].strip()
    if (
        blanks.strip(" ")
        or not (_DATE.fullmatch("".join(fields)) or is_blank)
        or not (_SECONDS.fullmatch(line[15:26]) or is_blank)
        or not _COUNT.fullmatch(line[29:32])
        or written not in "0123456789 "
    ):
        raise DamagedError(f"not an epoch: {one_line(line, 40)!r}")
    flag, count = int(written.strip() or 0), int(line[29:32].strip() or 0)
    check_flag(flag)
    if is_blank and flag not in EVENTS:
        raise DamagedError(f"not an epoch: {one_line(line, 40)!r}")
    return fields, line[15:26], flag, count


def _is_epoch(line: str) -> bool:
    """Whether a line is an epoch line, or that of an event."""
    try:
        _epoch_line(line)
    except DamagedError:
        return False
    return True


def _is_start(line: str) -> bool:
    """Whether a line is one that a record, or a header record, may start with."""
    return is_record(line) or _is_epoch(line)


def _is_row(line: str) -> bool:
    """Whether a line is one of observations."""
    if not line.strip() or is_record(line):
        return False
    try:
        for start in range(0, min(len(line), LINE), WIDTH):
            parse("", line[start : start + WIDTH])
    except DamagedError:
        return False
    return True
