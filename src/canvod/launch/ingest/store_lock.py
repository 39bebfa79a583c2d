"""The lock of a store: a file beside it, which every writer of canvod-launch holds.

Icechunk on a local disk can lose commits when two processes commit at once, so a writer holds `store_lock`
from the moment it opens a session until that session is committed.
"""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from canvod.launch.errors import InputError, StoreError
from canvod.launch.paths import absolute, exists
from canvod.launch.readers.observations import one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Owner = tuple[int, int]
"""uid and gid that files of a store shall belong to."""


def make_folders(path: Path, owner: Owner | None) -> None:
    """Make a folder with all its parents, where there is none.

    Parameters
    ----------
    path : Path
        The folder.
    owner : tuple of int, optional
        uid and gid of what is made; by default those of this process.

    Raises
    ------
    InputError
        If it cannot be made.
    """
    missing = [folder for folder in (path, *path.parents) if not exists(folder)]
    try:
        path.mkdir(parents=True, exist_ok=True)
        if owner is not None:
            for folder in missing:
                os.chown(folder, *owner)
    except OSError as exc:
        raise InputError(
            f"{path}: the folder of the store cannot be made: {exc.strerror}",
            hint="name a folder below one that you may write",
        ) from exc


def lock_path(path: str | os.PathLike[str]) -> Path:
    """The file ``STORE.lock`` beside a store, the same one by whichever link the store was named.

    Parameters
    ----------
    path : path
        Folder of the store, which need not be there.

    Returns
    -------
    Path
        Absolute, links resolved.
    """
    real = Path(os.path.realpath(absolute(path)))
    return real.with_name(real.name + ".lock")


@contextmanager
def store_lock(
    path: str | os.PathLike[str],
    *,
    timeout_s: float | None = None,
    owner: Owner | None = None,
    on_wait: Callable[[str], None] | None = None,
) -> Iterator[None]:
    """Hold the lock of a store, the file ``STORE.lock`` beside it.

    Whoever may write the store may hold it. The file is closed to all others, since whoever may read a file
    may lock it (flock(2)).

    Parameters
    ----------
    path : path
        Folder of the store.
    timeout_s : float, optional
        Seconds to wait for another writer; by default as long as it takes.
    owner : tuple of int, optional
        uid and gid of the lock file and of the folders made for it.
    on_wait : callable, optional
        Told once, in words, that another writer has the lock.

    Yields
    ------
    None
        While the lock is held.

    Raises
    ------
    StoreError
        If another writer still has the lock after ``timeout_s``.
    InputError
        If the lock file cannot be written, or belongs to a user who may not write the store.
    """
    from filelock import FileLock, Timeout

    real, lock_file = Path(os.path.realpath(absolute(path))), lock_path(path)
    make_folders(real.parent, owner)
    _require_own_lock(lock_file, real, owner)
    lock = FileLock(lock_file, mode=_lock_mode(real))
    try:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if on_wait is not None:
                holder = _holder(lock_file)
                on_wait(f"another process is writing to {real}{holder}; waiting for it (lock {lock_file})")
            lock.acquire(timeout=-1 if timeout_s is None else timeout_s)
    except Timeout as exc:
        raise StoreError(
            f"{real}: another process has been writing to this store for {timeout_s:g} s{_holder(lock_file)}",
            hint="run the same command again when it has ended, or allow more time",
        ) from exc
    except OSError as exc:
        raise InputError(
            f"{lock_file}: the lock of the store cannot be written: {exc.strerror}",
            hint=f"see that you may write {lock_file.parent}",
        ) from exc
    try:
        _restrict_lock(lock_file, real, owner)
        yield
    finally:
        lock.release()


def _lock_mode(store: Path) -> int:
    """Permissions of a lock: whoever may write the store may hold it, and nobody else."""
    writable = store.stat().st_mode & 0o022 if exists(store) else 0
    return 0o600 | writable | writable << 1


def _restrict_lock(lock_file: Path, store: Path, owner: Owner | None) -> None:
    """Give the lock to the store's owner and group, as far as this user may.

    In a folder such as /tmp, where everybody may make files and remove their own, it stays with who made it:
    its owner could remove it while it is held.
    """
    found = store.stat() if exists(store) else None
    if owner is None and found is not None:
        owner = (found.st_uid if os.geteuid() == 0 else -1, found.st_gid)
    with suppress(PermissionError):
        lock_file.chmod(_lock_mode(store))
        if owner is not None and not lock_file.parent.stat().st_mode & stat.S_ISVTX:
            os.chown(lock_file, *owner)


def _require_own_lock(lock_file: Path, store: Path, owner: Owner | None) -> None:
    """Refuse a lock file of a user who may not write the store, and could hold it without end."""
    if not os.path.lexists(lock_file) or _lock_mode(store) != 0o600:
        return
    uid = lock_file.lstat().st_uid
    owners = [0, os.geteuid(), *(owner or ())[:1]]
    if uid not in owners and not (exists(store) and store.stat().st_uid == uid):
        raise InputError(
            f"{lock_file}: the lock of the store belongs to uid {uid}, who may not write the store",
            hint=f"remove it when no ingest into the store runs: rm {lock_file}",
        )


def _holder(lock_file: Path) -> str:
    """Name the process that holds a lock, where the kernel tells this user: proc_locks(5)."""
    import psutil

    try:
        found = lock_file.stat()
        held = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
        locks = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
        pid = next(int(lock[4]) for lock in locks if lock[1] != "->" and lock[5] == held)
        process = psutil.Process(pid)
        return f" (process {pid} of user {process.username()}: {one_line(' '.join(process.cmdline()), 80)})"
    except (OSError, StopIteration, psutil.Error):
        return ""
