"""Who containers run as: the caller, never root."""

from __future__ import annotations

from typing import TYPE_CHECKING

from canvod.launch.errors import PlanError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from canvod.launch.config import Settings
    from canvod.launch.host.inventory import EngineInventory, HostInventory

FALLBACK_USER = "10001:10001"
"""User of the containers when root starts them and nobody stands behind root."""


def container_user(settings: Settings, inventory: HostInventory, environ: Mapping[str, str]) -> str:
    """Choose the user of the containers.

    Parameters
    ----------
    settings : Settings
        Validated settings; ``launch.user`` comes first.
    inventory : HostInventory
        Knows the caller.
    environ : mapping
        Environment of the caller: behind root may stand ``SUDO_UID`` and ``SUDO_GID``.

    Returns
    -------
    str
        ``uid:gid``, so that files belong to the caller; never root.

    Raises
    ------
    PlanError
        If the settings ask for root.
    """
    user = settings.launch.user
    if user is None:
        user = f"{inventory.uid}:{inventory.gid}"
        if inventory.uid == 0:
            uid, gid = environ.get("SUDO_UID", ""), environ.get("SUDO_GID", "")
            plain = uid.isdecimal() and gid.isdecimal() and int(uid) != 0
            user = f"{int(uid)}:{int(gid)}" if plain else FALLBACK_USER
    if int(user.partition(":")[0]) == 0:
        raise PlanError(
            f"{settings.cite('launch.user')} is root; containers never run as root.",
            hint='write another user as "1000:1000" (id -u, id -g), or leave launch.user out',
        )
    return user


def container_groups(user: str, inventory: HostInventory, engine: EngineInventory | None) -> tuple[int, ...]:
    """Choose the further groups of the containers: the caller's own, where the containers run as the caller.

    Data of a lab often belong to a group. Not among them are root's, and the one whose members may use the
    engine.

    Parameters
    ----------
    user : str
        ``uid:gid`` of the containers.
    inventory : HostInventory
        Knows the caller.
    engine : EngineInventory or None
        The engine, if there is one.

    Returns
    -------
    tuple of int
        Group IDs, sorted.
    """
    uid, _, gid = user.partition(":")
    if int(uid) != inventory.uid:
        return ()
    socket_gid = None if engine is None else engine.socket_gid
    return tuple(sorted({inventory.gid, *inventory.groups} - {0, int(gid), socket_gid}))
