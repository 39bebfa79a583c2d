"""The station of each file: a group holds one station, unless several are allowed.

Names of files are checked before anything starts: a station is the first nine characters of a long name
(ROSA00AUT), the first four of a short one (rosa). The MARKER NAME in a file is checked when the file has been
read. The two are never compared with each other, since a marker is free text.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Final

from canvod.launch.errors import InputError
from canvod.launch.ingest.discover import station_of
from canvod.launch.ingest.report import format_files

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from canvod.launch.runtime.messages import FileSummary

_DOMES: Final = re.compile(r"\s+\d{5}[MS]\d{3}$", re.IGNORECASE)
_SHORT: Final = 4
_LONG: Final = 9

WANTED: Final = "--mixed-stations (ingest.mixed_stations: true)"


def is_same(one: str, other: str) -> bool:
    """Whether two names are those of one station; a DOMES number behind a name does not count.

    Parameters
    ----------
    one, other : str
        Names of stations, in any case.

    Returns
    -------
    bool
        True also where one is the first four characters of the other, which has nine.

    Examples
    --------
    >>> is_same("rosa", "ROSA00AUT"), is_same("ROSA", "ROSA 11001M002"), is_same("ROSA00AUT", "ROSA01AUT")
    (True, True, False)
    """
    short, long = sorted((_DOMES.sub("", name).casefold() for name in (one, other)), key=len)
    return short == long or (len(short) == _SHORT and len(long) == _LONG and long.startswith(short))


def check_names(paths: Iterable[str], stored: Iterable[str] = ()) -> None:
    """Refuse files of several stations, or of another one than those that are stored, by their names.

    Parameters
    ----------
    paths : iterable of str
        Files to read.
    stored : iterable of str
        Stations of the group, by the names of its files.

    Raises
    ------
    InputError
        If the names have several stations; names without a station are not checked.
    """
    found = _by_station(paths)
    known = list(stored)
    if known:
        new = {name: files for name, files in found.items() if not any(is_same(name, old) for old in known)}
        if new:
            raise InputError(
                f"by their names the files of the group are of station {_listed(dict.fromkeys(known))}, and "
                f"these of {_told(new)}",
                hint=f"name another group, or allow several stations with {WANTED}",
            )
    # Of ROSA00AUT and rosa, one is enough.
    several = {
        name: files
        for name, files in found.items()
        if len(name) == _LONG or not any(is_same(name, other) for other in found if other != name)
    }
    if len(several) > 1 and not known:
        raise InputError(
            f"these files are of {len(several)} stations by their names: {_told(several)}; a group holds one",
            hint=f"ingest each into a group of its own, or allow several stations with {WANTED}",
        )


def check_markers(good: Mapping[str, FileSummary], stored: Iterable[str]) -> dict[str, str]:
    """Find the files whose MARKER NAME is another one than the group's.

    Parameters
    ----------
    good : mapping of str to FileSummary
        What was read, by its path.
    stored : iterable of str
        Stations that the group holds. Where there are none, it is to hold that of most of the files.

    Returns
    -------
    dict of str to str
        Why each of these files is not stored.
    """
    known = [station for station in stored if station]
    if not known:
        in_time = sorted(good.values(), key=lambda summary: (summary.first, summary.path))
        counts = Counter(summary.station for summary in in_time if summary.station)
        known = [counts.most_common(1)[0][0]] if counts else []
    if not known:
        return {}
    return {
        number: f"its MARKER NAME is {summary.station}, and the group's {_listed(dict.fromkeys(known))}; "
        f"name another group, or allow several stations with {WANTED}"
        for number, summary in good.items()
        if summary.station and not any(is_same(summary.station, station) for station in known)
    }


def _by_station(paths: Iterable[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for path in paths:
        if station := station_of(path):
            found.setdefault(station.upper(), []).append(path)
    return dict(sorted(found.items()))


def _listed(names: Iterable[str], most: int = 5) -> str:
    every = list(names)
    return ", ".join(every[:most]) + (f" and {len(every) - most} more" if len(every) > most else "")


def _told(found: Mapping[str, Sequence[str]]) -> str:
    return _listed(
        f"{name} ({format_files(len(files))}, such as {files[0]})" for name, files in found.items()
    )
