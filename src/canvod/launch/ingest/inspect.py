"""What a store holds: groups with their arrays, sizes, time span and signals, and the newest snapshots."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import zarr

from canvod.launch.ingest.group import FORMAT_KEY
from canvod.launch.ingest.report import with_iso_epochs
from canvod.launch.ingest.store import Snapshot, open_repository

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

SNAPSHOTS_SHOWN = 5


@dataclass(frozen=True)
class ArrayInfo:
    """One array of a group."""

    name: str
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    dtype: str
    bytes_raw: int
    """Size without compression."""
    bytes_stored: int
    """Size of its chunks in the store."""


@dataclass(frozen=True)
class GroupInfo:
    """One group with arrays."""

    path: str
    arrays: tuple[ArrayInfo, ...]
    """The variables; coordinates are left out."""
    epochs: int | None
    first_epoch: int | None
    last_epoch: int | None
    """Nanoseconds since 1970-01-01, GPS time; None for a group of another origin."""
    signals: Mapping[str, int]
    """Number of signals of each system."""
    files: int
    """Files that were read into it."""
    readers: Mapping[str, int]
    """What has read them, and how many of them."""
    stations: tuple[str, ...]
    """MARKER NAMEs of the files."""


@dataclass(frozen=True)
class StoreTree:
    """A store with all its groups."""

    path: str
    disk_bytes: int
    """Size of all files of the store, older snapshots included."""
    groups: tuple[GroupInfo, ...]
    snapshots: tuple[Snapshot, ...]
    """The newest commits."""

    def as_json(self) -> dict[str, Any]:
        """Everything as plain values; times in ISO 8601."""
        values = asdict(self)
        values["groups"] = [with_iso_epochs(group) for group in values["groups"]]
        for snapshot in values["snapshots"]:
            snapshot["written_at"] = format_utc(snapshot["written_at"])
        return values


def format_utc(time: datetime) -> str:
    """Write a time in UTC as ISO 8601, in whole seconds.

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

    Raises
    ------
    InputError
        If there is none.
    """
    store = open_repository(path)
    return StoreTree(
        path=str(store.path),
        disk_bytes=store.disk_bytes(),
        groups=tuple(_groups(store.reader().store)),
        snapshots=tuple(store.snapshots(SNAPSHOTS_SHOWN)),
    )


def _groups(store: Any) -> list[GroupInfo]:
    try:
        root = zarr.open_group(store, mode="r")
    except FileNotFoundError:  # a store without a commit
        return []
    members: dict[str, Any] = {"": root, **dict(root.members(max_depth=None))}
    found = []
    for path, node in sorted(members.items()):
        if not isinstance(node, zarr.Group):
            continue
        arrays = dict(node.arrays())
        parent = members[path.rpartition("/")[0]]
        if not arrays or FORMAT_KEY in parent.attrs:  # the record of files is part of the group above
            continue
        found.append(_describe(path or "/", node, arrays))
    return found


def _describe(path: str, group: zarr.Group, arrays: Mapping[str, Any]) -> GroupInfo:
    ours = FORMAT_KEY in group.attrs
    epoch: Any = arrays["epoch"] if ours else None
    filled = epoch is not None and epoch.shape[0] > 0
    signals = Counter(str(name)[:1] for name in arrays["sid"][:]) if ours else Counter[str]()
    files: Any = group["files"] if ours else None
    readers: Any = files.get("reader") if ours else None
    stations: Any = group.attrs.get("stations", ()) if ours else ()
    return GroupInfo(
        path=path,
        arrays=tuple(
            _array(name, array) for name, array in sorted(arrays.items()) if not ours or array.ndim > 1
        ),
        epochs=epoch.shape[0] if epoch is not None else None,
        first_epoch=int(epoch[0]) if filled else None,
        last_epoch=int(epoch[-1]) if filled else None,
        signals=dict(sorted(signals.items())),
        files=files["path"].shape[0] if files is not None else 0,
        readers=dict(Counter(map(str, readers[:]))) if readers is not None else {},
        stations=tuple(stations),
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
