"""Readers by name: our own, and those that installed packages offer."""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

from canvod.launch.readers.observations import (
    VARIABLES,
    NoReaderError,
    Observations,
    Reader,
    UnreadableFileError,
    one_line,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

GROUP: Final = "canvod.launch.readers"
"""Group of entry points by which packages offer readers."""

DEFAULT: Final = "rinex"

_CANVOD: Final = "canvod"
"""Our own interface to canvod-readers, which need not be installed."""


@cache
def _offered() -> dict[str, EntryPoint]:
    points = {point.name: point for point in entry_points(group=GROUP)}
    if find_spec("canvod.readers") is None:
        points.pop(_CANVOD, None)
    return points


def reader_names() -> tuple[str, ...]:
    """Name the readers that are installed here; none of them is imported.

    Returns
    -------
    tuple of str
        Sorted.
    """
    return tuple(sorted({DEFAULT, *_offered()}))


def find_reader(name: str = DEFAULT) -> Reader:
    """Import a reader.

    Parameters
    ----------
    name : str
        ``rinex``, or the name of another entry point of the group ``canvod.launch.readers``.

    Returns
    -------
    Reader
        The function that reads a file.

    Raises
    ------
    NoReaderError
        If there is none of this name, or it cannot be imported.

    Examples
    --------
    >>> find_reader("rinex").__module__
    'canvod.launch.readers.rinex.file'
    """
    if name == DEFAULT:  # also where the project was not installed, but is on the path
        from canvod.launch.readers.rinex import read

        return read
    point = _offered().get(name)
    if point is None:
        package = "canvod-readers (Python 3.14 or newer)" if name == _CANVOD else "the package that offers it"
        raise NoReaderError(
            f"no reader {name!r} is installed here; there are: {', '.join(reader_names())}. "
            f"Install {package} where the files are read."
        )
    try:
        reader: Reader = point.load()
    except Exception as exc:
        raise NoReaderError(
            f"the reader {name!r} ({point.value}) cannot be imported: {type(exc).__name__}: "
            f"{one_line(str(exc))}. Install what it needs where the files are read."
        ) from exc
    return reader


@cache
def reader_version(name: str) -> str:
    """Name the package that a reader comes from, with its version.

    Parameters
    ----------
    name : str
        Name of the reader.

    Returns
    -------
    str
        Such as ``canvod-launch 0.1.0``; without a version where the package is not installed.
    """
    package = "canvod-readers" if name == _CANVOD else "canvod-launch"
    if name not in (_CANVOD, DEFAULT) and (point := _offered().get(name)) and point.dist is not None:
        package = point.dist.name
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:  # the project is on the path, and not installed
        return package


def read_observations(path: str, variables: Sequence[str] = ("SNR",), reader: str = DEFAULT) -> Observations:
    """Read one observation file.

    Parameters
    ----------
    path : str
        The file.
    variables : sequence of str
        Names out of `VARIABLES`.
    reader : str
        Name of a reader; see `reader_names`.

    Returns
    -------
    Observations
        With each of the variables, NaN throughout where the file does not have it.

    Raises
    ------
    UnreadableFileError
        If the file cannot be opened, or nothing of it can be used; with a reason in one line.
    NoReaderError
        If there is no such reader, or it cannot be imported.
    ValueError
        If a variable is not in `VARIABLES`, or none is named.

    Examples
    --------
    >>> read_observations("no/such/file.rnx")
    Traceback (most recent call last):
    ...
    canvod.launch.readers.observations.UnreadableFileError: cannot be opened: No such file or directory
    """
    unknown = [name for name in variables if name not in VARIABLES]
    if unknown or not variables:
        raise ValueError(f"{unknown or variables!r}: variables are one or more of {', '.join(VARIABLES)}")
    read = find_reader(reader)
    try:
        return read(path, variables)
    except OSError as exc:
        where = "" if exc.filename in (None, path) else f" ({exc.filename})"
        raise UnreadableFileError(f"cannot be opened: {exc.strerror or exc}{where}") from exc
