"""What builds leave on the engine, and its removal."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from canvod.launch.docker.engine import Client, inspect_image, translate
from canvod.launch.errors import EngineError
from canvod.launch.host.labels import LABEL_PREFIX

if TYPE_CHECKING:
    from canvod.launch.images.context import ImageIdentity

STAGE_LABEL = f"{LABEL_PREFIX}.stage=builder"


def remove_replaced(client: Client, previous: dict[str, Any] | None) -> None:
    """Remove a base image that has lost its name to a newer one; one that has another name stays.

    Parameters
    ----------
    client : docker.DockerClient
        The engine.
    previous : dict or None
        What the engine said of the image before; None where there was none.

    Raises
    ------
    EngineError
        If the engine does not answer.
    """
    if previous is not None and not (inspect_image(client, previous["Id"]) or {}).get("RepoTags"):
        remove_image(client, previous["Id"])


def remove_superseded(client: Client, identity: ImageIdentity) -> None:
    """Remove the images that a newer one replaces, except those in use.

    These are images of both roles that have lost their names, and older ones of the same checkout, role,
    Python and packages. Those of another checkout stay.

    Parameters
    ----------
    client : docker.DockerClient
        The engine.
    identity : ImageIdentity
        The newer image.

    Raises
    ------
    EngineError
        If the images cannot be listed. One that cannot be removed stays.
    """
    runtime = f"{LABEL_PREFIX}.stage=runtime"
    for image in _images(client, dangling=True, label=runtime):
        remove_image(client, image["Id"])
    own = identity.labels()
    keys = [f"{LABEL_PREFIX}.{key}" for key in ("role", "checkout", "python", "packages")]
    for image in _images(client, label=[runtime, *(f"{key}={own[key]}" for key in keys)]):
        if not identity.is_in(image.get("Labels") or {}):
            for name in image.get("RepoTags") or [image["Id"]]:
                remove_image(client, name)


def remove_builders(client: Client, *, keep: str, like: str) -> None:
    """Remove the builder stages of earlier builds.

    The newest one stays: with it, an edited source is built in seconds. So do those of other base images,
    which are known by another first layer.

    Parameters
    ----------
    client : docker.DockerClient
        The engine.
    keep : str
        Beginning of the ID of the newest one.
    like : str
        Name of an image that has the same base image.

    Raises
    ------
    EngineError
        If the images cannot be listed. One that cannot be removed stays.
    """
    base = _first_layer(client, like)
    for image in _images(client, dangling=True, label=STAGE_LABEL):
        newest = image["Id"].removeprefix("sha256:").startswith(keep)
        if not newest and _first_layer(client, image["Id"]) == base:
            remove_image(client, image["Id"])


def remove_image(client: Client, name: str) -> None:
    """Remove an image; one that a container or another image needs, or that cannot be removed, stays.

    Parameters
    ----------
    client : docker.DockerClient
        The engine.
    name : str
        Name and tag, or ID.
    """
    with suppress(EngineError), translate(f"remove the image {name}"):
        client.api.remove_image(name)


def _images(client: Client, **filters: Any) -> list[dict[str, Any]]:
    with translate("list the images that were replaced"):
        found: list[dict[str, Any]] = client.api.images(filters=filters)
    return found


def _first_layer(client: Client, name: str) -> str | None:
    image = inspect_image(client, name) or {}
    return next(iter((image.get("RootFS") or {}).get("Layers") or ()), None)
