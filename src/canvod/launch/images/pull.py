"""Pull an image, and give up soon where no registry answers."""

from __future__ import annotations

import queue
import threading
from typing import Any

from canvod.launch.docker.engine import Client, EngineNotFoundError, connect, translate
from canvod.launch.errors import EngineError, ImageError
from canvod.launch.images.build_events import BuildEvent, Progress, ignore

ANSWER_TIMEOUT_S = 10.0
"""How long the registry may take for its first answer; a network that drops packets would take minutes."""

STALL_TIMEOUT_S = 120.0
"""How long a pull may stand still once it is under way."""


def has_image(client: Client, name: str) -> bool:
    """Tell whether the engine has an image.

    Parameters
    ----------
    client : docker.DockerClient
        The engine.
    name : str
        Name and tag, or ID.

    Returns
    -------
    bool
        True where it has.
    """
    return inspect_image(client, name) is not None


def inspect_image(client: Client, name: str) -> dict[str, Any] | None:
    """Ask the engine what it knows of an image.

    Parameters
    ----------
    client : docker.DockerClient
        The engine.
    name : str
        Name and tag, or ID.

    Returns
    -------
    dict or None
        The engine's answer, or None where it has no such image.
    """
    try:
        with translate(f"look at the image {name}"):
            answer: dict[str, Any] = client.api.inspect_image(name)  # type: ignore[no-untyped-call]
    except EngineNotFoundError:
        return None
    return answer


def pull(name: str, *, progress: Progress = ignore, answer_timeout_s: float = ANSWER_TIMEOUT_S) -> None:
    """Pull an image into the engine.

    Parameters
    ----------
    name : str
        Name and tag of the image.
    progress : callable, optional
        Called with what is happening.
    answer_timeout_s : float, default: 10
        How long the registry may take for its first answer, in seconds.

    Raises
    ------
    ImageError
        If the registry does not answer in time, stands still, or has no such image.
    """
    events: queue.Queue[dict[str, Any] | EngineError | None] = queue.Queue()
    # A thread of its own, because the engine sends nothing, not even headers, until the registry answers, and
    # the SDK pulls without a time limit. What is given up here ends when the engine gives up, too.
    threading.Thread(target=_receive, args=(name, events), name=f"pull {name}", daemon=True).start()
    progress(BuildEvent(name, "asking the registry"))
    timeout_s = answer_timeout_s
    while True:
        try:
            event = events.get(timeout=timeout_s)
        except queue.Empty:
            raise ImageError(
                f"Could not pull {name}: the registry sent nothing for {timeout_s:.0f} s."
            ) from None
        if event is None:
            return
        if isinstance(event, EngineError):
            raise ImageError(event.message) from event
        if "error" in event:
            raise ImageError(f"Could not pull {name}: {event['error']}")
        timeout_s = STALL_TIMEOUT_S
        progress(
            BuildEvent(
                name, " ".join(str(event.get(key, "")) for key in ("id", "status", "progress")).strip()
            )
        )


def _receive(name: str, events: queue.Queue[dict[str, Any] | EngineError | None]) -> None:
    """Pass on the events of a pull, then None, or the error that ended it."""
    try:
        client = connect()
        try:
            with translate(f"pull {name}"):
                for event in client.api.pull(name, stream=True, decode=True):
                    events.put(event)
        finally:
            client.close()
    except EngineError as exc:
        events.put(exc)
    else:
        events.put(None)
