"""What builds leave on the engine, and its removal."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from canvod.launch.docker.engine import Client, translate
from canvod.launch.errors import EngineError
from canvod.launch.host.labels import LABEL_PREFIX
from canvod.launch.images.pull import inspect_image

if TYPE_CHECKING:
    from collections.abc import Iterator

    from canvod.launch.images.build_network import Site
    from canvod.launch.images.identity import ImageIdentity

STAGE_LABEL = f"{LABEL_PREFIX}.stage=builder"


def remove_replaced(client: Client, previous: dict[str, Any] | None) -> None:
    """Remove a base image that has lost its name to a newer one; one that has another name stays."""
    if previous is None:
        return
    current = inspect_image(client, previous["Id"])
    if current is not None and not current.get("RepoTags"):
        _remove_image(client, previous["Id"])


def remove_nameless(client: Client) -> None:
    """Remove images of both roles that have lost their names to newer ones; those in use stay until later."""
    with translate("list the images that were replaced"):
        images = client.api.images(filters={"dangling": True, "label": f"{LABEL_PREFIX}.stage=runtime"})
    for image in images:
        _remove_image(client, image["Id"])


def remove_superseded(client: Client, identity: ImageIdentity) -> None:
    """Remove the images that a newer one replaces: of the same checkout, role, Python and packages.

    Those of another checkout, and those in use, stay.
    """
    keys = ("role", "checkout", "python", "packages")
    own = identity.labels()
    same = [f"{LABEL_PREFIX}.{key}={own[f'{LABEL_PREFIX}.{key}']}" for key in keys]
    with translate("list the images that were replaced"):
        images = client.api.images(filters={"label": [f"{LABEL_PREFIX}.stage=runtime", *same]})
    for image in images:
        if not identity.is_in(image.get("Labels") or {}):
            for name in image.get("RepoTags") or [image["Id"]]:
                _remove_image(client, name)


def remove_builders(client: Client, *, keep: str, like: dict[str, Any]) -> None:
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
        if layers[0] == first and not image["Id"].removeprefix("sha256:").startswith(keep):
            _remove_image(client, image["Id"])


def _remove_image(client: Client, image_id: str) -> None:
    # Refused while a container, or another image, needs it.
    with suppress(EngineError), translate(f"remove the image {image_id}"):
        client.api.remove_image(image_id)


@contextmanager
def kept_until_built(client: Client, site: Site) -> Iterator[list[str]]:
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
