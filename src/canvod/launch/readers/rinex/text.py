"""Lines of a text that is held as bytes."""

from __future__ import annotations

import re
from functools import cache
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_FIRST_LINE: Final = 200
"""So much is there at once of the start of a file, that its first line is whole."""

_STRANGE: Final = re.compile(rb"^(?:\x1a|\xef\xbb\xbf)+(?=[^\x00\x1a\n])", re.MULTILINE)
_PAD: Final = 64
_NEWLINE: Final = 10
_AT_ONCE: Final = 2**16

_END_OF_FILE: Final = (b"\x1a", b"\x00", b"\x1a\n", b"\x00\n")
"""A character by which some systems end a text, and padding."""

LABEL: Final = 60
"""Where the label of a header record starts."""

_LABEL_COLUMNS: Final = (LABEL, LABEL + 2, LABEL + 3)
_OF_LABELS: Final = np.zeros(256, dtype=bool)
_OF_LABELS[[ord("#"), ord("/"), *range(ord("A"), ord("Z") + 1)]] = True


def is_labelled(line: str) -> bool:
    """Whether a line is one of those that `Text.labelled` finds."""
    is_long = len(line) > _LABEL_COLUMNS[-1]
    return is_long and any(_OF_LABELS[ord(line[column])] for column in _LABEL_COLUMNS)


def plain_blocks(blocks: Iterator[bytes]) -> Iterator[bytes]:
    r"""Yield blocks whose lines all end with ``\n``, as CR and CRLF do, without a byte order mark."""
    start, held = b"", b""
    for block in blocks:
        start += block
        if len(start) >= _FIRST_LINE:
            break
    for each in chain([start.removeprefix(BYTE_ORDER_MARK)], blocks):
        block, held = held + each, b""
        if block.endswith(b"\r"):  # the LF of a CRLF may come with the next block
            block, held = block[:-1], b"\r"
        if b"\r" in block:
            block = block.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        yield block
    if held:
        yield b"\n"


def _windows(data: bytes, width: int, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    """Return pieces of data, moved to where they fit at its end; shape (n, width)."""
    data = data.ljust(width)
    count = len(data) - width + 1
    window: Any = np.ndarray((count,), dtype=f"V{width}", buffer=data, strides=(1,))
    pieces: npt.NDArray[np.uint8] = window[np.minimum(positions, count - 1)].view(np.uint8)
    return pieces.reshape(-1, width)


@cache
def _fillings(width: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Return, by how much of a piece there is, which of its bits stay, and the blanks that fill it."""
    is_there = np.arange(width) < np.arange(width)[:, None]
    return np.where(is_there, 255, 0).astype(np.uint8), np.where(is_there, 0, ord(" ")).astype(np.uint8)


class Text:
    r"""Some successive lines of a file.

    Parameters
    ----------
    data : bytes
        The lines, each ended by ``\n``, but perhaps the last, of which more may come.
    number : int
        Number of the first line in the file, from 1.
    start : int
        Where the first line starts in the data.
    is_last : bool
        Whether the file ends here.

    Attributes
    ----------
    starts, ends : numpy.ndarray
        Shape (n,), int64: where each line starts, and where its ``\n`` is.
    padding : int
        Bytes of zero behind the end of the file's text.
    is_cut : bool
        Whether the last line has no end, so that something of it may be missing.
    """

    def __init__(self, data: bytes, number: int, *, start: int = 0, is_last: bool) -> None:
        self.number = number
        self._start = start
        self.is_last = is_last
        size, self.padding = len(data), 0
        if is_last and data.endswith(_END_OF_FILE):
            size = len(data.removesuffix(b"\n").rstrip(b"\x1a\x00"))
            if data[size : size + 1] == b"\x00":  # behind the character that ends a text anything may stand
                self.padding = data.count(b"\x00", size)
        if b"\x1a" in data or BYTE_ORDER_MARK in data:  # where files were joined
            data = data[:start] + _STRANGE.sub(b"", data[start:size])
            size = len(data)
        self.is_cut = is_last and size > start and data[size - 1] != _NEWLINE
        self.data = data
        self._size = size
        self._buffer = np.frombuffer(data, np.uint8)[:size]
        self.ends = np.concatenate(
            [
                np.flatnonzero(self._buffer[at : at + _AT_ONCE] == _NEWLINE) + at
                for at in range(start, size, _AT_ONCE)
            ]
            + [np.full(int(self.is_cut), size)]
        )
        self.starts = np.full_like(self.ends, start)
        self.starts[1:] = self.ends[:-1] + 1
        # What is read beyond the last line is blank.
        self._tail_at = max(0, size - _PAD)
        self._tail = data[self._tail_at : size] + b" " * 2 * _PAD

    def __len__(self) -> int:
        """Number of lines."""
        return len(self.ends)

    def after(self, index: int) -> bytes:
        """Return the text from a line on."""
        if index < len(self):
            return self.data[int(self.starts[index]) : self._size]
        return (
            self.data[int(self.ends[-1]) + 1 : self._size]
            if len(self)
            else self.data[self._start : self._size]
        )

    def line(self, index: int) -> str:
        """Return a line without its end; a byte that is no ASCII becomes a character that no field has."""
        return self.data[self.starts[index] : self.ends[index]].decode("latin-1")

    def lines(self, start: int, stop: int) -> list[str]:
        """Return successive lines without their ends."""
        if start >= stop:
            return []
        return self.data[self.starts[start] : self.ends[stop - 1]].decode("latin-1").split("\n")

    def byte(self, index: npt.NDArray[np.int64], column: int) -> npt.NDArray[np.uint8]:
        r"""Return one character of some lines, a ``\n`` or what follows it where they are too short."""
        found: npt.NDArray[np.uint8] = self._buffer[np.minimum(self.starts[index] + column, self._size - 1)]
        return found

    def fields(
        self, positions: npt.NDArray[np.int64], width: int, stops: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.uint8]:
        """Return pieces of the text, filled with blanks from where their lines stop.

        Parameters
        ----------
        positions : numpy.ndarray
            Shape (n,), int64: where each starts; it may be beyond the stop.
        width : int
            Their length, at most 64.
        stops : numpy.ndarray
            Shape (n,), int64.

        Returns
        -------
        numpy.ndarray
            Shape (n, width), uint8, contiguous.
        """
        pieces = _windows(self.data, width, positions)
        if len(positions) and positions.max() + width > self._size:
            late = np.flatnonzero(positions + width > self._size)
            at = np.minimum(positions[late] - self._tail_at, _PAD)
            pieces[late] = _windows(self._tail, width, at)
        left = stops - positions
        short = np.flatnonzero(left < width)
        if len(short):
            kept, blank = _fillings(width)
            left = np.maximum(left[short], 0)
            whole: Any = pieces.view(f"V{width}")[:, 0]
            some = whole[short].view(np.uint8).reshape(-1, width)
            some &= kept[left]
            some |= blank[left]
            whole[short] = some.view(f"V{width}")[:, 0]
        return pieces

    def is_blank(
        self, positions: npt.NDArray[np.int64], stops: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.bool_]:
        """Whether there are but blanks, at most 64, from positions to stops; shape (n,)."""
        blank = stops - positions <= _PAD
        there = np.flatnonzero(blank & (stops > positions))
        if len(there):
            blank[there] = (self.fields(positions[there], _PAD, stops[there]) == 32).all(axis=1)
        return blank

    def labelled(self) -> list[int]:
        """Return the indices of the lines with letters where header records have their labels, or near it."""
        long = np.flatnonzero(self.ends - self.starts > _LABEL_COLUMNS[-1])
        is_found = np.zeros(len(long), dtype=bool)
        for column in _LABEL_COLUMNS:
            is_found |= _OF_LABELS[self.byte(long, column)]
        found: list[int] = long[is_found].tolist()
        return found
