"""Reading a store: for xarray and zarr, and a group lazily, on the current Dask client."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import zarr

from canvod.launch.errors import InputError
from canvod.launch.ingest.group import read_state
from canvod.launch.ingest.store import open_repository
from canvod.launch.paths import absolute

if TYPE_CHECKING:
    from pathlib import Path

    import icechunk
    import xarray as xr

    from canvod.launch.ingest.log_book import FileRecord

WORKERS_TIMEOUT_S = 10
"""How long workers may take to say whether they see a file; those that are too busy are not waited for."""


def open_store(path: str | os.PathLike[str]) -> icechunk.IcechunkStore:
    """Open a store at its newest snapshot, read only, for ``xarray.open_zarr`` and ``zarr.open_group``.

    Parameters
    ----------
    path : path
        Folder of the store.

    Returns
    -------
    icechunk.IcechunkStore
        It can be pickled, and stays at its snapshot whatever is committed later.

    Raises
    ------
    InputError
        If there is no store.
    StoreError
        If Icechunk cannot open it.

    Examples
    --------
    >>> import xarray as xr
    >>> store = open_store("/data/store")  # doctest: +SKIP
    >>> xr.open_zarr(store, group="rosalia/reference_01")  # doctest: +SKIP
    """
    return open_repository(path).reader().store


def open_group(path: str | os.PathLike[str], group: str) -> xr.Dataset:
    """Open a group lazily, as ``xarray.open_zarr`` on `open_store` does.

    With Dask installed its variables are Dask arrays, a chunk of the store each; with a current client
    they are computed on its cluster, whose workers are asked first whether they see the store. Without Dask
    values are read when they are used.

    Parameters
    ----------
    path : path
        Folder of the store.
    group : str
        Path of the group, such as ``rosalia/reference_01``.

    Returns
    -------
    xarray.Dataset
        Dims ``epoch`` and ``sid``; ``.dropna("epoch", how="all")`` leaves the real epochs, without fillers.

    Raises
    ------
    InputError
        If there is no such store or group, or workers of the current client do not see the store.
    StoreError
        If Icechunk cannot open the store.

    Examples
    --------
    >>> data = open_group("/data/store", "rosalia/reference_01")  # doctest: +SKIP
    >>> data.SNR.sel(epoch="2025-01-01").mean("sid").compute()  # doctest: +SKIP
    """
    import xarray as xr

    repository = open_repository(path)
    session = repository.reader()
    try:
        import dask.array  # noqa: F401

        chunks: dict[str, int] | None = {}
    except ImportError:
        chunks = None
    else:
        _require_seen(repository.path, f"snapshots/{session.snapshot_id}")
    try:
        dataset: xr.Dataset = xr.open_zarr(session.store, group=group, chunks=chunks)
    except (FileNotFoundError, zarr.errors.ContainsArrayError):
        dataset = xr.Dataset()
    if not dataset.variables:
        raise _no_group(repository.path, group, group_names(session.store))
    return dataset


def open_arrays(path: str | os.PathLike[str], group: str | None = None) -> zarr.Group:
    """Open a group as zarr does, without xarray and Dask, whose import takes seconds.

    Parameters
    ----------
    path : path
        Folder of the store.
    group : str, optional
        Path of the group; by default the only one of the store.

    Returns
    -------
    zarr.Group
        The group, read only.

    Raises
    ------
    InputError
        If there is no such store or group, or several of which none is named.
    StoreError
        If Icechunk cannot open the store.
    """
    store = open_store(path)
    return zarr.open_group(store, path=choose_group(path, store, group), mode="r")


def read_log(path: str | os.PathLike[str], group: str | None = None) -> list[FileRecord]:
    """Read what became of the files that were ingested into a group.

    Parameters
    ----------
    path : path
        Folder of the store.
    group : str, optional
        Path of the group; by default the only one of the store.

    Returns
    -------
    list of FileRecord
        The oldest first.

    Raises
    ------
    InputError
        If there is no such store or group, or several of which none is named, or the group has no log book.
    StoreError
        If Icechunk cannot open the store.
    """
    session = open_repository(path).reader()
    state = read_state(session, choose_group(path, session.store, group))
    return state.log.all() if state is not None else []


def choose_group(path: str | os.PathLike[str], store: icechunk.IcechunkStore, group: str | None) -> str:
    """Find the group that is meant.

    Parameters
    ----------
    path : path
        Folder of the store, for messages.
    store : icechunk.IcechunkStore
        The store, open.
    group : str or None
        Path of the group; None for the only one of the store.

    Returns
    -------
    str
        Path of the group.

    Raises
    ------
    InputError
        If there is no such group, or several of which none is named.
    """
    names = group_names(store)
    wanted = names[0] if group is None and len(names) == 1 else group
    if wanted is None and names:
        raise InputError(
            f"{absolute(path)} holds {len(names)} groups: {', '.join(names)}",
            hint=f"choose one, such as --group {names[0]}",
        )
    if wanted is None or wanted.strip("/") not in names:
        raise _no_group(absolute(path), wanted, names)
    return wanted.strip("/")


def group_names(store: icechunk.IcechunkStore) -> tuple[str, ...]:
    """Name the groups that hold arrays.

    Parameters
    ----------
    store : icechunk.IcechunkStore
        A store that is open, as `open_store` gives it.

    Returns
    -------
    tuple of str
        Their paths, sorted.
    """
    try:
        members = zarr.open_group(store, mode="r").members(max_depth=None)
    except FileNotFoundError:  # a store without a commit
        members = ()
    arrays = {path.rpartition("/")[0] for path, node in members if isinstance(node, zarr.Array)}
    # Days and log book are part of the group above.
    return tuple(sorted(path for path in arrays if path.rpartition("/")[0] not in arrays))


def _no_group(path: Path, group: str | None, names: tuple[str, ...]) -> InputError:
    wanted = "" if group is None else f" {group!r}"
    return InputError(
        f"{path} holds no group{wanted}; it holds {', '.join(names) or 'none'}",
        hint="`canvod-launch store show PATH` shows what is in them"
        if names
        else "`canvod-launch ingest` stores files in a group",
    )


def _require_seen(path: Path, file: str) -> None:
    """Refuse a store of which workers of the current client cannot read this file."""
    if "distributed" not in sys.modules:  # whoever has a client has imported it
        return
    from dask.base import get_scheduler

    client: Any = getattr(get_scheduler(), "__self__", None)  # type: ignore[no-untyped-call]
    if client is None:
        return
    try:
        # A function of the standard library, so that any Python on the workers knows it.
        answers = client.sync(
            client.run,
            os.access,
            str(path / file),
            os.R_OK,
            on_error="ignore",
            callback_timeout=WORKERS_TIMEOUT_S,
        )
    except TimeoutError:
        return
    without_access = sum(not readable for readable in answers.values())
    if without_access:
        raise InputError(
            f"{without_access} of {len(answers)} workers of {client.scheduler.address} cannot see the store "
            f"{path}",
            hint=f'let them see it with DaskClusterManager(read_only=["{path}"]), with --read-only {path} of '
            "canvod-launch run and up, with launch.read_only, or by starting the first two in a folder that "
            "holds it and is no home; or read it without them: "
            "xarray.open_zarr(canvod.launch.open_store(PATH), group=GROUP, chunks=None)",
        )
