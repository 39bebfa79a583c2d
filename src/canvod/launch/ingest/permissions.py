"""Whether a store could be written and inputs read, asked before anything starts."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from canvod.launch.errors import InputError
from canvod.launch.ingest.store import store_exists
from canvod.launch.ingest.store_lock import lock_path
from canvod.launch.paths import absolute, exists, granted, is_folder

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def check_store_writable(path: str | os.PathLike[str]) -> None:
    """Refuse a store that this process could not write, or not lock.

    Nothing is changed.

    Parameters
    ----------
    path : path
        Folder of the store, which need not be there.

    Raises
    ------
    InputError
        If it, or the place of its lock, or the folder to make it in may not be written.
    """
    path = absolute(path)
    for place in (path, lock_path(path)):
        nearest = next(entry for entry in (place, *place.parents) if exists(entry))
        if not os.access(nearest, os.W_OK | (os.X_OK if is_folder(nearest) else 0)):
            raise InputError(
                f"{nearest}: uid {os.geteuid()} may not write it, which an ingest into {path} has to",
                hint="name a store in another folder, or have its owner let you write to this one",
            )


def check_store_access(path: str | os.PathLike[str], uid: int, gid: int, groups: Sequence[int] = ()) -> None:
    """Refuse a store that workers of this uid and gid could not write, before anything starts.

    Nothing is changed. A store that does not exist yet passes where this process can make it and hand it
    over.

    Parameters
    ----------
    path : path
        Folder of the store.
    uid, gid : int
        Who the workers are.
    groups : sequence of int, optional
        Their further groups.

    Raises
    ------
    InputError
        If the workers could not write the store.
    """
    path, all_groups = absolute(path), {gid, *groups}
    me = os.geteuid()
    there = store_exists(path)
    if me not in (0, uid) and not there:
        raise InputError(
            f"{path}: this process runs as uid {me}, the workers as {uid}:{gid}; "
            "a store that it makes could not be written by them",
            hint=f"set launch.user to {me}:{os.getegid()}, or leave it out",
        )
    if not there:
        return
    for folder in (path, *(entry for entry in sorted(path.iterdir()) if entry.is_dir())):
        found = folder.stat()
        # Workers add chunks only; the host writes all else.
        needed = 0o7 if folder in (path, path / "chunks") else 0o5
        if uid != 0 and granted(found, uid, all_groups) & needed != needed:
            raise InputError(
                f"{folder} belongs to {found.st_uid}:{found.st_gid} (mode {stat.S_IMODE(found.st_mode):o}), "
                f"and the workers run as {uid}:{gid}: they could not {'write' if needed & 2 else 'read'} it",
                hint=f"sudo chown -R {uid}:{gid} {path}, or set launch.user to {found.st_uid}:{found.st_gid}",
            )


def check_inputs_readable(
    files: Sequence[Path], folders: Sequence[Path], uid: int, gid: int, groups: Sequence[int] = ()
) -> None:
    """Refuse files that workers of this uid and gid could not read, before anything starts.

    Workers see only the folders that are mounted, so that folders above those do not matter.

    Parameters
    ----------
    files : sequence of Path
        The files, absolute.
    folders : sequence of Path
        The folders that the workers are shown.
    uid, gid : int
        Who the workers are.
    groups : sequence of int, optional
        Their further groups.

    Raises
    ------
    InputError
        If a file cannot be read; names the first, and how many more there are.
    """
    if uid == os.geteuid():
        return
    all_groups = {gid, *groups}
    closed: dict[Path, bool] = {}

    def is_closed(folder: Path) -> bool:
        if folder not in closed:
            above = folder not in folders and folder.parent != folder and is_closed(folder.parent)
            closed[folder] = above or not granted(folder.stat(), uid, all_groups) & 0o1
        return closed[folder]

    unreadable = [
        file for file in files if is_closed(file.parent) or not granted(file.stat(), uid, all_groups) & 0o4
    ]
    if unreadable:
        more = f" and {len(unreadable) - 1} more files" if len(unreadable) > 1 else ""
        owner = unreadable[0].stat()
        raise InputError(
            f"{unreadable[0]}{more} cannot be read by the workers, which run as {uid}:{gid}",
            hint=f"make the files and their folders readable for them (chmod -R o+rX {folders[0]}), "
            f"or set launch.user to a user who may read them (they belong to {owner.st_uid}:{owner.st_gid})",
        )
