"""Amounts of bytes: powers of 1024 everywhere, written with the units that say so (KiB, MiB, GiB).

Fields of the settings that end in ``_gb`` and ``_mb`` are numbers of GiB and MiB; their names are canVODpy's.
"""

from __future__ import annotations

from typing import Final

MIB: Final = 1024**2
GIB: Final = 1024**3

_UNITS: Final = ("KiB", "MiB", "GiB", "TiB", "PiB")


def bytes_of_gib(amount: float) -> int:
    """Convert GiB to bytes, rounded down.

    Parameters
    ----------
    amount : float
        Amount in GiB.

    Returns
    -------
    int
        The amount in bytes.
    """
    return int(amount * GIB)


def format_bytes(size: int) -> str:
    """Write an amount of bytes for people, rounded down: never more than there is.

    Parameters
    ----------
    size : int
        Bytes; below 0 for what has become less.

    Returns
    -------
    str
        Such as ``1.5 KiB``: with one decimal below 100, where it is not 0.

    Examples
    --------
    >>> [format_bytes(size) for size in (10, 1536, 512 * MIB, 8 * GIB - 1, 8 * GIB, -GIB)]
    ['10 B', '1.5 KiB', '512 MiB', '7.9 GiB', '8 GiB', '-1 GiB']
    """
    sign, size = ("-", -size) if size < 0 else ("", size)
    if size < 1024:
        return f"{sign}{size} B"
    power = min((size.bit_length() - 1) // 10, len(_UNITS))
    whole, tenth = divmod(size * 10 // 1024**power, 10)
    # Three digits are enough to compare by.
    number = f"{whole}.{tenth}" if tenth and whole < 100 else str(whole)
    return f"{sign}{number} {_UNITS[power - 1]}"
