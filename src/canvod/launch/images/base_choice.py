"""Which image the images of scheduler and worker start from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from canvod.launch.engine import Client, translate
from canvod.launch.errors import EngineError, ImageError
from canvod.launch.images.base import base_name, make_base
from canvod.launch.images.events import BuildEvent, Progress, ignore
from canvod.launch.images.pull import has_image, pull
from canvod.launch.plan.model import LABEL_PREFIX

if TYPE_CHECKING:
    from canvod.launch.config import Settings
    from canvod.launch.images.site import Site


def choose_base(client: Client, settings: Settings, site: Site, progress: Progress = ignore) -> str:
    """Find a base image: one that is there, else from the registry, else from Debian's packages.

    What is there comes first, so that a host without a registry does not wait for it with every build.

    Parameters
    ----------
    client : docker.DockerClient
        The engine.
    settings : Settings
        Their section ``launch`` says which Python and which image.
    site : Site
        Knows the Debian mirror.
    progress : callable, optional
        Called with what is happening.

    Returns
    -------
    str
        Name of an image that the engine has.

    Raises
    ------
    ImageError
        If none can be had, or the one that the settings name has another Python.
    EngineError
        If the engine fails.
    """
    launch = settings.launch
    name = launch.python_image or f"python:{launch.python}-slim"
    if not has_image(client, name):
        fallback = None if launch.python_image else _fallback_name(launch.python)
        if fallback is not None and has_image(client, fallback):
            return fallback
        try:
            pull(name, progress=progress)
        except ImageError as exc:
            if launch.python_image:
                exc.hint = (
                    "correct launch.python_image, load the image (docker load), log in (docker login), "
                    "or leave it out to have a base image made where no registry answers"
                )
                raise
            progress(BuildEvent(name, f"{exc.message} Making a base image from Debian's packages instead."))
            return make_base(client, launch.python, mirror=site.debian_mirror, progress=progress)
    if launch.python_image:
        _require_python(client, name, launch.python)
    return name


def _fallback_name(python: str) -> str | None:
    """Name our own base image, or None where Debian has no such Python."""
    try:
        return base_name(python)
    except ImageError:
        return None


def _require_python(client: Client, name: str, python: str) -> None:
    """Refuse a base image of another Python than the one that is asked for: its label would lie."""
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
    if (found := output.decode().strip()) != python:
        raise ImageError(
            f"The base image {name} has Python {found}, and launch.python is {python}.",
            hint=f'set launch.python: "{found}", or name an image of Python {python}',
        )
