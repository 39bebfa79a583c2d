"""Read the stream of events that the engine sends while it builds an image. Pure."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from canvod.launch.images.build_events import BuildEvent

_STEP = re.compile(r"^Step (\d+)/(\d+) : (.*)$")
_LAYER = re.compile(r"^---> ([0-9a-f]{12})$")
_COLOUR = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")

KEPT_LINES = 25
"""Last lines of the output that an error shows."""


@dataclass
class BuildLog:
    """What has been read of one build's stream."""

    image: str
    step: int | None = None
    steps: int | None = None
    instruction: str = ""
    """The instruction of the current step."""
    last: deque[str] = field(default_factory=lambda: deque(maxlen=KEPT_LINES))
    """The last lines of output of the current step."""
    error: str | None = None
    """The engine's error, if it has sent one."""
    image_id: str | None = None
    """The finished image."""
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
        if isinstance(aux := event.get("aux"), Mapping) and "ID" in aux:
            self.image_id = str(aux["ID"])
        # Programs write words, not lines, and the engine passes on whatever it gets.
        text = self._partial + _COLOUR.sub("", str(event.get("stream", ""))).replace("\r", "\n")
        *lines, self._partial = text.split("\n")
        for line in lines:
            if stripped := line.strip():
                self._line(stripped)
                yield BuildEvent(self.image, stripped, self.step, self.steps)

    def _line(self, line: str) -> None:
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


def remedy(output: str, trusted: str | None = None, bundle: str | None = None) -> str | None:
    """Say what to do about a build that failed.

    Parameters
    ----------
    output : str
        The last lines of its output.
    trusted : str, optional
        File of the certificates that the build trusted.
    bundle : str, optional
        File of certificates to try instead.

    Returns
    -------
    str or None
        A hint; None where nothing is known of such a failure.

    Examples
    --------
    >>> remedy("No space left on device")
    "make room on the engine's disk (docker system df shows who takes it)"
    """
    text = output.lower()
    for patterns, hint in _REMEDIES:
        if any(pattern in text for pattern in patterns):
            known = f", which {trusted} has not" if trusted else ""
            return hint.format(trusted=known, bundle=bundle or "/path/of/authority.pem")
    return None


_REMEDIES: tuple[tuple[tuple[str, ...], str], ...] = (
    (
        ("certificate", "unknownissuer", "ssl:"),
        (
            "the network has a certificate authority of its own{trusted}: name a file that has it (PEM): "
            "--ca-bundle {bundle}, or launch.build.ca_bundle: {bundle}"
        ),
    ),
    (("no space left",), "make room on the engine's disk (docker system df shows who takes it)"),
    (
        ("do not match", "hash mismatch", "hashes"),
        "the index serves other files than the lock file names; use one that mirrors PyPI unchanged",
    ),
    (
        ("401", "403", "unauthorized", "forbidden"),
        "give the index its credentials: pip's settings, or ~/.netrc",
    ),
    (
        (
            "unable to locate package",
            "temporary failure resolving",
            "unable to fetch",
            "failed to fetch http",
        ),
        "containers reach no Debian mirror: name one with --debian-mirror URL or launch.build.debian_mirror",
    ),
    (
        (
            "dns error",
            "failed to resolve",
            "name resolution",
            "connect error",
            "could not connect",
            "connection",
            "no matching distribution",
        ),
        "containers reach no package index: name one with --index-url URL or launch.build.index_url",
    ),
)
