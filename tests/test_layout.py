"""Where the epochs of every file go: properties over random files, orders and runs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from canvod.launch.ingest.layout import (
    BATCH_CHUNKS,
    TASKS_PER_WORKER,
    FileAxes,
    StoredAxes,
    choose_chunk_epochs,
    make_batches,
    make_layout,
)
from canvod.launch.runtime.messages import OLD

SIDS = ("C01|B1I|I", "E02|E1|C", "G01|L1|C", "G01|L2|W", "R03|G1|C")
STEP = 5_000_000_000


@st.composite
def campaigns(draw):
    """Draw a truth (the signals that are seen at each epoch) and files that are windows of it."""
    length = draw(st.integers(1, 40))
    seen = draw(st.lists(st.frozensets(st.sampled_from(SIDS), min_size=1), min_size=length, max_size=length))
    windows = draw(
        st.lists(
            st.tuples(st.integers(0, length - 1), st.integers(1, 12), st.sampled_from([1, 1, 1, 2, 3])),
            min_size=1,
            max_size=7,
        )
    )
    files = []
    for number, (start, count, stride) in enumerate(windows):
        rows = np.arange(start, min(length, start + count * stride), stride)
        sids = tuple(sorted(frozenset().union(*(seen[row] for row in rows))))
        files.append(FileAxes(number, f"file{number}", rows * STEP, sids))
    return seen, files


class Group:
    """A group as numpy arrays, written chunk by chunk as the workers do."""

    def __init__(self, seen):
        self.seen = seen
        self.axes = None
        self.values = np.empty((0, 0))

    def value(self, epoch, sid):
        row = int(epoch) // STEP
        return float(row * 100 + SIDS.index(sid)) if sid in self.seen[row] else np.nan

    def ingest(self, files, **options):
        layout = make_layout(files, self.axes, **options)
        by_number = {file.number: file for file in files}
        values = np.full((len(layout.epoch), len(layout.sid)), np.nan)
        old = values.copy()
        old[: self.values.shape[0], : self.values.shape[1]] = self.values
        values[:] = old
        for chunk in layout.chunks:
            block = np.full((chunk.stop - chunk.start, len(layout.sid)), np.nan)
            for piece in chunk.pieces:
                rows = slice(
                    piece.target_start - chunk.start, piece.target_start - chunk.start + piece.length
                )
                source = slice(piece.source_start, piece.source_start + piece.length)
                if piece.source == OLD:
                    block[rows] = old[source]
                    continue
                file = by_number[piece.source]
                columns = [layout.sid.index(name) for name in file.sid]
                data = [[self.value(epoch, name) for name in file.sid] for epoch in file.epoch[source]]
                block[rows, columns] = data
            values[chunk.start : chunk.stop] = block
        if not layout.empty:
            self.values = values
            self.axes = StoredAxes(layout.epoch, layout.sid, layout.chunk_epochs, layout.chunk_sids)
        return layout

    def labelled(self):
        """Values by label, without those that are missing."""
        return {
            (int(epoch), sid): self.values[i, j]
            for i, epoch in enumerate(self.axes.epoch)
            for j, sid in enumerate(self.axes.sid)
            if np.isfinite(self.values[i, j])
        }


@given(campaigns(), st.data())
def test_any_order_in_any_number_of_runs_gives_the_same_labelled_data(campaign, data):
    """One run over all files, and many runs over any division of them, hold the same values by label."""
    seen, files = campaign
    whole = Group(seen)
    whole.ingest(files)
    shuffled = data.draw(st.permutations(files))
    cuts = sorted(data.draw(st.sets(st.integers(1, max(1, len(files) - 1)))))
    piecewise = Group(seen)
    for start, stop in zip([0, *cuts], [*cuts, len(files)], strict=True):
        if shuffled[start:stop]:
            piecewise.ingest(shuffled[start:stop], chunk_epochs=data.draw(st.sampled_from([None, 1, 3, 7])))
    assert piecewise.labelled() == whole.labelled()
    assert np.array_equal(piecewise.axes.epoch, whole.axes.epoch)
    assert sorted(piecewise.axes.sid) == sorted(whole.axes.sid)
    truth = {
        (int(epoch), sid): whole.value(epoch, sid)
        for file in files
        for epoch in file.epoch
        for sid in seen[int(epoch) // STEP]
    }
    assert whole.labelled() == truth


@given(campaigns(), campaigns(), st.integers(1, 9))
def test_axes_keep_their_promises(first, second, chunk_epochs):
    """Epochs increase strictly, signals keep their positions, and a second run of the same files is empty."""
    _, files = first
    layout = make_layout(files, chunk_epochs=chunk_epochs)
    stored = StoredAxes(layout.epoch, layout.sid, layout.chunk_epochs, layout.chunk_sids)
    assert np.all(np.diff(layout.epoch) > 0)
    assert list(layout.sid) == sorted(layout.sid)
    assert layout.chunk_epochs == chunk_epochs
    assert make_layout(files, stored).empty
    more = make_layout(second[1], stored, chunk_epochs=99)
    assert np.all(np.diff(more.epoch) > 0)
    assert more.sid[: len(layout.sid)] == layout.sid
    assert list(more.sid[len(layout.sid) :]) == sorted(set(more.sid) - set(layout.sid))
    assert (more.chunk_epochs, more.chunk_sids) == (layout.chunk_epochs, layout.chunk_sids)


@given(campaigns(), campaigns(), st.integers(1, 9))
def test_no_chunk_is_written_twice_and_none_before_the_first_change(first, second, chunk_epochs):
    """Chunks are disjoint, lie on the grid, cover every change, and leave what comes before alone."""
    before = make_layout(first[1], chunk_epochs=chunk_epochs)
    stored = StoredAxes(before.epoch, before.sid, before.chunk_epochs, before.chunk_sids)
    layout = make_layout(second[1], stored)
    starts = [chunk.start for chunk in layout.chunks]
    assert len(set(starts)) == len(starts)
    assert all(start % chunk_epochs == 0 for start in starts)
    unchanged = min(starts, default=len(layout.epoch))
    assert np.array_equal(layout.epoch[:unchanged], before.epoch[:unchanged])
    for chunk in layout.chunks:
        rows = [piece.target_start + i for piece in chunk.pieces for i in range(piece.length)]
        assert rows == list(range(chunk.start, chunk.stop))
        assert chunk.stop == min(chunk.start + chunk_epochs, len(layout.epoch))
    if layout.chunks:
        assert layout.chunks[-1].stop == len(layout.epoch)
        assert layout.chunks[0].start <= layout.first_changed < layout.chunks[0].stop


@given(campaigns())
def test_every_epoch_of_every_file_is_accounted_for(campaign):
    """Of each file, what is added and what others hold add up to its epochs; each epoch has one source."""
    _, files = campaign
    layout = make_layout(files)
    for file in files:
        held = layout.duplicates.get(file.number, {})
        assert layout.added[file.number] + sum(held.values()) == len(file.epoch)
        assert file.number not in held
    assert sum(layout.added.values()) == len(layout.epoch)


@given(campaigns(), st.integers(1, 5))
def test_batches_divide_the_chunks(campaign, n_workers):
    """Every chunk is in one batch, batches know their sources, and there is work for all workers."""
    _, files = campaign
    layout = make_layout(files, chunk_epochs=2)
    digests = {file.number: f"digest{file.number}" for file in files}
    batches = make_batches(layout, group="g", variables={"SNR": 4}, digests=digests, n_workers=n_workers)
    assert [chunk.start for batch in batches for chunk in batch.chunks] == [c.start for c in layout.chunks]
    assert len(batches) >= min(len(layout.chunks), TASKS_PER_WORKER * n_workers) / 2
    for batch in batches:
        assert len(batch.chunks) <= BATCH_CHUNKS
        assert batch.digests == tuple(digests[number] for number in batch.sources)
    restored = [
        (piece.target_start, batch.sources[piece.source], piece.source_start, piece.length)
        for batch in batches
        for chunk in batch.chunks
        for piece in chunk.pieces
    ]
    assert restored == [
        (piece.target_start, piece.source, piece.source_start, piece.length)
        for chunk in layout.chunks
        for piece in chunk.pieces
    ]


@given(st.lists(st.integers(1, 200_000), min_size=1), st.integers(1, 500), st.sampled_from([4, 8]))
def test_chunks_chosen_unasked_are_part_of_a_file_and_not_too_large(lengths, n_sids, itemsize):
    """A chunk holds at most 16 MiB and no more epochs than most files have."""
    chosen = choose_chunk_epochs(lengths, n_sids, itemsize)
    assert 1 <= chosen <= max(lengths)
    assert chosen * n_sids * itemsize <= 16 * 1024**2 or chosen == 1


def test_chunks_are_aligned_with_files():
    """Files of one length make chunks of that length, each from one file."""
    files = [FileAxes(i, f"f{i}", np.arange(i * 180, i * 180 + 180), ("G01|L1|C",)) for i in range(5)]
    layout = make_layout(files[::-1])
    assert layout.chunk_epochs == 180
    assert [[piece.source for piece in chunk.pieces] for chunk in layout.chunks] == [[0], [1], [2], [3], [4]]


def test_a_late_day_leaves_earlier_chunks_alone():
    """A file that belongs between stored ones rewrites from its place on, and nothing before."""
    days = [FileAxes(i, f"f{i}", np.arange(i * 100, i * 100 + 10), ("G01|L1|C",)) for i in (0, 1, 3, 4)]
    before = make_layout(days)
    stored = StoredAxes(before.epoch, before.sid, before.chunk_epochs, before.chunk_sids)
    late = make_layout([FileAxes(2, "late", np.arange(200, 210), ("G02|L1|C",))], stored)
    assert [chunk.start for chunk in late.chunks] == [20, 30, 40]
    assert [[piece.source for piece in chunk.pieces] for chunk in late.chunks] == [[2], [OLD], [OLD]]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_the_longer_of_two_files_from_the_same_epoch_is_taken(order):
    """A daily file makes the quarter-hour file from its first epoch superfluous, whichever is named first."""
    daily = FileAxes(order[0], "daily", np.arange(100), ("G01|L1|C",))
    quarter = FileAxes(order[1], "a-quarter", np.arange(10), ("G01|L1|C", "G02|L1|C"))
    layout = make_layout([daily, quarter])
    assert layout.added == {daily.number: 100, quarter.number: 0}
    assert layout.duplicates == {quarter.number: {daily.number: 10}}
    assert layout.sid == ("G01|L1|C",)
