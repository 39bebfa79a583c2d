"""Make sure that the engine has the images, and that they are up to date."""

from __future__ import annotations

import io
import os
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import filelock
from tenacity import Retrying, retry_if_exception, stop_after_attempt

from canvod.launch.docker.engine import NETWORK_ATTEMPTS, Client, inspect_image, lost_interface, translate
from canvod.launch.errors import ImageError
from canvod.launch.host.python_version import own_python
from canvod.launch.images.base_image import choose_base, nearest_pythons, needs_no_registry
from canvod.launch.images.build_log import (
    LOOK,
    REMEDIES,
    BuildEvent,
    BuildLog,
    Progress,
    find_remedy,
    ignore,
    installer_error,
)
from canvod.launch.images.build_network import BuildNetwork, read_build_network, system_bundle
from canvod.launch.images.cleanup import remove_builders, remove_image, remove_replaced, remove_superseded
from canvod.launch.images.context import ROLES, BuildContext, ImageIdentity, read_context
from canvod.launch.images.debian import base_name, make_base
from canvod.launch.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from canvod.launch.config import Settings
    from canvod.launch.plan.model import ClusterPlan, Role

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


def use_images(
    client: Client,
    plan: ClusterPlan,
    settings: Settings,
    *,
    own_tasks_only: bool = False,
    progress: Callable[[str], None],
    build_progress: Progress,
) -> ClusterPlan:
    """Build what a plan's images lack, and let its containers be made by the images' IDs.

    Parameters
    ----------
    client : docker.DockerClient
        The engine.
    plan : ClusterPlan
        What is to be started.
    settings : Settings
        Their section ``launch`` says what the images are.
    own_tasks_only : bool, default: False
        Whether images of another Python will do, where none of the plan's can be had.
    progress : callable
        Called with a line of text for what should be known.
    build_progress : callable
        Called with what happens while an image is being made.

    Returns
    -------
    ClusterPlan
        The plan with the IDs of the images, and their Python.

    Raises
    ------
    ImageError
        If an image cannot be had.
    EngineError
        If the engine fails.
    ConfigError
        If a file of ``launch.packages`` cannot be used.
    """
    images = build_images(
        client, settings, python=plan.python, any_python=own_tasks_only, progress=build_progress
    )
    python = images[0].python
    if python != plan.python:
        progress(
            f"workers of Python {python}: no base image of Python {plan.python} can be had, and the tasks of "
            "canvod-launch run on either"
        )
    ids = {image.role: image.id for image in images}
    scheduler = plan.scheduler.model_copy(update={"image": ids["scheduler"]})
    workers = tuple(worker.model_copy(update={"image": ids["worker"]}) for worker in plan.workers)
    return plan.model_copy(update={"python": python, "scheduler": scheduler, "workers": workers})


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
        If an image cannot be built: no base image can be had, a step fails (the message ends with the last
        lines of the build's output), or another launcher builds for too long.
    EngineError
        If the engine fails.
    ConfigError
        If a file of ``launch.packages`` cannot be used.
    """
    launch, roles = settings.launch, tuple(roles)
    context = read_context(packages=launch.packages)
    any_python = any_python and launch.python is None
    python = launch.python or python or own_python()

    def identities(of_python: str) -> list[ImageIdentity]:
        return [context.identity(role, of_python, launch.python_image) for role in roles]

    if not force:
        # Another Python only where that one cannot be had anyway: not each start is to ask the registry.
        others = any_python and not needs_no_registry(client, python)
        for candidate in (python, *(nearest_pythons(python) if others else ())):
            found = [image for identity in identities(candidate) if (image := _up_to_date(client, identity))]
            if len(found) == len(roles):
                return tuple(found)
    network = read_build_network(launch.build)
    images: list[BuiltImage] = []
    with (
        _one_builder(progress, identities(python)[0].name),
        ImageBuilder(client, context, network, progress) as builder,
    ):
        base = choose_base(
            client, launch, python, mirror=network.debian_mirror, any_python=any_python, progress=progress
        )
        for identity in identities(base.python):
            # Another launcher may have built it while this one waited.
            image = None if force else _up_to_date(client, identity)
            # Both images share their layers, so that only the first one is built anew.
            images.append(image or builder.build(identity, base.name, no_cache=force and not images))
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
        If it cannot be made (`canvod.launch.images.debian.make_base`), or another launcher builds for too
        long.
    EngineError
        If the engine fails.
    """
    python = settings.launch.python or own_python()
    name = base_name(python)
    started = time.monotonic()
    with _one_builder(progress, name):
        previous = inspect_image(client, name)
        if previous is not None and not force:
            return _describe(client, name, python)
        mirror = read_build_network(settings.launch.build).debian_mirror
        make_base(client, python, mirror=mirror, progress=progress)
        remove_replaced(client, previous)
    return _describe(client, name, python, started=started)


def _up_to_date(client: Client, identity: ImageIdentity) -> BuiltImage | None:
    """Look for an image that is what would be built."""
    image = inspect_image(client, identity.name)
    if image is None or not identity.is_in((image.get("Config") or {}).get("Labels") or {}):
        return None
    return _describe(client, identity.name, identity.python, identity.role)


def _describe(
    client: Client, name: str, python: str, role: Role | None = None, *, started: float | None = None
) -> BuiltImage:
    """Ask the engine for an image; `started` is when its build began, if it was built now."""
    image = inspect_image(client, name) or {}
    seconds = 0.0 if started is None else time.monotonic() - started
    size_bytes = int(image.get("Size", 0))
    return BuiltImage(role, name, str(image.get("Id", "")), python, size_bytes, started is not None, seconds)


class ImageBuilder:
    """Builds images of one context; at the end no credentials of the network are left on the engine.

    Parameters
    ----------
    client : docker.DockerClient
        The engine.
    context : BuildContext
        What the images are built from.
    network : BuildNetwork
        What a build needs of the network.
    progress : callable
        Called with what is happening.
    """

    def __init__(
        self, client: Client, context: BuildContext, network: BuildNetwork, progress: Progress = ignore
    ) -> None:
        self._client = client
        self._context = context
        self._network = network
        self._progress = progress
        self.caches: set[str] = set()
        """IDs of the builder stages that the builds have left on the engine."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # Without them the next build takes longer, and no password stays on the engine.
        for image in self.caches if self._network.has_credentials else ():
            remove_image(self._client, image)

    def build(self, identity: ImageIdentity, base: str, *, no_cache: bool = False) -> BuiltImage:
        """Build one image, and remove what it replaces.

        Parameters
        ----------
        identity : ImageIdentity
            What it will be.
        base : str
            Name of its base image.
        no_cache : bool, default: False
            Whether to build every step anew.

        Returns
        -------
        BuiltImage
            The image.

        Raises
        ------
        ImageError
            If a step fails.
        EngineError
            If the engine fails.
        """
        started = time.monotonic()
        again = BuildEvent(identity.name, "the engine did not find its network; building again")
        attempts = Retrying(
            retry=retry_if_exception(lambda error: lost_interface(str(error))),
            stop=stop_after_attempt(NETWORK_ATTEMPTS),
            before_sleep=lambda _: self._progress(again),
            reraise=True,
        )
        builder_id = attempts(self._run, identity, base, no_cache=no_cache)
        remove_superseded(self._client, identity)
        if builder_id is not None and not self._network.has_credentials:
            remove_builders(self._client, keep=builder_id, like=identity.name)
        result = _describe(self._client, identity.name, identity.python, identity.role, started=started)
        text = f"built: {format_bytes(result.size_bytes)} in {result.seconds:.0f} s"
        self._progress(BuildEvent(result.name, text))
        return result

    def _run(self, identity: ImageIdentity, base: str, *, no_cache: bool) -> str | None:
        """Let the engine build one image, follow its output, and give the ID of its builder stage."""
        log = BuildLog(identity.name)
        with translate(f"build {identity.name}"):
            stream = self._client.api.build(
                fileobj=io.BytesIO(self._context.tar(self._network.files())),
                custom_context=True,
                dockerfile=f"Dockerfile.{identity.role}",
                tag=identity.name,
                buildargs=identity.build_args(base) | dict(self._network.proxies),
                rm=True,
                forcerm=True,
                nocache=no_cache,
                decode=True,
            )
            try:
                for answer in stream:
                    for event in log.feed(answer):
                        self._progress(event)
            finally:
                # Ends the build on the engine as well, if this end is interrupted.
                stream.close()
                if log.builder_id is not None:
                    self.caches.add(log.builder_id)
        if log.error is not None:
            raise self._failure(log)
        return log.builder_id

    def _failure(self, log: BuildLog) -> ImageError:
        """Say which step of a build failed, and with which words."""
        lines = "\n  ".join(log.last)
        where = f"step {log.step} of {log.steps}, {log.instruction}" if log.step else "the start"
        text = f"Building {log.image} failed at {where}:\n  {lines}\n  {log.error}"
        hint = find_remedy(f"{lines}\n{log.error}", REMEDIES)
        if PACKAGES_STEP in log.instruction and not lost_interface(str(log.error)):
            reason = "\n  ".join(installer_error(log.last))
            text = f"launch.packages cannot be installed into {log.image}:\n  {reason}"
            hint = hint or (
                "correct launch.packages: what it names has to go with the versions of requirements.lock"
            )
        system, trusted = system_bundle(), self._network.ca_origin
        bundle = "/path/of/authority.pem" if system is None or str(system) == trusted else system
        known = f", which {trusted} has not" if trusted else ""
        return ImageError(text, hint=(hint or LOOK).format(bundle=bundle, trusted=known))


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
