"""Make sure that the images are there and up to date."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock

from canvod.launch.engine import Client, translate
from canvod.launch.errors import EngineError, ImageError
from canvod.launch.images.base import base_name, make_base
from canvod.launch.images.context import BuildContext, read_context
from canvod.launch.images.events import BuildEvent, Progress, ignore
from canvod.launch.images.identity import ROLES, ImageIdentity, Role, out_of_date
from canvod.launch.images.lines import BuildLog, remedy
from canvod.launch.images.pull import has_image, inspect_image, pull
from canvod.launch.images.site import Site, read_site
from canvod.launch.plan.model import LABEL_PREFIX

if TYPE_CHECKING:
    from canvod.launch.config import Settings

LOCK_TIMEOUT_S = 3600.0
"""How long to wait for another launcher that builds."""

STAGE_LABEL = f"{LABEL_PREFIX}.stage=builder"
"""Label of the builder stage, whose images are the cache of later builds."""


@dataclass(frozen=True)
class BuiltImage:
    """An image that is there and up to date."""

    role: Role | None
    """What its containers do; None for a base image."""
    name: str
    """Name and tag."""
    id: str
    """Its ID on the engine."""
    python: str
    """Minor version of its Python."""
    size_bytes: int
    """Size with all layers; the images of both roles share theirs."""
    built: bool
    """Whether it was built now, rather than up to date."""
    seconds: float
    """How long that took, including whatever had to be waited for."""


def ensure_images(
    client: Client, settings: Settings, roles: Iterable[Role] = ROLES, *, progress: Progress = ignore
) -> dict[Role, str]:
    """Build what is missing or out of date, and tell the images' IDs.

    Parameters
    ----------
    client : docker.DockerClient
        The engine.
    settings : Settings
        Their section ``launch`` says which Python, which base image and what the network needs.
    roles : iterable of {"scheduler", "worker"}, optional
        The images that are needed; both by default.
    progress : callable, optional
        Called with what is happening.

    Returns
    -------
    dict of str to str
        ID of the image for each role.

    Raises
    ------
    ImageError
        If an image cannot be built; the message ends with the last lines of the build's output.
    EngineError
        If the engine fails.
    """
    images = build_images(client, settings, roles, progress=progress)
    return {image.role: image.id for image in images if image.role is not None}


def build_images(
    client: Client,
    settings: Settings,
    roles: Iterable[Role] = ROLES,
    *,
    force: bool = False,
    progress: Progress = ignore,
) -> tuple[BuiltImage, ...]:
    """Build what is missing or out of date, or everything.

    Parameters
    ----------
    client : docker.DockerClient
        The engine.
    settings : Settings
        Their section ``launch`` says which Python, which base image and what the network needs.
    roles : iterable of {"scheduler", "worker"}, optional
        The images that are needed; both by default.
    force : bool, default: False
        Build without the cache, even what is up to date.
    progress : callable, optional
        Called with what is happening.

    Returns
    -------
    tuple of BuiltImage
        The images, in the order of `roles`.

    Raises
    ------
    ImageError
        If an image cannot be built; the message ends with the last lines of the build's output.
    EngineError
        If the engine fails.
    """
    launch = settings.launch
    context = read_context()
    wanted = [context.identity(role, launch.python, launch.python_image) for role in roles]
    started = time.monotonic()
    found = [None if force else _up_to_date(client, identity, started) for identity in wanted]
    if all(found):
        return tuple(image for image in found if image is not None)
    site = read_site(launch.build)
    images: list[BuiltImage] = []
    with _one_builder(progress, wanted[0].name), _caches(client, site) as caches:
        base = _base(client, settings, site, progress)
        for number, identity in enumerate(wanted):
            started = time.monotonic()
            # Another launcher may have built it while this one waited.
            image = None if force else _up_to_date(client, identity, started)
            # Both images share their layers, so that only the first one is built anew.
            image = image or _build(
                client, context, identity, base, site, caches, progress, no_cache=force and number == 0
            )
            images.append(image)
    return tuple(images)


def build_base(
    client: Client, settings: Settings, *, force: bool = False, progress: Progress = ignore
) -> BuiltImage:
    """Make the base image from Debian's packages, whether or not a registry answers.

    Parameters
    ----------
    client : docker.DockerClient
        The engine.
    settings : Settings
        Their section ``launch`` says which Python and which Debian mirror.
    force : bool, default: False
        Make it even if it is there, to have Debian's newest packages.
    progress : callable, optional
        Called with what is happening.

    Returns
    -------
    BuiltImage
        The base image.

    Raises
    ------
    ImageError
        If it cannot be made; see `canvod.launch.images.base.make_base`.
    """
    python, name = settings.launch.python, base_name(settings.launch.python)
    started = time.monotonic()
    with _one_builder(progress, name):
        built = force or not has_image(client, name)
        if built:
            previous = inspect_image(client, name)
            make_base(
                client, python, mirror=read_site(settings.launch.build).debian_mirror, progress=progress
            )
            _remove_replaced(client, previous)
    image = inspect_image(client, name) or {}
    return _built(None, name, python, image, started, built=built)


def _up_to_date(client: Client, identity: ImageIdentity, started: float) -> BuiltImage | None:
    """Look for an image that is what would be built."""
    image = inspect_image(client, identity.name)
    if image is None or out_of_date((image.get("Config") or {}).get("Labels") or {}, identity):
        return None
    return _built(identity.role, identity.name, identity.python, image, started, built=False)


def _built(
    role: Role | None, name: str, python: str, image: dict[str, Any], started: float, *, built: bool
) -> BuiltImage:
    seconds = time.monotonic() - started
    return BuiltImage(role, name, str(image.get("Id", "")), python, int(image.get("Size", 0)), built, seconds)


def _base(client: Client, settings: Settings, site: Site, progress: Progress) -> str:
    """Find a base image: one that is there, else from the registry, else from Debian's packages.

    What is there comes first, so that a host without a registry does not wait for it with every build.
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
    try:
        with translate(f"run Python in {name}"):
            output = client.containers.run(
                name,
                ["-c", code],
                entrypoint="python3",
                remove=True,
                network_mode="none",
                labels=[LABEL_PREFIX],
            )
    except EngineError as exc:
        raise ImageError(
            f"The base image {name} has no Python that starts: {exc.message}",
            hint="name an image with python3 on its PATH in launch.python_image",
        ) from exc
    if (found := output.decode().strip()) != python:
        raise ImageError(
            f"The base image {name} has Python {found}, and launch.python is {python}.",
            hint=f'set launch.python: "{found}", or name an image of Python {python}',
        )


def _build(
    client: Client,
    context: BuildContext,
    identity: ImageIdentity,
    base: str,
    site: Site,
    caches: list[str],
    progress: Progress,
    *,
    no_cache: bool,
) -> BuiltImage:
    """Build one image, clear away what it replaces, and add its builder stage to `caches`."""
    started = time.monotonic()
    log = BuildLog(identity.name)
    with translate(f"build {identity.name}"):
        stream = client.api.build(
            fileobj=io.BytesIO(context.tar(site.files())),
            custom_context=True,
            dockerfile=f"Dockerfile.{identity.role}",
            tag=identity.name,
            buildargs=identity.build_args(base) | dict(site.proxies),
            rm=True,
            forcerm=True,
            nocache=no_cache,
            decode=True,
        )
        try:
            for event in stream:
                for news in log.feed(event):
                    progress(news)
        finally:
            # Ends the build on the engine as well, if this end is interrupted.
            stream.close()
            if log.builder_id is not None:
                caches.append(log.builder_id)
    if log.error is not None:
        raise _failure(log)
    image = inspect_image(client, identity.name) or {}
    _remove_nameless(client)
    if not site.has_credentials:
        _remove_builders(client, keep=log.builder_id, like=image)
    result = _built(identity.role, identity.name, identity.python, image, started, built=True)
    progress(BuildEvent(result.name, f"built: {result.size_bytes / 1e6:.0f} MB in {result.seconds:.0f} s"))
    return result


def _failure(log: BuildLog) -> ImageError:
    """Say which step of a build failed, and with which words."""
    lines = "\n  ".join(log.last)
    where = f"step {log.step} of {log.steps}, {log.instruction}" if log.step else "the start"
    return ImageError(
        f"Building {log.image} failed at {where}:\n  {lines}\n  {log.error}",
        hint=remedy(f"{lines}\n{log.error}"),
    )


def _remove_replaced(client: Client, previous: dict[str, Any] | None) -> None:
    """Remove a base image that has lost its name to a newer one; one that has another name stays."""
    if previous is None:
        return
    current = inspect_image(client, previous["Id"])
    if current is not None and not current.get("RepoTags"):
        _remove_image(client, previous["Id"])


def _remove_nameless(client: Client) -> None:
    """Remove images of both roles that have lost their names to newer ones; those in use stay until later."""
    with translate("list the images that were replaced"):
        images = client.api.images(filters={"dangling": True, "label": f"{LABEL_PREFIX}.stage=runtime"})
    for image in images:
        _remove_image(client, image["Id"])


def _remove_builders(client: Client, *, keep: str | None, like: dict[str, Any]) -> None:
    """Remove the builder stages of earlier builds.

    The newest one stays: with it, an edited source is built in seconds. So do those of other base images,
    which are known by another first layer.
    """
    first = ((like.get("RootFS") or {}).get("Layers") or [None])[0]
    with translate("list the builder's images"):
        images = client.api.images(filters={"dangling": True, "label": STAGE_LABEL})
    for image in images:
        detail = inspect_image(client, image["Id"])
        layers = ((detail or {}).get("RootFS") or {}).get("Layers") or [None]
        if layers[0] == first and not (keep and image["Id"].removeprefix("sha256:").startswith(keep)):
            _remove_image(client, image["Id"])


def _remove_image(client: Client, image_id: str) -> None:
    # Refused while a container, or another image, needs it.
    with suppress(EngineError), translate(f"remove the image {image_id}"):
        client.api.remove_image(image_id)


@contextmanager
def _caches(client: Client, site: Site) -> Iterator[list[str]]:
    """Collect the builder stages of some builds, and remove them in the end if they hold credentials.

    Without them the next build takes longer, and no password stays on the engine.
    """
    caches: list[str] = []
    try:
        yield caches
    finally:
        if site.has_credentials:
            for image_id in dict.fromkeys(caches):
                _remove_image(client, image_id)


@contextmanager
def _one_builder(progress: Progress, name: str) -> Iterator[None]:
    """Let one launcher of a user build at a time: a second one would do the same work once more."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "canvod-launch"
    lock = filelock.FileLock(folder / "build.lock")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            progress(BuildEvent(name, "waiting for another launcher that builds"))
            lock.acquire(timeout=LOCK_TIMEOUT_S)
    except filelock.Timeout as exc:
        raise ImageError(
            f"Another launcher has been building for {LOCK_TIMEOUT_S / 60:.0f} minutes ({lock.lock_file}).",
            hint="wait for it, or end it",
        ) from exc
    except OSError as exc:
        raise ImageError(
            f"No lock can be made in {folder}: {exc.strerror}.",
            hint="set XDG_CACHE_HOME to a folder that you may write",
        ) from exc
    try:
        yield
    finally:
        lock.release()
