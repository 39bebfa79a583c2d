"""Which image the images of scheduler and worker start from, and which Python they have then."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from canvod.launch.docker.engine import Client, translate
from canvod.launch.errors import EngineError, ImageError
from canvod.launch.host.labels import LABEL_PREFIX
from canvod.launch.host.python_version import own_python
from canvod.launch.images.base import base_name, can_make_base, make_base
from canvod.launch.images.build_events import BuildEvent, Progress, ignore
from canvod.launch.images.debian import SUITES
from canvod.launch.images.pull import has_image, pull

if TYPE_CHECKING:
    from canvod.launch.config import LaunchSettings
    from canvod.launch.images.build_network import Site


@dataclass(frozen=True)
class Base:
    """A base image that the engine has."""

    name: str
    """Name and tag."""
    python: str
    """Minor version of its Python."""


def choose_base(
    client: Client,
    launch: LaunchSettings,
    python: str,
    site: Site,
    *,
    any_python: bool = False,
    progress: Progress = ignore,
) -> Base:
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
    site : Site
        Knows the Debian mirror.
    any_python : bool, default: False
        Where no base image of that Python can be had, take the nearest one of which there is one.
    progress : callable, optional
        Called with what is happening.

    Returns
    -------
    Base
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
        return _of_python(client, python, site, progress, is_named=launch.python is not None)
    except ImageError as exc:
        refusal = exc
    others = nearest_pythons(python) if any_python else ()
    for other in others:
        if (name := _at_hand(client, other)) is not None:
            return Base(name, other)
    for other in others:
        try:
            return Base(make_base(client, other, mirror=site.debian_mirror, progress=progress), other)
        except ImageError as exc:
            # Of the nearest one, which says how it can be had after all.
            refusal = exc if other == others[0] and python not in SUITES else refusal
    raise refusal


def nearest_pythons(python: str) -> tuple[str, ...]:
    """List the Pythons of which base images are made here, other than one, the nearest first.

    Examples
    --------
    >>> nearest_pythons("3.12")
    ('3.13', '3.14')
    """

    def distance(other: str) -> int:
        return abs(int(other.split(".")[1]) - int(python.split(".")[1]))

    return tuple(sorted(SUITES.keys() - {python}, key=lambda other: (distance(other), other)))


def base_is_near(client: Client, python: str) -> bool:
    """Tell whether a base image of a Python can be had without a registry."""
    return _at_hand(client, python) is not None or can_make_base(python)


def _of_python(client: Client, python: str, site: Site, progress: Progress, *, is_named: bool) -> Base:
    if (name := _at_hand(client, python)) is not None:
        return Base(name, python)
    name = _official(python)
    try:
        pull(name, progress=progress)
    except ImageError as exc:
        if python not in SUITES:
            having = " and ".join(SUITES)
            way = f"use Python {having.replace(' and ', ' or ')} for this program too"
            if is_named and own_python() != python:
                way = (
                    f"leave launch.python out, so that images have the Python of this program, {own_python()}"
                )
            raise ImageError(
                f"No base image of Python {python} can be had: {exc.message} Debian's packages, from which "
                f"one could be made instead, have Python {having}.",
                hint=f"{way}; or load an image of Python {python} into the engine (docker load) and name it "
                "in launch.python_image; or set launch.backend: process, which programs, run and ingest can",
            ) from exc
        progress(BuildEvent(name, f"{exc.message} Making a base image from Debian's packages instead."))
        return Base(make_base(client, python, mirror=site.debian_mirror, progress=progress), python)
    return Base(name, python)


def _official(python: str) -> str:
    return f"python:{python}-slim"


def _at_hand(client: Client, python: str) -> str | None:
    """Name a base image that the engine has: the official one, else our own."""
    names = [_official(python), *([base_name(python)] if python in SUITES else [])]
    return next((name for name in names if has_image(client, name)), None)


def _named(client: Client, name: str, python: str, *, any_python: bool, progress: Progress) -> Base:
    """Take the base image that the settings name."""
    if not has_image(client, name):
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
        # The label of an image would lie.
        raise ImageError(
            f"The base image {name} has Python {found}, and Python {python} is needed: that of whoever "
            "starts the cluster, or what launch.python says.",
            hint=f"name an image of Python {python} in launch.python_image, or use Python {found} for this "
            "program too",
        )
    return Base(name, found)


def _python_of(client: Client, name: str) -> str:
    """Ask a base image for its Python."""
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    unusable = f"The base image {name} has no Python that starts"
    hint = "name an image with python3 on its PATH in launch.python_image"
    try:
        with translate(f"run Python in {name}"):
            container = client.containers.create(
                name, ["-c", code], entrypoint="python3", network_mode="none", labels=[LABEL_PREFIX]
            )
            try:
                container.start()
                status = container.wait()["StatusCode"]
                output = container.logs(stderr=status != 0)
            finally:
                # With the volumes that somebody's image may declare.
                container.remove(v=True, force=True)
    except EngineError as exc:
        raise ImageError(f"{unusable}: {exc.message}", hint=hint) from exc
    if status != 0:
        raise ImageError(f"{unusable}: {output.decode(errors='replace').strip()}", hint=hint)
    return str(output.decode().strip())
