"""What a store holds: groups with their arrays, sizes, time span and signals, and the newest snapshots."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import zarr

from canvod.launch.ingest.group import FORMAT, FORMAT_KEY, read_state
from canvod.launch.ingest.report import format_day
from canvod.launch.ingest.store import Snapshot, open_repository

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    import icechunk

SNAPSHOTS_SHOWN = 5


@dataclass(frozen=True)
class ArrayInfo:
    """One array of a group.

    Attributes
    ----------
    name : str
        Name within the group.
    dims : tuple of str
        Names of its dims.
    shape, chunks : tuple of int
        Length of the array and of a chunk, for each dim.
    dtype : str
        As NumPy names it.
    bytes_raw : int
        Size without compression.
    bytes_stored : int
        Size of its chunks in the store.
    """

    name: str
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    dtype: str
    bytes_raw: int
    bytes_stored: int


@dataclass(frozen=True)
class GroupInfo:
    """One group with arrays.

    Of a group of another origin, or of an earlier version of canvod-launch, only path and arrays are known.

    Attributes
    ----------
    path : str
        Path of the group.
    arrays : tuple of ArrayInfo
        The variables; all arrays where only these are known.
    epochs : int or None
        Real epochs.
    days : int or None
        Days that have data.
    first_day, last_day : str or None
        ISO 8601, GPS time; None also for a group without days.
    signals : mapping of str to int
        Number of signals of each system.
    files : int
        Files whose values it has.
    readers : mapping of str to int
        What has read them, and how many of them.
    stations : tuple of str
        MARKER NAMEs of the files.
    """

    path: str
    arrays: tuple[ArrayInfo, ...]
    epochs: int | None
    days: int | None
    first_day: str | None
    last_day: str | None
    signals: Mapping[str, int]
    files: int
    readers: Mapping[str, int]
    stations: tuple[str, ...]


@dataclass(frozen=True)
class StoreTree:
    """A store with all its groups.

    Attributes
    ----------
    path : str
        Folder of the store.
    disk_bytes : int
        Size of all files of the store, older snapshots included.
    groups : tuple of GroupInfo
        Groups that hold arrays, by path.
    snapshots : tuple of Snapshot
        The newest commits, the newest first.
    """

    path: str
    disk_bytes: int
    groups: tuple[GroupInfo, ...]
    snapshots: tuple[Snapshot, ...]

    def as_json(self) -> dict[str, Any]:
        """Everything as plain values.

        Returns
        -------
        dict of str to object
            The fields by name; times in ISO 8601.
        """
        values = asdict(self)
        for snapshot in values["snapshots"]:
            snapshot["written_at"] = format_utc(snapshot["written_at"])
        return values


def format_utc(time: datetime) -> str:
    """Write a time in UTC as ISO 8601, in whole seconds.

    Parameters
    ----------
    time : datetime
        In UTC.

    Returns
    -------
    str
        With ``Z`` at its end.

    Examples
    --------
    >>> from datetime import UTC, datetime
    >>> format_utc(datetime(2025, 1, 1, 12, tzinfo=UTC))
    '2025-01-01T12:00:00Z'
    """
    return f"{time:%Y-%m-%dT%H:%M:%SZ}"


def store_tree(path: str | os.PathLike[str]) -> StoreTree:
    """Look at a store.

    Parameters
    ----------
    path : path
        Folder of the store.

    Returns
    -------
    StoreTree
        The store at its newest snapshot.

    Raises
    ------
    InputError
        If there is none.
    StoreError
        If Icechunk cannot read it.
    """
    store = open_repository(path)
    return StoreTree(
        path=str(store.path),
        disk_bytes=store.disk_bytes(),
        groups=tuple(_groups(store.reader())),
        snapshots=tuple(store.snapshots(SNAPSHOTS_SHOWN)),
    )


def _groups(session: icechunk.Session) -> list[GroupInfo]:
    try:
        root = zarr.open_group(session.store, mode="r")
    except FileNotFoundError:  # a store without a commit
        return []
    members: dict[str, Any] = {"": root, **dict(root.members(max_depth=None))}
    found = []
    for path, node in sorted(members.items()):
        if not isinstance(node, zarr.Group):
            continue
        arrays = dict(node.arrays())
        parent = members[path.rpartition("/")[0]]
        if not arrays or FORMAT_KEY in parent.attrs:  # days and log book are part of the group above
            continue
        found.append(_describe(session, path, node, arrays))
    return found


def _describe(
    session: icechunk.Session, path: str, group: zarr.Group, arrays: Mapping[str, Any]
) -> GroupInfo:
    state = read_state(session, path) if group.attrs.get(FORMAT_KEY) == FORMAT else None
    shown = [_array(name, array) for name, array in sorted(arrays.items()) if array.ndim > 1 or state is None]
    if state is None:
        return GroupInfo(path or "/", tuple(shown), None, None, None, None, {}, 0, {}, ())
    last = {record.path: record for record in state.log.all()}
    files = [record for record in last.values() if record.has_values]
    days = state.days.day
    return GroupInfo(
        path=path,
        arrays=tuple(shown),
        epochs=int(state.days.epochs.sum()),
        days=len(days),
        first_day=format_day(int(days[0])) if len(days) else None,
        last_day=format_day(int(days[-1])) if len(days) else None,
        signals=dict(sorted(Counter(name[:1] for name in state.sid).items())),
        files=len(files),
        readers=dict(Counter(record.reader for record in files)),
        stations=state.stations,
    )


def _array(name: str, array: Any) -> ArrayInfo:
    return ArrayInfo(
        name=name,
        dims=tuple(array.metadata.dimension_names or (f"dim_{i}" for i in range(array.ndim))),
        shape=tuple(array.shape),
        chunks=tuple(array.chunks),
        dtype=str(array.dtype),
        bytes_raw=int(array.nbytes),
        bytes_stored=int(array.nbytes_stored()),
    )
