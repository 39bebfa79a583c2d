"""The arrays of one group: what xarray opens, beside it its days and the log book of its files.

A group such as ``rosalia/reference_01`` holds ``epoch``, ``sid`` with the coordinates along it, and the
variables. Its subgroup ``days`` says in which rows each day lies (`canvod.launch.ingest.days`), and
``files`` what became of every file (`canvod.launch.ingest.log_book`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import zarr
from zarr.codecs import ZstdCodec

from canvod.launch.errors import InputError
from canvod.launch.ingest.attributes import (
    EPOCH_ATTRIBUTES,
    SIGNAL_ATTRIBUTES,
    signal_coordinates,
    variable_attributes,
)
from canvod.launch.ingest.days import DayTable, chunk_moves
from canvod.launch.ingest.log_book import FileRecord, LogBook, append, make_log
from canvod.launch.readers import VARIABLES
from canvod.launch.runtime.blocks import fill_part

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import icechunk

    from canvod.launch.runtime.blocks import Epochs, Span

FORMAT_KEY: Final = "canvod_launch_format"
"""Attribute of a group that marks it as ours, with the version of its format."""
FORMAT: Final = 2
REVISION_KEY: Final = "canvod_launch_revision"
"""Attribute of a group: how often it was changed."""
NAMES_KEY: Final = "canvod_launch_station_names"
"""Attribute of a group: stations by the names of its files."""


@dataclass(frozen=True, eq=False)
class GroupState:
    """A group as it is in one snapshot, without its values.

    Attributes
    ----------
    snapshot : str
        ID of the snapshot.
    variables : dict of str to int
        Names, with the bytes of one value.
    rows : int
        Rows of a chunk.
    parts : int
        Parts that a day has at least, whose epochs are one chunk.
    days : DayTable
        Which days it has, and where.
    sid : tuple of str
        Signals, in the order of their axis.
    stations : tuple of str
        MARKER NAMEs of its files.
    station_names : tuple of str
        Their stations by their names.
    readers : tuple of str
        What has read them.
    revision : int
        How often it was changed.
    log : LogBook
        What became of its files.
    """

    snapshot: str
    variables: dict[str, int]
    rows: int
    parts: int
    days: DayTable
    sid: tuple[str, ...]
    stations: tuple[str, ...]
    station_names: tuple[str, ...]
    readers: tuple[str, ...]
    revision: int
    log: LogBook


def item_sizes(variables: Iterable[str]) -> dict[str, int]:
    """Bytes of one value of each variable.

    Parameters
    ----------
    variables : iterable of str
        Names of variables that can be read.

    Returns
    -------
    dict of str to int
        Bytes by name.
    """
    return {name: np.dtype(VARIABLES[name]).itemsize for name in variables}


def check_group_name(group: str) -> str:
    """Return the name without outer slashes, or refuse it.

    Parameters
    ----------
    group : str
        A name as a user gives it.

    Returns
    -------
    str
        Path of the group, parts between ``/``.

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


def read_state(session: icechunk.Session, group: str) -> GroupState | None:
    """Read what a group holds.

    Parameters
    ----------
    session : icechunk.Session
        A session that nothing has changed.
    group : str
        Path of the group.

    Returns
    -------
    GroupState or None
        The group without its values; None where there is no such group.

    Raises
    ------
    InputError
        If the group is of another origin or of an earlier version, has groups below it and no data, or lies
        within a group of data.
    """
    try:
        root = zarr.open_group(session.store, mode="r")
    except FileNotFoundError:  # a store without a commit
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
    if isinstance(found, zarr.Group) and found.attrs.get(FORMAT_KEY) == 1:
        raise InputError(
            f"group {group!r} was written by an earlier version of canvod-launch, with another layout",
            hint="ingest its files anew into another group, such as "
            f"--group {group}_days; `canvod-launch store show` still shows the old one",
        )
    if not isinstance(found, zarr.Group) or found.attrs.get(FORMAT_KEY) != FORMAT:
        raise InputError(
            f"group {group!r} was not written by this version of canvod-launch, which does not add to it",
            hint="name another group, or another store",
        )
    arrays = {name: array for name, array in found.arrays() if name in VARIABLES}
    table = np.asarray(_array(found, "days/table")[:], np.int64)
    attributes: Any = found.attrs
    return GroupState(
        snapshot=session.snapshot_id,
        variables={name: array.dtype.itemsize for name, array in arrays.items()},
        rows=(rows := next(iter(arrays.values())).chunks[0]),
        parts=_array(found, "epoch").chunks[0] // rows,
        days=DayTable(*table.T),
        sid=tuple(map(str, _array(found, "sid")[:])),
        stations=tuple(attributes.get("stations", ())),
        station_names=tuple(attributes.get(NAMES_KEY, ())),
        readers=tuple(attributes.get("readers", ())),
        revision=int(attributes[REVISION_KEY]),
        log=LogBook(found),
    )


def check_variables(state: GroupState | None, group: str, variables: Sequence[str]) -> None:
    """Refuse to add variables other than those that a group has.

    Parameters
    ----------
    state : GroupState or None
        The group; None where there is none, which passes.
    group : str
        Its path, for the message.
    variables : sequence of str
        Variables that are to be added, in any order.

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


def make_group(
    session: icechunk.Session,
    group: str,
    *,
    variables: Sequence[str],
    chunk: tuple[int, int],
    parts: int,
    compression_level: int,
    attributes: Mapping[str, Any],
) -> GroupState:
    """Make a group without days.

    Parameters
    ----------
    session : icechunk.Session
        A writable session.
    group : str
        Path of the group.
    variables : sequence of str
        Its variables.
    chunk : tuple of int
        Rows and signals of a chunk, which stay for good.
    parts : int
        Parts that a day has at least.
    compression_level : int
        Of zstd.
    attributes : mapping of str to object
        Attributes of the group.

    Returns
    -------
    GroupState
        The group, without days and signals.
    """
    snapshot = session.snapshot_id
    target = zarr.create_group(
        session.store, path=group, attributes={**attributes, FORMAT_KEY: FORMAT, REVISION_KEY: 0}
    )
    make_arrays(target, variables, chunk, parts, compression_level)
    for name, values in signal_coordinates(()).items():
        target.create_array(
            name,
            shape=(0,),
            dtype=str if values.dtype.kind == "T" else values.dtype,
            # Room for every signal that a system can have, so that it stays one chunk.
            chunks=(2**13,),
            dimension_names=["sid"],
            compressors=[ZstdCodec(level=compression_level)],
            attributes=dict(SIGNAL_ATTRIBUTES[name]),
        )
    days = target.create_group("days", attributes={"title": "The days that have data, and their rows"})
    days.create_array(
        "table",
        shape=(0, len(fields(DayTable))),
        dtype="int64",
        chunks=(2**12, len(fields(DayTable))),
        dimension_names=["day", "column"],
        attributes={"columns": [column.name for column in fields(DayTable)]},
    )
    make_log(target)
    sizes = item_sizes(variables)
    return GroupState(snapshot, sizes, chunk[0], parts, DayTable.empty(), (), (), (), (), 0, LogBook(None))


def make_arrays(
    group: Any, variables: Iterable[str], chunk: tuple[int, int], parts: int, compression_level: int
) -> None:
    """Make ``epoch`` and the variables of a group, without rows and columns.

    Parameters
    ----------
    group : zarr.Group
        The group, in a writable session, which does not have them.
    variables : iterable of str
        Names of the variables.
    chunk : tuple of int
        Rows and signals of a chunk.
    parts : int
        Parts that a day has at least, whose epochs are one chunk.
    compression_level : int
        Of zstd.
    """
    zstd = [ZstdCodec(level=compression_level)]
    group.create_array(
        "epoch",
        shape=(0,),
        dtype="int64",
        chunks=(chunk[0] * parts,),
        dimension_names=["epoch"],
        compressors=zstd,
        attributes=dict(EPOCH_ATTRIBUTES),
    )
    for name in variables:
        group.create_array(
            name,
            shape=(0, 0),
            dtype=np.dtype(VARIABLES[name]),
            chunks=chunk,
            dimension_names=["epoch", "sid"],
            fill_value=np.nan,
            compressors=zstd,
            attributes=dict(variable_attributes(name)),
        )


def place(
    session: icechunk.Session, group: str, state: GroupState, parts: Mapping[int, int], sid: Iterable[str]
) -> tuple[DayTable, tuple[str, ...]]:
    """Make room for days and signals.

    Parameters
    ----------
    session : icechunk.Session
        A writable session.
    group : str
        Path of the group.
    state : GroupState
        The group as it is in that session.
    parts : mapping of int to int
        Days that will be written, each with its number of parts; a day that has another number now loses what
        it has.
    sid : iterable of str
        Signals that will be written.

    Returns
    -------
    tuple of (DayTable, tuple of str)
        The days and the signals of the group now.
    """
    days = state.days.with_days(parts)
    signals = state.sid + tuple(sorted(set(sid) - set(state.sid)))
    target: Any = zarr.open_group(session.store, path=group, mode="r+")
    length = days.chunk_rows * state.rows
    target["epoch"].resize((length,))
    for name in state.variables:
        target[name].resize((length, len(signals)))
    moves = chunk_moves(state.days, days)
    if any(old != new for old, new in moves.items()) or len(moves) < state.days.chunk_rows:
        of_days = {old // state.parts: new // state.parts for old, new in moves.items()}
        for name in ("epoch", *state.variables):
            there = of_days if name == "epoch" else moves
            back = {new: old for old, new in there.items()}
            session.reindex_array(f"/{group}/{name}", _moved(there), _moved(back))
    if len(signals) > len(state.sid):
        for name, values in signal_coordinates(signals[len(state.sid) :]).items():
            target[name].resize((len(signals),))
            target[name][len(state.sid) :] = values
    return days, signals


def _moved(rows: Mapping[int, int]) -> Callable[[Iterable[int]], Iterable[int] | None]:
    def move(index: Iterable[int]) -> Iterable[int] | None:
        first, *others = index
        return [rows[first], *others] if first in rows else None

    return move


def write_axis(
    session: icechunk.Session,
    group: str,
    state: GroupState,
    days: DayTable,
    made: Iterable[tuple[Span, Sequence[int], Epochs]],
) -> None:
    """Write the epochs of the days that change: the real ones, and fillers.

    Parameters
    ----------
    session : icechunk.Session
        A writable session in which `place` has made room.
    group : str
        Path of the group.
    state : GroupState
        The group as it was.
    days : DayTable
        Its days now.
    made : iterable of (Span, sequence of int, numpy.ndarray)
        For each unit: its span, the real epochs of each of its parts (-1 where it stays as it is), and
        the epochs of the others together.
    """
    axis: Any = zarr.open_group(session.store, path=group, mode="r+")["epoch"]
    blocks: dict[int, Epochs] = {}
    rows = state.rows
    for span, counts, epochs in made:
        day = replace(span, first=0, stop=span.parts)
        start = days.first_row(day, rows)
        if span.day not in blocks:
            if state.days.parts_of(span.day) == span.parts:
                blocks[span.day] = np.asarray(axis[start : start + span.parts * rows], np.int64)
            else:
                nothing = np.empty(0, np.int64)
                parts = [fill_part(nothing, span, part, rows) for part in range(span.parts)]
                blocks[span.day] = np.concatenate(parts)
        taken = 0
        for part, count in zip(range(span.first, span.stop), counts, strict=True):
            if count >= 0:
                real = epochs[taken : taken + count]
                blocks[span.day][part * rows : (part + 1) * rows] = fill_part(real, span, part, rows)
                taken += count
        axis[start : start + span.parts * rows] = blocks[span.day]


def finish(
    session: icechunk.Session,
    group: str,
    days: DayTable,
    revision: int,
    records: Sequence[FileRecord],
    names: Iterable[str],
) -> None:
    """Write the table of days, the log book, and the revision and stations of the group.

    Parameters
    ----------
    session : icechunk.Session
        A writable session.
    group : str
        Path of the group.
    days : DayTable
        Its days.
    revision : int
        How often it was changed.
    records : sequence of FileRecord
        What became of files.
    names : iterable of str
        Stations by the names of the files.
    """
    target: Any = zarr.open_group(session.store, path=group, mode="r+")
    table = np.stack([getattr(days, column.name) for column in fields(DayTable)], axis=1)
    target["days/table"].resize(table.shape)
    target["days/table"][:] = table
    append(target, records)
    markers = (record.station for record in records if record.has_values)
    readers = (record.reader for record in records if record.has_values)
    found = {"stations": {*markers}, "readers": {*readers}, NAMES_KEY: {*names}}
    told = {key: sorted({*target.attrs.get(key, ()), *values} - {""}) for key, values in found.items()}
    target.attrs.update({**told, REVISION_KEY: revision})


def _array(group: zarr.Group, name: str) -> Any:
    return group[name]
