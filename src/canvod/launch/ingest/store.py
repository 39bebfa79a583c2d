"""An Icechunk store on a local disk: open, create, lock, commit, clean up.

The only module of the host that imports icechunk; its exceptions are translated here. Icechunk on a local
disk can lose commits when two processes commit at once, so every writer of canvod-launch holds `store_lock`
from the moment it opens a session until that session is committed.
"""

from __future__ import annotations

import os
import shutil
import stat
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from canvod.launch.errors import InputError, LaunchError, StoreError
from canvod.launch.paths import absolute, exists
from canvod.launch.readers.observations import one_line
from canvod.launch.runtime.tasks import quiet_icechunk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from datetime import datetime, timedelta

    import icechunk

BRANCH = "main"

CANVODPY_LOCK = ".canvodpy-commit.lock"
"""Lock file of canvodpy 1.0.0 within a store, which it holds while it commits."""

MANIFEST_ROWS = 256
"""Chunk rows whose references are in one manifest: two months of days of four parts."""

Owner = tuple[int, int]
"""uid and gid that files of a store shall belong to."""


class CommitConflictError(Exception):
    """Something else has committed to the same arrays since the session was opened."""


@dataclass(frozen=True)
class Snapshot:
    """One commit.

    Attributes
    ----------
    id : str
        ID of the snapshot.
    written_at : datetime
        When it was committed, UTC.
    message : str
        What was committed, in words.
    metadata : mapping of str to object
        Without what Icechunk notes there for itself.
    """

    id: str
    written_at: datetime
    message: str
    metadata: Mapping[str, Any]


@dataclass(frozen=True)
class Garbage:
    """What a clean-up has removed.

    Attributes
    ----------
    objects : int
        Number of objects.
    bytes : int
        Their size together.
    """

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
            f"{path}: {doing} failed: {reason}",
            hint="see that the folder is a store of Icechunk 2 or newer, that you may write it, "
            "and that its disk is not full",
        ) from exc


def store_path(path: str | os.PathLike[str]) -> Path:
    """The absolute path of a store, under which host and workers see it.

    Parameters
    ----------
    path : path
        Folder of the store, which need not be there.

    Returns
    -------
    Path
        Absolute; links are not resolved.
    """
    return absolute(path)


def store_exists(path: str | os.PathLike[str]) -> bool:
    """Whether there is a store; a place where none can be made is refused.

    Parameters
    ----------
    path : path
        Folder of the store.

    Returns
    -------
    bool
        False where there is nothing, or an empty folder.

    Raises
    ------
    InputError
        If the path is a file or below one, or a folder that holds other things or cannot be looked into.
    StoreError
        If Icechunk cannot look into the folder.
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

    Attributes
    ----------
    path : Path
        Its folder.
    owner : tuple of int or None
        As given; may be set.
    """

    def __init__(self, repository: icechunk.Repository, path: Path, owner: Owner | None = None) -> None:
        self._repository = repository
        self.path = path
        self.owner = owner

    def reader(self) -> icechunk.Session:
        """A session of the newest snapshot.

        Returns
        -------
        icechunk.Session
            Read only.

        Raises
        ------
        StoreError
            If Icechunk cannot open it.
        """
        with _translated(self.path, "opening a session"):
            return self._repository.readonly_session(BRANCH)

    def writer(self) -> icechunk.Session:
        """A writable session; hold `store_lock` until it is committed.

        Returns
        -------
        icechunk.Session
            Of the newest snapshot.

        Raises
        ------
        StoreError
            If Icechunk cannot open it.
        """
        with _translated(self.path, "opening a session"):
            return self._repository.writable_session(BRANCH)

    def fork(self, session: icechunk.Session) -> bytes:
        """A fork of a session for workers, who may write to the store afterwards.

        Parameters
        ----------
        session : icechunk.Session
            A writable session.

        Returns
        -------
        bytes
            ``icechunk.ForkSession`` in its own encoding.

        Raises
        ------
        StoreError
            If Icechunk cannot fork it.
        """
        with _translated(self.path, "forking a session"):
            state: Any = session.fork().__getstate__()
        self.give_to_owner()
        fork: bytes = state["_session"]
        return fork

    def merge(self, session: icechunk.Session, fork: bytes) -> None:
        """Take what a worker wrote into a session; the fork is decoded by Icechunk, and never unpickled.

        Parameters
        ----------
        session : icechunk.Session
            The session that was forked; changed in place.
        fork : bytes
            The changed fork in Icechunk's own encoding.

        Raises
        ------
        StoreError
            If Icechunk cannot take it.
        """
        import icechunk

        with _translated(self.path, "merging what was written"):
            changed = icechunk.ForkSession.__new__(icechunk.ForkSession)
            changed.__setstate__({"_session": fork})
            session.merge(changed)

    def commit(self, session: icechunk.Session, message: str, metadata: Mapping[str, Any]) -> str:
        """Commit a session.

        Parameters
        ----------
        session : icechunk.Session
            A writable session.
        message : str
            What is committed, in words.
        metadata : mapping of str to object
            The same as values of JSON.

        Returns
        -------
        str
            ID of the new snapshot.

        Raises
        ------
        CommitConflictError
            If something that does not hold the lock has changed the same arrays meanwhile.
        StoreError
            If Icechunk cannot commit it.
        """
        import icechunk
        from filelock import FileLock

        with _translated(self.path, "the commit"), FileLock(self.path / CANVODPY_LOCK):
            try:
                snapshot = session.commit(message, dict(metadata), rebase_with=icechunk.ConflictDetector())
            except (icechunk.ConflictError, icechunk.RebaseFailedError) as exc:
                raise CommitConflictError(str(exc)) from exc
        self.give_to_owner()
        return snapshot

    def snapshots(self, limit: int | None = None) -> list[Snapshot]:
        """Commits of the store.

        Parameters
        ----------
        limit : int, optional
            How many; by default all.

        Returns
        -------
        list of Snapshot
            The newest first; the last of all is the one that Icechunk makes with a store.

        Raises
        ------
        StoreError
            If Icechunk cannot read them.
        """
        found: list[Snapshot] = []
        with _translated(self.path, "reading the history"):
            for info in self._repository.ancestry(branch=BRANCH):
                if limit is not None and len(found) == limit:
                    break
                metadata = {name: value for name, value in info.metadata.items() if name[:2] != "__"}
                found.append(Snapshot(info.id, info.written_at, info.message, metadata))
        return found

    def collect_garbage(self, older_than: datetime) -> Garbage:
        """Remove objects that no snapshot needs; hold `store_lock` meanwhile.

        Parameters
        ----------
        older_than : datetime
            Leave what was written later than this; with its zone.

        Returns
        -------
        Garbage
            What was removed.

        Raises
        ------
        StoreError
            If Icechunk cannot remove it.
        """
        with _translated(self.path, "the clean-up"):
            summary = self._repository.garbage_collect(older_than)
        self.give_to_owner()
        objects = summary.chunks_deleted + summary.manifests_deleted + summary.snapshots_deleted
        objects += summary.attributes_deleted + summary.transaction_logs_deleted
        return Garbage(objects, summary.bytes_deleted)

    def expire(self, older_than: datetime) -> int:
        """Forget older snapshots but the newest; hold `store_lock` meanwhile.

        Parameters
        ----------
        older_than : datetime
            With its zone; younger ones stay.

        Returns
        -------
        int
            How many were forgotten.

        Raises
        ------
        StoreError
            If Icechunk refuses.
        """
        with _translated(self.path, "forgetting old snapshots"):
            expired = len(self._repository.expire_snapshots(older_than))
        self.give_to_owner()
        return expired

    def disk_bytes(self) -> int:
        """Size of all files of the store, as far as they are there when they are looked at.

        Returns
        -------
        int
            Bytes.
        """
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

    Parameters
    ----------
    path : path
        Folder of the store.
    owner : tuple of int, optional
        uid and gid that whatever is written shall belong to.

    Returns
    -------
    Store
        The store.

    Raises
    ------
    InputError
        If there is none.
    StoreError
        If Icechunk cannot open it.
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

    Returns
    -------
    Store
        The store.

    Raises
    ------
    InputError
        If other things are in its place, or its folders cannot be made.
    StoreError
        If Icechunk cannot make or open it.
    """
    import icechunk

    path = store_path(path)
    if store_exists(path):
        return open_repository(path, owner=owner)
    quiet_icechunk()
    _make_folders(path, owner)
    storage = icechunk.local_filesystem_storage(str(path))
    try:
        with _translated(path, "making the store"):
            store = Store(icechunk.Repository.create(storage, _configuration()), path, owner)
    except StoreError:
        if not store_exists(path):
            raise
        return open_repository(path, owner=owner)  # another program has made it meanwhile
    store.give_to_owner()
    return store


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
                    shutil.rmtree(store_path(path), ignore_errors=True)


def _configuration() -> icechunk.RepositoryConfig:
    """References to chunks in several manifests, so that a commit writes those of the days at hand anew."""
    import icechunk

    rows = icechunk.ManifestSplitDimCondition.DimensionName("epoch")
    splitting = icechunk.ManifestSplittingConfig.from_dict(
        {icechunk.ManifestSplitCondition.AnyArray(): {rows: MANIFEST_ROWS}}
    )
    return icechunk.RepositoryConfig(manifest=icechunk.ManifestConfig(splitting=splitting))


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
    store = open_repository(path)
    found = store.path.stat()
    if os.geteuid() == 0:
        store.owner = (found.st_uid, found.st_gid)
    with store_lock(path, owner=store.owner):
        if expire:
            store.expire(now - older_than)
        return store.collect_garbage(now - older_than)
