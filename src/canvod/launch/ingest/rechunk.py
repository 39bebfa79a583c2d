"""A group anew in other chunks: day by day, under the lock of its store, and in one commit."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from math import gcd
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from zarr.codecs import ZstdCodec

from canvod.launch.errors import InputError, StoreError
from canvod.launch.ingest.days import CHUNK_BYTES, DayTable, choose_chunk, usual_interval, usual_parts
from canvod.launch.ingest.group import finish, make_arrays, place, read_state, write_axis
from canvod.launch.ingest.read import choose_group
from canvod.launch.ingest.store import CommitConflictError, translated
from canvod.launch.ingest.store_lifecycle import changed_store
from canvod.launch.runtime.blocks import DAY_NS, Span, fill_part, parts_needed, parts_of

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from canvod.launch.ingest.group import GroupState
    from canvod.launch.runtime.blocks import Epochs

SAMPLED = 8
"""Days whose interval decides the chunks, where none are asked for."""


@dataclass(frozen=True)
class Rechunked:
    """What has become of the chunks of a group.

    Attributes
    ----------
    group : str
        Path of the group.
    before, chunk : tuple of int
        Epochs and signals of a chunk, before and now.
    days : int
        Days that were written anew.
    snapshot : str or None
        ID of the new snapshot; None where the group had these chunks already.
    """

    group: str
    before: tuple[int, int]
    chunk: tuple[int, int]
    days: int
    snapshot: str | None


def rechunk_group(
    path: str | os.PathLike[str],
    group: str | None = None,
    chunk: tuple[int, int] | None = None,
    *,
    progress: Callable[[int, int], None] | None = None,
    on_wait: Callable[[str], None] | None = None,
) -> Rechunked:
    """Write a group anew in other chunks; its values, epochs, signals, log book and attributes stay.

    Nothing has changed until all is written. Older snapshots keep the old chunks.

    Parameters
    ----------
    path : path
        Folder of the store.
    group : str, optional
        Path of the group; by default the only one of the store.
    chunk : tuple of int, optional
        Epochs and signals of a chunk; by default those of a new group with the usual interval of this one.
    progress : callable, optional
        Called with how many days are written, and how many there are.
    on_wait : callable, optional
        Told once, in words, that another writer has the lock.

    Returns
    -------
    Rechunked
        What was done.

    Raises
    ------
    InputError
        If there is no such store or group, it is of an earlier version, or chunks cannot be like this.
    StoreError
        If the store cannot be read or written, or another program has changed the group meanwhile.

    Examples
    --------
    >>> rechunk_group("/data/store", "rosalia/reference_01", (2880, 64))  # doctest: +SKIP
    """
    with changed_store(path, on_wait=on_wait) as store, translated(store.path, "writing other chunks"):
        old_session, session = store.reader(), store.writer()
        group = choose_group(path, session.store, group)
        state = read_state(old_session, group)
        if state is None:
            raise InputError(f"{group!r} holds no data", hint="name a group of the ingest")
        old: Any = zarr.open_group(old_session.store, path=group, mode="r")
        first = old[next(iter(state.variables))]
        interval = usual_interval(np.concatenate([np.empty(0, np.int64), *_steps(old, state)]))
        before, wanted = first.chunks, chunk or choose_chunk(interval, max(state.variables.values()))
        if wanted == before:
            return Rechunked(group, before, wanted, 0, None)
        _check_chunk(wanted, interval)
        copy = _Copy(old, state, wanted[0], usual_parts(interval, wanted[0]))
        days = [int(day) for day in state.days.day]
        parts = {day: copy.parts_of(day) for day in days}
        target: Any = zarr.open_group(session.store, path=group, mode="r+")
        for name in ("epoch", *state.variables):
            del target[name]
        level = next(codec.level for codec in first.compressors if isinstance(codec, ZstdCodec))
        make_arrays(target, state.variables, wanted, copy.parts, level)
        empty = replace(state, rows=wanted[0], parts=copy.parts, days=DayTable.empty())
        table, _ = place(session, group, empty, parts, state.sid)
        for done, day in enumerate(days):
            span = Span(day, parts[day], 0, parts[day])
            counts, epochs = copy.write(target, span, table.first_row(span, wanted[0]))
            write_axis(session, group, empty, table, [(span, counts, epochs)])
            if progress is not None:
                progress(done + 1, len(days))
        revision = state.revision + 1
        held = Counter(dict(zip(days, state.days.epochs.tolist(), strict=True)))
        finish(session, group, table.changed(held, revision), revision, [], [])
        try:
            snapshot = store.commit(
                session,
                f"Rechunk {group}: {before[0]} x {before[1]} to {wanted[0]} x {wanted[1]}",
                {"group": group, "chunk": list(wanted), "days": len(days)},
            )
        except CommitConflictError as exc:
            raise StoreError(
                f"{store.path}: another program has changed group {group!r} meanwhile",
                hint="run the same command again when nothing else writes to this store",
            ) from exc
        return Rechunked(group, before, wanted, len(days), snapshot)


def _check_chunk(chunk: tuple[int, int], interval: int) -> None:
    longest = -(-DAY_NS // interval)
    if min(chunk) < 1 or chunk[0] > longest:
        raise InputError(
            f"a chunk of {chunk[0]} epochs and {chunk[1]} signals cannot be: allowed are 1 to {longest} "
            "epochs, which is a day of this group, and 1 signal or more",
            hint="leave out --chunk, and ingest.chunk, for chunks that fit",
        )


def _steps(old: Any, state: GroupState) -> list[Epochs]:
    """Steps between the real epochs of some days."""
    chosen = np.linspace(0, len(state.days.day) - 1, SAMPLED, dtype=int) if len(state.days.day) else ()
    days = state.days.day[np.unique(chosen)].tolist() if len(chosen) else []
    return [np.diff(_real_epochs(old, state, day)) for day in days]


def _place_of(state: GroupState, day: int) -> tuple[int, int]:
    """First row of a day of a group, and its number of parts."""
    parts = state.days.parts_of(day) or 0
    return state.days.first_row(Span(day, parts, 0, parts), state.rows), parts


def _real_epochs(old: Any, state: GroupState, day: int) -> Epochs:
    """Epochs of a day that have a value; the others are fillers."""
    start, parts = _place_of(state, day)
    row = state.days.find(day)
    epoch = np.asarray(old["epoch"][start : start + parts * state.rows], np.int64)
    real = np.zeros(len(epoch), bool)
    for name, itemsize in state.variables.items():
        if np.count_nonzero(real) == state.days.epochs[row]:
            break
        part_bytes = state.rows * max(1, len(state.sid)) * itemsize
        rows = state.rows * max(1, CHUNK_BYTES // part_bytes)
        for first in range(0, len(epoch), rows):
            block = old[name][start + first : min(start + first + rows, start + len(epoch))]
            real[first : first + rows] |= ~np.isnan(block).all(axis=1)
    return epoch[real]


class _Copy:
    """Writes days of a group into other arrays, of parts of so many rows."""

    def __init__(self, old: Any, state: GroupState, rows: int, parts: int) -> None:
        self.parts = parts
        self._old, self._state, self._rows = old, state, rows

    def parts_of(self, day: int) -> int:
        """Parts that a day takes now."""
        state = self._state
        start, parts = _place_of(state, day)
        epoch = np.asarray(self._old["epoch"][start : start + parts * state.rows], np.int64)
        if parts_needed(epoch, self.parts, self._rows) == self.parts:  # with fillers
            return self.parts
        return parts_needed(_real_epochs(self._old, state, day), self.parts, self._rows)

    def write(self, target: Any, span: Span, row: int) -> tuple[list[int], Epochs]:
        """Write a day from a row on; gives the number of real epochs of each part, and these epochs."""
        state = self._state
        start, held = _place_of(state, span.day)
        counts: list[int] = []
        epochs: list[Epochs] = [np.empty(0, np.int64)]
        pieces = gcd(held, span.parts)  # in each of them whole parts, old ones and new ones
        for piece in range(pieces):
            stop = start + held // pieces * state.rows
            epoch = np.asarray(self._old["epoch"][start:stop], np.int64)
            values = {name: self._old[name][start:stop] for name in state.variables}
            real = np.logical_or.reduce([~np.isnan(block).all(axis=1) for block in values.values()])
            number = parts_of(epoch, span.parts)
            for part in range(piece * span.parts // pieces, (piece + 1) * span.parts // pieces):
                chosen = real & (number == part)
                epochs.append(epoch[chosen])
                counts.append(len(epochs[-1]))
                places = np.searchsorted(fill_part(epochs[-1], span, part, self._rows), epochs[-1])
                for name, block in values.items() if counts[-1] else ():
                    rows = np.full((self._rows, block.shape[1]), np.nan, block.dtype)
                    rows[places] = block[chosen]
                    target[name][row : row + self._rows] = rows
                row += self._rows
            start = stop
        return counts, np.concatenate(epochs)
