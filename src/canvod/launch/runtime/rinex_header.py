"""Headers of RINEX observation files, checked before a reader sees the file.

Both readers then refuse the same files for the same reason in the same words. Sources: RINEX 2.11, table A1;
RINEX 3.04, table A2.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from canvod.launch.runtime.reading import UnreadableFileError, one_line

SYSTEMS: Final = "GRESJCI"
"""Satellite systems of RINEX 3.04; RINEX 2.11 has the first four."""

MAX_HEADER_LINES: Final = 10_000
"""A longer header is taken for a file without an end of header; the longest seen have less than 1,000."""

MAX_DISTANCE_NS: Final = 400 * 86_400 * 1_000_000_000
"""An epoch further from TIME OF FIRST OBS than about a year is taken for damaged."""

_VERSION: Final = "RINEX VERSION / TYPE"
_TYPES_2: Final = "# / TYPES OF OBSERV"
_TYPES_3: Final = "SYS / # / OBS TYPES"
_END: Final = "END OF HEADER"
_TIME_SYSTEM_OF: Final = {"G": "GPS", "R": "GLO", "E": "GAL", "J": "QZS", "C": "BDT", "I": "IRN"}
_CODE: Final = re.compile(r"[A-Z][0-9][A-Z]?")


@dataclass(frozen=True)
class RinexHeader:
    """What is needed of a header to read the records below it.

    Attributes
    ----------
    version : float
        2.0 to 2.99 or 3.0 to 3.99.
    system : str
        ``M`` for mixed, else one of `SYSTEMS`.
    codes : dict of str to tuple of str
        Observation codes by system, in the order of the file. In RINEX 2 all systems share them.
    n_lines : int
        Lines of the header, END OF HEADER included.
    first_epoch : datetime
        TIME OF FIRST OBS: GPS time, whatever its ``tzinfo`` says.
    """

    version: float
    system: str
    codes: dict[str, tuple[str, ...]]
    n_lines: int
    first_epoch: datetime

    @property
    def span_ns(self) -> tuple[int, int]:
        """First and last time that an epoch may have, in ns since 1970-01-01.

        Nanoseconds reach from 1678 to 2262 only; beyond, canvod-readers turns a damaged year into a time that
        looks like any other.
        """
        first = int(self.first_epoch.timestamp()) * 1_000_000_000
        return first - MAX_DISTANCE_NS, first + MAX_DISTANCE_NS

    @property
    def is_rinex2(self) -> bool:
        """Whether the records are those of RINEX 2."""
        return self.version < 3


def read_header(path: str) -> RinexHeader:
    """Read and check the header of an uncompressed observation file.

    Parameters
    ----------
    path : str
        The file.

    Returns
    -------
    RinexHeader

    Raises
    ------
    UnreadableFileError
        If it is not the header of a RINEX 2.11 or 3.0x observation file in GPS time.
    """
    with Path(path).open(encoding="ascii", errors="replace") as file:
        return parse_header(file)


def parse_header(lines: Iterator[str]) -> RinexHeader:
    """Check the header at the start of ``lines``; see `read_header`."""
    first = next(lines, "").rstrip("\r\n")
    version, system = _version(first)
    types: list[tuple[int, str]] = []
    time_of_first = ""
    labels = {_VERSION}
    for number, raw in enumerate(lines, start=2):
        line = raw.rstrip("\r\n")
        label = line[60:80].strip()
        if label == _END:
            break
        if number > MAX_HEADER_LINES:
            raise UnreadableFileError(f"no {_END} record in the first {MAX_HEADER_LINES:,} lines")
        labels.add(label)
        if label in (_TYPES_2, _TYPES_3):
            types.append((number, line[:60]))
        elif label == "TIME OF FIRST OBS" and not time_of_first:
            time_of_first = line[:60]
    else:
        raise UnreadableFileError(f"no {_END} record: the file ends within its header")
    _check_types_fit_version(version, labels)
    codes = _codes_of_rinex2(types) if version < 3 else _codes_of_rinex3(types)
    return RinexHeader(
        version=version,
        system=system,
        codes=codes,
        n_lines=number,
        first_epoch=_first_epoch(time_of_first, system),
    )


def _version(line: str) -> tuple[float, str]:
    if not line:
        raise UnreadableFileError("the file is empty, or its first line is")
    if line[60:80].strip() != _VERSION:
        found = repr(one_line(line, 60)) if line.isascii() and line.isprintable() else "binary data"
        raise UnreadableFileError(
            f"not a RINEX file: line 1 must be the record {_VERSION!r}, but holds {found}"
        )
    try:
        version = float(line[:9])
    except ValueError:
        raise UnreadableFileError(f"line 1: {line[:9].strip()!r} is not a RINEX version") from None
    if not 2 <= version < 4:
        raise UnreadableFileError(f"line 1: RINEX {version:.2f} cannot be read; versions 2.11 and 3.0x can")
    if line[20:21].upper() != "O":
        kind = line[20:40].strip() or "blank"
        raise UnreadableFileError(f"line 1: not observations; the file type is {one_line(kind, 40)!r}")
    system = line[40:41].strip() or "G"
    if system not in SYSTEMS + "M":
        raise UnreadableFileError(
            f"line 1: satellite system {system!r} is not known; M or one of {SYSTEMS} is"
        )
    return version, system


def _check_types_fit_version(version: float, labels: set[str]) -> None:
    own, other = (_TYPES_2, _TYPES_3) if version < 3 else (_TYPES_3, _TYPES_2)
    if own in labels:
        return
    if other in labels:
        raise UnreadableFileError(
            f"wrong version: line 1 says RINEX {version:.2f}, but the header has {other!r} records, those of "
            f"RINEX {3 if version < 3 else 2}"
        )
    raise UnreadableFileError(f"no {own!r} record in the header: what was observed is not known")


def _codes_of_rinex2(types: list[tuple[int, str]]) -> dict[str, tuple[str, ...]]:
    number, first = types[0]
    announced = _count(number, first[:6], _TYPES_2)
    codes = [code for _, line in types for code in line[6:].split()]
    _check_codes(number, codes, announced, _TYPES_2, "")
    return dict.fromkeys(SYSTEMS[:4], tuple(codes))


def _codes_of_rinex3(types: list[tuple[int, str]]) -> dict[str, tuple[str, ...]]:
    starts: dict[str, tuple[int, str]] = {}
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
        found.setdefault(system, []).extend(line[6:].split())
    for system, (number, line) in starts.items():
        announced = _count(number, line[3:6], _TYPES_3)
        _check_codes(number, found[system], announced, _TYPES_3, f" of system {system}")
    return {system: tuple(found[system]) for system in starts}


def _count(number: int, text: str, label: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise UnreadableFileError(f"line {number}: {text.strip()!r} is not a number of {label!r}") from None


def _check_codes(number: int, codes: list[str], announced: int, label: str, whose: str) -> None:
    if len(codes) != announced:
        raise UnreadableFileError(
            f"line {number}: {label!r}{whose} announces {announced} observation codes, but has {len(codes)}"
        )
    repeated = sorted({code for code in codes if codes.count(code) > 1})
    if repeated:
        raise UnreadableFileError(f"line {number}: {label!r}{whose} has {', '.join(repeated)} more than once")
    wrong = [code for code in codes if not _CODE.fullmatch(code)]
    if wrong:
        raise UnreadableFileError(f"line {number}: {one_line(wrong[0], 20)!r} is not an observation code")


def _first_epoch(record: str, system: str) -> datetime:
    if not record:
        raise UnreadableFileError("no 'TIME OF FIRST OBS' record in the header")
    parts = record.split()
    try:
        year, month, day, hour, minute = (int(part) for part in parts[:5])
        moment = datetime(year, month, day, hour, minute, int(float(parts[5])), tzinfo=UTC)
    except (ValueError, IndexError):
        raise UnreadableFileError(f"TIME OF FIRST OBS is not a time: {one_line(record)!r}") from None
    scale = parts[6] if len(parts) > 6 else _TIME_SYSTEM_OF.get(system)
    if scale is None:
        raise UnreadableFileError(
            "TIME OF FIRST OBS names no time system, which a file of mixed systems must"
        )
    if scale != "GPS":
        raise UnreadableFileError(
            f"epochs are in time system {one_line(scale, 10)!r}; only GPS time can be stored"
        )
    return moment
