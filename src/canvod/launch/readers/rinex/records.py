"""What the records of all versions share: flags, times, satellites, and the state in which they are read."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np

from canvod.launch.readers.observations import UnreadableFileError, one_line
from canvod.launch.readers.rinex.fields import NUMBER_WIDTH, WIDTH, DamagedError, decode, parse
from canvod.launch.readers.rinex.header import (
    CHANGING,
    END,
    LABELS,
    VERSION,
    Header,
    Line,
    by_label,
    label_of,
    parse_header,
)
from canvod.launch.readers.rinex.table import SATELLITES, UNDEFINED, Columns, Table, Wanted
from canvod.launch.readers.rinex.text import Text, is_labelled
from canvod.launch.readers.rinex.times import DAY_NS, SECOND_NS, moment_ns, to_gps

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import numpy.typing as npt

    from canvod.launch.readers.rinex.file_notes import FileNotes

    Integers = npt.NDArray[np.int64]
    Flags = npt.NDArray[np.bool_]
    Fields = tuple[Integers, Integers, Integers, Integers]
    """Many fields: satellite and column of each, where it starts, and where its line ends."""
    Found = tuple[Integers, Integers, npt.NDArray[np.float64]]
    """What many fields hold: satellite and column of each value, and the value."""

EVENTS: Final = (2, 3, 4, 5)
SLIPS: Final = 6
"""Epoch flags: header and other records follow, or cycle slips; observations follow 0 and 1."""

MAX_DISTANCE_NS: Final = 400 * DAY_NS
"""An epoch further from TIME OF FIRST OBS than about a year is taken for damaged."""

GPS_YEARS_NS: Final = (moment_ns(1980, 1, 1, 0, 0), moment_ns(2100, 1, 1, 0, 0))
"""Times that an epoch may have where TIME OF FIRST OBS says nothing."""

PIVOT: Final = 80
"""Two-digit years from here on are of the 20th century (RINEX 3.04, section 6.10)."""

FEW: Final = 4
"""So many records are read line by line at the cost of all at once."""

AT_ONCE: Final = 16384
"""Fields that are read at once; what is made of them meanwhile stays in a processor's cache."""

MAX_SNR: Final = 100.0
"""No receiver measures an SNR outside 0 to 100 dB-Hz; strong signals have about 55."""

_DIGITS: Final = re.compile(r" *[0-9]+| *")
_SECONDS: Final = re.compile(r" *(0 *|[0-9]{0,3})\.([0-9]*) *")


@dataclass(frozen=True, eq=False)
class Epoch:
    """One epoch that is read line by line.

    Attributes
    ----------
    time_ns : int
        GPS time in ns since 1970-01-01.
    line : int
        Number of its line in the file.
    kinds : list of int
        Variable of each value, as its place among the variables.
    keys : list of int
        Key of the signal of each value, plus the number of its satellite.
    values : list of float
        The values, in the units of their variables.
    undefined : list of str
        Satellite and code of each observation whose signal has no name, such as ``G05 S9C``.
    """

    time_ns: int
    line: int
    kinds: list[int] = field(default_factory=list)
    keys: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    undefined: list[str] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class Satellites:
    """The satellites of many records.

    Attributes
    ----------
    record : numpy.ndarray
        Shape (n,), int64: the record of each, in order.
    letter : numpy.ndarray
        Shape (n,), uint8: letter of its system.
    number : numpy.ndarray
        Shape (n,), int64.
    is_wrong : numpy.ndarray
        Shape (n,), bool: whether it is not in the usual form, or wrong.
    """

    record: Integers
    letter: npt.NDArray[np.uint8]
    number: Integers
    is_wrong: Flags

    def name(self, index: int) -> str:
        """Name a satellite.

        Parameters
        ----------
        index : int
            Which one, from 0.

        Returns
        -------
        str
            Such as ``G05``.
        """
        return f"{chr(self.letter[index])}{self.number[index]:02d}"

    def repeated(self) -> Flags:
        """Whether each has been listed before in its record.

        Returns
        -------
        numpy.ndarray
            Shape (n,), bool.
        """
        key = (self.record * 256 + self.letter) * SATELLITES + self.number % SATELLITES
        again = np.zeros(len(key), dtype=bool)
        if (np.diff(np.sort(key)) == 0).any():
            order = np.argsort(key, kind="stable")
            again[order[1:]] = np.diff(key[order]) == 0
        return again


class Parser(ABC):
    """Reads the records of a file, some lines at a time.

    Parameters
    ----------
    header : Header
        The file's header.
    table : Table
        Where values go.
    notes : FileNotes
        Where it is noted what is left out.
    trusts_first : bool
        Whether an epoch far from TIME OF FIRST OBS is damaged.

    Attributes
    ----------
    marker : str
        MARKER NAME of the file's own header.
    has_distant : bool
        Whether an epoch was left out since it is far from TIME OF FIRST OBS.
    """

    def __init__(self, header: Header, table: Table, notes: FileNotes, *, trusts_first: bool = True) -> None:
        self.table = table
        self.notes = notes
        self._trusts_first = trusts_first
        self.marker = header.marker
        self.has_distant = False
        self._problem = ""
        self.change(header)

    @abstractmethod
    def feed(self, text: Text) -> int:
        """Read the records of some lines.

        Parameters
        ----------
        text : Text
            The lines, from the start of a record on.

        Returns
        -------
        int
            How many lines have been read: all of them where the file ends. The caller hands over the others
            again, with those that follow them.
        """

    def records(self, text: Text) -> dict[int, str]:
        """Find header records within the data.

        Parameters
        ----------
        text : Text
            The lines.

        Returns
        -------
        dict of int to str
            Label by index of the line, from 0, in the order of the lines.
        """
        lines = {index: text.line(index) for index in text.labelled()}
        return {index: label_of(line) for index, line in lines.items() if is_record(line)}

    def change(self, header: Header) -> None:
        """Let another header hold for the records that follow.

        Parameters
        ----------
        header : Header
            The header.
        """
        self.header = header
        self.wanted = self.table.wanted(header)
        first = header.first_ns
        self._span_ns = GPS_YEARS_NS
        if first is not None and self._trusts_first:
            self._span_ns = first - MAX_DISTANCE_NS, first + MAX_DISTANCE_NS
        for line, text in header.notes:
            self.notes.say(line, text)

    def special(self, lines: Sequence[Line]) -> None:
        """Apply header records within the data: of an event, or a whole header where files were joined.

        Where one of them is wrong, that is noted, and `checked` refuses all epochs up to the next whole
        header.

        Parameters
        ----------
        lines : sequence of (int, str)
            Number and text of each line; what is no header record is passed over.
        """
        labels = [label_of(line) for _, line in lines]
        start = labels.index(VERSION) if VERSION in labels else len(lines)
        end = labels.index(END, start) if END in labels[start:] else len(lines)
        own = [line for line in lines[:start] if is_record(line[1])]
        try:
            _check_labels(lines[:start])
            if own:
                self._take(self.header.updated(by_label(own)), own[0][0])
            if start < len(lines):
                self._take(self._joined(list(lines[start:end])), lines[start][0])
                self._problem = ""
                self.stray(lines[end + 1 :])
                self.special(lines[end + 1 :])
        except UnreadableFileError as exc:
            self._problem = f"the header records at line {lines[0][0]} do not tell what follows: {exc.reason}"
            self.notes.say(0, self._problem)
            self.stray(lines[end + 1 :])

    def _joined(self, records: list[Line]) -> Header:
        header = parse_header(records)
        if header.is_rinex2 != self.header.is_rinex2:
            versions = f"{header.version:.2f} in a file of RINEX {self.header.version:.2f}"
            raise UnreadableFileError(f"line {records[0][0]}: a header of RINEX {versions}")
        return header

    def stray(self, lines: Sequence[Line]) -> None:
        """Note lines that belong to no record.

        Parameters
        ----------
        lines : sequence of (int, str)
            Number and text of each line; blank lines and header records among them are passed over.
        """
        found = [number for number, line in lines if line.strip() and not is_record(line)]
        if found:
            self.notes.add("stray", found[0], count=len(found))

    def _take(self, header: Header, line: int) -> None:
        if header.marker != self.header.marker:
            self.notes.add("marker", line, f"from {self.header.marker!r} to {header.marker!r}")
        if header != self.header:
            self.change(header)

    def checked(self) -> None:
        """Refuse an epoch that follows header records which could not be understood.

        Raises
        ------
        DamagedError
            If there were such records, and no whole header since.
        """
        if self._problem:
            raise DamagedError(self._problem)

    def time(self, fields: Sequence[str], seconds: str) -> int:
        """Read the time of an epoch.

        Parameters
        ----------
        fields : sequence of str
            Year, month, day, hour and minute as they are written, in the time system of the header.
        seconds : str
            Seconds as they are written; blank for 0.

        Returns
        -------
        int
            GPS time in ns since 1970-01-01.

        Raises
        ------
        DamagedError
            If there is no such time, or it is not possible in this file.
        """
        year, month, day, hour, minute = (integer(part, "a time") for part in fields)
        if self.header.is_rinex2:
            year += 1900 if year >= PIVOT else 2000
        match = _SECONDS.fullmatch(seconds)
        if seconds.strip() and match is None:
            raise DamagedError(f"not a time: second {one_line(seconds, 20)!r}")
        whole, part = (int(match[1].strip() or 0), match[2]) if match is not None else (0, "")
        try:
            minute_ns = moment_ns(year, month, day, hour, minute)
        except ValueError as exc:
            raise DamagedError(f"not a time: {exc}") from None
        seconds_ns = whole * SECOND_NS + int(part[:9].ljust(9, "0"))
        # UTC has leap seconds; a full minute, where 59.99999999 was rounded, is the next one.
        if whole >= (61 if self.header.time_system == "GLO" else 60) and seconds_ns != 60 * SECOND_NS:
            raise DamagedError(f"not a time: second {seconds.strip()} is not below 60")
        first, last = self._span_ns
        if not first <= minute_ns + seconds_ns <= last:
            self.has_distant = True
            than = "is more than a year from TIME OF FIRST OBS" if self._trusts_first else "cannot be"
            raise DamagedError(f"{year:04d}-{month:02d}-{day:02d} {than}")
        return int(to_gps(np.array([minute_ns]), np.array([seconds_ns]), self.header.time_system)[0])

    def times(self, parts: Sequence[Integers], fraction: Integers) -> tuple[Integers, Flags]:
        """Convert and check the times of many epochs.

        Parameters
        ----------
        parts : sequence of numpy.ndarray
            Year, month, day, hour, minute and second as they are written, shape (n,) each, int64.
        fraction : numpy.ndarray
            Shape (n,), int64: what is added to the seconds, in units of 1e-7 s.

        Returns
        -------
        times : numpy.ndarray
            Shape (n,), int64: GPS time in ns since 1970-01-01.
        is_possible : numpy.ndarray
            Shape (n,), bool: whether there is such a time, and it is possible in this file. Leap seconds of
            UTC are left to `time`.
        """
        year, month, day, hour, minute, second = parts
        # Nanoseconds reach from 1678 to 2262.
        is_possible = (year > 1700) & (year < 2200) & (month >= 1) & (month <= 12)
        is_possible &= (hour < 24) & (minute < 60) & (second < 60)
        months = np.where(is_possible, (year - 1970) * 12 + month - 1, 0).astype("datetime64[M]")
        first = months.astype("datetime64[D]").astype(np.int64)
        length = (months + np.timedelta64(1, "M")).astype("datetime64[D]").astype(np.int64) - first
        is_possible &= (day >= 1) & (day <= length)
        days = np.where(is_possible, first + day - 1, 0)
        minute_ns = days * DAY_NS + (hour * 60 + minute) * 60 * SECOND_NS
        second_ns = second * SECOND_NS + fraction * 100
        earliest, latest = self._span_ns
        is_possible &= (minute_ns + second_ns >= earliest) & (minute_ns + second_ns <= latest)
        return to_gps(minute_ns, second_ns, self.header.time_system), is_possible

    def values(self, sv: str, columns: Columns, fields: str, epoch: Epoch) -> bool:
        """Add the wanted observations of a satellite to an epoch.

        Parameters
        ----------
        sv : str
            Name of the satellite, such as ``G05``.
        columns : Columns
            What is wanted of its system.
        fields : str
            All its observations as they are written, `WIDTH` characters each; the last may be missing.
        epoch : Epoch
            Where the values go.

        Returns
        -------
        bool
            Whether there is text beyond the last observation that the header announces.

        Raises
        ------
        DamagedError
            If a wanted observation is no number, or an SNR is outside 0 to `MAX_SNR`.
        """
        number = int(sv[1:])
        for place, code, kind, key, factor, is_snr in columns.each:
            written = fields[place * WIDTH : place * WIDTH + WIDTH]
            if not written:
                continue
            value = parse(sv, written, factor)
            if value == 0:  # RINEX 3.04, table A3: a missing observation
                continue
            if is_snr and not 0 < value <= MAX_SNR:
                raise DamagedError(
                    f"satellite {sv}: an SNR of {value:g} dB-Hz is not within 0 to {MAX_SNR:g}"
                )
            if key == UNDEFINED:
                epoch.undefined.append(f"{sv} {code}")
                continue
            epoch.kinds.append(kind)
            epoch.keys.append(key + number)
            epoch.values.append(value)
        return bool(fields[columns.width :].strip())

    def add(self, epoch: Epoch) -> None:
        """Add an epoch that was read line by line to the table.

        Parameters
        ----------
        epoch : Epoch
            The epoch, with all its values.
        """
        if epoch.undefined:
            self.notes.add("codes", epoch.line, epoch.undefined[0], len(epoch.undefined))
        rows = np.full(len(epoch.keys), self.table.n_epochs)
        kinds, keys = np.array(epoch.kinds, dtype=np.int8), np.array(epoch.keys, dtype=np.int64)
        self.table.add(rows, kinds, keys, np.array(epoch.values, dtype=np.float64))
        self.table.add_epochs(np.array([epoch.time_ns]), np.array([epoch.line]))

    def read(self, text: Text, satellites: Satellites, fields: Iterable[Fields]) -> Iterator[Found]:
        """Read many fields of the usual form, and mark the satellites that have a wrong one.

        Parameters
        ----------
        text : Text
            The lines.
        satellites : Satellites
            Whose fields they are.
        fields : iterable of tuple of numpy.ndarray
            Satellite and column of each field, where it starts in the text, and where its line ends; shape
            (n,), int64, each.

        Yields
        ------
        satellite, column : numpy.ndarray
            Shape (n,), int64: of each value.
        value : numpy.ndarray
            Shape (n,), float64, never 0, in the units of the variables.
        """
        for some in _joined(fields):
            of, which, at, stop = (
                parts[0] if len(parts) == 1 else np.concatenate(parts) for parts in zip(*some, strict=True)
            )
            for start in range(0, len(at), AT_ONCE):
                part = slice(start, start + AT_ONCE)
                numbers, usual = decode(text.fields(at[part], WIDTH, stop[part]))
                satellites.is_wrong[of[part][~usual]] = True
                kept = np.flatnonzero(numbers)
                satellite, column = of[part][kept], which[part][kept]
                values = numbers[kept] / self.wanted.units[column]
                is_outside = ((values < 0) | (values > MAX_SNR)) & self.wanted.is_snr[column]
                satellites.is_wrong[satellite[is_outside]] = True
                yield satellite, column, values

    def add_usual(
        self,
        times: Integers,
        lines: Integers,
        is_usual: Flags,
        satellites: Satellites,
        wanted: Wanted,
        found: Iterable[Found],
    ) -> None:
        """Add epochs that were read all at once to the table, except those that are not usual.

        Parameters
        ----------
        times : numpy.ndarray
            Shape (n,), int64: GPS time of each epoch in ns since 1970-01-01.
        lines : numpy.ndarray
            Shape (n,), int64: number of its line in the file.
        is_usual : numpy.ndarray
            Shape (n,), bool: whether to add it.
        satellites : Satellites
            The satellites of all epochs.
        wanted : Wanted
            What was wanted when they were read.
        found : iterable of tuple of numpy.ndarray
            Satellite and column of each value, and the value, as `read` yields them.
        """
        row = np.cumsum(is_usual) - 1 + self.table.n_epochs
        nameless: list[tuple[int, int]] = []
        for satellite, column, values in found:
            is_kept = is_usual[satellites.record[satellite]]
            if UNDEFINED in wanted.keys:
                has_name = wanted.keys[column] != UNDEFINED
                nameless += zip(satellite[is_kept & ~has_name], column[is_kept & ~has_name], strict=True)
                is_kept &= has_name
            kept = slice(None) if is_kept.all() else is_kept
            of, which = satellite[kept], column[kept]
            keys = wanted.keys[which] + satellites.number[of]
            self.table.add(row[satellites.record[of]], wanted.kinds[which], keys, values[kept])
        if nameless:
            first, code = min(nameless)
            detail = f"{satellites.name(first)} {wanted.columns[code].code}"
            self.notes.add("codes", int(lines[satellites.record[first]]), detail, len(nameless))
        self.table.add_epochs(times[is_usual], lines[is_usual])


def _joined(fields: Iterable[Fields]) -> Iterator[list[Fields]]:
    """Yield together what is so little that reading it by itself would take longer."""
    some: list[Fields] = []
    for each in fields:
        some.append(each)
        if sum(len(one[0]) for one in some) > AT_ONCE:
            yield some
            some = []
    if some:
        yield some


def _check_labels(lines: Sequence[Line]) -> None:
    for number, line in lines:
        if not is_record(line) and any(label in line for label in CHANGING):
            raise UnreadableFileError(f"line {number}: {one_line(line, 80)!r} is not a header record")


def integer(text: str, what: str) -> int:
    """Read an integer as Fortran does: a blank field is 0.

    Parameters
    ----------
    text : str
        The field.
    what : str
        What it stands for, with its article, for the reason.

    Returns
    -------
    int
        The number, never negative.

    Raises
    ------
    DamagedError
        If the field holds anything but digits behind blanks.
    """
    if _DIGITS.fullmatch(text) is None:
        raise DamagedError(f"not {what}: {one_line(text, 20)!r}")
    return int(text.strip() or 0)


def check_flag(flag: int) -> None:
    """Refuse an epoch flag that RINEX does not define.

    Parameters
    ----------
    flag : int
        The flag, not negative.

    Raises
    ------
    DamagedError
        If it is above `SLIPS`.
    """
    if flag > SLIPS:
        raise DamagedError(f"epoch flag {flag} is not known")


def check_end(text: Text, last: int, line: str, offset: int) -> None:
    """Refuse a last line of a file that ends within an observation: its last digits may be missing.

    Parameters
    ----------
    text : Text
        The lines.
    last : int
        Index of the line, from 0.
    line : str
        The line, without its end.
    offset : int
        Column, from 0, in which its observations start.

    Raises
    ------
    DamagedError
        If it is the last line, has no line end, and stops within a number.
    """
    if text.is_cut and last == len(text) - 1 and 0 < (len(line) - offset) % WIDTH < NUMBER_WIDTH:
        raise DamagedError("the file ends within an observation")


def is_record(line: str) -> bool:
    """Whether a line within the data is a header record.

    Parameters
    ----------
    line : str
        The line, without its end.

    Returns
    -------
    bool
        True where its label is one of `LABELS`.
    """
    return is_labelled(line) and label_of(line) in LABELS
