"""Days, parts and units: where epochs lie, what is made together, and how sources are merged."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from canvod.launch.ingest.days import (
    CHUNK_BYTES,
    SMALL_CHUNK_BYTES,
    DayTable,
    choose_chunk,
    chunk_moves,
    usual_interval,
    usual_parts,
)
from canvod.launch.ingest.units import make_units, uncovered
from canvod.launch.runtime.blocks import DAY_NS, Source, Span, fill_part, merge, parts_of

HOUR_NS = 3_600 * 10**9
powers = st.integers(0, 5).map(lambda power: 2**power)


def table(parts: dict[int, int]) -> DayTable:
    """A table of days with so many parts each."""
    return DayTable.empty().with_days(parts)


@given(st.data(), powers, st.integers(1, 50))
def test_a_part_has_its_real_epochs_and_fillers_in_order(data, parts, rows):
    """It has exactly its rows, strictly increasing, within its share of the day, and all the real ones."""
    part = data.draw(st.integers(0, parts - 1))
    span = Span(20_000, parts, part, part + 1)
    inside = st.integers(span.start_ns, span.stop_ns - 1)
    grid = st.integers(0, rows - 1).map(lambda row: span.start_ns + row * (DAY_NS // parts // rows))
    real = np.array(sorted(data.draw(st.sets(inside | grid, max_size=rows))), np.int64)
    filled = fill_part(real, span, part, rows)
    assert len(filled) == rows
    assert (np.diff(filled) > 0).all()
    assert set(real.tolist()) <= set(filled.tolist())
    assert span.start_ns <= filled[0]
    assert filled[-1] < span.stop_ns
    assert (parts_of(filled, parts) == part).all()


@given(
    st.dictionaries(st.integers(0, 30), powers, max_size=8),
    st.dictionaries(st.integers(0, 30), powers, max_size=4),
)
def test_late_days_move_chunks_and_lose_none(held, added):
    """Days that keep their parts keep all chunk rows, in order; the rows of new ones are free."""
    old = table(held)
    new = old.with_days(added)
    assert dict(zip(new.day.tolist(), new.parts.tolist(), strict=True)) == held | added
    moves = chunk_moves(old, new)
    kept = [day for day in held if added.get(day, held[day]) == held[day]]
    assert len(moves) == len(set(moves.values())) == sum(held[day] for day in kept)
    for day in kept:
        for part in range(held[day]):
            span = Span(day, held[day], part, part + 1)
            assert moves[old.first_row(span, 1)] == new.first_row(span, 1)


@given(st.integers(10**7, 3_600 * 10**9), st.sampled_from([4, 8]))
def test_chunks_have_a_bounded_size(interval, itemsize):
    """Of 1 to 16 MiB, but for days that have less; and a day's parts have room for its epochs."""
    rows, sids = choose_chunk(interval, itemsize)
    size = rows * sids * itemsize
    assert size <= CHUNK_BYTES
    assert size >= SMALL_CHUNK_BYTES or rows >= DAY_NS // interval
    assert usual_parts(interval, rows) * rows * interval >= DAY_NS


def test_the_usual_interval_is_the_most_frequent():
    """The smaller one of two; a second where no file tells, and never so small that days have no end."""
    assert usual_interval([5 * 10**9, 10**9, 5 * 10**9]) == 5 * 10**9
    assert usual_interval([5 * 10**9, 10**9]) == 10**9
    assert usual_interval([]) == 10**9
    assert usual_interval([30]) == 10**7


intervals = st.tuples(st.integers(0, 4 * DAY_NS), st.integers(0, 30 * HOUR_NS)).map(
    lambda t: (t[0], t[0] + t[1])
)


@given(st.dictionaries(st.sampled_from("abcdefgh"), st.lists(intervals, min_size=1, max_size=2)), powers)
def test_units_cover_what_files_claim_once(claims, parts):
    """No two units share a part, and every file is in the units of all parts that it claims."""
    units = make_units(claims, lambda _day: parts)
    taken = [(unit.span.day, part) for unit in units for part in range(unit.span.first, unit.span.stop)]
    assert len(taken) == len(set(taken))
    assert taken == sorted(taken)
    for path, claimed in claims.items():
        mine = [(unit.span.start_ns, unit.span.stop_ns) for unit in units if path in unit.files]
        assert uncovered([(0, first, last) for first, last in claimed], mine) == []


@given(
    st.tuples(st.integers(0, 60), st.integers(0, 40)),
    st.lists(st.tuples(st.integers(0, 80), st.integers(1, 40)), max_size=5),
)
def test_what_is_not_covered_is_left(file, spans):
    """As a set of single nanoseconds would have it."""
    first, last = file[0], file[0] + file[1]
    covered = [(start, start + length) for start, length in spans]
    left = uncovered([(0, first, last)], covered)
    expected = set(range(first, last + 1)) - {n for start, stop in covered for n in range(start, stop)}
    assert {n for start, end in left for n in range(start, end + 1)} == expected


cells = st.dictionaries(
    st.tuples(st.integers(0, 4), st.sampled_from(["G01|L1|C", "G02|L1|C", "E03|E1|C"])),
    st.sampled_from([40.0, 41.0]),
    max_size=8,
)


@given(st.lists(cells, max_size=4))
def test_the_first_source_of_a_cell_counts(given_cells):
    """As dictionaries would be merged; and what each gave, and where it differs, adds up."""
    sources = []
    for number, found in enumerate(given_cells):
        epochs, sids = (sorted({key[axis] for key in found}) for axis in (0, 1))
        values = np.array([[found.get((epoch, sid), np.nan) for sid in sids] for epoch in epochs], np.float32)
        shaped = values.reshape(len(epochs), len(sids))
        sources.append(Source(str(number), np.array(epochs, np.int64), tuple(sids), {"SNR": shaped}))
    merged = merge(sources, ["SNR"])
    expected: dict = {}
    gave, differing = [], 0
    for found in given_cells:
        gave.append(len(found.keys() - expected.keys()))
        differing += sum(expected.get(key, value) != value for key, value in found.items())
        expected = found | expected
    block = merged.source.variables["SNR"]
    assert {
        (int(epoch), sid): float(block[row, column])
        for row, epoch in enumerate(merged.source.epoch)
        for column, sid in enumerate(merged.source.sid)
        if not np.isnan(block[row, column])
    } == expected
    assert list(merged.gave) == gave
    assert merged.differing.total() == differing


@pytest.mark.parametrize("parts", [1, 4, 32])
def test_every_epoch_of_a_day_has_a_part(parts):
    """The first and the last nanosecond belong to the first and the last part."""
    ends = np.array([0, DAY_NS // parts - 1, DAY_NS - 1]) + 7 * DAY_NS
    assert parts_of(ends, parts).tolist() == [0, 0, parts - 1]
