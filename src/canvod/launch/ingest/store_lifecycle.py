"""Stores as whole folders: made where there is none, cleaned up, removed where nothing came of it."""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from fcntl import LOCK_EX, LOCK_NB, LOCK_SH, flock
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from canvod.launch.errors import LaunchError
from canvod.launch.ingest.store import create_store, open_repository, store_exists
from canvod.launch.ingest.store_lock import store_lock
from canvod.launch.paths import absolute

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime, timedelta
    from pathlib import Path

    from canvod.launch.ingest.store import Garbage, Store
    from canvod.launch.ingest.store_lock import Owner


@contextmanager
def store_in_use(
    path: str | os.PathLike[str], *, owner: Owner | None = None, remove_empty: bool = False
) -> Iterator[None]:
    """Make a store where there is none, and let no other ingest remove it meanwhile.

    Parameters
    ----------
    path : path
        Folder of the store.
    owner : tuple of int, optional
        uid and gid of whatever is made.
    remove_empty : bool
        Remove it at the end, where nobody has committed to it, or uses it.

    Yields
    ------
    None
        While the store is used.

    Raises
    ------
    InputError
        If other things are in its place, or it or its lock cannot be made.
    StoreError
        If Icechunk cannot make it.
    """
    folder = _made(absolute(path), owner)
    try:
        yield
    finally:
        os.close(folder)
        if remove_empty:
            remove_empty_store(path)


def _made(path: Path, owner: Owner | None) -> int:
    """Make a store where there is none, and open its folder under a shared lock."""
    while True:
        if not store_exists(path):
            with store_lock(path, owner=owner):
                create_store(path, owner=owner)
        with suppress(FileNotFoundError):  # another ingest may remove it at any time before it is locked
            folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
            with suppress(OSError):  # not every file system can
                flock(folder, LOCK_SH)
            if path.exists() and os.path.samestat(os.fstat(folder), path.stat()):
                return folder
            os.close(folder)


def remove_empty_store(path: str | os.PathLike[str]) -> None:
    """Remove a store that was made and never committed to, unless another program uses it.

    Parameters
    ----------
    path : path
        Folder of the store, which need not be there.

    Raises
    ------
    InputError
        If other things are in its place, or its lock cannot be written.
    """
    path = absolute(path)
    with suppress(LaunchError, OSError):  # why there is none, or who uses it, is told by what has failed
        if store_exists(path):
            with store_lock(path, timeout_s=0):
                folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
                try:
                    flock(folder, LOCK_EX | LOCK_NB)
                    if len(open_repository(path).snapshots(limit=2)) == 1 and not path.is_symlink():
                        with TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as removed:
                            path.rename(f"{removed}/store")  # at once: nobody is to see a half of it
                finally:
                    os.close(folder)


@contextmanager
def changed_store(
    path: str | os.PathLike[str], *, on_wait: Callable[[str], None] | None = None
) -> Iterator[Store]:
    """Open a store that exists, under its lock; what root writes belongs to the store's owner.

    Parameters
    ----------
    path : path
        Folder of the store.
    on_wait : callable, optional
        Told once, in words, that another writer has the lock.

    Yields
    ------
    Store
        The store.

    Raises
    ------
    InputError
        If there is no store, or its lock cannot be written.
    StoreError
        If Icechunk cannot open it.
    """
    store = open_repository(path)
    if os.geteuid() == 0:
        found = store.path.stat()
        store.owner = (found.st_uid, found.st_gid)
    with store_lock(path, owner=store.owner, on_wait=on_wait):
        yield store


def clean_store(
    path: str | os.PathLike[str], *, older_than: timedelta, now: datetime, expire: bool = False
) -> Garbage:
    """Remove what interrupted runs have left behind, under the lock.

    Parameters
    ----------
    path : path
        Folder of the store.
    older_than : timedelta
        Leave younger objects alone: a writer that does not know the lock may be about to commit them.
    now : datetime
        The time, with its zone.
    expire : bool
        Forget older snapshots but the newest before, so that what only they need goes, too.

    Returns
    -------
    Garbage
        What was removed.

    Raises
    ------
    InputError
        If there is no store, or its lock cannot be written.
    StoreError
        If Icechunk cannot remove it.
    """
    with changed_store(path) as store:
        return store.collect_garbage(now - older_than, expire=expire)
