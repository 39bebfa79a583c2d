"""Labels on everything that canvod-launch makes on an engine, all with one prefix."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

LABEL_PREFIX: Final = "org.canvod.launch"
"""Prefix of every label on images, containers, networks and volumes of canvod-launch."""

CLUSTER_LABEL: Final = f"{LABEL_PREFIX}.cluster"
"""Name of the cluster that an object belongs to."""

ROLE_LABEL: Final = f"{LABEL_PREFIX}.role"
"""What a container is for: ``scheduler`` or ``worker``."""

OWNER_LABEL: Final = f"{LABEL_PREFIX}.owner"
"""The process that started the cluster, as `canvod.launch.host.owner.owner_mark` marks it."""

UID_LABEL: Final = f"{LABEL_PREFIX}.uid"
"""User ID of that process."""

DETACHED_LABEL: Final = f"{LABEL_PREFIX}.detached"
"""``true`` where the cluster outlives that process, else ``false``."""

COMPOSE_LABEL: Final = "com.docker.compose.project"
"""Compose's own: the project that a container belongs to."""

COMPOSE_NUMBER_LABEL: Final = "com.docker.compose.container-number"
"""Compose's own: the number of a replica."""


def uid_of(labels: Mapping[str, str]) -> int | None:
    """Read the user ID of an object's owner.

    Parameters
    ----------
    labels : mapping of str to str
        Labels of the object.

    Returns
    -------
    int or None
        None where there is none that can be read.
    """
    uid = labels.get(UID_LABEL, "")
    return int(uid) if uid.isascii() and uid.isdecimal() else None
