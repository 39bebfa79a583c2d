"""What a build tells: its events, the engine's log of it, and what to do about one that failed."""

from __future__ import annotations

import re
import sys
import textwrap
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final


@dataclass(frozen=True)
class BuildEvent:
    """One line of the output of a build, a pull or a bootstrap."""

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
    """Take no notice of an event: the progress of a caller that wants none.

    Parameters
    ----------
    event : BuildEvent
        The event.
    """


PROGRESS_INTERVAL_S = 15.0
"""Seconds between two lines of one step, so that a log stays short and shows that the build goes on."""

LINE_WIDTH = 120
"""Characters of a line in a log; a step's instruction may be a long script."""


class StepLines:
    """Progress as lines of text: one for each step, and further ones where a step takes long.

    Parameters
    ----------
    write : callable, optional
        Takes a line; by default they go to stderr.

    Examples
    --------
    >>> progress = StepLines(print)
    >>> progress(BuildEvent("worker", "Step 1/2 : FROM base", 1, 2))
    worker: step 1 of 2: FROM base
    """

    def __init__(self, write: Callable[[str], object] | None = None) -> None:
        self._write = write or _write_to_stderr
        self._step: tuple[str, int | None] | None = None
        self._last = 0.0

    def __call__(self, event: BuildEvent) -> None:
        """Write a line, unless the step has had one a moment ago."""
        step = (event.image, event.step)
        now = time.monotonic()
        if step == self._step and now - self._last < PROGRESS_INTERVAL_S:
            return
        text = event.line
        if step != self._step and event.step is not None:
            text = f"step {event.step} of {event.steps}: {text.partition(' : ')[2] or text}"
        self._step, self._last = step, now
        self._write(f"{event.image}: {textwrap.shorten(text, LINE_WIDTH, placeholder=' …')}")


def _write_to_stderr(line: str) -> None:
    if sys.stderr is not None:
        sys.stderr.write(f"{line}\n")


KEPT_LINES = 25
"""Last lines of the output that an error shows."""

_STEP = re.compile(r"^Step (\d+)/(\d+) : (.*)$")
_LAYER = re.compile(r"^---> ([0-9a-f]{12})$")
_COLOUR = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


@dataclass
class BuildLog:
    """What has been read so far of the stream that the engine sends while it builds an image."""

    image: str
    """Name of the image."""
    step: int | None = None
    """Number of the current step, from 1; None before the first."""
    steps: int | None = None
    """How many steps there are, where that is known."""
    instruction: str = ""
    """The instruction of the current step."""
    last: deque[str] = field(default_factory=lambda: deque(maxlen=KEPT_LINES))
    """The last lines of output of the current step."""
    error: str | None = None
    """The engine's error, if it has sent one."""
    builder_id: str | None = None
    """Last image of the stage before the final one so far, the cache of the next build."""
    stages: int = 0
    """How many stages have begun."""
    _partial: str = ""

    def feed(self, event: Mapping[str, Any]) -> Iterator[BuildEvent]:
        """Take one event of the stream.

        Parameters
        ----------
        event : mapping
            The event, decoded.

        Yields
        ------
        BuildEvent
            Each line that the event completes.
        """
        if "error" in event:
            self.error = str(event["error"])
        # The engine sends output in the pieces in which a program writes it, which need not be lines.
        text = self._partial + _COLOUR.sub("", str(event.get("stream", ""))).replace("\r", "\n")
        *lines, self._partial = text.split("\n")
        for line in filter(None, map(str.strip, lines)):
            self._read(line)
            yield BuildEvent(self.image, line, self.step, self.steps)

    def _read(self, line: str) -> None:
        if match := _STEP.match(line):
            self.stages += match[3].startswith("FROM")
            self.step, self.steps, self.instruction = int(match[1]), int(match[2]), match[3]
            self.last.clear()
        elif match := _LAYER.match(line):
            if self.stages == 1:
                self.builder_id = match[1]
        else:
            self.last.append(line)


LOOK = "look at the lines above; canvod-launch build tries again, and takes up where the cache ends"
"""What to do where nothing better is known."""


def installer_error(lines: Iterable[str]) -> list[str]:
    """Find what an installer says of its failure among the last lines of its output.

    Parameters
    ----------
    lines : iterable of str
        The lines.

    Returns
    -------
    list of str
        From its error on; all of them where there is none.

    Examples
    --------
    >>> installer_error(["Resolving", "error: no such package"])
    ['error: no such package']
    """
    found = list(lines)
    marks = ("error:", "ERROR:", "\u00d7")
    first = next((number for number, line in enumerate(found) if line.startswith(marks)), 0)
    return found[first:]


def find_remedy(output: str, remedies: Mapping[str, str]) -> str | None:
    """Say what to do about a failure.

    Parameters
    ----------
    output : str
        The last lines of the output.
    remedies : mapping of str to str
        Hints by regular expression; the first one that matches counts.

    Returns
    -------
    str or None
        A hint; None where nothing is known of such a failure.

    Examples
    --------
    >>> find_remedy("No space left on device", REMEDIES)
    "make room on the engine's disk (docker system df shows who takes it)"
    """
    found = (hint for pattern, hint in remedies.items() if re.search(pattern, output, re.IGNORECASE))
    return next(found, None)


REMEDIES: Final = {
    "certificate|unknownissuer|ssl:": "the network has a certificate authority of its own{trusted}: name a "
    "file that has it (PEM): --ca-bundle {bundle}, or launch.build.ca_bundle: {bundle}",
    "no space left": "make room on the engine's disk (docker system df shows who takes it)",
    "do not match|hash mismatch|hashes": "the index serves other files than the lock file names; use one "
    "that mirrors PyPI unchanged",
    "401|403|unauthorized|forbidden": "give the index its credentials: pip's settings, or ~/.netrc",
    "unable to locate package|temporary failure resolving|unable to fetch|failed to fetch http": "containers "
    "reach no Debian mirror: name one with --debian-mirror URL or launch.build.debian_mirror",
    "dns error|failed to resolve|name resolution|connect|no matching distribution": "containers reach no "
    "package index: name one with --index-url URL or launch.build.index_url",
}
"""What to do about a failed build, by words of its output; who knows its certificates fills them in."""
