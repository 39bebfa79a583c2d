"""Header records of RINEX observation files, at the start of a file and within it.

Sources: RINEX 2.11, table A1; RINEX 3.04, table A2 and sections 5.5, 6.5 to 6.8 and 8.1; RINEX 4.02 has the
same records.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from canvod.launch.readers.observations import UnreadableFileError, one_line
from canvod.launch.readers.rinex.times import SYSTEM_OF, TIME_SYSTEMS, moment_ns

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

VERSIONS: Final = frozenset({2.0, 2.1, 2.11, 2.12, 3.0, 3.01, 3.02, 3.03, 3.04, 3.05, 4.0, 4.01, 4.02})

SYSTEMS: Final = "GRESJCI"
"""Satellite systems. RINEX 2.11 has the first four, 2.12 the first six."""

VERSION: Final = "RINEX VERSION / TYPE"
END: Final = "END OF HEADER"
COMMENT: Final = "COMMENT"
_TYPES_2: Final = "# / TYPES OF OBSERV"
_TYPES_3: Final = "SYS / # / OBS TYPES"
_SCALE_2: Final = "OBS SCALE FACTOR"
_SCALE_3: Final = "SYS / SCALE FACTOR"
_FIRST: Final = "TIME OF FIRST OBS"
_LAST: Final = "TIME OF LAST OBS"
_MARKER: Final = "MARKER NAME"
_UNIT: Final = "SIGNAL STRENGTH UNIT"

LABELS: Final = frozenset(
    {
        VERSION, END, COMMENT, _TYPES_2, _TYPES_3, _SCALE_2, _SCALE_3, _FIRST, _MARKER, _UNIT,
        "PGM / RUN BY / DATE", "MARKER NUMBER", "MARKER TYPE", "OBSERVER / AGENCY", "REC # / TYPE / VERS",
        "ANT # / TYPE", "APPROX POSITION XYZ", "ANTENNA: DELTA H/E/N", "ANTENNA: DELTA X/Y/Z",
        "ANTENNA: PHASECENTER", "ANTENNA: B.SIGHT XYZ", "ANTENNA: ZERODIR AZI", "ANTENNA: ZERODIR XYZ",
        "CENTER OF MASS: XYZ", "WAVELENGTH FACT L1/2", "INTERVAL", _LAST, "RCV CLOCK OFFS APPL",
        "SYS / DCBS APPLIED", "SYS / PCVS APPLIED", "SYS / PHASE SHIFT", "SYS / PHASE SHIFTS",
        "GLONASS SLOT / FRQ #", "GLONASS COD/PHS/BIS", "LEAP SECONDS", "# OF SATELLITES", "PRN / # OF OBS",
        "DOI", "LICENSE OF USE", "STATION INFORMATION",
    }
)  # fmt: skip
"""Labels (columns 61 to 80) by which a line within the data is known for a header record."""

_FIRST_YEAR: Final = 1980
_LAST_YEAR: Final = 2200

_ALIASES: Final = {"UTC": "GLO", "BDS": "BDT"}
"""Names of time systems that some writers use for those of RINEX."""

CHANGING: Final = (VERSION, END, _TYPES_3, _TYPES_2, _SCALE_3, _SCALE_2)
"""Labels of records without which what follows them would be misread."""

FIRST_LINE: Final = 200
"""So much of a file's first line is looked at: what is no RINEX may have no line ends."""

_CODE: Final = re.compile(r"[A-Z][0-9][A-Z]?|[A-Z]{2}")
_INTEGER: Final = re.compile(r" *[+-]?[0-9]+ *")

Line = tuple[int, str]
"""A line's number in the file, from 1, and its text."""


@dataclass(frozen=True)
class Header:
    """What is needed of a header to read the records below it.

    Attributes
    ----------
    version : float
        2.0 to 2.99, 3.0 to 3.99 or 4.0 to 4.99.
    system : str
        ``M`` for mixed, else one of `SYSTEMS`.
    codes : mapping of str to tuple of str
        Observation codes by system, in the order of the file. In RINEX 2 all systems share them.
    factors : mapping of (str, str) to int
        By system and code, what stored observations are divided by; 1 where there is none.
    time_system : str
        One of `TIME_SYSTEMS`, in which all epochs are given.
    first_ns : int or None
        TIME OF FIRST OBS as written, in ns since 1970-01-01; None where the file has none.
    last_ns : int or None
        The same of TIME OF LAST OBS.
    marker : str
        MARKER NAME.
    notes : tuple of (int, str)
        What a user would want to know of the header, with the line.
    """

    version: float
    system: str
    codes: Mapping[str, tuple[str, ...]]
    factors: Mapping[tuple[str, str], int] = field(default_factory=dict)
    time_system: str = "GPS"
    first_ns: int | None = None
    last_ns: int | None = None
    marker: str = ""
    notes: tuple[tuple[int, str], ...] = ()

    @property
    def is_rinex2(self) -> bool:
        """Whether the records are those of RINEX 2."""
        return self.version < 3

    def updated(self, found: Mapping[str, list[Line]]) -> Header:
        """Return this header as header records within the data change it (RINEX 3.04, section 6.6).

        Parameters
        ----------
        found : mapping of str to list of (int, str)
            The records by label, as `by_label` gives them.

        Returns
        -------
        Header
            The header of the epochs that follow.

        Raises
        ------
        UnreadableFileError
            If one of the records is wrong.
        """
        codes, factors, time_system, marker = self.codes, self.factors, self.time_system, self.marker
        if types := found.get(_TYPES_2 if self.is_rinex2 else _TYPES_3):
            codes = _codes_of_rinex2(types) if self.is_rinex2 else {**codes, **_codes_of_rinex3(types)}
        if scales := found.get(_SCALE_2 if self.is_rinex2 else _SCALE_3):
            factors = {**factors, **_factors(scales, codes, is_rinex2=self.is_rinex2)}
        if (first := found.get(_FIRST)) and self.codes and (named := _time_system(first[-1][1])):
            if named not in TIME_SYSTEMS:
                raise UnreadableFileError(
                    f"line {first[-1][0]}: time system {one_line(named, 10)!r} is not known"
                )
            time_system = named
        if _MARKER in found:
            marker = _decoded(found[_MARKER][-1][1]).strip()
        return replace(self, codes=codes, factors=factors, time_system=time_system, marker=marker)


def _decoded(text: str) -> str:
    """Return a text whose bytes were taken for characters: as UTF-8 where it is."""
    try:
        return text.encode("latin-1").decode()
    except UnicodeDecodeError:
        return text


def label_of(line: str) -> str:
    """Return the label of a header record.

    Parameters
    ----------
    line : str
        The line, without its end.

    Returns
    -------
    str
        What stands in columns 61 to 80, without blanks around it; a label of `CHANGING` also where it ends
        the line in other columns. It is one of `LABELS` only where the line is a header record.
    """
    label = line[60:80].strip()
    if label not in LABELS and line.rstrip().endswith(CHANGING):
        return next(known for known in CHANGING if line.rstrip().endswith(known))
    return label


def by_label(records: Iterable[Line]) -> dict[str, list[Line]]:
    """Sort header records by their labels.

    Parameters
    ----------
    records : iterable of (int, str)
        Number and text of each line.

    Returns
    -------
    dict of str to list of (int, str)
        By label, number and columns 1 to 60 of each record.
    """
    found: dict[str, list[Line]] = {}
    for number, line in records:
        found.setdefault(label_of(line), []).append((number, line[:60]))
    return found


def parse_header(records: list[Line]) -> Header:
    """Read and check a whole header.

    Parameters
    ----------
    records : list of (int, str)
        Number and text of each line, from RINEX VERSION / TYPE on; END OF HEADER need not be there.

    Returns
    -------
    Header
        The header of the epochs that follow.

    Raises
    ------
    UnreadableFileError
        If it is not the header of a RINEX 2, 3 or 4 observation file, or one of its records is wrong.
    """
    version, system = check_first_line(records[0][1], records[0][0])
    found = by_label(records)
    own, other = (_TYPES_2, _TYPES_3) if version < 3 else (_TYPES_3, _TYPES_2)
    if own not in found and other in found:
        raise UnreadableFileError(
            f"wrong version: line {records[0][0]} says RINEX {version:.2f}, but the header has {other!r} "
            f"records, those of RINEX {'3 and 4' if version < 3 else '2'}"
        )
    if own not in found:
        raise UnreadableFileError(f"no {own!r} record in the header: what was observed is not known")
    time_system, first_ns, notes = _first(found.get(_FIRST, []), system)
    if version not in VERSIONS:
        text = f"RINEX {version:.2f} is not a version that is known; read like the one before it"
        notes.append((records[0][0], text))
    unit = found.get(_UNIT)
    if unit and unit[-1][1][:20].strip().upper() not in ("", "DBHZ"):
        text = f"{_UNIT} is {one_line(unit[-1][1], 20)!r}: SNR is stored as it is, and may not be in dB-Hz"
        notes.append((unit[-1][0], text))
    last_ns = _moment(found[_LAST][0][1]) if _LAST in found else None
    bare = Header(version, system, {}, {}, time_system, first_ns, last_ns, "", tuple(notes))
    return bare.updated(found)


def check_first_line(line: str, number: int) -> tuple[float, str]:
    """Read and check the first line of a file.

    Parameters
    ----------
    line : str
        The line; only its first `FIRST_LINE` characters are looked at.
    number : int
        Its number in the file, from 1.

    Returns
    -------
    version : float
        At least 2 and below 5.
    system : str
        Satellite system: ``M`` for mixed, else one of `SYSTEMS`.

    Raises
    ------
    UnreadableFileError
        If it is not that of a RINEX 2, 3 or 4 observation file.
    """
    if not line.strip():
        raise UnreadableFileError("the file is empty")
    line = line[:FIRST_LINE]
    if label_of(line) != VERSION:
        found = repr(one_line(line, 60)) if line.isascii() and line.isprintable() else "binary data"
        raise UnreadableFileError(
            f"not a RINEX file: line {number} must be the record {VERSION!r}, but holds {found}"
        )
    text = line[:20].strip()
    if not re.fullmatch(r"[0-9]+(\.[0-9]*)?", text):
        raise UnreadableFileError(f"line {number}: {one_line(text, 20)!r} is not a RINEX version")
    version = float(text)
    if not 2 <= version < 5:
        raise UnreadableFileError(
            f"line {number}: RINEX {version:.2f} cannot be read; versions 2, 3 and 4 can"
        )
    if line[20:21].upper() != "O":
        kind = line[20:40].strip() or "blank"
        raise UnreadableFileError(f"line {number}: not observations; the file type is {one_line(kind, 40)!r}")
    system = line[40:41].strip().upper() or "G"
    if system not in SYSTEMS + "M":
        raise UnreadableFileError(
            f"line {number}: satellite system {system!r} is not known; M or one of {SYSTEMS} is"
        )
    return version, system


def _codes_of_rinex2(types: list[Line]) -> dict[str, tuple[str, ...]]:
    number, first = types[0]
    announced = _count(number, first[:6], _TYPES_2)
    codes = [code for _, line in types for code in line[6:].split()]
    _check_codes(number, codes, announced, _TYPES_2, "")
    return dict.fromkeys(SYSTEMS, tuple(codes))


def _codes_of_rinex3(types: list[Line]) -> dict[str, tuple[str, ...]]:
    starts: dict[str, Line] = {}
    found: dict[str, list[str]] = {}
    system = ""
    for number, line in types:
        if line[:1].strip():
            system = line[0]
            if system not in SYSTEMS:
                raise UnreadableFileError(f"line {number}: system {system!r} of {_TYPES_3!r} is not known")
            if system in starts:
                raise UnreadableFileError(
                    f"line {number}: a second {_TYPES_3!r} record of system {system}; the first is at line "
                    f"{starts[system][0]}"
                )
            starts[system] = (number, line)
        elif not system:
            raise UnreadableFileError(f"line {number}: {_TYPES_3!r} continues a record that is not there")
        found.setdefault(system, []).extend(line[6:].split())
    for system, (number, line) in starts.items():
        announced = _count(number, line[3:6], _TYPES_3)
        _check_codes(number, found[system], announced, _TYPES_3, f" of system {system}")
    return {system: tuple(found[system]) for system in starts}


def _count(number: int, text: str, label: str) -> int:
    if not _INTEGER.fullmatch(text):
        raise UnreadableFileError(f"line {number}: {one_line(text, 20)!r} is not a number of {label!r}")
    return int(text)


def _check_codes(number: int, codes: list[str], announced: int, label: str, whose: str) -> None:
    if len(codes) != announced:
        raise UnreadableFileError(
            f"line {number}: {label!r}{whose} announces {announced} observation codes, but has {len(codes)}"
        )
    if len(set(codes)) < len(codes):
        repeated = sorted({code for code in codes if codes.count(code) > 1})
        raise UnreadableFileError(f"line {number}: {label!r}{whose} has {', '.join(repeated)} more than once")
    wrong = [code for code in codes if not _CODE.fullmatch(code)]
    if wrong:
        raise UnreadableFileError(f"line {number}: {one_line(wrong[0], 20)!r} is not an observation code")


def _factors(
    records: list[Line], codes: Mapping[str, tuple[str, ...]], *, is_rinex2: bool
) -> dict[tuple[str, str], int]:
    """Return factors by system and code.

    Sources: RINEX 2.20, OBS SCALE FACTOR: 2I6, 10(4X,A2), which later files of version 2 have, too; RINEX
    3.04, table A2.
    """
    label, start, width = (_SCALE_2, 12, 6) if is_rinex2 else (_SCALE_3, 10, 2)
    found: dict[tuple[str, str], int] = {}
    systems, factor = SYSTEMS if is_rinex2 else "", 1
    for number, line in records:
        named = line[start:].split()
        count = line[start - width : start]
        if line[: 6 if is_rinex2 else 1].strip():
            systems = systems if is_rinex2 else line[0]
            factor = _factor(number, line[:6] if is_rinex2 else line[2:6], label)
            if not count.strip() or _count(number, count, label) == 0:
                named = list(codes.get(systems[0], ()))
        found.update({(system, code): factor for system in systems for code in named})
    return found


def _factor(number: int, text: str, label: str) -> int:
    factor = _count(number, text, label) if text.strip() else 1
    if factor not in (1, 10, 100, 1000, 10_000):
        raise UnreadableFileError(
            f"line {number}: {label!r} has the factor {factor}; 1, 10, 100 and 1000 are allowed"
        )
    return factor


def _time_system(record: str) -> str:
    """Return the time system of a time; by words and not by columns, since many writers are a column off."""
    words = [part.upper() for part in record.split() if part.isalpha()]
    return _ALIASES.get(words[-1], words[-1]) if words else ""


def _first(records: list[Line], system: str) -> tuple[str, int | None, list[tuple[int, str]]]:
    """Return the time system, TIME OF FIRST OBS as written (blank or zero if not known, 6.6), and notes."""
    number, record = records[0] if records else (0, "")
    named = _time_system(record)
    # RINEX 3.04, 8.4: GPS is the default of SBAS, too.
    time_system = named or SYSTEM_OF[system]
    if time_system not in TIME_SYSTEMS:
        raise UnreadableFileError(
            f"line {number}: epochs are in time system {one_line(time_system, 10)!r}; known are "
            f"{', '.join(TIME_SYSTEMS)}"
        )
    notes: list[tuple[int, str]] = []
    if not named and system in "MS":
        which = f"{_FIRST!r} names no time system" if records else f"no {_FIRST!r} record in the header"
        whose = "SBAS alone (S)" if system == "S" else "mixed systems, which has to name it,"
        notes.append((number, f"{which}; a file of {whose} is taken to be in GPS time"))
    first = _moment(record)
    if first is None and any(part.strip("0.") for part in _numbers(record)):
        notes.append((number, f"{_FIRST!r} is not a time, and was not used: {one_line(record)!r}"))
    return time_system, first, notes


def _numbers(record: str) -> list[str]:
    return [part for part in record.split() if not part.isalpha()]


def _moment(record: str) -> int | None:
    """Return a time in ns since 1970-01-01, to the second; None where it is blank, zero or no time."""
    numbers = _numbers(record)
    try:
        year, month, day, hour, minute = (int(part) for part in [*numbers[:5], *"00000"][:5])
        seconds = float(numbers[5]) if len(numbers) > 5 else 0.0
        moment = moment_ns(year, month, day, hour, minute) + int(seconds) * 1_000_000_000
    except ValueError:
        return None
    return moment if _FIRST_YEAR <= year <= _LAST_YEAR else None
