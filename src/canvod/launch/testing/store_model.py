"""What a group of a store must hold: a model of labels and values, and how a group differs from it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from canvod.launch.readers import VARIABLES, read_observations

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Sequence

    import xarray as xr

_SHOWN: Final = 5
"""How many labels a message names of each kind."""


def serial_model(
    files: Iterable[str | os.PathLike[str]],
    variables: Sequence[str] = ("SNR",),
    *,
    reader: str = "rinex",
    held: xr.Dataset | None = None,
) -> xr.Dataset:
    """Read files one after the other, and merge them as a group that holds all of them must.

    Each epoch and signal takes its value from the first that has one: what the group ``held`` before, then
    the files in the order of their first epoch, the longer one first, then by path.

    Parameters
    ----------
    files : iterable of path
        Observation files, in any order.
    variables : sequence of str
        Names out of `canvod.launch.readers.VARIABLES`.
    reader : str
        Name of a reader that is installed here.
    held : xarray.Dataset, optional
        The model of what the group held before these files came.

    Returns
    -------
    xarray.Dataset
        Each variable has the dims ``epoch`` (datetime64[ns], GPS time, increasing) and ``sid`` (str, sorted),
        its dtype of `VARIABLES`, and NaN where there is no value.

    Raises
    ------
    UnreadableFileError
        If a file cannot be read: leave out of the model what the group is not to hold.
    NoReaderError
        If there is no such reader, or it cannot be imported.
    ValueError
        If a variable is not in `VARIABLES`.

    Examples
    --------
    >>> serial_model([]).sizes["epoch"]
    0
    """
    import xarray as xr

    read = [(str(file), read_observations(str(file), variables, reader)) for file in files]
    read.sort(key=lambda item: (int(item[1].epoch[0]), -len(item[1].epoch), item[0]))
    sources = [(one.epoch.astype("datetime64[ns]"), one.sid, one.variables) for _, one in read]
    if held is not None:
        values = {name: held[name].values for name in variables}
        sources.insert(0, (held["epoch"].values, tuple(held["sid"].values.tolist()), values))
    nothing = np.empty(0, "datetime64[ns]")
    epoch = np.unique(np.concatenate([nothing, *(epochs for epochs, _, _ in sources)]))
    sid = sorted({name for _, names, _ in sources for name in names})
    model = {
        name: np.full((len(epoch), len(sid)), np.nan, dtype=np.dtype(VARIABLES[name])) for name in variables
    }
    for epochs, names, values in sources:
        cells = np.ix_(np.searchsorted(epoch, epochs), [sid.index(name) for name in names])
        for variable, merged in model.items():
            merged[cells] = np.where(np.isnan(merged[cells]), values[variable], merged[cells])
    return xr.Dataset(
        {name: (("epoch", "sid"), values) for name, values in model.items()},
        coords={"epoch": epoch, "sid": np.array(sid, dtype=object)},
    )


def assert_store_equals(store: str | os.PathLike[str], group: str, model: xr.Dataset) -> None:
    """Assert that the newest snapshot of a group holds the values of a model, bit by bit, and no others.

    It is read in this process, also where a Dask client is at hand.

    Parameters
    ----------
    store : path
        Folder of the store.
    group : str
        Path of the group, such as ``rosalia/reference_01``.
    model : xarray.Dataset
        As `serial_model` gives it; its axes may be in any order.

    Raises
    ------
    AssertionError
        If they differ; the message names epochs, signals and variables that are missing or too many, and the
        first values that differ.
    InputError
        If there is no such store.
    FileNotFoundError
        If there is no such group.

    Examples
    --------
    >>> assert_store_equals("/data/store", "site/canopy", serial_model(files))  # doctest: +SKIP
    """
    import xarray as xr

    from canvod.launch.ingest.read import open_store

    assert_dataset_equals(xr.open_zarr(open_store(store), group=group, chunks=None), model)


def assert_dataset_equals(dataset: xr.Dataset, model: xr.Dataset) -> None:
    """Assert that a group that was opened holds the values of a model, bit by bit, and no others.

    Parameters
    ----------
    dataset : xarray.Dataset
        A group as `canvod.launch.open_group` opens it; its variables are computed.
    model : xarray.Dataset
        As `serial_model` gives it; its axes may be in any order.

    Raises
    ------
    AssertionError
        If they differ, as in `assert_store_equals`.

    Examples
    --------
    >>> assert_dataset_equals(serial_model([]), serial_model([]))
    """
    found = dataset_differences(dataset, model)
    if found:
        raise AssertionError("\n  ".join(["the group differs from the model:", *found]))


def dataset_differences(dataset: xr.Dataset, model: xr.Dataset) -> list[str]:
    """Find how a group that was opened differs from a model.

    Parameters
    ----------
    dataset : xarray.Dataset
        A group as `canvod.launch.open_group` opens it.
    model : xarray.Dataset
        As `serial_model` gives it.

    Returns
    -------
    list of str
        One line for each kind of difference; empty where there is none.
    """
    import xarray as xr

    dataset = dataset.assign_coords(epoch=dataset["epoch"].astype("datetime64[ns]"))
    found: list[str] = []
    if not (dataset["epoch"].values[1:] > dataset["epoch"].values[:-1]).all():
        found.append("epoch: not strictly increasing")
    dataset, model = _with_values(dataset), _with_values(model)
    for axis in ("epoch", "sid"):
        stored = dataset[axis].values
        if (twice := dataset.indexes[axis].duplicated()).any():
            found.append(f"{axis}: labels that are there more than once: {_listed(stored[twice])}")
        found += _set_differences(axis, stored, model[axis].values)
    found += _set_differences("variables", dataset.data_vars, model.data_vars)
    one, other = xr.align(dataset.drop_duplicates(["epoch", "sid"]), model, join="inner")
    for name in model.data_vars.keys() & dataset.data_vars.keys():
        values, expected = one[name], other[name]
        if values.dtype != expected.dtype:
            found.append(f"{name}: dtype {values.dtype}, expected {expected.dtype}")
        if values.dims != expected.dims:
            found.append(f"{name}: dims {values.dims}, expected {expected.dims}")
            continue
        unequal = np.argwhere(((values != expected) & ~(np.isnan(values) & np.isnan(expected))).values)
        if len(unequal):
            shown = [
                f"{one['epoch'].values[row]} {one['sid'].values[column]}: {values.values[row, column]}, "
                f"expected {expected.values[row, column]}"
                for row, column in unequal[:_SHOWN].tolist()
            ]
            found.append(f"{name}: values that differ: {len(unequal)}; {'; '.join(shown)}")
    return found


def _with_values(dataset: xr.Dataset) -> xr.Dataset:
    """Without the epochs and signals that have no value in any variable: rows that fill a day."""
    if not dataset.data_vars:
        return dataset
    has = np.logical_or.reduce([~np.isnan(dataset[name].values) for name in dataset.data_vars])
    return dataset.isel(epoch=has.any(axis=1), sid=has.any(axis=0))


def _set_differences(what: str, stored: Iterable[Any], wanted: Iterable[Any]) -> list[str]:
    kinds = {"missing": set(wanted) - set(stored), "not expected": set(stored) - set(wanted)}
    return [f"{what}: {len(labels)} {kind}: {_listed(labels)}" for kind, labels in kinds.items() if labels]


def _listed(labels: Iterable[Any]) -> str:
    shown = sorted(set(labels))
    return ", ".join(map(str, shown[:_SHOWN])) + (", ..." if len(shown) > _SHOWN else "")
