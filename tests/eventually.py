"""Waiting for what comes by itself."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def eventually[T](question: Callable[[], T], *, timeout_s: float = 60.0) -> T:
    """Ask until the answer is true, or the time is up; the last answer."""
    deadline = time.monotonic() + timeout_s
    while not (answer := question()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return answer
