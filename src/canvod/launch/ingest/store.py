"""An Icechunk store on a local disk: open, create, write, commit.

The only module of the host that imports icechunk; its exceptions are translated here. Whoever commits holds
the lock of the store (`canvod.launch.ingest.store_lock`).
"""

from __future__ import annotations

import os
import re
import shutil
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from canvod.launch.errors import InputError, StoreError
from canvod.launch.ingest.store_lock import make_folders
from canvod.launch.paths import absolute, exists
from canvod.launch.runtime.unit_tasks import quiet_icechunk

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from pathlib import Path

    import icechunk

    from canvod.launch.ingest.store_lock import Owner

BRANCH = "main"

FIRST_SNAPSHOT = "1CECHNKREP0F1RSTCMT0"
"""ID of the snapshot that Icechunk makes with every store."""

CANVODPY_LOCK = ".canvodpy-commit.lock"
"""Lock file of canvodpy 1.0.0 within a store, which it holds while it commits or cleans up."""

BACKUPS_KEPT = timedelta(hours=1)
"""How long former versions of the list of snapshots are kept."""

MANIFEST_ROWS = 256
"""Chunk rows whose references are in one manifest: two months of days of four parts."""


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
def translated(path: Path, doing: str) -> Iterator[None]:
    """Raise errors of Icechunk as ours.

    Parameters
    ----------
    path : Path
        Folder of the store.
    doing : str
        What is done, for the message.

    Yields
    ------
    None
        While it is done.

    Raises
    ------
    StoreError
        If Icechunk fails.
    """
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


def store_exists(path: str | os.PathLike[str]) -> bool:
    """Whether there is a store; a place where none can be made is refused.

    Parameters
    ----------
    path : path
        Folder of the store.

    Returns
    -------
    bool
        False where there is nothing, an empty folder, or a store that has not been made to the end.

    Raises
    ------
    InputError
        If the path is a file or below one, or a folder that holds other things or cannot be looked into.
    StoreError
        If Icechunk cannot look into the folder.
    """
    import icechunk

    path = absolute(path)
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
    storage = icechunk.local_filesystem_storage(str(path))
    with translated(path, "looking for a store"):
        found = icechunk.Repository.exists(storage)
        # Another program may have made it between the first look and the second.
        is_other = (
            not found and not _is_unfinished(path) and not (found := icechunk.Repository.exists(storage))
        )
    if is_other:
        raise InputError(
            f"{path} is a folder that holds files, but no Icechunk store",
            hint="name another folder; a store is made where there is none",
        )
    return found


def _is_unfinished(path: Path) -> bool:
    """Whether a folder has nothing but what Icechunk writes before a store is one.

    Workers of a launcher that was killed may also have written chunks after another run had removed the
    store, since it had no commit; chunks are worth nothing without snapshots.
    """
    names = (entry.relative_to(path).as_posix() for entry in path.rglob("*"))
    possible = rf"((snapshots|transactions)(/{FIRST_SNAPSHOT}.*)?|chunks(/[0-9A-Z]{{20}}(#.*)?)?|repo#.*)"
    return all(re.fullmatch(possible, name) for name in names)


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
        with translated(self.path, "opening a session"):
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
        with translated(self.path, "opening a session"):
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
        with translated(self.path, "forking a session"):
            state: Any = session.fork().__getstate__()
        self.give_to_owner()
        fork: bytes = state["_session"]
        return fork

    def merge(
        self,
        session: icechunk.Session,
        fork: bytes,
        *,
        sent: bytes,
        chunk_rows: Mapping[str, Collection[int]],
    ) -> None:
        """Take what a worker wrote into a session; the fork is decoded by Icechunk, and never unpickled.

        Parameters
        ----------
        session : icechunk.Session
            The session that was forked; changed in place.
        fork : bytes
            The changed fork in Icechunk's own encoding.
        sent : bytes
            The fork as the worker got it.
        chunk_rows : mapping of str to collection of int
            Rows of chunks that the worker may have written, by the path of their array.

        Raises
        ------
        StoreError
            If Icechunk cannot take it, or it has changed anything else; the session is as it was then.
        """
        import icechunk

        if not fork.startswith(_head(sent)):
            raise _changed_otherwise(self.path, "which store or snapshot it is of")
        with translated(self.path, "merging what was written"):
            changed = icechunk.ForkSession.__new__(icechunk.ForkSession)
            changed.__setstate__({"_session": fork})
            diff = changed.status()
        nodes = (
            *(diff.new_groups | diff.updated_groups | diff.deleted_groups),
            *(diff.new_arrays | diff.updated_arrays | diff.deleted_arrays),
            *map(str, diff.moved_nodes),
        )
        if nodes:
            raise _changed_otherwise(self.path, ", ".join(sorted(nodes)[:3]))
        for path, places in diff.updated_chunks.items():
            if not {place[0] for place in places} <= set(chunk_rows.get(path, ())):
                raise _changed_otherwise(self.path, f"other chunks of {path}")
        with translated(self.path, "merging what was written"):
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

        with translated(self.path, "the commit"), self._canvodpy_lock():
            try:
                snapshot = session.commit(message, dict(metadata), rebase_with=icechunk.ConflictDetector())
            except (icechunk.ConflictError, icechunk.RebaseFailedError) as exc:
                raise CommitConflictError(str(exc)) from exc
            self._remove_backups(datetime.now(UTC) - BACKUPS_KEPT)
        self.give_to_owner()
        return snapshot

    def _canvodpy_lock(self) -> AbstractContextManager[Any]:
        from filelock import FileLock

        return FileLock(self.path / CANVODPY_LOCK)

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
        with translated(self.path, "reading the history"):
            for info in self._repository.ancestry(branch=BRANCH):
                if limit is not None and len(found) == limit:
                    break
                metadata = {name: value for name, value in info.metadata.items() if name[:2] != "__"}
                found.append(Snapshot(info.id, info.written_at, info.message, metadata))
        return found

    def collect_garbage(self, older_than: datetime, *, expire: bool = False) -> Garbage:
        """Remove objects that no snapshot needs; hold `store_lock` meanwhile.

        Parameters
        ----------
        older_than : datetime
            Leave what was written later than this; with its zone.
        expire : bool
            Forget older snapshots but the newest before.

        Returns
        -------
        Garbage
            What was removed.

        Raises
        ------
        StoreError
            If Icechunk cannot remove it.
        """
        with translated(self.path, "the clean-up"), self._canvodpy_lock():
            if expire:
                self._repository.expire_snapshots(older_than)
            summary = self._repository.garbage_collect(older_than)
            backups = self._remove_backups(older_than)
        self.give_to_owner()
        objects = summary.chunks_deleted + summary.manifests_deleted + summary.snapshots_deleted
        objects += summary.attributes_deleted + summary.transaction_logs_deleted + backups.objects
        return Garbage(objects, backups.bytes + summary.bytes_deleted)

    def _remove_backups(self, older_than: datetime) -> Garbage:
        """Remove former versions of the list of snapshots, of which Icechunk keeps one for each commit.

        Each of them is as long as the history. Nothing but the log of operations needs them, which is shorter
        without (icechunk#1852).
        """
        sizes = []
        for entry in (self.path / "overwritten").glob("repo.*"):
            found = entry.stat()
            if found.st_mtime < older_than.timestamp():
                entry.unlink()
                sizes.append(found.st_size)
        return Garbage(len(sizes), sum(sizes))

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

    path = absolute(path)
    if not store_exists(path):
        raise InputError(
            f"{path}: there is no store", hint="see the path; `canvod-launch ingest` makes a store"
        )
    with translated(path, "opening the store"):
        return Store(icechunk.Repository.open(icechunk.local_filesystem_storage(str(path))), path, owner)


def create_store(path: str | os.PathLike[str], *, owner: Owner | None = None) -> Store:
    """Open a store, or make it with all its parent folders where there is none; hold `store_lock` meanwhile.

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

    path = absolute(path)
    if store_exists(path):
        return open_repository(path, owner=owner)
    quiet_icechunk()
    make_folders(path, owner)
    for entry in path.iterdir():  # of a program that was killed while it made the store
        entry.unlink() if entry.is_file() else shutil.rmtree(entry)
    storage = icechunk.local_filesystem_storage(str(path))
    try:
        with translated(path, "making the store"):
            store = Store(icechunk.Repository.create(storage, _configuration()), path, owner)
    except StoreError:
        if not store_exists(path):
            raise
        return open_repository(path, owner=owner)  # another program has made it meanwhile
    store.give_to_owner()
    return store


def _configuration() -> icechunk.RepositoryConfig:
    """References to chunks in several manifests, so that a commit writes those of the days at hand anew."""
    import icechunk

    rows = icechunk.ManifestSplitDimCondition.DimensionName("epoch")
    splitting = icechunk.ManifestSplittingConfig.from_dict(
        {icechunk.ManifestSplitCondition.AnyArray(): {rows: MANIFEST_ROWS}}
    )
    return icechunk.RepositoryConfig(manifest=icechunk.ManifestConfig(splitting=splitting))


def _head(sent: bytes) -> bytes:
    """What an encoded fork has before its changes: settings, storage and snapshot, which no worker changes.

    An encoded fork is a list of MessagePack that ends with its changes, a map of the one key ``Edit``.
    """
    return sent[: sent.rfind(b"\x81\xa4Edit") + 1]


def _changed_otherwise(path: Path, what: str) -> StoreError:
    return StoreError(
        f"{path}: a worker has changed what it was not asked to ({what}); nothing is committed",
        hint="see that all workers run the code of this launcher, and which files they were reading",
    )
