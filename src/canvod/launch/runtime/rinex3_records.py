"""Epoch records of RINEX 3.0x, checked as canvod-readers checks them.

An epoch fails as a whole if its line, one of its satellites, their number, or a wanted observation is wrong.
Source: RINEX 3.04, table A3.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Final

from canvod.launch.runtime.reading import one_line
from canvod.launch.runtime.rinex_header import SYSTEMS
from canvod.launch.runtime.rinex_records import DamagedError, Epoch, Records, check_fields, is_event, time_ns

_EPOCH: Final = re.compile(
    r">\s*(\d{4})\s+(\d\d)\s+(\d\d)\s+(\d\d)\s+(\d\d)\s+(\d+\.\d+)\s+(\d+)\s+(\d+)\s*\d*\s*(-?\d*\.\d*)?\s*",
    re.ASCII,
)
_SATELLITE: Final = re.compile(rf"[{SYSTEMS}]\d\d")


def screen(lines: list[str], wanted: dict[str, list[int]], span_ns: tuple[int, int]) -> Records:
    """Check the records of a RINEX 3 file.

    Parameters
    ----------
    lines : list of str
        The whole file; no line of a header starts with ``>``.
    wanted : dict of str to list of int
        Observations to check, by system, as places in the header's codes.
    span_ns : tuple of int
        First and last time that an epoch may have.
    """
    records = Records()
    starts = [i for i, line in enumerate(lines) if line.startswith(">")]
    for start, end in pairwise([*starts, len(lines)]):
        try:
            epoch = _epoch(lines[start:end], start, wanted, span_ns)
        except DamagedError as exc:
            records.damaged.append((start + 1, str(exc)))
        else:
            if epoch is not None:
                records.epochs.append(epoch)
    return records


def _epoch(
    lines: list[str], start: int, wanted: dict[str, list[int]], span_ns: tuple[int, int]
) -> Epoch | None:
    match = _EPOCH.fullmatch(lines[0])
    if match is None:
        raise DamagedError(f"not an epoch: {one_line(lines[0], 40)!r}")
    if is_event(match[7]):
        return None
    moment = time_ns(int(match[1]), match.group(2, 3, 4, 5), match[6], span_ns)
    satellites = [_satellite(line, wanted) for line in lines[1:] if line.strip()]
    announced = int(match[8])
    if not announced and not satellites:
        raise DamagedError("it has no satellites")
    if len(satellites) != announced:
        raise DamagedError(f"{announced} satellites announced, {len(satellites)} found")
    return Epoch(start + 1, moment, satellites)


def _satellite(line: str, wanted: dict[str, list[int]]) -> tuple[str, str]:
    sv, fields = line[:3].strip(), line[3:]
    if _SATELLITE.fullmatch(sv) is None:
        raise DamagedError(f"{one_line(sv, 10)!r} is not a satellite")
    if sv[0] not in wanted:
        raise DamagedError(f"satellite {sv}, but the header has no observation codes for system {sv[0]}")
    check_fields(sv, fields, wanted[sv[0]], flags_alone=False)
    return sv, fields
