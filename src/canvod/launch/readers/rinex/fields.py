"""Observations as they are written: F14.3, loss of lock, signal strength.

A field is a decimal number, and so an integer over a power of ten. `decode` reads many fields of the usual
form at once, `parse` one field of any form that Fortran reads by F14.3. Both give the same number to the last
bit: the integer is below 2**53 and therefore exact, and one division of two exact numbers is rounded
correctly (IEEE 754). Sources: RINEX 3.04, table A3; RINEX 2.11, table A2.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from canvod.launch.readers.observations import one_line

if TYPE_CHECKING:
    import numpy.typing as npt

    Words = npt.NDArray[np.integer[Any]]

WIDTH: Final = 16
"""Characters of one observation."""

NUMBER_WIDTH: Final = 14
"""Characters of its number."""

_POINT_COLUMN: Final = 10

DECIMALS: Final = 1000
"""What the integer of a usual field is divided by."""

_DECIMALS: Final = 3
_NUMBER: Final = re.compile(r" *([+-]?)(?=\.?[0-9])([0-9]*)\.([0-9]*) *")
_FLAGS: Final = " 0123456789"

# Eight characters as an integer of 64 bits, of which the lowest byte is the first character.
_ONES: Final = 0x0101010101010101
_BLANKS: Final = 0x2020202020202020
_MINUSES: Final = 0x2D2D2D2D2D2D2D2D
# Of the second eight: the last two before the point, the point, the decimals, the flags, all but the flags.
_INTEGER: Final = 0x000000000000FFFF
_POINT_AT: Final = 0x0000000000FF0000
_POINT: Final = 0x00000000002E0000
_DECIMALS_AT: Final = 0x0000FFFFFF000000
_FLAGS_AT: Final = 0xFFFF000000000000
_NUMBER_AT: Final = 0x0000FFFFFFFFFFFF


class DamagedError(Exception):
    """An epoch record that fails a check; the argument is the reason."""


def decode(fields: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Read fields of the usual form: blanks, perhaps a minus, digits, a point, three digits; or blanks alone.

    The sixteen characters of a field are two words of eight, the first character in the lowest byte; what is
    known of each character is a byte of 0 or 1, so that eight characters are compared at once.

    Parameters
    ----------
    fields : numpy.ndarray
        Shape (n, 16), uint8, contiguous.

    Returns
    -------
    numbers : numpy.ndarray
        Shape (n,), int64: thousandths, 0 for a blank field.
    usual : numpy.ndarray
        Shape (n,), bool: whether the field has this form; the number means nothing where it has not.
    """
    numbers = np.zeros(len(fields), dtype=np.int64)
    usual = np.zeros(len(fields), dtype=bool)
    whole: Any = fields.view(f"V{WIDTH}")[:, 0]
    is_written = fields[:, _POINT_COLUMN] != ord(" ")
    blank, written = np.flatnonzero(~is_written), np.flatnonzero(is_written)
    usual[blank] = _are_blank(whole[blank].view(np.uint8).reshape(-1, WIDTH))
    numbers[written], usual[written] = _decode(whole[written].view(np.uint8).reshape(-1, WIDTH))
    return numbers, usual


def _are_blank(fields: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    head, tail = fields.view("<u8").T
    is_blank: npt.NDArray[np.bool_] = (head == _BLANKS) & ((tail & _NUMBER_AT) == (_BLANKS & _NUMBER_AT))
    first, second = fields[:, NUMBER_WIDTH:].T
    is_blank &= (first - 48 < 10) | (first == ord(" "))
    is_blank &= (second - 48 < 10) | (second == ord(" "))
    return is_blank


def _decode(fields: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    head, tail = fields.view("<u8").T.copy()
    digits, more_digits = ((fields ^ 48) < 10).view("<u8").T.copy()
    blanks, more_blanks = (fields == 32).view("<u8").T
    # What is no digit before the point, in eight characters of the head and two of the tail:
    before, after = digits ^ _ONES, (more_digits ^ _ONES) & _INTEGER
    minus, more_minus = before & ~blanks, after & ~more_blanks
    lead = before * 255
    goes_on = 0 - ((after | (after >> 8)) & 1)
    wrong = (head ^ _MINUSES) & (minus * 255)  # it is blank or a minus,
    wrong |= (tail ^ _MINUSES) & (more_minus * 255)
    wrong |= lead & (lead + 1)  # and stands before all digits;
    wrong |= (before ^ _ONES) & goes_on
    wrong |= (after >> 8) & ~after & 1
    wrong |= (minus << 8) & before  # a minus is the last of it.
    wrong |= minus & goes_on
    wrong |= (more_minus << 8) & after
    wrong |= (tail & _POINT_AT) ^ _POINT
    wrong |= ~more_digits & _ONES & _DECIMALS_AT
    wrong |= ~(more_digits | more_blanks) & _ONES & _FLAGS_AT
    low, high = head & (digits * 15), tail & (more_digits * 15)
    high = ((high & _INTEGER) << 24) | ((high & _DECIMALS_AT) << 16)
    numbers = (_eight_digits(low) * 100_000 + _eight_digits(high)).view(np.int64)
    np.negative(numbers, out=numbers, where=(minus | more_minus) != 0)
    return numbers, wrong == 0


def _eight_digits(word: Words) -> Words:
    """Number that eight digits stand for, the first in the lowest byte: pairs, then fours, then all."""
    word = word * 10 + (word >> 8)
    word = (word & 0x00FF00FF00FF00FF) * (100 << 16 | 1) >> 16
    return (word & 0x0000FFFF0000FFFF) * (10_000 << 32 | 1) >> 32


def parse(sv: str, field: str, factor: int = 1) -> float:
    """Read one field of any form.

    Parameters
    ----------
    sv : str
        Satellite, for the reason.
    field : str
        Up to `WIDTH` characters.
    factor : int
        What the number is divided by (SYS / SCALE FACTOR).

    Returns
    -------
    float
        0.0 for a blank number: RINEX means a missing one by either.

    Raises
    ------
    DamagedError
        If it is no number, or its flags are no digits.
    """
    number, flags = field[:NUMBER_WIDTH], field[NUMBER_WIDTH:WIDTH]
    value = 0.0
    if number.strip(" "):
        match = _NUMBER.fullmatch(number)
        if match is None or not (
            number[_POINT_COLUMN : _POINT_COLUMN + 1] == "." or _is_placed(field, match)
        ):
            raise _not_observation(sv, field)
        value = int(match[2] + match[3]) / (10 ** len(match[3]) * factor)
        if match[1] == "-":
            value = -value
    if flags.strip(_FLAGS):
        raise _not_observation(sv, field)
    return value


def _is_placed(field: str, match: re.Match[str]) -> bool:
    """Whether a number whose point is not where F14.3 has it stands as a whole in its field.

    In a line that lost or gained a character numbers end elsewhere, or with a digit where a flag should be.
    """
    number = field[:NUMBER_WIDTH]
    fills = len(number.rstrip(" ")) == NUMBER_WIDTH
    return fills and (len(match[3]) == _DECIMALS or not field[NUMBER_WIDTH : NUMBER_WIDTH + 1].strip())


def _not_observation(sv: str, field: str) -> DamagedError:
    return DamagedError(f"satellite {sv}: {one_line(field, 20)!r} is not an observation")
