"""Standard output and standard error of a command: ASCII, closed, on a full disk, or an unread pipe."""

from __future__ import annotations

import codecs
import os
import sys
import unicodedata
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TextIO, cast

from canvod.launch.cli.console import warn
from canvod.launch.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PLAIN: Final = {"×": "x", "…": "...", "–": "-", "—": "-", "─": "-", "│": "|", "·": ".", "°": "deg", "≥": ">="}  # noqa: RUF001
"""Replacements of characters that an encoding does not have; others lose accents, or become ``?``."""

_ERRORS: Final = "canvod-launch-plain"


class _Output:
    """Standard output: what cannot be written is an `OutputError`, unless nobody reads a pipe."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=_ERRORS)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        self._attempt(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        self._attempt(self._stream.flush)

    def _attempt(self, action: Callable[[], object]) -> None:
        try:
            action()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OutputError(
                f"Could not write to standard output: {error.strerror or error}.",
                hint="see that its disk is not full, and run the command again",
            ) from error

    def finish(self) -> None:
        """Write what is still buffered, or discard it: it would fail once more when Python ends."""
        try:
            self._stream.flush()
        except (OSError, ValueError):
            discard(self._stream)


class _Messages(_Output):
    """Standard error: that it cannot be written is no reason to stop."""

    def _attempt(self, action: Callable[[], object]) -> None:
        with suppress(OSError, ValueError):
            action()


@contextmanager
def prepared() -> Iterator[None]:
    """Prepare the standard streams of this process for a command, for the length of a block.

    Yields
    ------
    None
        While `sys.stdout` and `sys.stderr` are streams of this module.

    Raises
    ------
    OutputError
        From what writes to standard output in the block, if it cannot be written.
    """
    codecs.register_error(_ERRORS, _plain)
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:  # closed: the next file or connection would get its number
            os.open(os.devnull, os.O_RDWR)
    before = sys.stdout, sys.stderr
    with Path(os.devnull).open("w", encoding="utf-8") as nothing:
        streams = _Output(sys.stdout or nothing), _Messages(sys.stderr or nothing)
        sys.stdout, sys.stderr = (cast("TextIO", stream) for stream in streams)
        try:
            yield
        finally:
            for stream in streams:
                stream.finish()
            sys.stdout, sys.stderr = before


@contextmanager
def report_only() -> Iterator[None]:
    """Write about work that is committed: an output that cannot be written is only a warning on stderr.

    Yields
    ------
    None
        To the block that writes.
    """
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        discard(sys.stdout)
    except OutputError as error:
        discard(sys.stdout)
        warn(f"{error.message} What was committed is kept.")
    except SystemExit as error:
        # rich ends a program whose output nobody reads.
        if not isinstance(error.__context__, BrokenPipeError):
            raise
        discard(sys.stdout)


def discard(stream: TextIO) -> None:
    """Discard what is buffered, and all that follows.

    Parameters
    ----------
    stream : TextIO
        A standard stream; one that is closed, or no file, is left alone.
    """
    with suppress(OSError, ValueError), Path(os.devnull).open("w", encoding="utf-8") as nothing:
        os.dup2(nothing.fileno(), stream.fileno())


def _plain(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    if all("\udc80" <= character <= "\udcff" for character in text):
        # A file name that is not text in this encoding: write its bytes.
        return text.encode("ascii", "surrogateescape"), error.end
    return "".join(PLAIN.get(character) or _without_accents(character) for character in text), error.end


def _without_accents(character: str) -> str:
    return unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode() or "?"
