"""Which files are observation files: found by their names, without opening them."""

from __future__ import annotations

import os
import re
import stat
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from canvod.launch.errors import InputError
from canvod.launch.paths import absolute, require_present

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PATTERNS: Final = (
    "*.rnx, *.crx, *.obs and *.YYo (RINEX 3 and 4 names such as ROSA00AUT_R_20250010000_15M_05S_MO.rnx)",
    "ssssdddf.YYo and ssssdddf.YYd (RINEX 2 names such as rosa0010.25o)",
    "each of them also with .gz, .Z, .bz2 or .zip",
)
"""What is looked for in folders, in words."""

CANVOD_PATTERNS: Final = ("*.sbf and ssssdddf.YY_ (SBF), *.nmea and *.nma (NMEA)",)
"""What is looked for besides where canvod-readers reads."""

_PACKED: Final = re.compile(r"\.(?:gz|z|bz2|zip)$", re.IGNORECASE)
_SUFFIX: Final = re.compile(r"\.(?:rnx|crx|obs|\d\do|\d\dd|o)$", re.IGNORECASE)
_CANVOD_SUFFIX: Final = re.compile(r"\.(?:sbf|\d\d_|nmea|nma)$", re.IGNORECASE)
_OTHER_SUFFIX: Final = re.compile(r"\.(?:\d\d[nghlpqmcfij]|nav|gnav|met)$", re.IGNORECASE)
_LONG_NAME: Final = re.compile(
    r"(?P<station>[A-Z0-9_]{4,9})_[A-Z]_(?P<year>\d{4})(?P<day>\d{3})(?P<hour>\d\d)(?P<minute>\d\d)"
    r"_(?P<count>\d\d)(?P<unit>[A-Z])(?:_\d\d[A-Z])?(?:_(?P<kind>[A-Z]{2}))?",
    re.IGNORECASE,
)
_SHORT_NAME: Final = re.compile(
    r"(?P<station>[A-Z0-9]{4})(?P<day>\d{3})(?P<session>[A-X0-9])(?P<minute>\d\d)?\.(?P<year>\d\d)[a-z_]",
    re.IGNORECASE,
)
_UNIT_S: Final = {"M": 60, "H": 3_600, "D": 86_400}
_OTHER_KIND: Final = re.compile(r".[NM]", re.IGNORECASE)
_PIVOT: Final = 80
_DAYS: Final = 366
_HOURS: Final = 24
_MINUTES: Final = 60

HIDDEN = "hidden"
STORE = "inside a store"
OTHER_RINEX = "RINEX navigation or meteorological files"
NOT_OBSERVATIONS = "not named like observation files"
REPEATED = "given more than once"
PACKED_COPY = "packed copies of a file that is there too"
NOT_REGULAR = "links that lead nowhere, or no regular files"


@dataclass(frozen=True)
class ObservationFile:
    """One file to read.

    Attributes
    ----------
    path : Path
        Absolute, as workers open it: under the name that was given; a link that was found below that is
        resolved.
    size_bytes : int
        Its size on disk.
    start : numpy.datetime64 or None
        Start (unit minutes) by its name; None where the name has none.
    station : str or None
        Station by its name; None where the name has none.
    length_s : int or None
        How long it is by its name, in seconds; None where the name does not say.
    """

    path: Path
    size_bytes: int
    start: np.datetime64 | None
    station: str | None
    length_s: int | None = None


@dataclass(frozen=True)
class Discovery:
    """What was found.

    Attributes
    ----------
    files : tuple of ObservationFile
        Sorted by start, then path; those without a start in their names last.
    ignored : dict of str to int
        How many files or folders were passed over, by reason (the constants of this module).
    """

    files: tuple[ObservationFile, ...]
    ignored: dict[str, int]


def discover(inputs: Sequence[Path], *, store: Path | None = None, reader: str = "rinex") -> Discovery:
    """Find the observation files among files and, recursively, in folders.

    A file that is named is taken whatever its name. In folders names decide (see `PATTERNS`); hidden files
    and folders, and stores, are passed over. Links are followed, each folder once. Of a file and its packed
    copies beside it the plain one is taken.

    Parameters
    ----------
    inputs : sequence of Path
        Files and folders.
    store : Path, optional
        The store that will be written; never looked into.
    reader : str
        With ``canvod``, files of SBF and NMEA are looked for too.

    Returns
    -------
    Discovery
        The files in order, and how many were passed over.

    Raises
    ------
    InputError
        If an input does not exist, a folder cannot be read, or nothing is found.

    Examples
    --------
    >>> discover([Path("/no/such/folder")])
    Traceback (most recent call last):
    ...
    canvod.launch.errors.InputError: /no/such/folder: there is no such file or folder
      What to do: Check the path; it is looked up on this machine, from the current folder.
    """
    more = reader == "canvod"
    search = _Search(os.path.realpath(store) if store is not None else None, more=more)
    for given in inputs:
        search.add(str(absolute(given)))
    files = [describe(path, size) for path, size in search.found.values()]
    if not files:
        raise _nothing_found(inputs, search.ignored, PATTERNS + (CANVOD_PATTERNS if more else ()))
    files.sort(key=lambda file: (file.start is None, file.start or np.datetime64(0, "m"), str(file.path)))
    return Discovery(tuple(files), dict(sorted(search.ignored.items())))


class _Search:
    """State of one walk: what was found, what was ignored, which folders were seen."""

    def __init__(self, store: str | None, *, more: bool) -> None:
        self._more = more
        self.found: dict[str, tuple[str, int]] = {}
        """Name and size of each file, by its real path."""
        self.ignored: Counter[str] = Counter()
        self._store = store
        self._folders: set[tuple[int, int]] = set()

    def add(self, given: str) -> None:
        path = Path(given)
        try:
            status = require_present(given)
        except OSError as exc:
            raise _unreadable(given, exc) from exc
        if stat.S_ISDIR(status.st_mode):
            self._walk(given)
        elif stat.S_ISREG(status.st_mode):
            real = os.path.realpath(given)
            self._take(real if path.is_symlink() else given, real, status.st_size)
        else:
            raise InputError(
                f"{given}: neither a file nor a folder", hint="Name observation files, or folders of them."
            )

    def _take(self, path: str, real: str, size: int) -> None:
        if real in self.found:
            self.ignored[REPEATED] += 1
        else:
            self.found[real] = path, size

    def _walk(self, top: str) -> None:
        pending = [(top, os.path.realpath(top))]
        while pending:
            folder, real = pending.pop()
            try:
                status = Path(folder).stat()
                entries = self._entries(folder)
            except OSError as exc:
                raise _unreadable(folder, exc) from exc
            identity = (status.st_dev, status.st_ino)
            if identity in self._folders:
                continue
            self._folders.add(identity)
            if real == self._store or _is_store(entries):
                self.ignored[STORE] += 1
                continue
            pending.extend(self._files(entries, real))

    @staticmethod
    def _entries(folder: str) -> list[os.DirEntry[str]]:
        with os.scandir(folder) as scan:
            return list(scan)

    def _files(self, entries: list[os.DirEntry[str]], folder: str) -> Iterator[tuple[str, str]]:
        """Take the observation files of a folder, whose real path this is; yield its folders, named and real.

        What a link leads to is named by its real path: where the link is, relative ones may lead elsewhere in
        the workers' containers.
        """
        chosen: dict[str, os.DirEntry[str]] = {}
        for entry in entries:
            if entry.name.startswith("."):
                self.ignored[HIDDEN] += 1
            elif _is_folder(entry):
                yield self._names(entry, folder)
            elif (reason := _why_not(entry.name, more=self._more)) is not None:
                self.ignored[reason] += 1
            else:
                chosen[entry.name] = entry
        for entry in self._without_copies(chosen):
            try:
                status = entry.stat()
            except OSError:
                self.ignored[NOT_REGULAR] += 1
                continue
            if stat.S_ISREG(status.st_mode):
                self._take(*self._names(entry, folder), status.st_size)
            else:
                self.ignored[NOT_REGULAR] += 1

    @staticmethod
    def _names(entry: os.DirEntry[str], folder: str) -> tuple[str, str]:
        if entry.is_symlink():
            real = os.path.realpath(entry.path)
            return real, real
        return entry.path, f"{folder.rstrip('/')}/{entry.name}"

    def _without_copies(self, chosen: dict[str, os.DirEntry[str]]) -> Iterator[os.DirEntry[str]]:
        """Leave out packed files whose content is there already: plain, or packed under a shorter name."""
        seen: set[str] = set()
        for name in sorted(chosen, key=lambda name: (_is_packed(name), len(name), name)):
            content = _unpacked_name(name)
            if _is_packed(name) and content in seen:
                self.ignored[PACKED_COPY] += 1
            else:
                seen.add(content)
                yield chosen[name]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _is_store(entries: list[os.DirEntry[str]]) -> bool:
    """Whether these are the entries of an Icechunk or Zarr store."""
    names = {entry.name for entry in entries}
    return bool(names & {"zarr.json", ".zgroup"}) or {"snapshots", "manifests"} <= names


def _why_not(name: str, *, more: bool) -> str | None:
    """Return the reason why a file of this name is none of observations, or None if it may be."""
    plain = _PACKED.sub("", name)
    if _OTHER_SUFFIX.search(plain):
        return OTHER_RINEX
    match = _LONG_NAME.match(plain)
    # Archives pack ROSA00AUT_R_20250010000_01D_30S_MO.rnx into ROSA00AUT_R_20250010000_01D_30S_MO.zip, too.
    bare = match is not None and plain != name and match.end() == len(plain) and match["kind"]
    if not (bare or _SUFFIX.search(plain) or (more and _CANVOD_SUFFIX.search(plain))):
        return NOT_OBSERVATIONS
    if match is not None and match["kind"] and _OTHER_KIND.fullmatch(match["kind"]):
        return OTHER_RINEX
    return None


def _is_packed(name: str) -> bool:
    plain = _PACKED.sub("", name)
    return plain != name or plain.lower().endswith((".crx", "d"))


def _unpacked_name(name: str) -> str:
    """Name, in lower case, of the plain file that a packed one holds."""
    plain = _PACKED.sub("", name).lower()
    if plain.endswith(".crx"):
        return plain.removesuffix(".crx") + ".rnx"
    return re.sub(r"\.(\d\d)d$", r".\1o", plain)


def station_of(path: str) -> str | None:
    """Station by the name of a file.

    Parameters
    ----------
    path : str
        Path or name of the file.

    Returns
    -------
    str or None
        As it is written there, 4 to 9 characters; None where the name has none.

    Examples
    --------
    >>> station_of("ROSA00AUT_R_20250010000_15M_05S_MO.rnx"), station_of("rosa0010.25o"), station_of("a.rnx")
    ('ROSA00AUT', 'rosa', None)
    """
    return describe(path, 0).station


def describe(path: str, size: int) -> ObservationFile:
    """What the name of a file says.

    Parameters
    ----------
    path : str
        Path of the file, which is not opened.
    size : int
        Its size in bytes.

    Returns
    -------
    ObservationFile
        Fields that the name does not tell are None.
    """
    name = path.rpartition(os.sep)[2]
    match = _LONG_NAME.match(name)
    if match is not None:
        start = _minute(int(match["year"]), match["day"], match["hour"], match["minute"])
        unit_s = _UNIT_S.get(match["unit"].upper())
        length_s = int(match["count"]) * unit_s if unit_s is not None else None
        return ObservationFile(Path(path), size, start, match["station"], length_s or None)
    match = _SHORT_NAME.match(name)
    if match is not None and not (
        match["station"][:2] in {"19", "20"} and match["station"][2:] == match["year"]
    ):
        year = int(match["year"])
        session = match["session"].lower()
        hour = str(ord(session) - ord("a")) if session.isalpha() else "0"
        start = _minute(year + (1900 if year >= _PIVOT else 2000), match["day"], hour, match["minute"] or "0")
        length_s = (
            900 if match["minute"] else 3_600 if session.isalpha() else 86_400 if session == "0" else None
        )
        return ObservationFile(Path(path), size, start, match["station"], length_s)
    return ObservationFile(Path(path), size, None, None)


def _minute(year: int, day: str, hour: str, minute: str) -> np.datetime64 | None:
    day_of_year = int(day)
    if not (1 <= day_of_year <= _DAYS and int(hour) < _HOURS and int(minute) < _MINUTES):
        return None
    offset = ((day_of_year - 1) * _HOURS + int(hour)) * _MINUTES + int(minute)
    return np.datetime64(f"{year:04d}", "m") + np.timedelta64(offset, "m")


def _unreadable(path: str, exc: OSError) -> InputError:
    return InputError(
        f"{path}: cannot be read ({exc.strerror})",
        hint="Give yourself permission to read it, or name the files and folders that you can read.",
    )


def _nothing_found(inputs: Sequence[Path], ignored: Counter[str], patterns: Sequence[str]) -> InputError:
    where = ", ".join(str(path) for path in inputs) or "no input"
    passed = "; ".join(f"{count} {reason}" for reason, count in sorted(ignored.items()))
    found = f"passed over: {passed}" if passed else "there are no files at all"
    return InputError(
        f"no observation files in {where} ({found}); looked for {'; '.join(patterns)}",
        hint="Name the files themselves if they are called otherwise: a named file is always taken.",
    )
