"""One observation file as plain arrays, whichever library read it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, Final

import numpy as np
import numpy.typing as npt

READERS: Final = {"canvod": "canvod.readers", "georinex": "georinex"}
"""Readers in order of preference, each with the module that it needs; canvod-readers is the reference."""

VARIABLE_DTYPES: Final[dict[str, npt.DTypeLike]] = {
    "SNR": np.float32,
    "Pseudorange": np.float64,
    "Phase": np.float64,
    "Doppler": np.float32,
}
"""The variables that can be read, with their dtypes."""


class UnreadableFileError(Exception):
    """A file that cannot be read, with the reason in one line.

    The only argument is the reason, so that the error crosses processes of different Python versions.

    Parameters
    ----------
    reason : str
        What is wrong with the file: the line where it is known, what was expected and what was found.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class NoReaderError(Exception):
    """The reader that was asked for cannot be imported here."""


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
        What was left out of the file although it was read: duplicate or damaged epochs, with their counts.
    """

    path: str
    epoch: npt.NDArray[np.int64]
    sid: tuple[str, ...]
    variables: dict[str, npt.NDArray[np.floating[Any]]]
    notes: tuple[str, ...] = field(default=())


def available_readers() -> tuple[str, ...]:
    """Readers whose libraries are installed here, in order of preference, without importing them."""

    def installed(module: str) -> bool:
        try:
            return find_spec(module) is not None
        except ModuleNotFoundError:
            return False

    return tuple(name for name, module in READERS.items() if installed(module))


def resolve_reader(choice: str) -> str:
    """Name of the reader that ``choice`` means here.

    Parameters
    ----------
    choice : str
        ``canvod``, ``georinex``, or ``auto`` for the first of them that is installed.

    Raises
    ------
    NoReaderError
        If it is not installed; the message says how to install it.
    """
    raise NotImplementedError


def read_observations(
    path: str,
    reader: str = "auto",
    variables: Sequence[str] = ("SNR",),
    *,
    scratch_dir: str | None = None,
) -> Observations:
    """Read one observation file.

    Parameters
    ----------
    path : str
        RINEX 3.0x or 2.11, plain or compressed.
    reader : str
        ``auto``, ``canvod`` or ``georinex``.
    variables : sequence of str
        Names out of `VARIABLE_DTYPES`.
    scratch_dir : str, optional
        Where a compressed file is unpacked while it is read; by default the system's temporary directory.

    Raises
    ------
    UnreadableFileError
        If the file cannot be read.
    NoReaderError
        If the reader is not installed.
    """
    raise NotImplementedError
