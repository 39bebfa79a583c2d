"""One observation file as plain arrays, whichever library read it."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from canvod.launch.runtime.decompress import decompress, is_compressed
from canvod.launch.runtime.reading import NoReaderError, Reading, UnreadableFileError, one_line
from canvod.launch.runtime.rinex_header import RinexHeader, read_header
from canvod.launch.runtime.signals import is_known

__all__ = [
    "READERS",
    "VARIABLE_DTYPES",
    "NoReaderError",
    "Observations",
    "UnreadableFileError",
    "available_readers",
    "read_observations",
    "resolve_reader",
]

READERS: Final = {"canvod": "canvod.readers", "georinex": "georinex"}
"""Readers in order of preference, each with the module that it needs; canvod-readers is the reference."""

_INSTALL: Final = {
    "canvod": "pip install canvod-readers (Python 3.14 or newer)",
    "georinex": "pip install georinex",
}

VARIABLE_DTYPES: Final[dict[str, npt.DTypeLike]] = {
    "SNR": np.float32,
    "Pseudorange": np.float64,
    "Phase": np.float64,
    "Doppler": np.float32,
}
"""The variables that can be read, with their dtypes."""


@dataclass(frozen=True, eq=False)
class Observations:
    """The observations of one file.

    Attributes
    ----------
    path : str
        The file, as it was given.
    epoch : numpy.ndarray
        Shape (n_epoch,), int64: nanoseconds since 1970-01-01 in GPS time as given, strictly increasing.
    sid : tuple of str
        Signals ``sv|band|code`` (``C02|B1I|I``), sorted; each has a finite value of at least one variable.
    variables : dict of str to numpy.ndarray
        Shape (n_epoch, n_sid) each; SNR (dB-Hz) and Doppler (Hz) float32, Pseudorange (m) and Phase (cycles)
        float64; NaN where there is no observation.
    notes : tuple of str
        What was left out of the file although it was read: repeated or damaged epochs, with their counts,
        and satellites that are not known.
    """

    path: str
    epoch: npt.NDArray[np.int64]
    sid: tuple[str, ...]
    variables: dict[str, npt.NDArray[np.floating[Any]]]
    notes: tuple[str, ...] = ()


def available_readers() -> tuple[str, ...]:
    """Readers whose libraries are installed here, in order of preference; none of them is imported."""
    return tuple(name for name, module in READERS.items() if _is_installed(module))


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def resolve_reader(choice: str) -> str:
    """Name of the reader that ``choice`` means here.

    Parameters
    ----------
    choice : str
        ``canvod``, ``georinex``, or ``auto`` for the first of them that is installed.

    Returns
    -------
    str
        ``canvod`` or ``georinex``.

    Raises
    ------
    NoReaderError
        If it is not installed; the message says how to install it.
    ValueError
        If there is no such reader.
    """
    available = available_readers()
    if choice == "auto":
        if not available:
            remedies = " or ".join(_INSTALL.values())
            raise NoReaderError(f"no reader of observation files is installed here: {remedies}")
        return available[0]
    if choice not in READERS:
        raise ValueError(f"{choice!r} is not a reader; auto, {' and '.join(READERS)} are")
    if choice not in available:
        raise NoReaderError(f"the reader {choice!r} is not installed here: {_INSTALL[choice]}")
    return choice


def read_observations(
    path: str,
    reader: str = "auto",
    variables: Sequence[str] = ("SNR",),
    *,
    scratch_dir: str | None = None,
) -> Observations:
    """Read one observation file.

    Both readers give the same epochs, signals and values, and refuse the same files for the same reason:

    - Epochs are sorted; of epochs at the same time the first is kept, the others are counted in the notes.
    - An epoch with an unknown satellite, the wrong number of satellites or a field that is no number is left
      out and counted; the rest of the file is read. Event records (flags 2 to 6) are passed over.
    - A value of zero is a missing one, as RINEX says.
    - Satellites that canvod-readers does not know (R25 and above, for example) are left out, which only
      georinex can count.
    - Bands that RINEX 3.04 does not have are left out; unknown tracking codes are kept as they are.

    Parameters
    ----------
    path : str
        RINEX 3.0x or 2.11, plain, gzip, ``.Z`` or Hatanaka; the content decides, not the name.
    reader : str
        ``auto``, ``canvod`` or ``georinex``.
    variables : sequence of str
        Names out of `VARIABLE_DTYPES`.
    scratch_dir : str, optional
        Where a compressed or damaged file is rewritten while it is read; by default the system's temporary
        folder. It needs room for the unpacked file.

    Returns
    -------
    Observations

    Raises
    ------
    UnreadableFileError
        If the file cannot be read, with a reason in one line.
    NoReaderError
        If the reader is not installed.
    ValueError
        If there is no such reader or variable.

    Examples
    --------
    >>> read_observations("no/such/file.rnx", reader="georinex")
    Traceback (most recent call last):
    ...
    canvod.launch.runtime.reading.UnreadableFileError: cannot be opened: No such file or directory
    """
    unknown = [name for name in variables if name not in VARIABLE_DTYPES]
    if unknown or not variables:
        raise ValueError(
            f"{unknown or variables!r}: variables are one or more of {', '.join(VARIABLE_DTYPES)}"
        )
    name = resolve_reader(reader)
    try:
        with tempfile.TemporaryDirectory(prefix="canvod-launch-", dir=scratch_dir) as scratch:
            plain = decompress(path, scratch) if is_compressed(path) else path
            header = read_header(plain)
            return _finish(path, _call(name, plain, header, variables, scratch), variables)
    except OSError as exc:
        where = "" if exc.filename in (None, path) else f" ({exc.filename})"
        raise UnreadableFileError(f"cannot be opened: {exc.strerror or exc}{where}") from exc


def _call(name: str, path: str, header: RinexHeader, variables: Sequence[str], scratch: str) -> Reading:
    try:
        if name == "canvod":
            from canvod.launch.runtime import reader_canvod

            return reader_canvod.read(path, header, variables, scratch)
        from canvod.launch.runtime import reader_georinex

        return reader_georinex.read(path, header, variables, VARIABLE_DTYPES)
    except (MemoryError, OSError, ImportError, UnreadableFileError):
        raise
    except Exception as exc:
        raise UnreadableFileError(f"{READERS[name]}: {_reason(exc)}") from exc


def _reason(exc: Exception) -> str:
    """One line for an exception of a reader; of a list of pydantic's the first."""
    errors = getattr(exc, "errors", None)
    if callable(errors):
        first = errors()[0]
        return one_line(str(first.get("msg", exc)).removeprefix("Value error, "))
    return one_line(str(exc)) or type(exc).__name__


def _finish(path: str, reading: Reading, variables: Sequence[str]) -> Observations:
    """Sort epochs and signals, and drop what was not observed."""
    notes = list(reading.notes)
    if not len(reading.epoch):
        raise UnreadableFileError("no epochs: " + (notes[0] if notes else "the file ends after its header"))
    epoch, first = np.unique(reading.epoch, return_index=True)
    repeated = len(reading.epoch) - len(epoch)
    if repeated:
        notes.append(
            f"left out {repeated} repeated epoch{'s' if repeated > 1 else ''}; the first of each is kept"
        )
    strangers = sorted({sid[:3] for sid in reading.sid if not is_known(sid[:3])})
    if strangers:
        notes.append(f"left out satellites that canvod-readers does not know: {', '.join(strangers)}")
    observed = np.zeros(len(reading.sid), dtype=bool)
    for values in reading.variables.values():
        observed |= np.isfinite(values[first]).any(axis=0)
    kept = sorted((sid, i) for i, sid in enumerate(reading.sid) if observed[i] and _is_signal(sid))
    if not kept:
        which = " or ".join(variables)
        raise UnreadableFileError(f"no signals: none of the {len(epoch)} epochs has a value of {which}")
    columns = [i for _, i in kept]
    return Observations(
        path=path,
        epoch=epoch,
        sid=tuple(sid for sid, _ in kept),
        variables={
            name: np.ascontiguousarray(reading.variables[name][np.ix_(first, columns)]) for name in variables
        },
        notes=tuple(notes),
    )


def _is_signal(sid: str) -> bool:
    return is_known(sid[:3]) and "|UnknownBand" not in sid
