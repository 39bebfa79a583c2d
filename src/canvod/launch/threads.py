"""Plain threads for what blocks: unlike executors, they also work while the interpreter is going down."""

from __future__ import annotations

import asyncio
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from concurrent.futures import Future


def in_threads[T](function: Callable[[T], object], arguments: Iterable[T]) -> None:
    """Call a function for each argument, all at once, and wait for the end of all.

    Parameters
    ----------
    function : callable
        Must not raise.
    arguments : iterable
        Its arguments.
    """
    for thread in [_start(partial(function, argument)) for argument in arguments]:
        if thread is not None:
            thread.join()


def settle_in_thread[T](future: Future[T], work: Callable[[], T]) -> None:
    """Do some work in a thread of its own, whose result or error the future holds then.

    Parameters
    ----------
    future : concurrent.futures.Future
        Is pending.
    work : callable
        The work.
    """

    def settle() -> None:
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001 - whatever it is belongs to the one who waits
            future.set_exception(error)
        else:
            future.set_result(result)

    _start(settle)


async def in_thread[T](work: Callable[[], T]) -> T:
    """Do some work in a thread of its own, and await its result.

    Parameters
    ----------
    work : callable
        The work.

    Returns
    -------
    object
        What it returned; what it raised is raised.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def set_unless_done(setter: Callable[[Any], None], value: object) -> None:
        if not future.done():
            setter(value)

    def run() -> None:
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001 - handed to the one who awaits
            loop.call_soon_threadsafe(set_unless_done, future.set_exception, error)
        else:
            loop.call_soon_threadsafe(set_unless_done, future.set_result, result)

    _start(run)
    return await future


def _start(work: Callable[[], object]) -> threading.Thread | None:
    """Start a thread; Python 3.12 starts none while it exits: the work is done at once then."""
    thread = threading.Thread(target=work, daemon=True)
    try:
        thread.start()
    except RuntimeError:
        work()
        return None
    return thread
