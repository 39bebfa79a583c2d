"""What the making of an image tells while it happens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class BuildEvent:
    """One line of news from a build, a pull or a bootstrap."""

    image: str
    """Name of the image that is being made."""
    line: str
    """What is happening now."""
    step: int | None = None
    """Number of the step, from 1, or None where there are no steps."""
    steps: int | None = None
    """How many steps there are."""


type Progress = Callable[[BuildEvent], None]
"""Called with every event, in the thread that makes the image; it must return quickly."""


def ignore(event: BuildEvent) -> None:
    """Take no notice of an event: the progress of a caller that wants none."""
