"""Who containers run as, and what of the host they see."""

from __future__ import annotations

from typing import TYPE_CHECKING

from canvod.launch.errors import PlanError
from canvod.launch.plan.command import KEYS_PATH
from canvod.launch.plan.model import Mount

if TYPE_CHECKING:
    from collections.abc import Iterable

    from canvod.launch.config import Settings


SPILL_PATH = "/spill"
"""Where a worker's container has its spill volume."""

TMP_PATH = "/tmp"  # noqa: S108 - the container's own, a tmpfs
"""Where a container has its tmpfs; folders of the host below it can be mounted, it cannot itself."""

RESERVED_PATHS = ("/dev", "/proc", "/sys")
"""Folders that a container has of its own, with everything below."""


SYSTEM_PATHS = (
    *RESERVED_PATHS,
    SPILL_PATH,
    KEYS_PATH,
    *("/bin", "/boot", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/opt/venv", "/sbin", "/usr"),
    *("/run", "/var/run"),
)
"""Folders of a container's programs, and of sockets: the host's are shown only to who names them."""


def worker_spill_path(settings: Settings) -> str:
    """Tell where a worker's container spills: a folder of the host under its own name, or a volume."""
    folder = settings.launch.spill_dir
    return SPILL_PATH if folder is None else str(folder)


def can_be_seen(path: str, reserved: Iterable[str] = (*RESERVED_PATHS, SPILL_PATH)) -> bool:
    """Whether containers can see a path of the host under its own name, and not one of their own instead.

    Parameters
    ----------
    path : str
        An absolute path.
    reserved : iterable of str
        Folders that containers have of their own, with everything below.
    """
    own = any(f"{path}/".startswith(f"{folder}/") for folder in reserved)
    return not own and path not in ("/", TMP_PATH)


def is_system(path: str) -> bool:
    """Whether a path is a system folder, lies in one, or holds one.

    Parameters
    ----------
    path : str
        An absolute path.
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
