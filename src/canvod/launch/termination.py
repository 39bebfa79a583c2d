"""Signals that end a program: they must unwind it, so that what it started is removed.

Python runs neither ``with`` exits nor ``atexit`` functions when SIGTERM or SIGHUP arrives: the default action
ends the process on the spot. Here both become `SystemExit`, as SIGINT becomes `KeyboardInterrupt`. And while
things are being removed, all three wait.
"""

from __future__ import annotations

import signal
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


AGAIN_S: Final = 0.01
"""When a signal is tried again that came at a moment that would have lost it."""


def _raise_exit(number: int, frame: FrameType | None) -> None:
    if frame is not None and frame.f_code.co_name == "cb" and "importlib" in frame.f_code.co_filename:
        # A callback of a weak reference, of which imports have many: Python drops what is raised in one.
        threading.Timer(AGAIN_S, signal.raise_signal, (number,)).start()
        return
    sys.exit(128 + number)


def exit_on_signals() -> None:
    """Turn SIGTERM and SIGHUP into `SystemExit`, with the shell's exit status for the signal.

    A handler that the program has set itself is left alone, and so is a signal that it ignores (``nohup``).
    Outside the main thread, where Python sets no handlers, nothing is done.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _raise_exit)


@contextmanager
def shielded() -> Iterator[None]:
    """Hold back SIGINT, SIGTERM and SIGHUP until the block has ended; then the first that came takes effect.

    Outside the main thread, where signals never interrupt, nothing is done.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before: dict[signal.Signals, Any] = {
        number: signal.signal(number, lambda number, _frame: came.append(number)) for number in SIGNALS
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        if came:
            signal.raise_signal(came[0])
