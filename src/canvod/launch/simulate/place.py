"""Whether files can go where they are wanted, found out before the first one is written."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from canvod.launch.errors import InputError
from canvod.launch.units import format_bytes


def check_folder(folder: Path) -> None:
    """Refuse a folder that cannot be made or written to.

    Raises
    ------
    InputError
        If the folder, or the nearest one above it that exists, is a file or may not be written to.
    """
    nearest = _nearest(folder)
    if not nearest.is_dir():
        raise InputError(
            f"{nearest} is not a folder; nothing can go to {folder}", hint="choose another folder"
        )
    if not os.access(nearest, os.W_OK | os.X_OK, effective_ids=True):
        raise _forbidden(nearest)


def check_space(folder: Path, needed_bytes: int, *, empty_disk: bool = False) -> None:
    """Refuse more than the disk has free, or, for an ``empty_disk``, more than it holds at all.

    Raises
    ------
    InputError
        With the space that may be needed, and the space that there is.
    """
    disk = shutil.disk_usage(_nearest(folder))
    there, what = (disk.total, "in all") if empty_disk else (disk.free, "free")
    if needed_bytes > there:
        raise InputError(
            f"{folder} may need {format_bytes(needed_bytes)}; its disk has {format_bytes(there)} {what}",
            hint="ask for fewer hours or receivers, a longer interval, or choose another folder",
        )


def make_folder(folder: Path) -> None:
    """Make a folder and those above it.

    Raises
    ------
    InputError
        If the system refuses.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise InputError(f"{folder} cannot be made: {exc.strerror}", hint="choose another folder") from exc


def _nearest(folder: Path) -> Path:
    """Return the folder itself, or the nearest path above it that exists."""
    for path in (folder, *folder.parents):
        try:
            # A dangling link is in the way, too: lstat sees it, exists does not.
            path.lstat()
        except (FileNotFoundError, NotADirectoryError):
            continue
        except PermissionError as exc:
            raise _forbidden(path) from exc
        return path
    return Path(folder.anchor)


def _forbidden(path: Path) -> InputError:
    return InputError(
        f"{path} may not be written to by user {os.geteuid()}",
        hint="change its owner or permissions, or choose another folder",
    )
