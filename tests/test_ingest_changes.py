"""Files and groups that change while an ingest runs, or between two runs of which the first was killed."""

from __future__ import annotations

import os
from contextlib import suppress

import pytest
import xarray as xr

from canvod.launch.errors import ExitStatus
from canvod.launch.ingest.read import open_group, read_log
from canvod.launch.ingest.store import open_repository
from ingest_files import InlineRunner, Options, assert_holds, run_inline, write_window
from test_ingest_states import KilledError, MortalRunner

GROUP = "site/receiver"
DAY = 17_280
"""Epochs of 5 s in a day."""
BY_DAY = Options(commit_every="1 day")


class Meddling(InlineRunner):
    """Has something happen before a unit is made: by default the first one."""

    def __init__(self, happens, before=1):
        super().__init__()
        self._happens, self._before = happens, before

    def make(self, request):
        self._before -= 1
        if self._before == 0:
            self._happens()
        return super().make(request)


@pytest.fixture
def begun(tmp_path):
    """A file across midnight of which a run that was killed has stored the first day."""
    file = write_window(tmp_path / "in" / "a.rnx", DAY - 7, 15)
    with suppress(KilledError):
        run_inline([file], tmp_path / "store", settings=BY_DAY, runner=MortalRunner(2))
    assert open_group(tmp_path / "store", GROUP).dropna("epoch", how="all").sizes["epoch"] == 7
    return file


@pytest.mark.parametrize("on_change", ["replace", "skip", "fail"])
def test_the_rest_of_a_touched_file_is_stored(tmp_path, begun, on_change):
    """A file that was begun is not known by its content: the run after a kill stores what is left."""
    os.utime(begun, ns=(0, 0))
    report = run_inline([begun], tmp_path / "store", settings=Options(on_change=on_change))
    assert (len(report.stored), report.exit_status) == (1, ExitStatus.OK)
    assert_holds(open_group(tmp_path / "store", GROUP), [begun])


@pytest.mark.parametrize("window", [(DAY - 3, 15), (DAY - 9, 30), (DAY - 2, 3)])
def test_a_begun_file_that_changes_when_it_is_read_is_not_mixed(tmp_path, begun, window):
    """It fails, and the next run replaces what it gave."""
    changes = Meddling(lambda: write_window(begun, *window, satellites=("G01",), off=0.5))
    report = run_inline([begun], tmp_path / "store", runner=changes)
    assert report.failed[0].reason.startswith("has changed while it was read for several days; ")
    assert len(run_inline([begun], tmp_path / "store").stored) == 1
    assert_holds(open_group(tmp_path / "store", GROUP), [begun])


@pytest.mark.parametrize("window", [(DAY - 5, 10), (DAY - 10, 12), (DAY - 2, 20)])
@pytest.mark.parametrize("days", [True, False])
def test_a_file_that_changes_between_its_days_is_not_mixed(tmp_path, days, window):
    """The days of a file are of one content, also where one of them was committed before it changed."""
    file = write_window(tmp_path / "in" / "a.rnx", DAY - 7, 15)
    other = write_window(tmp_path / "in" / "b.rnx", DAY - 8, 4)
    changes = Meddling(lambda: write_window(file, *window, off=0.5), before=2)
    options = BY_DAY if days else Options()
    report = run_inline([file, other], tmp_path / "store", settings=options, runner=changes)
    assert [failed.path for failed in report.failed] == [str(file)]
    assert report.exit_status == ExitStatus.SOME_FAILED
    run_inline([file, other], tmp_path / "store")
    assert_holds(open_group(tmp_path / "store", GROUP), [file, other])


def test_no_day_of_a_file_is_replaced_where_another_cannot_be(tmp_path):
    """What it gave stays whole, since it was read for all days before one was written."""
    file = write_window(tmp_path / "in" / "file.rnx", DAY - 7, 15)
    other = write_window(tmp_path / "in" / "other.rnx", DAY + 2, 15)
    run_inline([file, other], tmp_path / "store")
    before = open_group(tmp_path / "store", GROUP).compute(scheduler="sync")
    other.unlink()
    write_window(file, DAY - 9, 17, off=0.5)
    report = run_inline([file], tmp_path / "store")
    assert report.failed[0].reason.startswith(f"has changed, and what it gave cannot be taken out: {other}")
    xr.testing.assert_identical(open_group(tmp_path / "store", GROUP).compute(scheduler="sync"), before)


@pytest.mark.parametrize("theirs", [3, -3])
def test_days_fit_a_group_that_another_run_has_made_meanwhile(tmp_path, theirs):
    """Two runs that make one group with the same chunks may differ in the parts of a day; one decides."""
    options = {"settings": Options(chunk=(720, 64))}
    ours = [write_window(tmp_path / "in" / f"{day}.rnx", DAY * day, 20, every=6) for day in range(3)]
    fine = [write_window(tmp_path / "in" / f"f{day}.rnx", DAY * day, 400) for day in (theirs, theirs + 4)]
    overtaken = Meddling(lambda: run_inline(fine, tmp_path / "store", **options), before=1)
    run_inline(ours, tmp_path / "store", runner=overtaken, **options)
    assert_holds(open_group(tmp_path / "store", GROUP), [*ours, *fine])
    late = write_window(tmp_path / "in" / "late.rnx", DAY * -5, 20, every=6)
    run_inline([late], tmp_path / "store", **options)
    assert_holds(open_group(tmp_path / "store", GROUP), [*ours, *fine, late])


def test_a_header_that_ends_far_too_late_costs_no_reads_of_years(tmp_path):
    """A wrong TIME OF LAST OBS has the file read again, not once for every day until then."""
    file = write_window(tmp_path / "in" / "a.rnx", 0)
    text = file.read_text().split("TIME OF FIRST OBS", 1)
    line = f"  2099     1     2    12    29   55.0000000     GPS{'TIME OF LAST OBS':>28}    "
    file.write_text(f"{text[0]}TIME OF FIRST OBS   \n{line}\n{text[1].lstrip(' ').lstrip()}")
    runner = InlineRunner()
    run_inline([file], tmp_path / "store", runner=runner)
    assert runner.reads <= 3
    assert_holds(open_group(tmp_path / "store", GROUP), [file])


@pytest.mark.parametrize("again", [True, False])
def test_values_that_do_not_count_any_more_are_told(tmp_path, again):
    """The file that had given them is ``partly`` stored from then on, as it is in the other order."""
    late = write_window(tmp_path / "in" / "b.rnx", 12, off=1.0, satellites=("G01",))
    early = write_window(tmp_path / "in" / "a.rnx", 7, satellites=("G01",))
    files = [late, early]
    for several in (files, [early, late]):
        run_inline([late], store := tmp_path / f"store{several[0].stem}")
        report = run_inline(several if again else [early], store)
        told = "5 values differ from what a.rnx has, which counts"
        assert read_log(store, GROUP)[1].status == "partly"
        if again:
            assert [(file.path, file.reason) for file in report.partly] == [(str(late), told)]
        else:
            assert report.notices[-1] == f"{late}, stored by an earlier run: {told}"
        runner = InlineRunner()
        last = run_inline(files, store, runner=runner)
        assert runner.reads == 0
        assert (last.exit_status, [file.reason for file in last.partly]) == (ExitStatus.SOME_FAILED, [told])
        os.utime(late, ns=(0, 0))
        assert [file.reason for file in run_inline(files, store).partly] == [told]
        assert_holds(open_group(store, GROUP), files)


def test_a_failure_hides_no_values_that_another_run_has_stored_meanwhile(tmp_path):
    """The log book goes on to say whose the values are, so that they stay when their day is made again."""
    file = write_window(tmp_path / "in" / "a.rnx", 5, off=0.5)
    other = write_window(tmp_path / "in" / "b.rnx", 2_000)
    run_inline([other], tmp_path / "store")
    whole = file.read_bytes()

    def another_run():
        file.write_bytes(whole)
        run_inline([file], tmp_path / "store")
        file.write_bytes(b"")

    file.write_bytes(b"")
    late = write_window(tmp_path / "in" / "c.rnx", DAY * 3)
    run_inline([file, late], tmp_path / "store", runner=Meddling(another_run))
    file.write_bytes(whole)
    os.utime(file, ns=(0, 0))
    early = write_window(tmp_path / "in" / "d.rnx", 0)
    run_inline([early], tmp_path / "store")
    assert_holds(open_group(tmp_path / "store", GROUP), [file, other, late, early])


@pytest.mark.parametrize("before", [1, 2])
def test_what_another_run_has_stored_of_a_file_before_it_changed_is_not_mixed_in(tmp_path, before):
    """Of two runs at once one may have read a file before it changed: the other tells, the next replaces."""
    file = write_window(tmp_path / "in" / "a.rnx", 500, 30)
    other = write_window(tmp_path / "in" / "b.rnx", DAY * 2)

    def another_run():
        run_inline([file], tmp_path / "store")
        write_window(file, 800, 10, off=0.5)

    report = run_inline([other, file], tmp_path / "store", runner=Meddling(another_run, before))
    assert [(failed.path, failed.reason.split("; ")[1]) for failed in report.failed] == [
        (str(file), "the same command reads it again")
    ]
    assert len(run_inline([other, file], tmp_path / "store").stored) == 1
    assert_holds(open_group(tmp_path / "store", GROUP), [file, other])


@pytest.mark.parametrize("runs", [1, 2])
def test_a_moved_file_counts_when_its_day_is_made_again(tmp_path, runs):
    """Its content is there under another name, that was ingested before or comes with the new file."""
    file = write_window(tmp_path / "in" / "a.rnx", 20, 30, off=0.5)
    run_inline([file], tmp_path / "store")
    moved = file.rename(tmp_path / "in" / "b.rnx")
    write_window(file, DAY)  # the name is given to another one, as receivers do
    early = write_window(tmp_path / "in" / "c.rnx", 10, 30)
    for several in [[moved, early]] if runs == 1 else [[moved], [early]]:
        report = run_inline(several, tmp_path / "store")
    assert [stored.path for stored in report.stored] == [str(early)]
    assert_holds(open_group(tmp_path / "store", GROUP), [moved, early])


def test_a_path_that_is_no_text_fails_alone(tmp_path):
    """A name of other bytes than UTF-8 cannot be told by JSON; it costs no other file."""
    good = write_window(tmp_path / "in" / "a.rnx", 0)
    odd = write_window(tmp_path / "in" / os.fsdecode(b"f\xfc.rnx"), 20)
    report = run_inline([odd, good], tmp_path / "store")
    assert (len(report.stored), [file.path for file in report.failed]) == (1, [str(odd)])
    assert_holds(open_group(tmp_path / "store", GROUP), [good])


def test_an_interruption_right_after_a_commit_commits_nothing_twice(tmp_path):
    """What was committed is not written again when the run ends; the days count their epochs once."""

    class Interrupted(InlineRunner):
        def release(self, unit):
            raise KeyboardInterrupt

    files = [write_window(tmp_path / "in" / f"{day}.rnx", day * DAY) for day in range(2)]
    with pytest.raises(KeyboardInterrupt):
        run_inline(files, tmp_path / "store", runner=Interrupted())
    report = run_inline(files, tmp_path / "store")
    assert (len(report.known), report.epochs) == (2, 20)
    assert len(open_repository(tmp_path / "store").snapshots()) == 2
