"""One RINEX observation file as arrays."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import numpy as np

from canvod.launch.readers.content import Content
from canvod.launch.readers.observations import Observations, UnreadableFileError
from canvod.launch.readers.rinex.header import END, VERSION, Header, check_first_line, label_of, parse_header
from canvod.launch.readers.rinex.notes import Notes
from canvod.launch.readers.rinex.rinex2 import Rinex2
from canvod.launch.readers.rinex.rinex3 import Rinex3
from canvod.launch.readers.rinex.table import Table
from canvod.launch.readers.rinex.text import Text, plain_blocks

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from canvod.launch.readers.rinex.records import Parser

MAX_HEADER_BYTES: Final = 8 * 1024**2
"""A longer header is taken for a file without an end of header; the longest seen have less than 100 kB."""

_BLANK_LINES: Final = re.compile(rb"\A(?:[ \t]*\n)*")
_MAX_BLANK_BYTES: Final = 2000

MAX_RECORD_BYTES: Final = 64 * 1024**2
"""Text of so many bytes without a whole record is no RINEX; a record of 999 satellites has less than 1 MB."""


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

    Raises
    ------
    UnreadableFileError
        If nothing of it can be used, with the reason in one line.
    OSError
        If it cannot be opened.
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


def _parse(content: Content, variables: Sequence[str], *, trusts_first: bool) -> Parser:
    notes = Notes()
    table = Table(variables)
    parser: Parser | None = None
    rest, number = b"", 1
    for block, is_last in _with_last(plain_blocks(content.blocks())):
        data, start = rest + block, 0
        if parser is None:
            header, start, lines = _header(data, is_last=is_last)
            if header is None:
                rest = data
                continue
            number += lines
            kind = Rinex2 if header.is_rinex2 else Rinex3
            parser = kind(header, table, notes, trusts_first=trusts_first)
        text = Text(data, number, start=start, is_last=is_last)
        if text.padding:
            notes.add("padding", number + len(text), count=text.padding)
        done = parser.feed(text)
        rest, number = text.after(done), number + done
        if len(rest) > MAX_RECORD_BYTES:
            raise UnreadableFileError(f"line {number}: no end of a record within {MAX_RECORD_BYTES:,} bytes")
    if parser is None:
        raise UnreadableFileError("the file is empty")
    return parser


def _with_last(blocks: Iterator[bytes]) -> Iterator[tuple[bytes, bool]]:
    """Yield each block, and whether it is the last one."""
    held = next(blocks, b"")
    for block in blocks:
        yield held, False
        held = block
    yield held, True


def _header(data: bytes, *, is_last: bool) -> tuple[Header | None, int, int]:
    """Return the header at the start of a file, its length and its lines; None where it goes on."""
    end = data.find(END.encode())
    while end >= 0:
        start, stop = data.rfind(b"\n", 0, end) + 1, data.find(b"\n", end)
        if stop < 0 and not is_last:
            return None, 0, 0
        stop = stop if stop >= 0 else len(data)
        if label_of(data[start:stop].decode("latin-1")) == END:
            lines = list(enumerate(data[:stop].decode("latin-1").split("\n"), start=1))
            while not lines[0][1].strip():  # blank lines before the first record
                del lines[0]
            return parse_header(lines), min(stop + 1, len(data)), lines[-1][0]
        end = data.find(END.encode(), stop)
    start = len(data[:_MAX_BLANK_BYTES]) - len(_BLANK_LINES.sub(b"", data[:_MAX_BLANK_BYTES], count=1))
    first = data[start : start + 200].split(b"\n", 1)[0].decode("latin-1")
    if is_last or len(data) > MAX_HEADER_BYTES or label_of(first) != VERSION:
        check_first_line(first)
        which = "the file ends within its header" if is_last else f"none within {MAX_HEADER_BYTES:,} bytes"
        raise UnreadableFileError(f"no {END} record: {which}")
    return None, 0, 0


def _observations(parser: Parser, digest: str) -> Observations:
    table, notes = parser.table, parser.notes
    arrays = table.arrays()
    for kind, lines in (("repeated", arrays.repeated), ("differing", arrays.differing)):
        if len(lines):
            notes.add(kind, int(lines.min()), count=len(lines))
    said = notes.sentences()
    if not len(arrays.epoch):
        raise UnreadableFileError("no epochs: " + (said[0] if said else "the file ends after its header"))
    if not arrays.sid:
        which = " or ".join(table.variables)
        raise UnreadableFileError(
            f"no signals: none of the {len(arrays.epoch)} epochs has a value of {which}"
            + (f" ({said[0]})" if said else "")
        )
    return Observations(
        epoch=arrays.epoch,
        sid=arrays.sid,
        variables=dict(arrays.variables),
        station=parser.marker,
        notes=said,
        digest=digest,
    )
