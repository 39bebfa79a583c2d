"""Signals that end a program: they must unwind it, so that what it started is removed.

Python runs neither ``with`` exits nor ``atexit`` functions when SIGTERM or SIGHUP arrives: the default action
ends the process on the spot. Here both become `SystemExit`, as SIGINT becomes `KeyboardInterrupt`. And while
things are being removed, all three wait.
"""

from __future__ import annotations

import signal
import sys
import threading
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import FrameType

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

AGAIN_S: Final = 0.01
"""When a signal is tried again that came at a moment that would have lost it."""


_exits: Final[list[ExitStack]] = []
"""Who wants SIGTERM and SIGHUP to be `SystemExit` now."""

_held_back: Final[list[dict[int, Any]]] = []
"""For each block that holds signals back, the handlers that it sets again at its end."""


def exit_on_signals() -> ExitStack:
    """Turn SIGTERM and SIGHUP into `SystemExit`, with the shell's exit status for the signal.

    A handler that the program has set itself is left alone, and so is a signal that it ignores (``nohup``).
    This may be called several times: the last one that is closed restores what was before the first. Outside
    the main thread, where Python sets no handlers, nothing is done.

    Returns
    -------
    contextlib.ExitStack
        Lets the signals do what they did before when it is closed, once or again, or left as a context
        manager. That is not needed where the program ends anyway.
    """
    exits = ExitStack()
    if _in_main_thread():
        _exits.append(exits)
        exits.callback(_end_exit, exits)
        _replace(signal.SIG_DFL, _raise_exit)
    return exits


def _end_exit(exits: ExitStack) -> None:
    _exits.remove(exits)
    if not _exits and _in_main_thread():
        _replace(_raise_exit, signal.SIG_DFL)


@contextmanager
def shielded() -> Iterator[None]:
    """Hold back SIGINT, SIGTERM and SIGHUP until the block has ended; then the first that came takes effect.

    Outside the main thread, where signals never interrupt, nothing is done.

    Yields
    ------
    None
        Once the signals are held back.
    """
    if not _in_main_thread():
        yield
        return
    came: list[int] = []
    found = {number: signal.getsignal(number) for number in SIGNALS}
    # None is a handler that Python has not set, and could not restore.
    before: dict[int, Any] = {number: handler for number, handler in found.items() if handler is not None}
    try:
        _held_back.append(before)
        _set_handlers(dict.fromkeys(before, lambda number, _frame: came.append(number)))
        yield
    finally:
        _held_back[:] = [each for each in _held_back if each is not before]
        _set_handlers(before)
        if came:
            signal.raise_signal(came[0])


def _replace(old: Any, new: Any) -> None:
    """Replace a handler of SIGTERM and SIGHUP where it is set, or will be when a shielded block ends."""
    numbers = (signal.SIGTERM, signal.SIGHUP)
    for handlers in _held_back:
        handlers |= {number: new for number in numbers if handlers.get(number) is old}
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
    if _would_be_dropped(frame):
        # To this thread, which may be waiting by then.
        threading.Timer(AGAIN_S, signal.pthread_kill, (threading.get_ident(), number)).start()
        return
    sys.exit(128 + number)


def _would_be_dropped(frame: FrameType | None) -> bool:
    """Whether Python drops what is raised: in ``__del__``, or a weak reference's callback in an import."""
    while frame is not None:
        code = frame.f_code
        if code.co_name == "__del__" or (code.co_name == "cb" and "importlib" in code.co_filename):
            return True
        frame = frame.f_back
    return False


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
