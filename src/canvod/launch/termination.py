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
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import FrameType, TracebackType

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

AGAIN_S: Final = 0.01
"""When a signal is tried again that came at a moment that would have lost it."""


class ExitOnSignals:
    """SIGTERM and SIGHUP as `SystemExit`, with the shell's exit status for the signal, until `restore`.

    A handler that the program has set itself is left alone, and so is a signal that it ignores (``nohup``).
    Several of these may be in use at the same time, also as context managers: the last one restores what was
    before the first. Outside the main thread, where Python sets no handlers, nothing is done.
    """

    _users: ClassVar[int] = 0

    def __init__(self) -> None:
        self._in_use = _in_main_thread()
        if self._in_use:
            ExitOnSignals._users += 1
            _replace(signal.SIG_DFL, _raise_exit)

    def restore(self) -> None:
        """Let the signals do what they did before; calling it again does nothing."""
        if self._in_use:
            self._in_use = False
            ExitOnSignals._users -= 1
            if not ExitOnSignals._users and _in_main_thread():
                _replace(_raise_exit, signal.SIG_DFL)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.restore()


def exit_on_signals() -> ExitOnSignals:
    """Turn SIGTERM and SIGHUP into `SystemExit`.

    Returns
    -------
    ExitOnSignals
        Has a method ``restore``, which need not be called where the program ends anyway.
    """
    return ExitOnSignals()


@contextmanager
def shielded() -> Iterator[None]:
    """Hold back SIGINT, SIGTERM and SIGHUP until the block has ended; then the first that came takes effect.

    Outside the main thread, where signals never interrupt, nothing is done.
    """
    if not _in_main_thread():
        yield
        return
    shield = _Shield()
    try:
        shield.begin()
        yield
    finally:
        shield.end()


class _Shield:
    """A handler that holds signals back, and what was there before it."""

    active: ClassVar[list[_Shield]] = []

    def __init__(self) -> None:
        self.came: list[int] = []
        found = {number: signal.getsignal(number) for number in SIGNALS}
        # None is a handler that Python has not set, and could not restore.
        self.before: dict[int, Any] = {n: handler for n, handler in found.items() if handler is not None}

    def begin(self) -> None:
        self.active.append(self)
        _set_handlers(dict.fromkeys(self.before, self))

    def end(self) -> None:
        try:
            _set_handlers(self.before)
        finally:
            if self in self.active:
                self.active.remove(self)
        if self.came:
            signal.raise_signal(self.came[0])

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        self.came.append(number)


def _replace(old: Any, new: Any) -> None:
    """Replace a handler of SIGTERM and SIGHUP where it is set, or will be when a shielded block ends."""
    numbers = (signal.SIGTERM, signal.SIGHUP)
    for shield in _Shield.active:
        shield.before |= {number: new for number in numbers if shield.before.get(number) is old}
    _set_handlers({number: new for number in numbers if signal.getsignal(number) is old})


def _set_handlers(handlers: Mapping[int, Any]) -> None:
    """Set all of some handlers, whatever signals come meanwhile; these take effect afterwards.

    Signals are blocked in this thread. The kernel may give them to another one, and Python runs their
    handlers in this one all the same: if such a handler raises, setting begins again.
    """
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    raised: BaseException | None = None
    is_set = False
    try:
        while not is_set:
            try:
                signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
                for number, handler in handlers.items():
                    signal.signal(number, handler)
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)
                is_set = True
            except BaseException as error:  # noqa: BLE001 - it is raised below
                raised = error
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    if raised is not None:
        raise raised


def _raise_exit(number: int, frame: FrameType | None) -> None:
    if frame is not None and frame.f_code.co_name == "cb" and "importlib" in frame.f_code.co_filename:
        # A callback of a weak reference, of which imports have many: Python drops what is raised in one.
        threading.Timer(AGAIN_S, signal.raise_signal, (number,)).start()
        return
    sys.exit(128 + number)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
