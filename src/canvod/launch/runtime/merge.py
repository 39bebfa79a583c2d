"""Merge the sources of one chunk by cell: each value is taken from the first source that has one."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from canvod.launch.runtime.messages import STORED, ChunkWrite, Segment, Values

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Columns = npt.NDArray[np.intp] | slice


@dataclass(frozen=True, eq=False)
class Merged:
    """The values of one chunk, and what each source has given to it.

    Attributes
    ----------
    variables : dict of str to numpy.ndarray
        Shape (n_epoch, n_sid) each.
    stored : Counter of int
        For each source, its epochs that are new, or to which it gave a value.
    merged : Counter of int
        Those of them that a source before it has, too.
    differing : Counter of (int, int)
        For each source and each source before it: how many values of the first differ from those of the
        second, which count.
    in_place : bool
        True where all values are where the store has them, so that there is nothing to write.
    """

    variables: dict[str, Values]
    stored: Counter[int]
    merged: Counter[int]
    differing: Counter[tuple[int, int]]
    in_place: bool


def merge_chunk(
    chunk: ChunkWrite,
    dtypes: Mapping[str, npt.DTypeLike],
    n_sids: int,
    values_of: Callable[[Segment, str], tuple[Values, Columns]],
) -> Merged:
    """Merge the segments of a chunk, which are in the order in which their values count.

    Parameters
    ----------
    chunk : ChunkWrite
        The chunk.
    dtypes : mapping of str to dtype
        The variables.
    n_sids : int
        Signals of the chunk.
    values_of : callable
        Gives the values of a segment for a variable, shape (length, n), and their n columns in the chunk.
    """
    shape = chunk.stop - chunk.start, n_sids
    blocks = {name: np.full(shape, np.nan, dtype=dtype) for name, dtype in dtypes.items()}
    covered = np.zeros(shape[0], dtype=bool)
    overlap = sum(segment.length for segment in chunk.segments) > shape[0]
    first = {name: np.zeros(shape, dtype=np.int32) for name in dtypes} if overlap else {}
    stored, merged, differing = Counter[int](), Counter[int](), Counter[tuple[int, int]]()
    for segment in chunk.segments:
        rows = slice(segment.target_start - chunk.start, segment.target_start - chunk.start + segment.length)
        before = covered[rows].copy()
        gave = np.zeros(segment.length, dtype=bool)
        for name, block in blocks.items():
            values, columns = values_of(segment, name)
            if not overlap:
                block[rows, columns] = values
                continue
            here, owner = block[rows, columns], first[name][rows, columns]
            free, given = np.isnan(here), ~np.isnan(values)
            gave |= (free & given).any(axis=1)
            for source, count in zip(
                *np.unique(owner[~free & given & (here != values)], return_counts=True), strict=True
            ):
                differing[segment.source, int(source)] += int(count)
            block[rows, columns] = np.where(free, values, here)
            first[name][rows, columns] = np.where(free, segment.source, owner)
        covered[rows] = True
        if segment.source != STORED:
            stored[segment.source] += int((~before | gave).sum())
            merged[segment.source] += int((before & gave).sum())
    unmoved = all(
        segment.source_start == segment.target_start for segment in chunk.segments if segment.source == STORED
    )
    return Merged(blocks, stored, merged, differing, in_place=unmoved and not stored.total())
