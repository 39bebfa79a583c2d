"""The base image: which one the images of scheduler and worker start from, and how the engine gets it."""

from __future__ import annotations

import threading
from contextlib import closing
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from canvod.launch.docker.engine import Client, connect, inspect_image, translate
from canvod.launch.errors import EngineError, ImageError
from canvod.launch.host.labels import LABEL_PREFIX
from canvod.launch.host.python_version import own_python
from canvod.launch.images.build_log import BuildEvent, Progress, ignore
from canvod.launch.images.debian import SUITES, base_name, can_make_base, make_base

if TYPE_CHECKING:
    from canvod.launch.config import LaunchSettings

ANSWER_TIMEOUT_S = 10.0
"""How long the registry may take for its first answer; a network that drops packets would take minutes."""

STALL_TIMEOUT_S = 120.0
"""How long a pull may go without an event once it is under way."""


@dataclass(frozen=True)
class BaseImage:
    """A base image that the engine has."""

    name: str
    """Name and tag."""
    python: str
    """Minor version of its Python."""


def choose_base(
    client: Client,
    launch: LaunchSettings,
    python: str,
    *,
    mirror: str | None = None,
    any_python: bool = False,
    progress: Progress = ignore,
) -> BaseImage:
    """Find a base image: one that is there, else from the registry, else from Debian's packages.

    What is there comes first, so that a host without a registry does not wait for it with every build.

    Parameters
    ----------
    client : docker.DockerClient
        The engine.
    launch : LaunchSettings
        They may name the image.
    python : str
        Minor version of its Python.
    mirror : str, optional
        Debian mirror.
    any_python : bool, default: False
        Where no base image of that Python can be had, take the nearest one of which there is one.
    progress : callable, optional
        Called with what is happening.

    Returns
    -------
    BaseImage
        An image that the engine has.

    Raises
    ------
    ImageError
        If none can be had, or the one that the settings name has another Python.
    EngineError
        If the engine fails.
    """
    if launch.python_image is not None:
        return _named(client, launch.python_image, python, any_python=any_python, progress=progress)
    try:
        return _of_python(client, launch, python, mirror, progress)
    except ImageError as exc:
        refusal = exc
    others = nearest_pythons(python) if any_python else ()
    for other in others:
        if (name := _present_base(client, other)) is not None:
            return BaseImage(name, other)
    for other in others:
        try:
            return BaseImage(make_base(client, other, mirror=mirror, progress=progress), other)
        except ImageError as exc:
            # Of the nearest one, which says how it can be had after all.
            refusal = exc if other == others[0] and python not in SUITES else refusal
    raise refusal


def nearest_pythons(python: str) -> tuple[str, ...]:
    """List the Pythons of which base images are made here, other than one, the nearest first.

    Parameters
    ----------
    python : str
        Minor version, such as ``3.12``.

    Returns
    -------
    tuple of str
        Minor versions.

    Examples
    --------
    >>> nearest_pythons("3.12")
    ('3.13', '3.14')
    """
    minor = int(python.split(".")[1])
    return tuple(
        sorted(SUITES.keys() - {python}, key=lambda other: (abs(int(other.split(".")[1]) - minor), other))
    )


def needs_no_registry(client: Client, python: str) -> bool:
    """Tell whether the base image of a Python is there, or can be made here, without a registry.

    Parameters
    ----------
    client : docker.DockerClient
        The engine.
    python : str
        Minor version, such as ``3.14``.

    Returns
    -------
    bool
        True where one is there, or Debian's packages and the tools to unpack them can be had.

    Raises
    ------
    EngineError
        If the engine does not answer.
    """
    return _present_base(client, python) is not None or can_make_base(python)


def _of_python(
    client: Client, launch: LaunchSettings, python: str, mirror: str | None, progress: Progress
) -> BaseImage:
    if (name := _present_base(client, python)) is not None:
        return BaseImage(name, python)
    name = _official(python)
    try:
        pull(name, progress=progress)
    except ImageError as exc:
        if python not in SUITES:
            way = f"use Python {' or '.join(SUITES)} for this program too"
            if launch.python is not None and own_python() != python:
                way = (
                    f"leave launch.python out, so that images have the Python of this program, {own_python()}"
                )
            raise ImageError(
                f"No base image of Python {python} can be had: {exc.message} Debian's packages, from which "
                f"one could be made instead, have Python {' and '.join(SUITES)}.",
                hint=f"{way}; or load an image of Python {python} into the engine (docker load) and name it "
                "in launch.python_image; or set launch.backend: process, which programs, run and ingest can",
            ) from exc
        progress(BuildEvent(name, f"{exc.message} Making a base image from Debian's packages instead."))
        name = make_base(client, python, mirror=mirror, progress=progress)
    return BaseImage(name, python)


def _official(python: str) -> str:
    return f"python:{python}-slim"


def _present_base(client: Client, python: str) -> str | None:
    """Name a base image that the engine has: the official one, else our own."""
    names = [_official(python), *([base_name(python)] if python in SUITES else [])]
    return next((name for name in names if inspect_image(client, name) is not None), None)


def _named(client: Client, name: str, python: str, *, any_python: bool, progress: Progress) -> BaseImage:
    """Take the base image that the settings name."""
    if inspect_image(client, name) is None:
        try:
            pull(name, progress=progress)
        except ImageError as exc:
            exc.hint = (
                "correct launch.python_image, load the image (docker load), log in (docker login), "
                "or leave it out to have a base image made where no registry answers"
            )
            raise
    found = _python_of(client, name)
    if found != python and not any_python:
        # The image would have a label of another Python.
        raise ImageError(
            f"The base image {name} has Python {found}, and Python {python} is needed: that of whoever "
            "starts the cluster, or what launch.python says.",
            hint=f"name an image of Python {python} in launch.python_image, or use Python {found} for this "
            "program too",
        )
    return BaseImage(name, found)


def _python_of(client: Client, name: str) -> str:
    """Ask a base image for its Python."""
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    try:
        with translate(f"run Python in {name}"):
            container = client.containers.create(
                name, ["-c", code], entrypoint="python3", network_mode="none", labels=[LABEL_PREFIX]
            )
            try:
                container.start()
                status = container.wait()["StatusCode"]
                output = container.logs(stderr=status != 0).decode(errors="replace").strip()
            finally:
                # With the volumes that somebody's image may declare.
                container.remove(v=True, force=True)
    except EngineError as exc:
        status, output = None, exc.message
    if status != 0:
        raise ImageError(
            f"The base image {name} has no Python that starts: {output}",
            hint="name an image with python3 on its PATH in launch.python_image",
        )
    return str(output)


def pull(name: str, *, progress: Progress = ignore, answer_timeout_s: float = ANSWER_TIMEOUT_S) -> None:
    """Pull an image into the engine, and give up soon where no registry answers.

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
        If the registry does not answer in time, stops sending, or has no such image, or the engine fails.
    """
    events: SimpleQueue[dict[str, Any] | ImageError | None] = SimpleQueue()

    def receive() -> None:
        try:
            with closing(connect()) as client, translate(f"pull {name}"):
                for event in client.api.pull(name, stream=True, decode=True):
                    events.put(event)
        except EngineError as exc:
            events.put(ImageError(exc.message))
        else:
            events.put(None)

    # A thread of its own, because the engine sends nothing, not even headers, until the registry answers, and
    # the SDK pulls without a time limit. What is given up here ends when the engine gives up, too.
    threading.Thread(target=receive, name=f"pull {name}", daemon=True).start()
    progress(BuildEvent(name, "asking the registry"))
    timeout_s = answer_timeout_s
    try:
        while (event := events.get(timeout=timeout_s)) is not None:
            if isinstance(event, ImageError):
                raise event
            if "error" in event:
                raise ImageError(f"Could not pull {name}: {event['error']}")
            timeout_s = STALL_TIMEOUT_S
            words = (str(event.get(key, "")) for key in ("id", "status", "progress"))
            progress(BuildEvent(name, " ".join(words).strip()))
    except Empty:
        raise ImageError(f"Could not pull {name}: the registry sent nothing for {timeout_s:.0f} s.") from None
