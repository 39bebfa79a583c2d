"""Changes of a store that is there, under its lock: what no snapshot needs, or nothing was put into, goes."""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from canvod.launch.errors import LaunchError
from canvod.launch.ingest.store import open_repository, store_exists
from canvod.launch.ingest.store_lock import store_lock
from canvod.launch.paths import absolute

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime, timedelta

    from canvod.launch.ingest.store import Garbage, Store


def remove_empty_store(path: str | os.PathLike[str]) -> None:
    """Remove a store that was made and never committed to, unless another program is writing to it.

    Parameters
    ----------
    path : path
        Folder of the store, which need not be there.

    Raises
    ------
    InputError
        If other things are in its place, or its lock cannot be written.
    """
    with suppress(LaunchError):  # why there is none, or who writes to it, is told by what has failed
        if store_exists(path):
            with store_lock(path, timeout_s=0):
                if len(open_repository(path).snapshots(limit=2)) == 1:
                    shutil.rmtree(absolute(path), ignore_errors=True)


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
