"""Where the epochs of every file go in a group: pure functions of the axes alone.

The epoch axis is strictly increasing, whatever order files arrive in. Signals keep their positions once they
have one. The chunk grid is regular; it starts with the first file, so that chunks and files coincide as long
as files are of one length. Sources are merged by cell: each epoch and signal takes its value from the first
source that has one, of the store, then the files in order of their first epoch (the longer file first, then
by name). Only the tasks that write have the values; a layout names the sources of each epoch, in order.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from canvod.launch.runtime.messages import STORED, ChunkWrite, Segment, WriteBatch
from canvod.launch.units import MIB

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

Epochs = npt.NDArray[np.int64]

AUTO_CHUNK_BYTES = 16 * MIB
"""Largest chunk of one variable that is chosen unasked; files that hold more get several chunks each."""

BATCH_CHUNKS = 64
BATCH_BYTES = 64 * MIB
TASKS_PER_WORKER = 4
"""A write task has at most so many chunks and bytes; there are so many tasks a worker, where chunks last."""


@dataclass(frozen=True, eq=False)
class FileAxes:
    """The axes of one file that was read."""

    number: int
    """Number of the file in the run."""
    name: str
    epoch: Epochs
    sid: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class StoredAxes:
    """The axes of a group as it is stored."""

    epoch: Epochs
    sid: tuple[str, ...]
    chunk_epochs: int
    chunk_sids: int


@dataclass(frozen=True, eq=False)
class Layout:
    """The axes of a group as it will be, and what must be written.

    Attributes
    ----------
    epoch : numpy.ndarray
        Shape (n_epoch,), int64 nanoseconds, strictly increasing.
    sid : tuple of str
        Signals; those of the store first, unchanged.
    chunk_epochs, chunk_sids : int
        The chunk grid.
    first_changed : int
        First position on the epoch axis that differs from the store's.
    chunks : tuple of ChunkWrite
        The chunks of epochs that may differ from what is stored; a segment's ``source`` is a file's number,
        or `STORED`, and the segments of an epoch are in the order in which their values count.
    holders : mapping of int to tuple of int
        For each file with epochs that a source before it has too: those that are the first to have some of
        them (files' numbers, or `STORED`).
    """

    epoch: Epochs
    sid: tuple[str, ...]
    chunk_epochs: int
    chunk_sids: int
    first_changed: int
    chunks: tuple[ChunkWrite, ...]
    holders: Mapping[int, tuple[int, ...]]


def choose_chunk_epochs(lengths: Sequence[int], n_sids: int, itemsize: int) -> int:
    """Epochs per chunk: as many as most of the files have, or an even part of that where it is too much.

    Parameters
    ----------
    lengths : sequence of int
        Epochs of each file.
    n_sids : int
        Signals in a chunk.
    itemsize : int
        Bytes of one value of the widest variable.

    Examples
    --------
    >>> choose_chunk_epochs([180, 180, 77], n_sids=270, itemsize=4)
    180
    >>> choose_chunk_epochs([86400], n_sids=270, itemsize=4)
    14400
    """
    counts = Counter(lengths)
    length = max(counts, key=lambda value: (counts[value], value))
    most = max(1, AUTO_CHUNK_BYTES // max(1, n_sids * itemsize))
    if length <= most:
        return length
    fewest = -(-length // most)
    for parts in range(fewest, 2 * fewest + 1):
        if length % parts == 0:
            return length // parts
    return -(-length // fewest)


def make_layout(
    files: Sequence[FileAxes],
    stored: StoredAxes | None = None,
    *,
    chunk_epochs: int | None = None,
    itemsize: int = 4,
) -> Layout:
    """Merge the axes of files with those of the store.

    Parameters
    ----------
    files : sequence of FileAxes
        In any order.
    stored : StoredAxes, optional
        What the group holds; None for a new group. Its chunk grid stays.
    chunk_epochs : int, optional
        Epochs per chunk of a new group; by default `choose_chunk_epochs`.
    itemsize : int
        Bytes of one value of the widest variable.
    """
    ordered = sorted(files, key=lambda file: (file.epoch[0], -len(file.epoch), file.name, file.number))
    old_epoch = stored.epoch if stored is not None else np.empty(0, np.int64)
    numbers = np.array([STORED, *(file.number for file in ordered)], dtype=np.int64)
    parts = [old_epoch, *(file.epoch for file in ordered)]
    lengths = np.array([len(part) for part in parts], dtype=np.int64)
    rank = np.repeat(np.arange(len(parts)), lengths)
    row = np.concatenate([np.arange(length, dtype=np.int64) for length in lengths])
    # The parts are in the order in which their values count, so the first occurrence is the first holder.
    epoch, first, position = np.unique(np.concatenate(parts), return_index=True, return_inverse=True)

    old_sid = stored.sid if stored is not None else ()
    sid = old_sid + tuple(sorted(set().union(*(file.sid for file in ordered)) - set(old_sid)))
    if stored is not None:
        grid = stored.chunk_epochs, stored.chunk_sids
    else:
        automatic = choose_chunk_epochs([len(file.epoch) for file in ordered] or [1], len(sid), itemsize)
        grid = chunk_epochs or automatic, max(1, len(sid))

    same = first[: len(old_epoch)] == np.arange(len(old_epoch))
    first_changed = len(old_epoch) if same.all() else int(np.argmin(same))
    touched = np.zeros(-(-len(epoch) // grid[0]), dtype=bool)
    touched[position[len(old_epoch) :] // grid[0]] = True
    if first_changed < len(epoch):  # from there on everything moves
        touched[first_changed // grid[0] :] = True
    written = touched[position // grid[0]]
    return Layout(
        epoch=epoch,
        sid=sid,
        chunk_epochs=grid[0],
        chunk_sids=grid[1],
        first_changed=first_changed,
        chunks=tuple(_chunks(numbers[rank][written], row[written], position[written], grid[0], len(epoch))),
        holders=_holders(numbers, rank, rank[first][position]),
    )


def _holders(
    numbers: npt.NDArray[np.int64], rank: npt.NDArray[np.int64], first: npt.NDArray[np.int64]
) -> dict[int, tuple[int, ...]]:
    """For each file, the sources before it that are the first to have one of its epochs."""
    pairs = np.unique(np.stack([rank, first])[:, first < rank], axis=1)
    found: dict[int, tuple[int, ...]] = {}
    for file, holder in zip(*numbers[pairs].tolist(), strict=True):
        found[file] = (*found.get(file, ()), holder)
    return found


def _chunks(
    source: Epochs, source_row: Epochs, position: Epochs, size: int, total: int
) -> Iterator[ChunkWrite]:
    """Chunks with their segments, which keep the order of the sources."""
    if not len(source):
        return
    breaks = np.flatnonzero(
        (np.diff(source) != 0)
        | (np.diff(source_row) != 1)
        | (np.diff(position) != 1)
        | (position[1:] % size == 0)
    )
    starts = np.concatenate([[0], breaks + 1])
    lengths = np.diff(np.concatenate([starts, [len(source)]]))
    chunk = position[starts] // size
    segments: list[Segment] = []
    order = np.argsort(chunk, kind="stable")
    for place, index in enumerate(order.tolist()):
        begin, number = starts[index], int(chunk[index])
        segments.append(
            Segment(int(source[begin]), int(source_row[begin]), int(position[begin]), int(lengths[index]))
        )
        if place + 1 == len(order) or chunk[order[place + 1]] != number:
            yield ChunkWrite(number * size, min((number + 1) * size, total), tuple(segments))
            segments = []


def make_batches(
    layout: Layout,
    *,
    group: str,
    variables: Mapping[str, int],
    digests: Mapping[int, str],
    n_workers: int,
) -> list[WriteBatch]:
    """Divide the chunks into write tasks, neighbours together, since they come from the same files.

    Parameters
    ----------
    layout : Layout
        What to write.
    group : str
        Path of the group.
    variables : mapping of str to int
        Arrays to write, with the bytes of one value.
    digests : mapping of int to str
        Digest of each file's content, by its number.
    n_workers : int
        Workers that share the tasks.
    """
    chunk_bytes = layout.chunk_epochs * len(layout.sid) * sum(variables.values())
    fair = -(-len(layout.chunks) // (TASKS_PER_WORKER * max(1, n_workers)))
    size = max(1, min(BATCH_CHUNKS, BATCH_BYTES // max(1, chunk_bytes), fair))
    batches = []
    for start in range(0, len(layout.chunks), size):
        chunks = layout.chunks[start : start + size]
        used = (segment.source for chunk in chunks for segment in chunk.segments)
        sources = tuple(dict.fromkeys(source for source in used if source != STORED))
        place = {number: index for index, number in enumerate(sources)} | {STORED: STORED}
        local = tuple(
            ChunkWrite(
                chunk.start,
                chunk.stop,
                tuple(replace(segment, source=place[segment.source]) for segment in chunk.segments),
            )
            for chunk in chunks
        )
        batches.append(
            WriteBatch(
                group=group,
                variables=tuple(variables),
                sid=layout.sid,
                chunks=local,
                sources=sources,
                digests=tuple(digests[number] for number in sources),
            )
        )
    return batches
