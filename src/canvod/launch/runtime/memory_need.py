"""How much memory a worker needs for observation files, and which of them are too large for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from canvod.launch.readers import VARIABLES
from canvod.launch.units import MIB, format_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable

OWN_BYTES: Final = 160 * MIB
"""What a worker has resident beside the arrays. Measured: 130 MiB with all that it imports, and up to 30 MiB
for the text that is being read."""

COPIES: Final = 5
"""How often the arrays of a span are in memory while it is made. Measured with `VmHWM`, less `OWN_BYTES`:
3.4 to 5.0 times the arrays of simulated files of 4 and 24 h at 1 Hz (78 and 458 MiB) and of 6 h of real ones
(51 MiB), one variable and all four; reading them takes up to 2.4 times."""

SIGNAL_CHARACTERS: Final = 128
"""The most text that files have for a signal in an epoch. Four observations take 64 characters (RINEX 3.04,
table A3), and blanks for those that a satellite does not have come on top: measured were 48 to 102."""


FEWEST_CHARACTERS: Final = 16
"""The least text that files have for a value: a day at 1 Hz, whose signals come and go, had 21."""


def needed_bytes(data_bytes: int) -> int:
    """Memory that a worker needs to make a span.

    Parameters
    ----------
    data_bytes : int
        Size of the arrays of its files.

    Returns
    -------
    int
        Bytes.
    """
    return OWN_BYTES + COPIES * data_bytes


def least_data_bytes(text_bytes: int, variables: Iterable[str]) -> int:
    """Size that the arrays of a file have at least, by the length of its text.

    Parameters
    ----------
    text_bytes : int
        Length of the file when it is unpacked.
    variables : iterable of str
        Variables to read.

    Returns
    -------
    int
        Bytes.

    Examples
    --------
    >>> least_data_bytes(64 * 1000, ["SNR"])
    2000
    """
    width = sum(np.dtype(VARIABLES[name]).itemsize for name in variables)
    return text_bytes // SIGNAL_CHARACTERS * width


def may_be_too_large(text_bytes: int, variables: Iterable[str], limit_bytes: int | None) -> bool:
    """Whether a worker might die of a file, which is better read in a process of its own then.

    Parameters
    ----------
    text_bytes : int
        Length of the file when it is unpacked.
    variables : iterable of str
        Variables to read.
    limit_bytes : int or None
        Memory that the worker may use; None where there is no limit.

    Returns
    -------
    bool
        True where the largest arrays that such a file may have would not fit.
    """
    most = least_data_bytes(text_bytes * SIGNAL_CHARACTERS // FEWEST_CHARACTERS, variables)
    return limit_bytes is not None and needed_bytes(most) > limit_bytes


def too_large(data_bytes: int, limit_bytes: int | None, *, what: str) -> str:
    """Why a worker cannot hold files.

    Parameters
    ----------
    data_bytes : int
        Size of their arrays, or what it is at least.
    limit_bytes : int or None
        Memory that the worker may use; None where there is no limit.
    what : str
        Says what they are, for the message.

    Returns
    -------
    str
        In words, with what to do; empty where it can.
    """
    needed = needed_bytes(data_bytes)
    if limit_bytes is None or needed <= limit_bytes:
        return ""
    return no_memory(limit_bytes, what=what, needed=f"{format_bytes(needed)} of memory or more")


def no_memory(limit_bytes: int | None, *, what: str, needed: str = "more memory than there is") -> str:
    """Say that a worker has too little memory.

    Parameters
    ----------
    limit_bytes : int or None
        Memory that the worker may use; None where there is no limit.
    what : str
        Says what needs it.
    needed : str
        How much that is.

    Returns
    -------
    str
        In words, with what to do.
    """
    limit = f", and a worker may use {format_bytes(limit_bytes)}" if limit_bytes is not None else ""
    return f"{what} needs {needed}{limit}: raise processing.max_memory_gb, or use fewer workers"
