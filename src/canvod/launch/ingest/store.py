"""An Icechunk store on a local disk: open, create, lock, commit, clean up.

The only module of the host that imports icechunk; its exceptions are translated here. Icechunk on a local
disk can lose commits when two processes commit at once, so every writer of canvod-launch holds `store_lock`
from the moment it opens a session until that session is committed.
"""

from __future__ import annotations

import os
import pickle
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from canvod.launch.errors import InputError, StoreError
from canvod.launch.paths import absolute, exists
from canvod.launch.readers.observations import one_line
from canvod.launch.runtime.tasks import quiet_icechunk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import datetime, timedelta

    import icechunk

BRANCH = "main"

Owner = tuple[int, int]
"""uid and gid that files of a store shall belong to."""


class CommitConflictError(Exception):
    """Something else has committed to the same arrays since the session was opened."""


@dataclass(frozen=True)
class Snapshot:
    """One commit."""

    id: str
    written_at: datetime
    """UTC."""
    message: str
    metadata: Mapping[str, Any]
    """Without what Icechunk notes there for itself."""


@dataclass(frozen=True)
class Garbage:
    """What a clean-up has removed."""

    objects: int
    bytes: int


@contextmanager
def _translated(path: Path, doing: str) -> Iterator[None]:
    import icechunk

    try:
        yield
    except icechunk.IcechunkError as exc:
        reason = str(exc).strip().splitlines()[0]
        raise StoreError(
            f"{path}: {doing} failed: {reason}; nothing was committed",
            hint="see that the folder is a store of Icechunk 2 or newer, that you may write it, "
            "and that its disk is not full",
        ) from exc


def store_path(path: str | os.PathLike[str]) -> Path:
    """The absolute path of a store, under which host and workers see it."""
    return absolute(path)


def store_exists(path: str | os.PathLike[str]) -> bool:
    """Whether there is a store; a place where none can be made is refused.

    Raises
    ------
    InputError
        If the path is a file, or a folder that holds other things.
    """
    import icechunk

    path = store_path(path)
    try:
        empty = next(path.iterdir(), None) is None
    except FileNotFoundError:
        return False
    except NotADirectoryError as exc:
        raise InputError(
            f"{path} is a file, not a store" if exists(path) else f"{path} lies below a file",
            hint="name a folder, which is made where there is none",
        ) from exc
    except PermissionError as exc:
        raise InputError(
            f"{path}: you may not look into this folder", hint="ask its owner, or name another"
        ) from exc
    if empty:
        return False
    quiet_icechunk()
    with _translated(path, "looking for a store"):
        found = icechunk.Repository.exists(icechunk.local_filesystem_storage(str(path)))
    if not found:
        raise InputError(
            f"{path} is a folder that holds files, but no Icechunk store",
            hint="name another folder; a store is made where there is none",
        )
    return True


class Store:
    """A store that is open; use `open_repository` or `create_store`.

    Parameters
    ----------
    repository : icechunk.Repository
        The repository.
    path : Path
        Its folder.
    owner : tuple of int, optional
        uid and gid that whatever is written shall belong to.
    """

    def __init__(self, repository: icechunk.Repository, path: Path, owner: Owner | None = None) -> None:
        self._repository = repository
        self.path = path
        self.owner = owner

    def reader(self) -> icechunk.Session:
        """A session of the newest snapshot."""
        with _translated(self.path, "opening a session"):
            return self._repository.readonly_session(BRANCH)

    def writer(self) -> icechunk.Session:
        """A writable session; hold `store_lock` until it is committed."""
        with _translated(self.path, "opening a session"):
            return self._repository.writable_session(BRANCH)

    def fork(self, session: icechunk.Session) -> bytes:
        """A pickled fork of a session for workers, who may write to the store's folder afterwards."""
        with _translated(self.path, "forking a session"):
            fork = pickle.dumps(session.fork())
        self.give_to_owner()
        return fork

    def merge(self, session: icechunk.Session, forks: Sequence[bytes]) -> None:
        """Take what the workers wrote into a session."""
        with _translated(self.path, "merging what was written"):
            session.merge(*(pickle.loads(fork) for fork in forks))  # noqa: S301 - from our own workers

    def commit(self, session: icechunk.Session, message: str, metadata: Mapping[str, Any]) -> str:
        """Commit a session.

        Returns
        -------
        str
            ID of the new snapshot.

        Raises
        ------
        CommitConflictError
            If something that does not hold the lock has changed the same arrays meanwhile.
        """
        import icechunk

        with _translated(self.path, "the commit"):
            try:
                snapshot = session.commit(message, dict(metadata), rebase_with=icechunk.ConflictDetector())
            except (icechunk.ConflictError, icechunk.RebaseFailedError) as exc:
                raise CommitConflictError(str(exc)) from exc
        self.give_to_owner()
        return snapshot

    def snapshots(self, limit: int | None = None) -> list[Snapshot]:
        """Commits, the newest first."""
        found: list[Snapshot] = []
        with _translated(self.path, "reading the history"):
            for info in self._repository.ancestry(branch=BRANCH):
                if limit is not None and len(found) == limit:
                    break
                metadata = {name: value for name, value in info.metadata.items() if name[:2] != "__"}
                found.append(Snapshot(info.id, info.written_at, info.message, metadata))
        return found

    def collect_garbage(self, older_than: datetime) -> Garbage:
        """Remove objects that no snapshot needs; hold `store_lock` meanwhile."""
        with _translated(self.path, "the clean-up"):
            summary = self._repository.garbage_collect(older_than)
        self.give_to_owner()
        objects = summary.chunks_deleted + summary.manifests_deleted + summary.snapshots_deleted
        objects += summary.attributes_deleted + summary.transaction_logs_deleted
        return Garbage(objects, summary.bytes_deleted)

    def disk_bytes(self) -> int:
        """Size of all files of the store, as far as they are there when they are looked at."""
        size = 0
        for entry in _walk(self.path):
            with suppress(OSError):
                size += os.lstat(entry).st_size
        return size

    def give_to_owner(self) -> None:
        """Give what this process has written to the store's owner, where one was named."""
        if self.owner is None:
            return
        uid, gid = self.owner
        for entry in [str(self.path), *_walk(self.path)]:
            try:
                found = os.lstat(entry)
                if (found.st_uid, found.st_gid) != self.owner:
                    os.chown(entry, uid, gid, follow_symlinks=False)
            except FileNotFoundError:  # Icechunk replaces files while we look
                continue


def _walk(folder: Path) -> Iterator[str]:
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            yield f"{parent}/{name}"


def open_repository(path: str | os.PathLike[str], *, owner: Owner | None = None) -> Store:
    """Open a store that exists.

    Raises
    ------
    InputError
        If there is none.
    """
    import icechunk

    path = store_path(path)
    if not store_exists(path):
        raise InputError(
            f"{path}: there is no store", hint="see the path; `canvod-launch ingest` makes a store"
        )
    with _translated(path, "opening the store"):
        return Store(icechunk.Repository.open(icechunk.local_filesystem_storage(str(path))), path, owner)


def create_store(path: str | os.PathLike[str], *, owner: Owner | None = None) -> Store:
    """Open a store, or make it with all its parent folders where there is none.

    Parameters
    ----------
    path : path
        Folder of the store.
    owner : tuple of int, optional
        uid and gid of whatever is made, for workers that run as another user than this process.
    """
    import icechunk

    path = store_path(path)
    if store_exists(path):
        return open_repository(path, owner=owner)
    quiet_icechunk()
    _make_folders(path, owner)
    with _translated(path, "making the store"):
        store = Store(icechunk.Repository.create(icechunk.local_filesystem_storage(str(path))), path, owner)
    store.give_to_owner()
    return store


def _make_folders(path: Path, owner: Owner | None) -> None:
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
    """The file ``STORE.lock`` beside a store, the same one by whichever link the store was named."""
    real = Path(os.path.realpath(store_path(path)))
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
        How long to wait for another writer; by default as long as it takes.
    owner : tuple of int, optional
        uid and gid of the lock file and of the folders made for it.
    on_wait : callable, optional
        Told once, in words, that another writer has the lock.

    Raises
    ------
    StoreError
        If another writer still has the lock after ``timeout_s``.
    InputError
        If the lock file cannot be written, or belongs to a user who may not write the store.
    """
    from filelock import FileLock, Timeout

    real, lock_file = Path(os.path.realpath(store_path(path))), lock_path(path)
    _make_folders(real.parent, owner)
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
            f"{real}: another process has been writing to this store for {timeout_s:g} s"
            f"{_holder(lock_file)}; nothing was committed",
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
    """Give the lock to the store's owner and group, as far as this user may."""
    found = store.stat() if exists(store) else None
    if owner is None and found is not None:
        owner = (found.st_uid if os.geteuid() == 0 else -1, found.st_gid)
    with suppress(PermissionError):
        lock_file.chmod(_lock_mode(store))
        if owner is not None:
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


def clean_store(path: str | os.PathLike[str], *, older_than: timedelta, now: datetime) -> Garbage:
    """Remove what interrupted runs have left behind, under the lock.

    Parameters
    ----------
    path : path
        Folder of the store.
    older_than : timedelta
        Leave younger objects alone: a writer that does not know the lock may be about to commit them.
    now : datetime
        The time, with its zone.
    """
    store = open_repository(path)
    found = store.path.stat()
    if os.geteuid() == 0:
        store.owner = (found.st_uid, found.st_gid)
    with store_lock(path, owner=store.owner):
        return store.collect_garbage(now - older_than)
