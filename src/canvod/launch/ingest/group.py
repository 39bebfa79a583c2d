"""The arrays of one group: what xarray opens, and beside it the record of the files that were stored.

A group such as ``rosalia/reference_01`` holds ``epoch``, ``sid``, ``sv``, ``system``, ``band``, ``code`` and
the variables. Its subgroup ``files`` holds one row for each file that was read; the next run recognises the
file by it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import zarr
from zarr.codecs import ZstdCodec

from canvod.launch.errors import InputError
from canvod.launch.ingest.layout import Layout, StoredAxes
from canvod.launch.readers import VARIABLES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

FORMAT_KEY: Final = "canvod_launch_format"
"""Attribute of a group that marks it as ours, with the version of its format."""
FORMAT: Final = 1

EPOCH_CHUNK: Final = 2**17
"""Epochs in a chunk of the coordinate ``epoch``: a week at 5 s, 1 MiB; opening a group reads them all."""
RECORD_CHUNK: Final = 2**12

VARIABLE_ATTRIBUTES: Final[dict[str, dict[str, str]]] = {
    "SNR": {"long_name": "Signal-to-noise ratio (carrier-to-noise density)", "units": "dB-Hz"},
    "Pseudorange": {"long_name": "Pseudorange", "units": "m"},
    "Phase": {"long_name": "Carrier phase", "units": "cycles"},
    "Doppler": {"long_name": "Doppler shift", "units": "Hz"},
}

EPOCH_ATTRIBUTES: Final = {
    "units": "nanoseconds since 1970-01-01",
    "calendar": "proleptic_gregorian",
    "standard_name": "time",
    "axis": "T",
    "long_name": "Epoch of the observation",
    "time_scale": "GPS",
    "comment": "GPS time as in the files, without leap seconds: it is not UTC",
}

SIGNAL_ATTRIBUTES: Final = {
    "sid": "Signal: satellite, band and tracking code, as sv|band|code",
    "sv": "Satellite, as in RINEX (G01)",
    "system": "System: G GPS, R GLONASS, E Galileo, C BeiDou, J QZSS, I NavIC, S SBAS",
    "band": "Frequency band (L1)",
    "code": "Tracking code of RINEX (C)",
}


@dataclass(frozen=True)
class FileRecord:
    """One file as it was stored."""

    path: str
    size: int
    mtime_ns: int
    digest: str
    """SHA-256 of the file's content."""
    first_epoch: int
    last_epoch: int
    epochs: int
    epochs_stored: int
    """Fewer than ``epochs`` where another file had held them before."""
    reader: str = ""
    """What has read it, with its version and that of Python."""
    station: str = ""
    """MARKER NAME, as the file has it."""


@dataclass(frozen=True, eq=False)
class GroupState:
    """A group as it is stored."""

    axes: StoredAxes
    variables: dict[str, int]
    """Names, with the bytes of one value."""
    records: tuple[FileRecord, ...]


def item_sizes(variables: Iterable[str]) -> dict[str, int]:
    """Bytes of one value of each variable."""
    return {name: np.dtype(VARIABLES[name]).itemsize for name in variables}


def check_group_name(group: str) -> str:
    """Return the name without outer slashes, or refuse it.

    Raises
    ------
    InputError
        If it is no path of letters, digits, ``_``, ``-`` and ``.``.
    """
    name = group.strip("/")
    parts = name.split("/")
    if all(re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*", part) for part in parts):
        return name
    raise InputError(
        f"group {group!r} is no name for a group; allowed are letters, digits, '_', '-' and '.', in parts "
        "between '/'",
        hint="name site and receiver, such as --group rosalia/reference_01",
    )


def read_state(store: Any, group: str) -> GroupState | None:
    """Read what a group holds; None where there is no such group.

    Parameters
    ----------
    store : icechunk.IcechunkStore
        Store of a session.
    group : str
        Path of the group.

    Raises
    ------
    InputError
        If there is a group of another origin, or the name lies within a group of data.
    """
    root = zarr.open_group(store, mode="r") if _has_group(store) else None
    if root is None:
        return None
    parts = group.split("/")
    for depth in range(1, len(parts)):
        outer = root.get("/".join(parts[:depth]))
        if outer is None:
            return None
        if isinstance(outer, zarr.Array) or FORMAT_KEY in outer.attrs:
            raise InputError(
                f"group {group!r} would lie within {outer.path!r}, which holds data itself",
                hint="name a group beside it",
            )
    found: Any = root.get(group)
    if found is None:
        return None
    if (
        isinstance(found, zarr.Group)
        and FORMAT_KEY not in found.attrs
        and not any(True for _ in found.array_keys())
    ):
        if not any(True for _ in found.group_keys()):
            return None
        raise InputError(
            f"{group!r} has groups below it ({', '.join(sorted(found.group_keys()))}), and holds no data",
            hint="name one of them, or a new one",
        )
    if not isinstance(found, zarr.Group) or found.attrs.get(FORMAT_KEY) != FORMAT:
        raise InputError(
            f"group {group!r} was not written by this version of canvod-launch, which does not add to it",
            hint="name another group, or another store",
        )
    return _read_group(found)


def _read_group(found: Any) -> GroupState:
    variables = {name: array for name, array in found.arrays() if name in VARIABLES}
    chunk_epochs, chunk_sids = next(iter(variables.values())).chunks
    axes = StoredAxes(
        epoch=np.asarray(found["epoch"][:], dtype=np.int64),
        sid=tuple(str(name) for name in found["sid"][:]),
        chunk_epochs=chunk_epochs,
        chunk_sids=chunk_sids,
    )
    sizes = {name: array.dtype.itemsize for name, array in variables.items()}
    return GroupState(axes, sizes, _read_records(found["files"]))


def _has_group(store: Any) -> bool:
    try:
        zarr.open_group(store, mode="r")
    except FileNotFoundError:
        return False
    return True


def check_variables(state: GroupState | None, group: str, variables: Sequence[str]) -> None:
    """Refuse to add variables other than those that a group has.

    Raises
    ------
    InputError
        If they differ.
    """
    if state is not None and set(state.variables) != set(variables):
        held, asked = ", ".join(sorted(state.variables)), ", ".join(sorted(variables))
        raise InputError(
            f"group {group!r} holds {held}, and ingest.variables asks for {asked}; a group has one set of "
            "variables",
            hint=f"set ingest.variables to [{held}], or name another group",
        )


def write_axes(
    store: Any,
    group: str,
    layout: Layout,
    state: GroupState | None,
    *,
    variables: Sequence[str],
    compression_level: int,
    attributes: Mapping[str, Any],
) -> None:
    """Make or enlarge the arrays of a group, and write its coordinates.

    Parameters
    ----------
    store : icechunk.IcechunkStore
        Store of a writable session.
    group : str
        Path of the group.
    layout : Layout
        The axes as they shall be.
    state : GroupState or None
        The group as it is.
    variables : sequence of str
        Variables of a new group.
    compression_level : int
        Of zstd.
    attributes : mapping
        Attributes of a new group.
    """
    zstd = [ZstdCodec(level=compression_level)]
    target: Any
    if state is None:
        target = zarr.create_group(store, path=group, attributes={**attributes, FORMAT_KEY: FORMAT})
        _make_arrays(target, layout, variables, zstd)
        _make_records(target, zstd)
        written_epochs = written_sids = 0
    else:
        target = zarr.open_group(store, path=group, mode="r+")
        written_epochs, written_sids = layout.first_changed, len(state.axes.sid)
        shape = len(layout.epoch), len(layout.sid)
        for name in state.variables:
            target[name].resize(shape)
        target["epoch"].resize(shape[:1])
        for name in SIGNAL_ATTRIBUTES:
            target[name].resize(shape[1:])
    target["epoch"][written_epochs:] = layout.epoch[written_epochs:]
    if written_sids < len(layout.sid):
        added = layout.sid[written_sids:]
        signals = [name.split("|") for name in added]
        columns = {
            "sid": list(added),
            "sv": [signal[0] for signal in signals],
            "system": [signal[0][:1] for signal in signals],
            "band": [signal[1] for signal in signals],
            "code": [signal[2] for signal in signals],
        }
        for name, values in columns.items():
            target[name][written_sids:] = _strings(values)


def _strings(values: Sequence[str]) -> Any:
    return np.array(values, dtype=np.dtypes.StringDType())


def _make_arrays(group: zarr.Group, layout: Layout, variables: Sequence[str], zstd: list[ZstdCodec]) -> None:
    n_epochs, n_sids = len(layout.epoch), len(layout.sid)
    group.create_array(
        "epoch",
        shape=(n_epochs,),
        dtype="int64",
        chunks=(EPOCH_CHUNK,),
        dimension_names=["epoch"],
        compressors=zstd,
        attributes=dict(EPOCH_ATTRIBUTES),
    )
    for name, long_name in SIGNAL_ATTRIBUTES.items():
        group.create_array(
            name,
            shape=(n_sids,),
            dtype=str,
            # Room for every signal that a system can have, so that it stays one chunk.
            chunks=(2**13,),
            dimension_names=["sid"],
            compressors=zstd,
            attributes={"long_name": long_name},
        )
    for name in variables:
        group.create_array(
            name,
            shape=(n_epochs, n_sids),
            dtype=np.dtype(VARIABLES[name]),
            chunks=(layout.chunk_epochs, layout.chunk_sids),
            dimension_names=["epoch", "sid"],
            fill_value=np.nan,
            compressors=zstd,
            attributes={**VARIABLE_ATTRIBUTES[name], "coordinates": "sv system band code"},
        )


def _make_records(group: zarr.Group, zstd: list[ZstdCodec]) -> None:
    title = "Files that were read into the group above"
    records = group.create_group("files", attributes={"title": title})
    for column in fields(FileRecord):
        _make_column(records, column.name, 0, zstd)


def _make_column(records: zarr.Group, name: str, length: int, zstd: list[ZstdCodec]) -> Any:
    is_time = name in ("first_epoch", "last_epoch")
    return records.create_array(
        name,
        shape=(length,),
        dtype=str if _is_text(name) else "int64",
        chunks=(RECORD_CHUNK,),
        dimension_names=["file"],
        compressors=zstd,
        attributes={"units": "nanoseconds since 1970-01-01"} if is_time else {},
    )


def _is_text(name: str) -> bool:
    return any(column.type == "str" for column in fields(FileRecord) if column.name == name)


def _read_records(records: Any) -> tuple[FileRecord, ...]:
    columns = []
    n_files = records["path"].shape[0]
    for column in fields(FileRecord):
        # Groups that an older version has made lack some of the columns.
        values = records[column.name][:] if column.name in records else np.full(n_files, column.default)
        columns.append([str(value) for value in values] if column.type == "str" else values.tolist())
    return tuple(FileRecord(*row) for row in zip(*columns, strict=True))


def append_records(store: Any, group: str, records: Sequence[FileRecord]) -> None:
    """Add rows to the record of files of a group, and to its attributes the stations that they are of."""
    parent = zarr.open_group(store, path=group, mode="r+")
    held_stations: Any = parent.attrs.get("stations", [])
    stations = sorted({*held_stations, *(record.station for record in records if record.station)})
    if stations != held_stations:
        parent.attrs["stations"] = stations
    target: Any = parent["files"]
    held = target["path"].shape[0]
    for column in fields(FileRecord):
        if column.name not in target:
            _make_column(target, column.name, held, [ZstdCodec()])
        array = target[column.name]
        array.resize((held + len(records),))
        values = [getattr(record, column.name) for record in records]
        array[held:] = _strings(values) if column.type == "str" else np.array(values, dtype=np.int64)
