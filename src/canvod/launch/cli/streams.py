"""Standard output and standard error of a command: ASCII, closed, on a full disk, or an unread pipe."""

from __future__ import annotations

import codecs
import os
import sys
import unicodedata
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TextIO, cast

from canvod.launch.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Iterator

PLAIN: Final = {"×": "x", "…": "...", "–": "-", "—": "-", "─": "-", "│": "|", "·": ".", "°": "deg", "≥": ">="}  # noqa: RUF001
"""Replacements of characters that an encoding does not have; others lose accents, or become ``?``."""

_ERRORS: Final = "canvod-launch-plain"


class _Output:
    """Standard output: what cannot be written is an `OutputError`, unless nobody reads a pipe."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with _translated():
            return self._stream.write(text)

    def flush(self) -> None:
        with _translated():
            self._stream.flush()

    def finish(self) -> None:
        """Write what is still buffered, or discard it: it would fail once more when Python ends."""
        try:
            self._stream.flush()
        except (OSError, ValueError):
            discard(self._stream)


class _Messages(_Output):
    """Standard error: that it cannot be written is no reason to stop."""

    def write(self, text: str) -> int:
        with suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            self._stream.flush()


@contextmanager
def prepared() -> Iterator[None]:
    """Prepare the standard streams of this process for a command, for the length of a block."""
    codecs.register_error(_ERRORS, _plain)
    _occupy()
    before = sys.stdout, sys.stderr
    streams = _Output(_fit(sys.stdout, 1)), _Messages(_fit(sys.stderr, 2))
    sys.stdout, sys.stderr = (cast("TextIO", stream) for stream in streams)
    try:
        yield
    finally:
        for stream, kept in zip(streams, before, strict=True):
            stream.finish()
            if kept is None:
                stream.close()
        sys.stdout, sys.stderr = before


@contextmanager
def report_only() -> Iterator[None]:
    """Write about work that is committed: an output that cannot be written is only a warning on stderr."""
    try:
        yield
        sys.stdout.flush()
    except (OutputError, BrokenPipeError) as error:
        _unread(error)
    except SystemExit as error:
        # rich ends a program whose output nobody reads.
        if not isinstance(error.__context__, BrokenPipeError):
            raise
        _unread(error.__context__)


def discard(stream: TextIO) -> None:
    """Discard what is buffered, and all that follows."""
    with suppress(OSError, ValueError), Path(os.devnull).open("w", encoding="utf-8") as nothing:
        os.dup2(nothing.fileno(), stream.fileno())


def _unread(error: BaseException) -> None:
    discard(sys.stdout)
    if isinstance(error, OutputError):
        sys.stderr.write(f"warning: {error.message} What was committed is kept.\n")


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(
            f"Could not write to standard output: {error.strerror or error}.",
            hint="see that its disk is not full, and run the command again",
        ) from error


def _occupy() -> None:
    """Open descriptors that are closed: the next file or connection would get their number."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def _fit(stream: TextIO | None, descriptor: int) -> TextIO:
    if stream is None:
        stream = os.fdopen(os.dup(descriptor), "w", encoding="utf-8")
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors=_ERRORS)
    return stream


def _plain(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    if all("\udc80" <= character <= "\udcff" for character in text):
        # A file name that is not text in this encoding: write its bytes.
        return text.encode("ascii", "surrogateescape"), error.end
    simple = "".join(PLAIN.get(character) or _without_accents(character) for character in text)
    return simple, error.end


def _without_accents(character: str) -> str:
    return unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode() or "?"
