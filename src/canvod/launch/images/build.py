"""Make sure that the images are there and up to date."""

from __future__ import annotations

import io
import os
import time
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock

from canvod.launch.docker.engine import NETWORK_ATTEMPTS, Client, lost_interface, translate
from canvod.launch.errors import ImageError
from canvod.launch.host.python_version import own_python
from canvod.launch.images.base import base_name, make_base
from canvod.launch.images.base_choice import base_is_near, choose_base, nearest_pythons
from canvod.launch.images.build_events import BuildEvent, Progress, ignore
from canvod.launch.images.build_log import LOOK, BuildLog, installer_error, remedy
from canvod.launch.images.build_network import Site, read_site, system_bundle
from canvod.launch.images.cleanup import (
    kept_until_built,
    remove_builders,
    remove_nameless,
    remove_replaced,
    remove_superseded,
)
from canvod.launch.images.context import BuildContext, read_context
from canvod.launch.images.identity import ROLES, ImageIdentity
from canvod.launch.images.pull import has_image, inspect_image
from canvod.launch.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from canvod.launch.config import Settings
    from canvod.launch.plan.model import Role

PACKAGES_STEP = "install-packages.sh"
"""Script of the step that installs `launch.packages`."""

LOCK_TIMEOUT_S = 3600.0
"""How long to wait for another launcher that builds."""


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


def build_images(
    client: Client,
    settings: Settings,
    roles: Iterable[Role] = ROLES,
    *,
    python: str | None = None,
    any_python: bool = False,
    force: bool = False,
    progress: Progress = ignore,
) -> tuple[BuiltImage, ...]:
    """Build what is missing or out of date, or everything.

    Parameters
    ----------
    client : docker.DockerClient
        The engine.
    settings : Settings
        Their section ``launch`` says which base image and packages, and what the network needs.
    roles : iterable of {"scheduler", "worker"}, optional
        The images that are needed; both by default.
    python : str, optional
        Minor version of Python of who will use them, where ``launch.python`` names none; by default the one
        that is running.
    any_python : bool, default: False
        Where no base image of that Python can be had, and ``launch.python`` names none, take the nearest.
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
    launch, roles = settings.launch, tuple(roles)
    context = read_context(packages=launch.packages)
    any_python = any_python and launch.python is None
    python = launch.python or python or own_python()

    def identities(of_python: str) -> list[ImageIdentity]:
        return [context.identity(role, of_python, launch.python_image) for role in roles]

    started = time.monotonic()
    if not force:
        # Another Python only where that one cannot be had anyway: not each start is to ask the registry.
        others = any_python and not base_is_near(client, python)
        for candidate in (python, *(nearest_pythons(python) if others else ())):
            found = [_up_to_date(client, identity, started) for identity in identities(candidate)]
            if all(found):
                return tuple(image for image in found if image is not None)
    site = read_site(launch.build)
    images: list[BuiltImage] = []
    with _one_builder(progress, identities(python)[0].name), kept_until_built(client, site) as caches:
        base = choose_base(client, launch, python, site, any_python=any_python, progress=progress)
        for number, identity in enumerate(identities(base.python)):
            started = time.monotonic()
            # Another launcher may have built it while this one waited.
            image = None if force else _up_to_date(client, identity, started)
            # Both images share their layers, so that only the first one is built anew.
            image = image or _build(
                client,
                context,
                identity,
                base.name,
                site,
                caches,
                progress,
                no_cache=force and number == 0,
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
    python = settings.launch.python or own_python()
    name = base_name(python)
    started = time.monotonic()
    with _one_builder(progress, name):
        built = force or not has_image(client, name)
        if built:
            previous = inspect_image(client, name)
            make_base(
                client, python, mirror=read_site(settings.launch.build).debian_mirror, progress=progress
            )
            remove_replaced(client, previous)
    image = inspect_image(client, name) or {}
    return _built(None, name, python, image, started, built=built)


def _up_to_date(client: Client, identity: ImageIdentity, started: float) -> BuiltImage | None:
    """Look for an image that is what would be built."""
    image = inspect_image(client, identity.name)
    if image is None or not identity.is_in((image.get("Config") or {}).get("Labels") or {}):
        return None
    return _built(identity.role, identity.name, identity.python, image, started, built=False)


def _built(
    role: Role | None, name: str, python: str, image: dict[str, Any], started: float, *, built: bool
) -> BuiltImage:
    seconds = time.monotonic() - started
    return BuiltImage(role, name, str(image.get("Id", "")), python, int(image.get("Size", 0)), built, seconds)


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
    build = partial(_run_build, client, context, identity, base, site, caches, progress)
    log = build(no_cache=no_cache)
    for _ in range(NETWORK_ATTEMPTS - 1):
        if log.error is None or not lost_interface(log.error):
            break
        progress(BuildEvent(identity.name, "the engine lost sight of its network; once more"))
        log = build(no_cache=False)
    if log.error is not None:
        raise _failure(log, site)
    image = inspect_image(client, identity.name) or {}
    remove_nameless(client)
    remove_superseded(client, identity)
    if log.builder_id is not None and not site.has_credentials:
        remove_builders(client, keep=log.builder_id, like=image)
    result = _built(identity.role, identity.name, identity.python, image, started, built=True)
    progress(BuildEvent(result.name, f"built: {format_bytes(result.size_bytes)} in {result.seconds:.0f} s"))
    return result


def _run_build(
    client: Client,
    context: BuildContext,
    identity: ImageIdentity,
    base: str,
    site: Site,
    caches: list[str],
    progress: Progress,
    *,
    no_cache: bool,
) -> BuildLog:
    """Let the engine build one image, and follow what it says."""
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
    return log


def _failure(log: BuildLog, site: Site) -> ImageError:
    """Say which step of a build failed, and with which words."""
    lines = "\n  ".join(log.last)
    where = f"step {log.step} of {log.steps}, {log.instruction}" if log.step else "the start"
    text = f"Building {log.image} failed at {where}:\n  {lines}\n  {log.error}"
    system = str(system_bundle() or "")
    hint = remedy(f"{lines}\n{log.error}", site.ca_origin, system if system != site.ca_origin else None)
    if PACKAGES_STEP in log.instruction:
        reason = "\n  ".join(installer_error(log.last))
        text = f"launch.packages cannot be installed into {log.image}:\n  {reason}"
        hint = (
            hint or "correct launch.packages: what it names has to go with the versions of requirements.lock"
        )
    return ImageError(text, hint=hint or LOOK)


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
