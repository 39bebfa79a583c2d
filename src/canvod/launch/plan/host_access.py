"""What containers may access of the host: whose user and groups they have, and which folders they see."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from canvod.launch.errors import PlanError
from canvod.launch.plan.model import KEYS_PATH, SPILL_PATH, TMP_PATH, Mount

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from canvod.launch.config import Settings
    from canvod.launch.host.inventory import EngineInventory, HostInventory

FALLBACK_USER: Final = "10001:10001"
"""User of the containers when root starts them without sudo."""

RESERVED_PATHS: Final = ("/dev", "/proc", "/sys")
"""Folders that a container has of its own, with everything below."""

SYSTEM_PATHS: Final = (
    *RESERVED_PATHS,
    SPILL_PATH,
    KEYS_PATH,
    *("/bin", "/boot", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/opt/venv", "/sbin", "/usr"),
    *("/run", "/var/run"),
)
"""Folders of a container's programs, and of sockets: the host's are shown only to who names them."""


def container_user(settings: Settings, inventory: HostInventory, environ: Mapping[str, str]) -> str:
    """Choose the user of the containers.

    Parameters
    ----------
    settings : Settings
        Validated settings; ``launch.user`` comes first.
    inventory : HostInventory
        Knows the caller.
    environ : mapping
        Environment of the caller: ``SUDO_UID`` and ``SUDO_GID`` tell who has called sudo.

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


def worker_spill_path(settings: Settings) -> str:
    """Tell where a worker's container spills: a folder of the host under its own name, or a volume.

    Parameters
    ----------
    settings : Settings
        Validated settings; ``launch.spill_dir`` decides.

    Returns
    -------
    str
        Absolute path inside the container.
    """
    folder = settings.launch.spill_dir
    return SPILL_PATH if folder is None else str(folder)


def can_be_seen(path: str, reserved: Iterable[str] = (*RESERVED_PATHS, SPILL_PATH)) -> bool:
    """Tell whether containers can see a path of the host under its own name, not one of their own instead.

    Parameters
    ----------
    path : str
        An absolute path.
    reserved : iterable of str
        Folders that containers have of their own, with everything below.

    Returns
    -------
    bool
        False for ``/`` and ``/tmp`` too.
    """
    own = any(f"{path}/".startswith(f"{folder}/") for folder in reserved)
    return not own and path not in ("/", TMP_PATH)


def is_system(path: str) -> bool:
    """Tell whether a path is a system folder, lies in one, or holds one.

    Parameters
    ----------
    path : str
        An absolute path.

    Returns
    -------
    bool
        True if it is; system folders are those of `SYSTEM_PATHS`.
    """
    return any(
        f"{path}/".startswith(f"{folder}/") or f"{folder}/".startswith(f"{path.rstrip('/')}/")
        for folder in SYSTEM_PATHS
    )


def worker_mounts(settings: Settings, mounts: Iterable[Mount]) -> tuple[Mount, ...]:
    """Gather what the workers see of the host, one mount for each path.

    Parameters
    ----------
    settings : Settings
        Validated settings: ``launch.read_only``, ``launch.writable`` and ``launch.spill_dir``.
    mounts : iterable of Mount
        Further ones, such as the inputs and the store of an ingest; writable wins where both name a path.

    Returns
    -------
    tuple of Mount
        In the order of paths.

    Raises
    ------
    PlanError
        If a mount would hide what a container has of its own.
    """
    launch = settings.launch
    merged: dict[str, Mount] = {}
    for mount in (
        *(Mount(path=str(path), read_only=True) for path in launch.read_only),
        *(Mount(path=str(path), read_only=False) for path in launch.writable),
        *mounts,
    ):
        other = merged.get(mount.path, mount)
        merged[mount.path] = Mount(
            path=mount.path,
            read_only=mount.read_only and other.read_only,
            optional=mount.optional and other.optional,
        )
    reserved: tuple[str, ...] = RESERVED_PATHS
    if settings.launch.spill_dir is None:
        reserved = (*RESERVED_PATHS, SPILL_PATH)
    else:
        spill = worker_spill_path(settings)
        merged[spill] = Mount(path=spill, read_only=False)
    for path in merged:
        if not can_be_seen(path, reserved):
            raise PlanError(
                f"Containers cannot see {path} of the host: they have one of their own.",
                hint="use a folder elsewhere, such as a subfolder of /data or of your home",
            )
    return tuple(mount for _, mount in sorted(merged.items()))
