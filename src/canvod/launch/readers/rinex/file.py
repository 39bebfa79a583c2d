"""One RINEX observation file as arrays."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import numpy as np

from canvod.launch.readers.content import Content
from canvod.launch.readers.observations import Observations, UnreadableFileError
from canvod.launch.readers.rinex.file_notes import FileNotes
from canvod.launch.readers.rinex.header import (
    END,
    FIRST_LINE,
    Header,
    check_first_line,
    label_of,
    parse_header,
)
from canvod.launch.readers.rinex.rinex2 import Rinex2
from canvod.launch.readers.rinex.rinex3 import Rinex3
from canvod.launch.readers.rinex.table import Table
from canvod.launch.readers.rinex.text import Text, plain_blocks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from canvod.launch.readers.rinex.records import Parser

MAX_HEADER_BYTES: Final = 8 * 1024**2
"""A longer header is taken for a file without an end of header; the longest seen have less than 100 kB."""

MAX_RECORD_BYTES: Final = 64 * 1024**2
"""Text of so many bytes without a whole record is no RINEX; a record of 999 satellites has less than 1 MB."""

_START: Final = re.compile(rb"(?:\xef\xbb\xbf|\s*\n)*")
"""Byte order marks and blank lines, before the first record."""

_END: Final = re.compile(rf"^.*{END}.*$".encode(), re.MULTILINE)


def read(path: str, variables: Sequence[str], /) -> Observations:
    """Read a RINEX observation file of version 2, 3 or 4, plain or packed.

    - Epochs are sorted and in GPS time; of epochs at the same time one is made, to which each gives what the
      ones before it do not have.
    - An epoch with an unknown satellite, the wrong number of satellites, a wanted field that is no number, or
      an SNR outside 0 to 100 dB-Hz is left out and counted; the rest of the file is read.
    - A value of zero is a missing one (RINEX 3.04, table A3).
    - Header records within the data hold from there on: of events, and of files that were joined.

    Parameters
    ----------
    path : str
        The file: plain, gzip, bzip2, zip, ``.Z``, or Hatanaka in any of them; the content decides, not the
        name.
    variables : sequence of str
        Names out of `canvod.launch.readers.VARIABLES`.

    Returns
    -------
    Observations
        With each of the variables, NaN throughout where the file does not have it.

    Raises
    ------
    UnreadableFileError
        If nothing of it can be used, with the reason in one line.
    OSError
        If it cannot be opened or read.
    """
    content = Content(path)
    parser = _parse(content, variables, trusts_first=True)
    if not parser.table.n_epochs and parser.has_distant and parser.header.first_ns is not None:
        # No epoch is near the header's time, so it is the header that is wrong.
        first = np.datetime64(parser.header.first_ns, "ns").astype("datetime64[s]")
        content = Content(path)
        parser = _parse(content, variables, trusts_first=False)
        parser.notes.say(0, f"no epoch is within a year of TIME OF FIRST OBS, {first}, which was not used")
    return _observations(parser, content.digest)


def read_times(path: str) -> tuple[int, int] | None:
    """First and last epoch of a RINEX observation file by its header, which may be wrong.

    Parameters
    ----------
    path : str
        The file, plain or packed.

    Returns
    -------
    tuple of (int, int) or None
        TIME OF FIRST OBS and TIME OF LAST OBS, or the first one twice: nanoseconds since 1970-01-01 in the
        file's time system. None where the header does not tell, cannot be read, or is in a large file that
        has to be unpacked as a whole.
    """
    text = b""
    try:
        for block, is_last in plain_blocks(Content(path, MAX_RECORD_BYTES).blocks()):
            text += block
            header, _ = _header(text[_START.match(text).end() :], 1, is_last=is_last)  # type: ignore[union-attr]
            if header is not None:
                first, last = header.first_ns, header.last_ns
                return None if first is None else (first, first if last is None else max(first, last))
    except (UnreadableFileError, OSError):
        pass  # whoever reads the file tells why
    return None


def _parse(content: Content, variables: Sequence[str], *, trusts_first: bool) -> Parser:
    notes = FileNotes()
    parser: Parser | None = None
    rest, number = b"", 1
    for block, is_last in plain_blocks(content.blocks()):
        rest, start = rest + block, 0
        if parser is None:
            start = _START.match(rest).end()  # type: ignore[union-attr]
            header, end = _header(rest[start:], number + rest.count(b"\n", 0, start), is_last=is_last)
            if header is None:
                continue
            start += end
            number += rest.count(b"\n", 0, start)
            kind = Rinex2 if header.is_rinex2 else Rinex3
            parser = kind(header, Table(variables), notes, trusts_first=trusts_first)
        text = Text(rest, number, start=start, is_last=is_last)
        if text.padding:
            notes.add("padding", number + len(text), count=text.padding)
        done = parser.feed(text)
        rest, number = text.after(done), number + done
        if len(rest) > MAX_RECORD_BYTES:
            raise UnreadableFileError(f"line {number}: no end of a record within {MAX_RECORD_BYTES:,} bytes")
    if parser is None:
        raise UnreadableFileError("the file is empty")
    return parser


def _header(data: bytes, number: int, *, is_last: bool) -> tuple[Header | None, int]:
    """Return the header at the start of a text, from a line on, and where it ends; None where it goes on."""
    first = data[:FIRST_LINE].split(b"\n", 1)[0]
    if first == data[:FIRST_LINE] and len(first) < FIRST_LINE and not is_last:
        return None, 0
    check_first_line(first.decode("latin-1"), number)
    for found in _END.finditer(data):
        if label_of(found[0].decode("latin-1")) == END and (is_last or found.end() < len(data)):
            lines = data[: found.end()].decode("latin-1").split("\n")
            return parse_header(list(enumerate(lines, start=number))), found.end() + 1
    if is_last or len(data) > MAX_HEADER_BYTES:
        which = "the file ends within its header" if is_last else f"none within {MAX_HEADER_BYTES:,} bytes"
        raise UnreadableFileError(f"no {END} record: {which}")
    return None, 0


def _observations(parser: Parser, digest: str) -> Observations:
    epoch, sid, variables = parser.table.arrays(parser.notes)
    notes = parser.notes.sentences()
    if not len(epoch):
        raise UnreadableFileError("no epochs: " + (notes[0] if notes else "the file ends after its header"))
    if not sid:
        raise UnreadableFileError(
            f"no signals: none of the {len(epoch)} epochs has a value of {' or '.join(variables)}"
            + (f" ({notes[0]})" if notes else "")
        )
    return Observations(epoch, sid, variables, parser.marker, notes, digest)
