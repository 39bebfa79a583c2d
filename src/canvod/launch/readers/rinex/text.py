"""Lines of a text that is held as bytes."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"

_STRANGE: Final = re.compile(rb"^(?:\x1a|\xef\xbb\xbf)+(?=[^\x00\x1a\n])", re.MULTILINE)
_NEWLINE: Final = 10
_BLANKS: Final = 64

_END_OF_FILE: Final = (b"\x1a", b"\x00", b"\x1a\n", b"\x00\n")
"""A character by which some systems end a text, and padding."""

LABEL: Final = 60
"""Where the label of a header record starts."""

_LABEL_COLUMNS: Final = (LABEL, LABEL + 2, LABEL + 3)
_OF_LABELS: Final = np.zeros(256, dtype=bool)
_OF_LABELS[[ord("#"), ord("/"), *range(ord("A"), ord("Z") + 1)]] = True


def is_labelled(line: str) -> bool:
    """Whether a line may be a header record, by the rule of `Text.labelled`.

    Parameters
    ----------
    line : str
        The line, without its end; characters up to U+00FF.

    Returns
    -------
    bool
        True where one of three columns of its label holds a character of labels.
    """
    is_long = len(line) > _LABEL_COLUMNS[-1]
    return is_long and any(_OF_LABELS[ord(line[column])] for column in _LABEL_COLUMNS)


def plain_blocks(blocks: Iterator[bytes]) -> Iterator[tuple[bytes, bool]]:
    r"""Replace the ends of lines, CR and CRLF, by ``\n``.

    Parameters
    ----------
    blocks : iterator of bytes
        Successive parts of a file.

    Yields
    ------
    block : bytes
        The part with the ends of its lines replaced; a single one, empty, where the file is empty.
    is_last : bool
        Whether the file ends with it.
    """
    held = next(blocks, b"")
    for block in blocks:
        if held.endswith(b"\r") and block.startswith(b"\n"):
            held = held[:-1]
        yield _with_line_feeds(held), False
        held = block
    yield _with_line_feeds(held), True


def _with_line_feeds(block: bytes) -> bytes:
    return block.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if b"\r" in block else block


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
        self.is_last = is_last
        size, self.padding = len(data), 0
        if is_last and data.endswith(_END_OF_FILE):
            size = len(data.removesuffix(b"\n").rstrip(b"\x1a\x00"))
            if data[size : size + 1] == b"\x00":  # behind the character that ends a text anything may stand
                self.padding = data.count(b"\x00", size)
        if b"\x1a" in data or BYTE_ORDER_MARK in data:  # where files were joined
            data, start = _STRANGE.sub(b"", data[start:size]), 0
            size = len(data)
        self.is_cut = is_last and size > start and data[size - 1] != _NEWLINE
        self.data = data.ljust(_BLANKS)
        self._start, self._size = start, size
        self._buffer = np.frombuffer(self.data, np.uint8)
        self.ends = np.flatnonzero(self._buffer[start:size] == _NEWLINE) + start
        if self.is_cut:
            self.ends = np.append(self.ends, size)
        self.starts = np.full_like(self.ends, start)
        self.starts[1:] = self.ends[:-1] + 1

    def __len__(self) -> int:
        """Number of lines."""
        return len(self.ends)

    def after(self, index: int) -> bytes:
        """Return the text from a line on.

        Parameters
        ----------
        index : int
            Index of the line, from 0; the number of lines gives what follows the last of them.

        Returns
        -------
        bytes
            Up to the end of the text, without padding.
        """
        start = int(self.ends[index - 1]) + 1 if index else self._start
        return self.data[start : self._size]

    def line(self, index: int) -> str:
        """Return a line.

        Parameters
        ----------
        index : int
            Index of the line, from 0.

        Returns
        -------
        str
            The line without its end; a byte that is no ASCII becomes a character that no field has (Latin-1).
        """
        return self.data[self.starts[index] : self.ends[index]].decode("latin-1")

    def lines(self, start: int, stop: int) -> list[str]:
        """Return successive lines.

        Parameters
        ----------
        start : int
            Index of the first line, from 0.
        stop : int
            Index behind the last one.

        Returns
        -------
        list of str
            As `line` gives each.
        """
        if start >= stop:
            return []
        return self.data[self.starts[start] : self.ends[stop - 1]].decode("latin-1").split("\n")

    def byte(self, index: npt.NDArray[np.int64], column: int) -> npt.NDArray[np.uint8]:
        r"""Return the characters of some lines in one column.

        Parameters
        ----------
        index : numpy.ndarray
            Shape (n,), int64: indices of the lines, from 0.
        column : int
            The column, from 0.

        Returns
        -------
        numpy.ndarray
            Shape (n,), uint8; of a line that is too short, its ``\n`` or a byte of what follows.
        """
        return self._buffer.take(self.starts[index] + column, mode="clip")

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
            Shape (n,), int64: where each line stops.

        Returns
        -------
        numpy.ndarray
            Shape (n, width), uint8, contiguous.
        """
        last = len(self.data) - width
        windows: Any = np.ndarray(last + 1, f"V{width}", self.data, strides=1)
        pieces: npt.NDArray[np.uint8] = windows[np.minimum(positions, last)].view(np.uint8).reshape(-1, width)
        for late in np.flatnonzero(positions > last).tolist():
            piece = self.data[positions[late] : positions[late] + width]
            pieces[late] = np.frombuffer(piece.ljust(width), np.uint8)
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
        """Whether pieces of the text are blank.

        Parameters
        ----------
        positions : numpy.ndarray
            Shape (n,), int64: where each starts.
        stops : numpy.ndarray
            Shape (n,), int64: where each stops; a piece that stops before it starts is blank.

        Returns
        -------
        numpy.ndarray
            Shape (n,), bool; False for a piece of more than 64 characters, whatever they are.
        """
        blank = stops - positions <= _BLANKS
        there = np.flatnonzero(blank & (stops > positions))
        if len(there):
            blank[there] = (self.fields(positions[there], _BLANKS, stops[there]) == 32).all(axis=1)
        return blank

    def labelled(self) -> list[int]:
        """Find the lines that may be header records: all header records are among them.

        Returns
        -------
        list of int
            Indices, from 0, of the lines with a capital letter, ``#`` or ``/`` in column 61, 63 or 64.
        """
        long = np.flatnonzero(self.ends - self.starts > _LABEL_COLUMNS[-1])
        is_found = np.zeros(len(long), dtype=bool)
        for column in _LABEL_COLUMNS:
            is_found |= _OF_LABELS[self.byte(long, column)]
        found: list[int] = long[is_found].tolist()
        return found
