"""Plain text of compressed observation files: gzip, compress (``.Z``) and Hatanaka (``.crx``, ``.YYd``).

What a file is, is told from its first bytes, not from its name.
"""

from __future__ import annotations

import gzip
import re
import zlib
from pathlib import Path
from typing import IO, Final

from canvod.launch.runtime.reading import UnreadableFileError, one_line

MAX_UNPACKED_BYTES: Final = 2 * 1024**3
"""A file that unpacks to more is refused; a day of seven systems at 1 Hz has about half of it."""

_BLOCK: Final = 1024 * 1024
_GZIP: Final = b"\x1f\x8b"
_COMPRESS: Final = b"\x1f\x9d"
_OTHER: Final = {
    b"PK\x03\x04": "zip",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"7z\xbc\xaf": "7z",
    b"(\xb5/\xfd": "zstd",
}
_CRINEX: Final = b"CRINEX VERS"
_CODES: Final = re.compile(rb"^[A-Z ] *(\d+).{54}(?:SYS / # / OBS TYPES|# / TYPES OF OBSERV)", re.MULTILINE)
_REMEDY: Final = "install the package hatanaka where the files are read, or unpack the file"


def is_compressed(path: str) -> bool:
    """Whether a file must go through `decompress` before it can be read."""
    with Path(path).open("rb") as file:
        start = file.read(80)
    for magic, name in _OTHER.items():
        if start.startswith(magic):
            raise UnreadableFileError(
                f"packed with {name}, which is not supported (gzip, .Z and Hatanaka are): unpack it"
            )
    return start.startswith((_GZIP, _COMPRESS)) or _CRINEX in start


def decompress(path: str, scratch_dir: str, limit_bytes: int = MAX_UNPACKED_BYTES) -> str:
    """Unpack a file into ``scratch_dir``.

    Parameters
    ----------
    path : str
        The file; gzip or compress, Hatanaka, or Hatanaka within either.
    scratch_dir : str
        An empty folder of the caller's.
    limit_bytes : int
        The most that any stage may unpack to.

    Returns
    -------
    str
        Path of the plain file.

    Raises
    ------
    UnreadableFileError
        If it is damaged, unpacks to more than the limit, or needs a package that is not installed.
    """
    plain = Path(scratch_dir, "unpacked.rnx")
    with Path(path).open("rb") as source:
        start = source.read(80)
        source.seek(0)
        if start.startswith(_GZIP):
            with plain.open("wb") as target:
                _gunzip(source, target, limit_bytes)
        elif start.startswith(_COMPRESS):
            with plain.open("wb") as target:
                _uncompress(source, target, limit_bytes)
        else:
            plain.write_bytes(_bounded_read(source, limit_bytes))
    with plain.open("rb") as file:
        is_hatanaka = _CRINEX in file.read(80)
    if is_hatanaka:
        plain.write_bytes(crx2rnx(plain.read_bytes(), limit_bytes))
    return str(plain)


class _BoundedWriter:
    """A file that refuses to grow beyond a limit."""

    def __init__(self, target: IO[bytes], limit_bytes: int) -> None:
        self._target = target
        self._left = limit_bytes
        self._limit = limit_bytes

    def write(self, data: bytes) -> int:
        self._left -= len(data)
        if self._left < 0:
            raise _too_large(self._limit)
        return self._target.write(data)


def _too_large(limit_bytes: int) -> UnreadableFileError:
    return UnreadableFileError(
        f"unpacks to more than {limit_bytes:,} bytes, the most that is accepted: unpack and split it"
    )


def _bounded_read(source: IO[bytes], limit_bytes: int) -> bytes:
    data = source.read(limit_bytes + 1)
    if len(data) > limit_bytes:
        raise _too_large(limit_bytes)
    return data


def _gunzip(source: IO[bytes], target: IO[bytes], limit_bytes: int) -> None:
    writer = _BoundedWriter(target, limit_bytes)
    try:
        with gzip.open(source) as unpacked:
            while block := unpacked.read(_BLOCK):
                writer.write(block)
    except (gzip.BadGzipFile, zlib.error, EOFError) as exc:
        raise UnreadableFileError(f"damaged gzip file: {one_line(str(exc))}") from exc


def _uncompress(source: IO[bytes], target: IO[bytes], limit_bytes: int) -> None:
    try:
        from ncompress import decompress as unlzw  # type: ignore[import-untyped, unused-ignore]
    except ImportError:
        raise UnreadableFileError(f"packed with compress (.Z), which needs hatanaka: {_REMEDY}") from None
    writer = _BoundedWriter(target, limit_bytes)
    try:
        unlzw(source, writer)
    except (ValueError, RuntimeError) as exc:
        raise UnreadableFileError(f"damaged .Z file: {one_line(str(exc))}") from exc


def crx2rnx(text: bytes, limit_bytes: int) -> bytes:
    """Return the RINEX file that a Hatanaka-compressed one stands for.

    Parameters
    ----------
    text : bytes
        The compressed file.
    limit_bytes : int
        Refused where it might give more: a line counts as the longest that its header makes possible.

    Raises
    ------
    UnreadableFileError
        If it is damaged, too large, or the package is not installed.
    """
    try:
        import hatanaka
    except ImportError:
        raise UnreadableFileError(
            f"packed with Hatanaka's method, which is not installed here: {_REMEDY}"
        ) from None
    # A line of a few characters stands for a whole line of observations, and crx2rnx answers in memory: the
    # most that it can answer is known before.
    widest = max((int(count) for count in _CODES.findall(text)), default=0) * 16 + 84
    if text.count(b"\n") * widest > limit_bytes:
        raise _too_large(limit_bytes)
    try:
        # What it only warns of reaches the worker's log: catching warnings is not safe among threads.
        plain: bytes = hatanaka.crx2rnx(text)
    except (hatanaka.HatanakaException, ValueError, OSError) as exc:
        raise UnreadableFileError(f"damaged Hatanaka file: {one_line(str(exc))}") from exc
    return plain
