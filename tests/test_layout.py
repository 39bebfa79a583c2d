"""Where the epochs of every file go: properties over random files, orders and runs."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

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
from canvod.launch.runtime.merge import merge_chunk
from canvod.launch.runtime.messages import STORED

SIDS = ("C01|B1I|I", "E02|E1|C", "G01|L1|C", "G01|L2|W", "R03|G1|C")
STEP = 5_000_000_000


@dataclass(frozen=True, eq=False)
class File:
    """A file's axes and its values: shape (n_epoch, n_sid), NaN where it has none."""

    axes: FileAxes
    values: np.ndarray

    def cells(self):
        """Its values by label."""
        return {
            (int(epoch), sid): self.values[i, j]
            for i, epoch in enumerate(self.axes.epoch)
            for j, sid in enumerate(self.axes.sid)
            if np.isfinite(self.values[i, j])
        }


@st.composite
def campaigns(draw, *, agree=True):
    """Draw files that are windows of a time, with some of the signals each, and holes.

    Where they ``agree``, all have the same value for one epoch and signal; else there are two values.
    """
    windows = draw(
        st.lists(
            st.tuples(st.integers(0, 39), st.integers(1, 12), st.sampled_from([1, 1, 1, 2, 3])),
            min_size=1,
            max_size=7,
        )
    )
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    files = []
    for number, (start, count, stride) in enumerate(windows):
        rows = np.arange(start, start + count * stride, stride)
        columns = np.flatnonzero(random.random(len(SIDS)) < 0.7)
        values = rows[:, None] * 100.0 + columns
        if not agree:
            values += random.integers(0, 2, values.shape) / 2
        values[random.random(values.shape) < 0.3] = np.nan
        seen = np.isfinite(values).any(axis=0)
        sids = tuple(SIDS[column] for column in columns[seen])
        files.append(File(FileAxes(number, f"file{number}", rows * STEP, sids), values[:, seen]))
    return files


class Group:
    """A group as numpy arrays, written chunk by chunk as the workers do."""

    def __init__(self):
        self.axes = None
        self.values = np.empty((0, 0))
        self.stored, self.merged, self.differing = Counter(), Counter(), Counter()

    def ingest(self, files, **options):
        layout = make_layout([file.axes for file in files], self.axes, **options)
        by_number = {file.axes.number: file for file in files}
        old = np.full((len(layout.epoch), len(layout.sid)), np.nan)
        old[: self.values.shape[0], : self.values.shape[1]] = self.values
        self.values = old.copy()

        def values_of(segment, name):
            rows = slice(segment.source_start, segment.source_start + segment.length)
            if segment.source == STORED:
                return old[rows], slice(None)
            file = by_number[segment.source]
            columns = np.array([layout.sid.index(sid) for sid in file.axes.sid], dtype=np.intp)
            return file.values[rows], columns

        for chunk in layout.chunks:
            found = merge_chunk(chunk, {"SNR": "f8"}, len(layout.sid), values_of)
            block = found.variables["SNR"]
            if found.in_place:
                assert np.array_equal(block, old[chunk.start : chunk.stop], equal_nan=True)
            self.values[chunk.start : chunk.stop] = block
            self.stored.update(found.stored)
            self.merged.update(found.merged)
            self.differing.update(found.differing)
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


def in_order(files):
    """Return files in the order in which their values count."""
    return sorted(files, key=lambda file: (file.axes.epoch[0], -len(file.axes.epoch), file.axes.name))


def axes_of(files):
    """Return the axes of files."""
    return [file.axes for file in files]


@given(campaigns(agree=False), st.data())
def test_values_and_counts_are_those_of_a_dictionary(files, data):
    """In any number of runs each cell has the first value that there is, and each file its true counts."""
    cells, holder, epochs = {}, {}, set()
    stored, merged, differing = Counter(), Counter(), Counter()
    group = Group()
    for start in range(0, len(files), size := data.draw(st.integers(1, len(files)))):
        run = files[start : start + size]
        in_store = dict.fromkeys(cells, STORED)
        for file in in_order(run):
            number, gave = file.axes.number, set()
            for key, value in file.cells().items():
                if key not in cells:
                    cells[key] = value
                    holder[key] = number
                    gave.add(key[0])
                elif value != cells[key]:
                    differing[number, in_store.get(key, holder[key])] += 1
            new = set(file.axes.epoch.tolist()) - epochs
            stored[number] += len(new | gave)
            merged[number] += len(gave - new)
            epochs |= new
        group.ingest(run, chunk_epochs=data.draw(st.sampled_from([None, 1, 3, 7])))
    assert group.labelled() == cells
    assert group.axes.epoch.tolist() == sorted(epochs)
    assert (group.stored, group.merged, group.differing) == (stored, merged, differing)


@given(campaigns(), st.data())
def test_any_order_in_any_number_of_runs_gives_the_same_labelled_data(files, data):
    """One run over all files, and many runs over any division of them, hold the same values by label."""
    whole = Group()
    whole.ingest(files)
    shuffled = data.draw(st.permutations(files))
    cuts = sorted(data.draw(st.sets(st.integers(1, max(1, len(files) - 1)))))
    piecewise = Group()
    for start, stop in zip([0, *cuts], [*cuts, len(files)], strict=True):
        if shuffled[start:stop]:
            piecewise.ingest(shuffled[start:stop], chunk_epochs=data.draw(st.sampled_from([None, 1, 3, 7])))
    assert piecewise.labelled() == whole.labelled()
    assert np.array_equal(piecewise.axes.epoch, whole.axes.epoch)
    assert sorted(piecewise.axes.sid) == sorted(whole.axes.sid)
    assert not whole.differing


@given(campaigns(agree=False))
def test_the_order_in_which_files_are_given_does_not_matter(files):
    """In one run the values are the same however the files are ordered, also where they differ."""
    one, other = Group(), Group()
    one.ingest(files)
    other.ingest(files[::-1])
    assert one.labelled() == other.labelled()
    assert (one.stored, one.differing) == (other.stored, other.differing)


@given(campaigns(), campaigns(), st.integers(1, 9))
def test_axes_keep_their_promises(first, second, chunk_epochs):
    """Epochs increase strictly, and signals keep their positions."""
    layout = make_layout(axes_of(first), chunk_epochs=chunk_epochs)
    stored = StoredAxes(layout.epoch, layout.sid, layout.chunk_epochs, layout.chunk_sids)
    assert np.all(np.diff(layout.epoch) > 0)
    assert list(layout.sid) == sorted(layout.sid)
    assert layout.chunk_epochs == chunk_epochs
    more = make_layout(axes_of(second), stored, chunk_epochs=99)
    assert np.all(np.diff(more.epoch) > 0)
    assert more.sid[: len(layout.sid)] == layout.sid
    assert list(more.sid[len(layout.sid) :]) == sorted(set(more.sid) - set(layout.sid))
    assert (more.chunk_epochs, more.chunk_sids) == (layout.chunk_epochs, layout.chunk_sids)


@given(campaigns(), campaigns(), st.integers(1, 9))
def test_no_chunk_is_written_twice_and_none_that_has_nothing_new(first, second, chunk_epochs):
    """Chunks are disjoint, lie on the grid, hold all their epochs, and are those of files or moved."""
    before = make_layout(axes_of(first), chunk_epochs=chunk_epochs)
    stored = StoredAxes(before.epoch, before.sid, before.chunk_epochs, before.chunk_sids)
    layout = make_layout(axes_of(second), stored)
    starts = [chunk.start for chunk in layout.chunks]
    assert len(set(starts)) == len(starts)
    assert all(start % chunk_epochs == 0 for start in starts)
    assert starts == sorted(starts)
    unchanged = layout.first_changed
    assert np.array_equal(layout.epoch[:unchanged], before.epoch[:unchanged])
    for chunk in layout.chunks:
        rows = {segment.target_start + i for segment in chunk.segments for i in range(segment.length)}
        assert rows == set(range(chunk.start, chunk.stop))
        assert chunk.stop == min(chunk.start + chunk_epochs, len(layout.epoch))
        assert chunk.stop > unchanged or any(segment.source != STORED for segment in chunk.segments)
    if unchanged < len(layout.epoch):
        assert layout.chunks[-1].stop == len(layout.epoch)


@given(campaigns())
def test_the_first_holders_of_epochs_that_a_file_has_too_are_known(files):
    """Of each file, the others that were the first to have one of its epochs are named."""
    layout = make_layout(axes_of(files))
    first = {}
    for file in in_order(files):
        number, epochs = file.axes.number, file.axes.epoch.tolist()
        others = {first[epoch] for epoch in epochs if epoch in first}
        assert set(layout.holders.get(number, ())) == others
        first |= {epoch: number for epoch in epochs if epoch not in first}


@given(campaigns(), st.integers(1, 5))
def test_batches_divide_the_chunks(files, n_workers):
    """Every chunk is in one batch, batches know their sources, and there is work for all workers."""
    layout = make_layout(axes_of(files), chunk_epochs=2)
    digests = {file.number: f"digest{file.number}" for file in axes_of(files)}
    batches = make_batches(layout, group="g", variables={"SNR": 4}, digests=digests, n_workers=n_workers)
    assert [chunk.start for batch in batches for chunk in batch.chunks] == [c.start for c in layout.chunks]
    assert len(batches) >= min(len(layout.chunks), TASKS_PER_WORKER * n_workers) / 2
    for batch in batches:
        assert len(batch.chunks) <= BATCH_CHUNKS
        assert batch.digests == tuple(digests[number] for number in batch.sources)
    restored = [
        (segment.target_start, batch.sources[segment.source], segment.source_start, segment.length)
        for batch in batches
        for chunk in batch.chunks
        for segment in chunk.segments
    ]
    assert restored == [
        (segment.target_start, segment.source, segment.source_start, segment.length)
        for chunk in layout.chunks
        for segment in chunk.segments
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
    assert [[segment.source for segment in chunk.segments] for chunk in layout.chunks] == [
        [0],
        [1],
        [2],
        [3],
        [4],
    ]


def test_a_late_day_leaves_earlier_chunks_alone():
    """A file that belongs between stored ones rewrites from its place on, and nothing before."""
    days = [FileAxes(i, f"f{i}", np.arange(i * 100, i * 100 + 10), ("G01|L1|C",)) for i in (0, 1, 3, 4)]
    before = make_layout(days)
    stored = StoredAxes(before.epoch, before.sid, before.chunk_epochs, before.chunk_sids)
    late = make_layout([FileAxes(2, "late", np.arange(200, 210), ("G02|L1|C",))], stored)
    assert [chunk.start for chunk in late.chunks] == [20, 30, 40]
    assert [[segment.source for segment in chunk.segments] for chunk in late.chunks] == [
        [2],
        [STORED],
        [STORED],
    ]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_the_longer_of_two_files_from_the_same_epoch_comes_first(order):
    """Values of a daily file count before those of the quarter-hour file from its first epoch."""
    daily = FileAxes(order[0], "daily", np.arange(100), ("G01|L1|C",))
    quarter = FileAxes(order[1], "a-quarter", np.arange(10), ("G01|L1|C", "G02|L1|C"))
    layout = make_layout([daily, quarter])
    assert layout.holders == {quarter.number: (daily.number,)}
    assert [segment.source for segment in layout.chunks[0].segments] == [daily.number, quarter.number]
    assert layout.sid == ("G01|L1|C", "G02|L1|C")
