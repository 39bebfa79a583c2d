"""What the workers do with spans of days in an ingest: make them of files, and write them into a fork.

Every function here is importable and takes plain values, so that host and workers may run different Python
versions. The arrays of a span stay on the worker that has made it, in a file, so that its memory does not
depend on how many wait to be written; the launcher sees a `UnitReply`.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import tempfile
import threading
import weakref
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from canvod.launch.readers.observations import one_line
from canvod.launch.runtime.blocks import Merged, Source, fill_part, merge, parts_needed, parts_of
from canvod.launch.runtime.file_tasks import (
    ReadFile,
    dask_worker,
    peak_memory_bytes,
    read_guarded,
    worker_name,
)
from canvod.launch.runtime.memory_need import too_large
from canvod.launch.runtime.messages import (
    FileSummary,
    UnitReply,
    UnitRequest,
    WriteReply,
    WriteRequest,
    encode,
)
from canvod.launch.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from canvod.launch.runtime.blocks import Epochs, Values

    Selection = npt.NDArray[np.bool_]

Blocks = dict[str, "dict[int, Values]"]
"""For each variable and part that changes: shape (rows, n_sid)."""


@dataclass(frozen=True, eq=False)
class Unit:
    """A span as it is to be stored, on the worker that has made it.

    Attributes
    ----------
    reply : bytes
        The `UnitReply`, and behind it the real epochs of the parts that change, int64.
    path : str
        File of its values, which is removed with this object.
    """

    reply: bytes
    path: str

    def __post_init__(self) -> None:
        """Remove the file when nothing needs the unit any more."""
        weakref.finalize(self, Path(self.path).unlink, missing_ok=True)

    def __reduce__(self) -> tuple[Any, ...]:
        """Take the values along where Dask moves it to another worker."""
        return _unit_from, (self.reply, Path(self.path).read_bytes())


class _NotRemadeError(Exception):
    """A file that gave stored values is not as it was; the reason is the only argument."""


_quiet = threading.Lock()


def quiet_icechunk() -> None:
    """Silence Icechunk's warning about local storage: canvod-launch has one committer, under a lock.

    A filter that the user has set in ``ICECHUNK_LOG`` stays.
    """
    import icechunk

    with _quiet:
        if "ICECHUNK_LOG" not in os.environ:
            icechunk.set_logs_filter("error")


def read_files(request: UnitRequest, paths: Sequence[str]) -> list[ReadFile]:
    """Read some of the files of a span, and keep what they have of it.

    Parameters
    ----------
    request : UnitRequest
        The span, the reader and the variables.
    paths : sequence of str
        Which of its files to read.

    Returns
    -------
    list of tuple of (FileSummary, Source or None)
        For each path: its summary, and its values within the span; None where it cannot be read.
    """
    read = (_read(path, request) for path in paths)
    return [(summary, source and source.cut(request.span)) for summary, source in read]


def make_unit(request: UnitRequest, *read: list[ReadFile]) -> Unit:
    """Merge the files of a span with what is stored of it, and put the values into a file of this worker.

    Each epoch and signal takes its value from the first file that has one, in the order of their first
    epochs, then numbers of epochs (the larger first), then paths. What is stored has been made in this order
    already; where a new file differs from it, the span is made again from all its files, if they are as they
    were, since only they tell which value counts. Else what is stored stays.

    Parameters
    ----------
    request : UnitRequest
        What to make.
    *read : list of tuple
        What `read_files` gives for its files, in their order; by default they are read here.

    Returns
    -------
    Unit
        Files that cannot be read are failures in its reply.
    """
    import zarr  # noqa: F401 - it takes memory, which is not to grow with the first commit

    path = _new_file()
    return Unit(_save(_merge_files(request, read), path), path)


def spool_unit(request: UnitRequest, path: str) -> bytes:
    """Make a unit as `make_unit` does, with a file that the launcher names and removes.

    Parameters
    ----------
    request : UnitRequest
        What to make.
    path : str
        Path of the file to write.

    Returns
    -------
    bytes
        As of `reply_of`.
    """
    return _save(_merge_files(request, ()), path)


def _new_file() -> str:
    """Make an empty file in the folder of this worker."""
    worker = dask_worker()
    number, path = tempfile.mkstemp(prefix="unit-", dir=None if worker is None else worker.local_directory)
    os.close(number)
    return path


def _unit_from(reply: bytes, values: bytes) -> Unit:
    path = _new_file()
    Path(path).write_bytes(values)
    return Unit(reply, path)


def _save(made: tuple[UnitReply, bytes, Blocks], path: str) -> bytes:
    """Write signature and values of a unit to a file; return the reply, and the real epochs behind it."""
    reply, epochs, variables = made
    try:
        with Path(path).open("wb") as stream:
            pickle.dump((reply.signature, variables), stream, protocol=pickle.HIGHEST_PROTOCOL)
    except OSError as exc:
        problem = f"{Path(path).parent}: {exc.strerror}"
        return encode(UnitReply(reply.files, problem=problem, worker=reply.worker))
    return encode(reply, epochs)


def _merge_files(request: UnitRequest, read: Sequence[list[ReadFile]]) -> tuple[UnitReply, bytes, Blocks]:
    """Merge files and what is stored; give the reply, its real epochs, and the blocks of each variable."""
    held = stored = _stored(request) if request.stored is not None else None
    files = _that_fit(
        [file for part in read or [read_files(request, request.files)] for file in part],
        held.nbytes if held is not None else 0,
        request.memory_limit_bytes,
    )
    summaries = [summary for summary, _ in files]
    new = _in_order([(summary, source) for summary, source in files if source is not None])
    readable = {summary.path for summary, source in files if source is not None}
    cleared = [
        (first, last)
        for path, first, last in (request.stored.cleared if request.stored is not None else ())
        if path in readable
    ]
    for first, last in cleared:
        assert stored is not None  # noqa: S101 - for the type checker
        stored = stored.without(first, last)
    not_replaced = ""
    remade: list[Source] | None = None
    if cleared:
        try:
            remade = _remade(request, files)
        except _NotRemadeError as exc:
            not_replaced = str(exc)
    sources = remade if remade is not None else [*([stored] if stored is not None else ()), *new]
    merged = merge(sources, request.variables)
    if remade is None and stored is not None and not not_replaced and _differs_from_stored(merged):
        try:
            sources = _remade(request, files)
        except _NotRemadeError:
            pass  # what is stored stays
        else:
            merged = merge(sources, request.variables)
    return _unit(request, summaries, sources, merged, held, not_replaced)


def _read(path: str, request: UnitRequest) -> ReadFile:
    limit = request.memory_limit_bytes
    return read_guarded(path, request.reader, request.variables, limit, alone=request.alone)


def _that_fit(files: Sequence[ReadFile], stored_bytes: int, limit_bytes: int | None) -> list[ReadFile]:
    """Files of a span, without the values of those for which there is no memory beside the others."""
    fit: list[ReadFile] = []
    total = stored_bytes
    for summary, source in files:
        size = source.nbytes if source is not None else 0
        what = f"a file of {format_bytes(summary.size)} with what else there is of its day"
        if source is not None and (problem := too_large(total + size, limit_bytes, what=what)):
            fit.append((replace(summary, failure="memory", reason=problem), None))
        else:
            total += size
            fit.append((summary, source))
    return fit


def _in_order(read: Sequence[tuple[FileSummary, Source]]) -> list[Source]:
    return [
        source for _, source in sorted(read, key=lambda pair: (pair[0].first, -pair[0].epochs, pair[0].path))
    ]


def _differs_from_stored(merged: Merged) -> bool:
    return any(other == 0 for _, other in merged.differing)


def _stored(request: UnitRequest) -> Source:
    """Read what the store holds of a span; fillers are left out."""
    import icechunk
    import zarr

    rows = request.stored
    assert rows is not None  # noqa: S101 - for the type checker
    quiet_icechunk()
    repository = icechunk.Repository.open(icechunk.local_filesystem_storage(rows.store))
    session = repository.readonly_session(snapshot_id=rows.snapshot)
    group: Any = zarr.open_group(session.store, path=rows.group, mode="r")
    return Source(
        "",
        np.asarray(group["epoch"][rows.start : rows.stop], dtype=np.int64),
        tuple(map(str, group["sid"][:])),
        {name: group[name][rows.start : rows.stop] for name in request.variables},
    ).with_values()


def _remade(request: UnitRequest, read: Sequence[ReadFile]) -> list[Source]:
    """All files of a span in order: the new ones, and those that gave the stored values, read again."""
    assert request.stored is not None  # noqa: S101 - for the type checker
    every = []
    replaced = {path for path, _, _ in request.stored.cleared}
    for summary, source in read:
        if source is not None:
            every.append((summary, source))
        elif summary.path in replaced:
            raise _NotRemadeError(f"{summary.path}, which has values of the same time, {summary.reason}")
    gone = {}
    for recorded in request.stored.recorded:
        summary, source = _read(recorded.path, request)
        if source is None or summary.digest != recorded.digest:
            why = summary.reason or "has changed"
            gone[recorded.digest] = f"{recorded.path}, which has values of the same time, {why}"
        else:
            every.append((summary, source.cut(request.span)))
    there = {summary.digest for summary, _ in every}
    for digest, reason in gone.items():
        if digest not in there or not digest:  # else it was moved
            raise _NotRemadeError(reason)
    return _in_order(every)


def _unit(
    request: UnitRequest,
    summaries: Sequence[FileSummary],
    sources: Sequence[Source],
    merged: Merged,
    held: Source | None,
    not_replaced: str,
) -> tuple[UnitReply, bytes, Blocks]:
    span, rows = request.span, request.rows
    files = _told(summaries, sources, merged)
    whole = merged.source.with_values()
    where: dict[str, Any] = {"worker": worker_name(), "peak_memory_bytes": peak_memory_bytes()}
    parts = parts_of(whole.epoch, span.parts)
    counts = np.bincount(parts, minlength=span.parts)[span.first : span.stop]
    if counts.max(initial=0) > rows:
        needed = parts_needed(whole.epoch, span.parts, rows)
        return UnitReply(files, parts_needed=needed, **where), b"", {}
    replaced = 0
    if held is None or request.stored is None:
        held = whole.without(span.start_ns, span.stop_ns)  # a new day is all fillers
    elif request.stored.parts != span.parts:
        replaced, held = len(held.epoch), None  # every row of the day moves
    held_parts = parts_of(held.epoch, span.parts) if held is not None else None
    changed: list[Epochs] = []
    variables: Blocks = {name: {} for name in request.variables}
    for part in range(span.first, span.stop):
        chosen = parts == part
        if held is not None and held_parts is not None:
            if _same(whole, chosen, held, held_parts == part):
                counts[part - span.first] = -1
                continue
            replaced += int(np.count_nonzero(held_parts == part))
        changed.append(whole.epoch[chosen])
        places = np.searchsorted(fill_part(changed[-1], span, part, rows), changed[-1])
        for name, values in whole.variables.items():
            block = np.full((rows, len(whole.sid)), np.nan, dtype=values.dtype)
            block[places] = values[chosen]
            variables[name][part] = block
    epochs = b"".join(epoch.astype("<i8").tobytes() for epoch in changed)
    made = (tuple(file.digest for file in files), counts.tolist(), whole.sid, epochs)
    signature = hashlib.sha256(repr(made).encode()).hexdigest()
    reply = UnitReply(
        files,
        tuple(counts.tolist()),
        replaced,
        whole.sid,
        not_replaced=not_replaced,
        displaced=_displaced(request, sources, merged),
        signature=signature,
        **where,
    )
    return reply, epochs, variables


def _told(
    summaries: Sequence[FileSummary], sources: Sequence[Source], merged: Merged
) -> tuple[FileSummary, ...]:
    """Say of each file what it gave, and how many of its values differ from whose."""
    number = {source.name: index for index, source in enumerate(sources)}
    told = []
    for summary in summaries:
        index = number.get(summary.path)
        if index is not None:
            differing = {
                sources[other].name: count for (one, other), count in merged.differing.items() if one == index
            }
            summary = replace(  # noqa: PLW2901 - the same file
                summary, gave=merged.gave[index], differing=tuple(sorted(differing.items()))
            )
        told.append(summary)
    return tuple(told)


def _displaced(
    request: UnitRequest, sources: Sequence[Source], merged: Merged
) -> tuple[tuple[str, str, int], ...]:
    """Say of the files that were read again how many of their values differ from those of which new ones."""
    recorded = {file.path for file in request.stored.recorded} if request.stored is not None else ()
    pairs = ((sources[one].name, sources[other].name, n) for (one, other), n in merged.differing.items())
    return tuple(sorted(pair for pair in pairs if pair[0] in recorded and pair[1] in request.files))


def _same(one: Source, rows: Selection, other: Source, other_rows: Selection) -> bool:
    """Whether two sources have the same values in these rows of theirs."""
    if not np.array_equal(one.epoch[rows], other.epoch[other_rows]):
        return False
    column = {name: index for index, name in enumerate(one.sid)}
    missing = [index for index, name in enumerate(other.sid) if name not in column]
    places = [column[name] for name in other.sid if name in column]
    added = np.setdiff1d(np.arange(len(one.sid)), places)
    kept = [index for index, name in enumerate(other.sid) if name in column]
    for name, values in one.variables.items():
        mine, its = values[rows], other.variables[name][other_rows]
        if not (np.isnan(mine[:, added]).all() and np.isnan(its[:, missing]).all()):
            return False
        if not np.array_equal(mine[:, places], its[:, kept], equal_nan=True):
            return False
    return True


def reply_of(unit: Unit) -> bytes:
    """The small part of a unit, for the launcher.

    Parameters
    ----------
    unit : Unit
        A unit on its worker.

    Returns
    -------
    bytes
        `UnitReply`, and the real epochs of the parts that change.
    """
    return unit.reply


def write_unit(fork: bytes, unit: Unit | str, request: WriteRequest) -> bytes:
    """Write the parts of a span that change into a fork of a session.

    Parameters
    ----------
    fork : bytes
        ``icechunk.ForkSession`` in its own encoding; bytes, so that a task that is repeated starts from the
        same state.
    unit : Unit or str
        What to write, or the path of its file.
    request : WriteRequest
        Where to write it.

    Returns
    -------
    bytes
        `WriteReply`, and the changed fork; the reply alone, where nothing was written.
    """
    try:
        with Path(unit if isinstance(unit, str) else unit.path).open("rb") as stream:
            signature, variables = pickle.load(stream)  # noqa: S301 - from our own process
        if signature != request.signature:
            return encode(WriteReply(lost=True))
        changed = _write(fork, variables, request)
    except KeyboardInterrupt:
        raise
    except Exception as exc:  # noqa: BLE001 - whatever the store says
        return encode(WriteReply(f"{type(exc).__name__}: {one_line(str(exc)) or 'no message'}"))
    return encode(WriteReply(), changed)


def _write(fork: bytes, variables: Blocks, request: WriteRequest) -> bytes:
    import zarr
    from icechunk import ForkSession

    quiet_icechunk()
    session = ForkSession.__new__(ForkSession)
    session.__setstate__({"_session": fork})
    target: Any = zarr.open_group(session.store, path=request.group, mode="r+")
    for name, parts in variables.items():
        array = target[name]
        for part, values in parts.items():
            block = np.full((len(values), array.shape[1]), np.nan, dtype=array.dtype)
            block[:, request.columns] = values
            row = request.rows[part]
            array[row : row + len(values)] = block
    state: Any = session.__getstate__()
    changed: bytes = state["_session"]
    return changed
