"""Where the epochs of every file go in a group: pure functions of the axes alone.

The epoch axis is strictly increasing, whatever order files arrive in. Signals keep their positions once they
have one. The chunk grid is regular; it starts with the first file, so that chunks and files coincide as long
as files are of one length. An epoch that two sources hold is taken from the first of: the store, then the
files in order of their first epoch (the longer file first, then by name).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from canvod.launch.runtime.messages import OLD, ChunkWrite, Piece, WriteBatch

Epochs = npt.NDArray[np.int64]

AUTO_CHUNK_BYTES = 16 * 1024**2
"""Largest chunk of one variable that is chosen unasked; files that hold more get several chunks each."""

BATCH_CHUNKS = 64
BATCH_BYTES = 64 * 1024**2
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
        The chunks of epochs that differ from what is stored; a piece's ``source`` is a file's number, or
        `OLD`.
    added : mapping of int to int
        For each file, how many of its epochs are new.
    duplicates : mapping of int to mapping of int to int
        For each file with epochs that are there already: how many of them each source holds (a file's number,
        or `OLD`).
    """

    epoch: Epochs
    sid: tuple[str, ...]
    chunk_epochs: int
    chunk_sids: int
    first_changed: int
    chunks: tuple[ChunkWrite, ...]
    added: Mapping[int, int]
    duplicates: Mapping[int, Mapping[int, int]]

    @property
    def empty(self) -> bool:
        """True where no file adds anything."""
        return not self.chunks


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
    numbers = np.array([OLD, *(file.number for file in ordered)], dtype=np.int64)
    parts = [old_epoch, *(file.epoch for file in ordered)]
    lengths = np.array([len(part) for part in parts], dtype=np.int64)
    rank = np.repeat(np.arange(len(parts)), lengths)
    row = np.concatenate([np.arange(length, dtype=np.int64) for length in lengths])
    # The first occurrence wins, and the parts are in the order in which sources take precedence.
    epoch, first, inverse = np.unique(np.concatenate(parts), return_index=True, return_inverse=True)
    winner, winner_row = rank[first], row[first]
    added, duplicates = _accounts(ordered, numbers, rank, winner[inverse])

    contributing = [file for file in ordered if added[file.number]]
    old_sid = stored.sid if stored is not None else ()
    sid = old_sid + tuple(sorted(set().union(*(file.sid for file in contributing)) - set(old_sid)))
    if stored is not None:
        grid = stored.chunk_epochs, stored.chunk_sids
    else:
        automatic = choose_chunk_epochs([len(file.epoch) for file in contributing] or [1], len(sid), itemsize)
        grid = chunk_epochs or automatic, max(1, len(sid))

    # A position is as stored if the same old epoch is there; then everything before it is as stored, too.
    same = (winner == 0) & (winner_row == np.arange(len(epoch)))
    first_changed = len(epoch) if same.all() else int(np.argmin(same))
    return Layout(
        epoch=epoch,
        sid=sid,
        chunk_epochs=grid[0],
        chunk_sids=grid[1],
        first_changed=first_changed,
        chunks=tuple(_chunks(numbers[winner], winner_row, first_changed, grid[0])),
        added=added,
        duplicates=duplicates,
    )


def _accounts(
    ordered: Sequence[FileAxes], numbers: npt.NDArray[np.int64], rank: Epochs, winners: Epochs
) -> tuple[dict[int, int], dict[int, dict[int, int]]]:
    """For each file, how many epochs it adds, and how many each other source had first."""
    bounds = np.searchsorted(rank, np.arange(len(numbers) + 1))
    added, duplicates = {}, {}
    for place, file in enumerate(ordered, start=1):
        holders, counts = np.unique(winners[bounds[place] : bounds[place + 1]], return_counts=True)
        held = {int(numbers[holder]): int(count) for holder, count in zip(holders, counts, strict=True)}
        added[file.number] = held.pop(file.number, 0)
        if held:
            duplicates[file.number] = held
    return added, duplicates


def _chunks(source: Epochs, source_row: Epochs, first_changed: int, size: int) -> Iterator[ChunkWrite]:
    """Chunks from the first changed one on, each with its pieces."""
    total = len(source)
    if first_changed >= total:
        return
    begin = first_changed // size * size
    position = np.arange(begin + 1, total)
    breaks = (
        (source[begin + 1 :] != source[begin:-1])
        | (source_row[begin + 1 :] != source_row[begin:-1] + 1)
        | (position % size == 0)
    )
    starts = np.concatenate([[begin], position[breaks]])
    stops = np.concatenate([starts[1:], [total]])
    pieces: list[Piece] = []
    for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):
        pieces.append(Piece(int(source[start]), int(source_row[start]), start, stop - start))
        if stop % size == 0 or stop == total:
            yield ChunkWrite((stop - 1) // size * size, stop, tuple(pieces))
            pieces = []


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
        sources = tuple(dict.fromkeys(p.source for chunk in chunks for p in chunk.pieces if p.source != OLD))
        place = {number: index for index, number in enumerate(sources)} | {OLD: OLD}
        local = tuple(
            ChunkWrite(
                chunk.start,
                chunk.stop,
                tuple(Piece(place[p.source], p.source_start, p.target_start, p.length) for p in chunk.pieces),
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
