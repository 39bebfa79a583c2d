"""RINEX text of epochs that passed the checks, for the readers to read in place of a damaged file.

Sources: RINEX 2.11, tables A1 and A2; RINEX 3.04, tables A2 and A3.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from canvod.launch.runtime.rinex2_records import LINE, SATELLITES_PER_LINE

if TYPE_CHECKING:
    from canvod.launch.runtime.rinex_header import RinexHeader
    from canvod.launch.runtime.rinex_records import Epoch

_CODES_PER_LINE_2: Final = 9
_CODES_PER_LINE_3: Final = 13


def header_3(codes: Mapping[str, Sequence[str]], first_epoch: datetime) -> str:
    """Return the least header of a RINEX 3.04 file.

    Parameters
    ----------
    codes : mapping of str to sequence of str
        Observation codes by system.
    first_epoch : datetime
        GPS time.
    """
    lines = [_labelled(f"{3.04:9.2f}{'':11}{'OBSERVATION DATA':20}M", "RINEX VERSION / TYPE")]
    for system, types in codes.items():
        for i in range(0, len(types), _CODES_PER_LINE_3):
            start = f"{system}  {len(types):3d}" if i == 0 else " " * 6
            part = "".join(f" {code:3}" for code in types[i : i + _CODES_PER_LINE_3])
            lines.append(_labelled(start + part, "SYS / # / OBS TYPES"))
    # Without an interval georinex takes the median of the steps, of which a single epoch has none.
    lines.append(_labelled(f"{1:10.3f}", "INTERVAL"))
    lines.append(_labelled(_time_of_first(first_epoch), "TIME OF FIRST OBS"))
    lines.append(_labelled("", "END OF HEADER"))
    return "".join(lines)


def epoch_3(time_ns: int, n_satellites: int) -> str:
    """Return the line of a RINEX 3 epoch record."""
    year, rest, seconds = _calendar(time_ns)
    return f"> {year:4d} {rest}{seconds}  0{n_satellites:3d}\n"


def file_3(header: RinexHeader, epochs: Iterable[Epoch]) -> str:
    """Return a RINEX 3.04 file with these epochs."""
    text = [header_3(header.codes, header.first_epoch)]
    for epoch in epochs:
        text.append(epoch_3(epoch.time_ns, len(epoch.satellites)))
        text.extend(f"{sv}{fields}\n" for sv, fields in epoch.satellites)
    return "".join(text)


def file_2(header: RinexHeader, epochs: Iterable[Epoch]) -> str:
    """Return a RINEX 2.11 file with these epochs."""
    codes = next(iter(header.codes.values()))
    text = [_labelled(f"{2.11:9.2f}{'':11}{'OBSERVATION DATA':20}{header.system}", "RINEX VERSION / TYPE")]
    for i in range(0, len(codes), _CODES_PER_LINE_2):
        start = f"{len(codes):6d}" if i == 0 else " " * 6
        part = "".join(f"{code:>6}" for code in codes[i : i + _CODES_PER_LINE_2])
        text.append(_labelled(start + part, "# / TYPES OF OBSERV"))
    text.append(_labelled(_time_of_first(header.first_epoch), "TIME OF FIRST OBS"))
    text.append(_labelled("", "END OF HEADER"))
    for epoch in epochs:
        year, rest, seconds = _calendar(epoch.time_ns)
        start = f" {year % 100:02d} {rest}{seconds}  0{len(epoch.satellites):3d}"
        for i in range(0, len(epoch.satellites), SATELLITES_PER_LINE):
            names = "".join(sv for sv, _ in epoch.satellites[i : i + SATELLITES_PER_LINE])
            text.append(f"{start if i == 0 else '':32}{names}\n")
        for _, fields in epoch.satellites:
            text.extend(fields[i : i + LINE].rstrip() + "\n" for i in range(0, len(fields), LINE))
    return "".join(text)


def _labelled(record: str, label: str) -> str:
    return f"{record:60}{label:20}\n"


def _time_of_first(moment: datetime) -> str:
    fields = (moment.year, moment.month, moment.day, moment.hour, moment.minute)
    return "".join(f"{value:6d}" for value in fields) + f"{moment.second:13.7f}     GPS"


def _calendar(time_ns: int) -> tuple[int, str, str]:
    whole, rest_ns = divmod(time_ns, 60_000_000_000)
    moment = datetime.fromtimestamp(whole * 60, tz=UTC)
    seconds = f"{rest_ns // 1_000_000_000:3d}.{rest_ns % 1_000_000_000 // 100:07d}"
    return moment.year, f"{moment:%m %d %H %M}", seconds
