"""The plain bytes of a file, whatever it is packed with, and the digest of the file as it is.

What a file is, is told from its first bytes, not from its name: plain, gzip, bzip2, zip, compress (``.Z``),
and the compact RINEX of Hatanaka (``.crx``, ``.YYd``) in any of them. A file is read once, from its start to
its end; plain, gzip, bzip2 and zip files are handed on in blocks, the others as a whole.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import re
import struct
import zipfile
import zlib
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from canvod.launch.readers.observations import UnreadableFileError, one_line

if TYPE_CHECKING:
    from collections.abc import Iterator
    from hashlib import _Hash

BLOCK_BYTES: Final = 4 * 1024**2
"""The most that is handed on at once."""

MAX_UNPACKED_BYTES: Final = 2 * 1024**3
"""The most that a file may give that is unpacked as a whole; a day of seven systems at 1 Hz has half."""

_GZIP: Final = b"\x1f\x8b"
_COMPRESS: Final = b"\x1f\x9d"
_BZIP2: Final = b"BZh"
_ZIP: Final = b"PK\x03\x04"
_OTHER: Final = {b"\xfd7zXZ": "xz", b"7z\xbc\xaf": "7z", b"(\xb5/\xfd": "zstd"}
_PACKED: Final = (_GZIP, _COMPRESS, _BZIP2, _ZIP, *_OTHER)
_DAMAGED: Final = (
    zipfile.BadZipFile, zlib.error, struct.error,
    EOFError, KeyError, NotImplementedError, OSError, RuntimeError, ValueError,
)  # fmt: skip
"""What the modules that unpack raise over damage."""

_CRINEX: Final = b"CRINEX VERS"
_NOT_COMPACT: Final = re.compile(rb"[^-0-9 &>.+GRESJCIT\r\n]")
"""What neither differences nor names of satellites consist of."""

_CODES: Final = re.compile(rb"^[A-Z ] *(\d+).{54}(?:SYS / # / OBS TYPES|# / TYPES OF OBSERV)", re.MULTILINE)


def plain_size(path: str) -> int:
    """How many bytes a file has at least when it is unpacked, as far as that is written in it.

    Parameters
    ----------
    path : str
        The file.

    Returns
    -------
    int
        What gzip and zip note of what they have packed; else the size of the file, and 0 where it cannot be
        read.
    """
    try:
        with Path(path).open("rb") as file:
            start = file.read(4)
            size = file.seek(0, io.SEEK_END)
            if start.startswith(_GZIP) and size >= 8:
                file.seek(-4, io.SEEK_END)
                size = max(size, int.from_bytes(file.read(4), "little"))
            elif start.startswith(_ZIP):
                with zipfile.ZipFile(file) as archive:
                    size = max(size, *(member.file_size for member in archive.infolist()))
    except _DAMAGED:
        return 0
    return size


class Content:
    """A file that is read once, in blocks.

    Parameters
    ----------
    path : str
        The file.
    limit_bytes : int
        The most that a file may give that has to be unpacked as a whole.

    Attributes
    ----------
    digest : str
        SHA-256 of the file's bytes in hexadecimal digits; complete when all blocks are read.
    """

    def __init__(self, path: str, limit_bytes: int = MAX_UNPACKED_BYTES) -> None:
        self._path = path
        self._limit = limit_bytes
        self._hash = hashlib.sha256()

    @property
    def digest(self) -> str:
        """SHA-256 of the file's bytes in hexadecimal digits."""
        return self._hash.hexdigest()

    def blocks(self) -> Iterator[bytes]:
        """Read the file, and unpack it where it is packed.

        Yields
        ------
        bytes
            Plain bytes, never empty: up to `BLOCK_BYTES`, but the whole of a Hatanaka file at once.

        Raises
        ------
        UnreadableFileError
            If the file is damaged, unpacks to more than the limit, or is packed in a way that is not
            supported.
        OSError
            If it cannot be opened or read.
        """
        with Path(self._path).open("rb", buffering=0) as file:
            start = file.read(80)
            file.seek(0)
            if not start.startswith(_PACKED) and _CRINEX not in start:  # no buffer, no copies
                while block := file.read(BLOCK_BYTES):
                    self._hash.update(block)
                    yield block
                return
            raw: Any = io.BufferedReader(_Hashed(file, self._hash), BLOCK_BYTES)
            with _unpacked(raw, start, self._limit) as plain:
                block = plain.read(max(BLOCK_BYTES, 80))
                if _CRINEX in block[:80]:
                    block = _crx2rnx(block + _read_all(plain, self._limit), self._limit)
                while block:
                    yield block
                    block = plain.read(BLOCK_BYTES)
            while raw.read(BLOCK_BYTES):  # what follows the packed data counts for the digest
                pass


class _Hashed(io.RawIOBase):
    """A file whose bytes are hashed as they are read."""

    def __init__(self, file: io.FileIO, digest: _Hash) -> None:
        self._file = file
        self._digest = digest

    def readable(self) -> bool:
        """It can be read."""
        return True

    def readinto(self, buffer: Any, /) -> int:
        """Read, and hash what was read."""
        count = self._file.readinto(buffer) or 0
        self._digest.update(memoryview(buffer)[:count])
        return count


@contextmanager
def _unpacked(raw: IO[bytes], start: bytes, limit: int) -> Iterator[IO[bytes]]:
    for magic, name in _OTHER.items():
        if start.startswith(magic):
            raise UnreadableFileError(
                f"packed with {name}, which is not supported; unpack it (gzip, bzip2, zip, .Z, Hatanaka are)"
            )
    try:
        if start.startswith(_GZIP):
            yield gzip.GzipFile(fileobj=raw)  # type: ignore[misc]
        elif start.startswith(_BZIP2):
            yield bz2.BZ2File(raw)
        elif start.startswith(_ZIP):
            with (
                zipfile.ZipFile(io.BytesIO(_read_all(raw, limit))) as archive,
                _only_member(archive) as plain,
            ):
                yield plain
        elif start.startswith(_COMPRESS):
            yield _uncompress(raw, limit)
        else:
            yield raw
    except _DAMAGED as exc:
        if isinstance(exc, OSError) and exc.errno is not None:  # without a number it is gzip's or bz2's
            raise
        raise UnreadableFileError(f"damaged packed file: {one_line(str(exc)) or type(exc).__name__}") from exc


def _only_member(archive: zipfile.ZipFile) -> IO[bytes]:
    # What a Mac adds beside a file is none.
    files = [
        member
        for member in archive.infolist()
        if not member.is_dir() and not re.match(r"(.*/)?(\.|__MACOSX/)", member.filename)
    ]
    if len(files) != 1:
        names = ", ".join(member.filename for member in files[:3]) or "none"
        raise UnreadableFileError(f"a zip archive of {len(files)} files ({names}); one is read: unpack it")
    try:
        return archive.open(files[0])
    except (RuntimeError, NotImplementedError) as exc:  # encrypted, or of a method that Python does not have
        raise UnreadableFileError(f"zip archive: {one_line(str(exc))}") from exc


def _too_large(limit: int) -> UnreadableFileError:
    return UnreadableFileError(
        f"unpacks to more than {limit:,} bytes, the most that is accepted: unpack and split it"
    )


def _read_all(source: IO[bytes], limit: int) -> bytes:
    data = source.read(limit + 1)
    if len(data) > limit:
        raise _too_large(limit)
    return data


class _Bounded(io.BytesIO):
    """Memory that refuses to grow beyond a limit."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit

    def write(self, data: Any, /) -> int:
        """Write, unless the limit would be exceeded."""
        if self.tell() + len(data) > self._limit:
            raise _too_large(self._limit)
        return super().write(data)


def _uncompress(raw: IO[bytes], limit: int) -> IO[bytes]:
    from ncompress import decompress  # type: ignore[import-untyped, unused-ignore]

    plain = _Bounded(limit)
    try:
        decompress(raw, plain)
    except (ValueError, RuntimeError) as exc:
        raise UnreadableFileError(f"damaged .Z file: {one_line(str(exc))}") from exc
    plain.seek(0)
    return plain


def _check_compact(text: bytes) -> None:
    """Refuse characters that compact RINEX has not: hatanaka passes over them, and what follows is wrong."""
    start = text.find(b"END OF HEADER")
    found = None if start < 0 else _NOT_COMPACT.search(text, start + 13)
    while found is not None and _is_event(text, found.start()):
        found = _NOT_COMPACT.search(text, text.find(b"\n", found.start()) + 1 or len(text))
    if found is not None:
        line = text.count(b"\n", 0, found.start()) + 1
        raise UnreadableFileError(f"damaged Hatanaka file: line {line} has {found[0].decode('latin-1')!r}")


def _is_event(text: bytes, place: int) -> bool:
    """Whether a line is a record of an event, which stands as it is: it has a label in column 61."""
    start, stop = text.rfind(b"\n", 0, place) + 1, text.find(b"\n", place)
    label = text[start + 60 : min(start + 80, stop)].strip()
    return label.startswith(b"#") or label[:1].isalpha()


def _crx2rnx(text: bytes, limit: int) -> bytes:
    import hatanaka

    _check_compact(text)
    # A line of a few characters stands for a whole line of observations, and crx2rnx answers in memory: the
    # most that it can answer is known before.
    widest = max((int(count) for count in _CODES.findall(text)), default=0) * 16 + 84
    if text.count(b"\n") * widest > limit:
        raise _too_large(limit)
    # 3.1 is 3.0 with picoseconds beside the clock offset, neither of which is read; crx2rnx knows 3.0 alone.
    text = re.sub(rb"^\s*3\.1", b"3.0", text, count=1)
    try:
        # What it only warns of reaches the worker's log: catching warnings is not safe among threads.
        plain: bytes = hatanaka.crx2rnx(text)
    except (hatanaka.HatanakaException, ValueError, OSError) as exc:
        raise UnreadableFileError(f"damaged Hatanaka file: {one_line(str(exc))}") from exc
    return plain
