"""An ingest from files to a commit, in one process: what is stored, skipped, failed and reported."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import xarray as xr
from flat_cost import FIRST_DAY, make_store
from icechunk import IcechunkError
from rich.console import Console

from canvod.launch.cli.ingest import draw_report
from canvod.launch.errors import ClusterError, DependencyError, ExitStatus, InputError
from canvod.launch.ingest.progress import IngestProgress
from canvod.launch.ingest.read import open_group, open_store, read_log
from canvod.launch.ingest.report import FileOutcome, IngestReport
from canvod.launch.ingest.runner import Task, TaskDiedError
from canvod.launch.ingest.store import open_repository
from canvod.launch.ingest.store_lifecycle import clean_store
from canvod.launch.runtime import unit_tasks
from canvod.launch.testing import assert_dataset_equals, serial_model
from ingest_files import (
    START,
    InlineRunner,
    Options,
    assert_holds,
    run_inline,
    write_window,
    write_windows,
)

GROUP = "site/receiver"
DAY = 17_280
"""Epochs of 5 s in a day."""


class Overtaken(InlineRunner):
    """Another run comes in between, when so many units were made."""

    def __init__(self, other_run, at=1):
        super().__init__()
        self.other_run, self.left = other_run, at

    def make(self, request):
        """Make a unit, and have the other run at its time."""
        task = super().make(request)
        self.left -= 1
        if self.left == 0:
            self.other_run()
        return task


def test_what_is_stored_is_what_a_serial_read_gives(tmp_path):
    """Values, epochs and signals equal a serial read; report and snapshot say what was stored."""
    files = write_windows(tmp_path / "in", range(0, 50, 10))
    report = run_inline(files[::-1], tmp_path / "store")
    assert_holds(open_group(tmp_path / "store", GROUP), files)
    assert [file.path for file in report.stored] == [str(file) for file in files[::-1]]
    assert (report.epochs, report.exit_status) == (50, ExitStatus.OK)
    assert (report.first_day, report.last_day) == ("2025-01-01", "2025-01-01")
    assert report.bytes_read == sum(file.stat().st_size for file in files)
    newest = open_repository(tmp_path / "store").snapshots(1)[0]
    assert (newest.id,) == report.snapshots
    assert newest.metadata["files"] == {"stored": 5}
    assert newest.metadata["reader"] == "rinex"


def test_a_group_opens_with_two_dims_and_their_coordinates_only(tmp_path):
    """``xr.open_zarr`` on the group gives dims epoch and sid, CF times and missing values, and no warning."""
    run_inline(
        write_windows(tmp_path / "in", [0, 10]), tmp_path / "store", settings=Options(("SNR", "Doppler"))
    )
    dataset = xr.open_zarr(open_store(tmp_path / "store"), group=GROUP)
    assert set(dataset.dims) == {"epoch", "sid"}
    frequencies = {"freq_center", "freq_min", "freq_max"}
    assert set(dataset.coords) == {"epoch", "sid", "sv", "system", "band", "code"} | frequencies
    assert set(dataset.data_vars) == {"SNR", "Doppler"}
    assert all(np.isnan(dataset[name].encoding["_FillValue"]) for name in dataset.data_vars)
    assert {(dataset[name].dtype.name, dataset[name].units) for name in frequencies} == {("float32", "MHz")}
    assert dataset.epoch.dtype == np.dtype("datetime64[ns]")
    assert dataset.epoch.attrs["time_system"] == "GPS"
    assert dataset.SNR.attrs["units"] == "dB-Hz"
    one = dataset.sel(sid="C05|B1I|I").load()
    assert (str(one.sv.values), str(one.system.values), str(one.band.values), str(one.code.values)) == (
        "C05",
        "C",
        "B1I",
        "I",
    )


def test_the_same_files_again_change_nothing(tmp_path):
    """A second run reads no file and commits nothing; it ends with status 0."""
    files = write_windows(tmp_path / "in", [0, 10])
    first = run_inline(files, tmp_path / "store")
    runner = InlineRunner()
    again = run_inline(files, tmp_path / "store", runner=runner)
    assert runner.reads == 0
    assert (len(again.known), again.snapshots, again.exit_status) == (2, (), ExitStatus.OK)
    assert again.epochs == first.epochs
    assert (open_repository(tmp_path / "store").snapshots(1)[0].id,) == first.snapshots


def test_moved_files_are_known_by_their_content(tmp_path):
    """A file under another name gives nothing new; the reason names the one that was stored."""
    file = write_window(tmp_path / "in" / "a.rnx", 0)
    run_inline([file], tmp_path / "store")
    moved = file.rename(tmp_path / "b.rnx")
    report = run_inline([moved], tmp_path / "store")
    assert report.known[0].reason == f"stored already, with the same content, as {file}"
    runner = InlineRunner()
    assert run_inline([moved], tmp_path / "store", runner=runner).known[0].reason == "stored already"
    assert runner.reads == 0
    assert_holds(open_group(tmp_path / "store", GROUP), [moved])


def test_touched_files_are_known_by_their_content(tmp_path):
    """A file whose time alone has changed is stored already."""
    file = write_window(tmp_path / "in" / "a.rnx", 0)
    run_inline([file], tmp_path / "store")
    os.utime(file, ns=(0, 0))
    report = run_inline([file], tmp_path / "store")
    assert (report.known[0].reason, report.snapshots) == ("stored already, with the same content", ())


def test_files_of_one_name_and_size_in_two_folders_are_two_files(tmp_path):
    """Neither name nor size tells that a file is stored already."""
    one = write_window(tmp_path / "day1" / "obs.rnx", 0, 7)
    two = write_window(tmp_path / "day2" / "obs.rnx", 35, 7)
    assert one.stat().st_size == two.stat().st_size
    run_inline([one], tmp_path / "store")
    assert len(run_inline([two], tmp_path / "store").stored) == 1
    assert_holds(open_group(tmp_path / "store", GROUP), [one, two])


def test_a_file_that_has_grown_takes_its_own_place(tmp_path):
    """A file that is still written to is read again."""
    file = write_window(tmp_path / "in" / "live.rnx", 0, 10)
    run_inline([file], tmp_path / "store")
    write_window(file, 0, 25)
    report = run_inline([file], tmp_path / "store")
    assert (len(report.stored), report.epochs) == (1, 25)
    assert_holds(open_group(tmp_path / "store", GROUP), [file])


@pytest.mark.parametrize("window", [(0, 10), (5, 10), (40_000, 10), (2, 3)])
def test_a_corrected_file_replaces_what_it_gave(tmp_path, window):
    """Content under a name that was stored takes the place of what it gave, wherever it lies now."""
    other = write_window(tmp_path / "in" / "other.rnx", 4, 12, satellites=("G01", "E03"))
    file = write_window(tmp_path / "in" / "file.rnx", 0, 10, off=0.5)
    run_inline([other, file], tmp_path / "store")
    write_window(file, *window, satellites=("G01", "R04"), off=0.25)
    run_inline([file], tmp_path / "store")
    assert_holds(open_group(tmp_path / "store", GROUP), [other, file])


def test_what_a_file_gave_stays_where_it_cannot_be_taken_out(tmp_path):
    """Without the file that shares its time nobody knows whose the values are: told, and nothing lost."""
    other = write_window(tmp_path / "in" / "other.rnx", 4, 12)
    file = write_window(tmp_path / "in" / "file.rnx", 0, 10)
    run_inline([other, file], tmp_path / "store")
    before = open_group(tmp_path / "store", GROUP).compute(scheduler="sync")
    other.unlink()
    write_window(file, 0, 10, off=0.5)
    report = run_inline([file], tmp_path / "store")
    assert report.exit_status == ExitStatus.SOME_FAILED
    assert report.failed[0].reason.startswith(
        f"has changed, and what it gave cannot be taken out: {other}, which has values of the same time, "
    )
    xr.testing.assert_identical(open_group(tmp_path / "store", GROUP).compute(scheduler="sync"), before)


def test_what_a_file_gave_stays_where_it_is_damaged_now(tmp_path):
    """A changed file that cannot be read takes nothing out, whatever else is read of its time."""
    damaged, changed = (tmp_path / "in" / name for name in ("rosa0010.25o", "rosa0011.25o"))
    for file, first in ((damaged, 0), (changed, 5)):
        write_window(file, first, 10)
    run_inline([damaged, changed], tmp_path / "store")
    before = open_group(tmp_path / "store", GROUP).compute(scheduler="sync")
    damaged.write_bytes(b"\0")
    assert run_inline([damaged], tmp_path / "store").snapshots == ()
    write_window(changed, 5, 10, off=0.5)
    report = run_inline([damaged, changed], tmp_path / "store")
    assert [file.path for file in report.failed] == [str(damaged), str(changed)]
    assert report.failed[0].reason.startswith("not a RINEX file")
    assert f"cannot be taken out: {damaged}, which has values of the same time" in report.failed[1].reason
    xr.testing.assert_identical(open_group(tmp_path / "store", GROUP).compute(scheduler="sync"), before)


def test_a_damaged_file_of_many_days_is_one_failure(tmp_path):
    """The days of which it was to be read later are left out."""
    good = [write_window(tmp_path / "in" / f"{day}.rnx", day * DAY, 2) for day in range(20)]
    run_inline(good, tmp_path / "store")
    damaged = tmp_path / "in" / "ROSA00AUT_R_20250010000_20D_05S_MO.rnx"
    damaged.write_bytes(b"\0")
    report = run_inline([damaged], tmp_path / "store")
    assert [file.path for file in report.failed] == [str(damaged)]
    assert_holds(open_group(tmp_path / "store", GROUP), good)


def test_changed_files_can_be_left_or_refused(tmp_path):
    """``on_change: skip`` keeps what is stored and says so with status 3; ``fail`` refuses the run."""
    file = write_window(tmp_path / "in" / "file.rnx", 0, 10)
    run_inline([file], tmp_path / "store")
    before = open_group(tmp_path / "store", GROUP).compute(scheduler="sync")
    write_window(file, 0, 10, off=0.5)
    report = run_inline([file], tmp_path / "store", settings=Options(on_change="skip"))
    assert (report.exit_status, report.snapshots) == (ExitStatus.SOME_FAILED, ())
    assert "has changed since it was stored" in report.failed[0].reason
    with pytest.raises(InputError, match="has changed since it was stored in group 'site/receiver'"):
        run_inline([file], tmp_path / "store", settings=Options(on_change="fail"))
    xr.testing.assert_identical(open_group(tmp_path / "store", GROUP).compute(scheduler="sync"), before)


def test_a_file_without_new_values_is_known(tmp_path):
    """A file whose values another one has gives nothing, and is not read another time."""
    whole = write_window(tmp_path / "in" / "whole.rnx", 0, 30)
    part = write_window(tmp_path / "in" / "part.rnx", 10, 10)
    report = run_inline([part, whole], tmp_path / "store")
    assert [file.path for file in report.known] == [str(part)]
    assert report.known[0].reason == "all its values are stored already, from other files"
    runner = InlineRunner()
    run_inline([part, whole], tmp_path / "store", runner=runner)
    assert runner.reads == 0


@pytest.mark.parametrize("runs", [1, 2])
def test_files_of_one_time_with_different_signals_are_merged(tmp_path, runs):
    """Files that hold different systems give what a file with both gives, in one run and in two."""
    gps = write_window(tmp_path / "in" / "GO.rnx", 7, satellites=("G01", "G02"))
    glonass = write_window(tmp_path / "in" / "RO.rnx", 7, satellites=("G01", "R04"))
    report = run_inline([gps, glonass] if runs == 1 else [gps], tmp_path / "store")
    if runs == 2:
        report = run_inline([glonass], tmp_path / "store")
    assert report.stored[-1].path == str(glonass)
    assert report.stored[-1].values == 7
    assert_holds(open_group(tmp_path / "store", GROUP), [gps, glonass])
    runner = InlineRunner()
    run_inline([gps, glonass], tmp_path / "store", runner=runner)
    assert runner.reads == 0


@pytest.mark.parametrize("order", ["together", "in order", "against it"])
def test_values_that_differ_are_told_and_the_order_of_time_counts(tmp_path, order):
    """The file that begins first has its values stored, in any order; the other says what differs."""
    first = write_window(tmp_path / "in" / "a.rnx", 7, satellites=("G01",))
    other = write_window(tmp_path / "in" / "b.rnx", 12, satellites=("G01", "E03"), off=1.0)
    runs = {"together": [[other, first]], "in order": [[first], [other]], "against it": [[other], [first]]}
    for files in runs[order]:
        report = run_inline(files, tmp_path / "store")
    held = open_group(tmp_path / "store", GROUP)
    assert_holds(held, [first, other])
    if order != "against it":
        assert report.partly[0].reason == "5 values differ from what a.rnx has, which counts"
        assert report.exit_status == ExitStatus.SOME_FAILED


def test_what_is_stored_stays_where_its_file_has_gone(tmp_path):
    """Of a file that is not there any more nobody knows what it gave: stored values count."""
    late = write_window(tmp_path / "in" / "b.rnx", 12, satellites=("G01",), off=1.0)
    run_inline([late], tmp_path / "store")
    expected = serial_model([late])
    late.unlink()
    early = write_window(tmp_path / "in" / "a.rnx", 7, satellites=("G01",))
    report = run_inline([early], tmp_path / "store")
    assert report.partly[0].reason == "5 values differ from what the store has, which counts"
    assert_dataset_equals(open_group(tmp_path / "store", GROUP), serial_model([early], held=expected))


def test_a_bad_file_costs_no_other(tmp_path, invalid):
    """Files that cannot be read fail with a reason each, all others are stored, and the status is 3.

    A day of which no file can be read is none of the group.
    """
    good = write_windows(tmp_path / "in", [0, 10])
    dated = tmp_path / "rosa0050.25o"
    shutil.copy(invalid / "binary_garbage.25o", dated)
    bad = [invalid / "binary_garbage.25o", invalid / "header_only.25o", dated, tmp_path / "absent.rnx"]
    report = run_inline([good[0], *bad, good[1]], tmp_path / "store")
    assert [file.path for file in report.failed] == [str(file) for file in bad]
    assert all(file.reason for file in report.failed)
    assert "No such file" in report.failed[-1].reason
    assert (len(report.stored), report.exit_status) == (2, ExitStatus.SOME_FAILED)
    assert report.last_day == "2025-01-01"
    assert_holds(open_group(tmp_path / "store", GROUP), good)


def test_no_store_is_made_when_no_file_can_be_read(tmp_path, invalid):
    """A run in which every file fails leaves nothing behind, whether or not the names tell the day."""
    dated = shutil.copy(invalid / "binary_garbage.25o", tmp_path / "rosa0010.25o")
    report = run_inline([invalid / "binary_garbage.25o", dated], tmp_path / "store")
    assert (len(report.failed), report.snapshots) == (2, ())


def test_files_that_could_not_be_read_are_known(tmp_path, invalid):
    """A damaged file is told again without being read, until ``retry_failed``; a missing one is tried."""
    good, bad = write_window(tmp_path / "in" / "good.rnx", 0), invalid / "binary_garbage.25o"
    absent = tmp_path / "in" / "absent.rnx"
    first = run_inline([good, bad, absent], tmp_path / "store")
    runner = InlineRunner()
    again = run_inline([good, bad, absent], tmp_path / "store", runner=runner)
    assert runner.reads == 1
    assert again.exit_status == ExitStatus.SOME_FAILED
    assert again.failed[0].reason == (
        f"{first.failed[0].reason} (found earlier; it is as it was, and --retry-failed reads it again)"
    )
    write_window(absent, 20)
    run_inline([good, bad, absent], tmp_path / "store", settings=Options(retry_failed=True), runner=runner)
    assert runner.reads == 3
    assert_holds(open_group(tmp_path / "store", GROUP), [good, absent])


@pytest.mark.parametrize("last", [True, False])
def test_files_without_a_date_in_their_names_are_read_once(tmp_path, last):
    """Their headers say when they begin; what a header does not say, or says wrongly, is read again."""
    files = [write_window(tmp_path / "in" / f"{name}.rnx", row) for name, row in [("a", 0), ("b", 40)]]
    runner = InlineRunner()
    run_inline(files, tmp_path / "store", runner=runner)
    sampled = len(files)
    assert runner.reads == sampled + len(files)
    whole = write_window(tmp_path / "in" / "day.rnx", DAY, 9_000)
    if last:
        text = whole.read_text().split("TIME OF FIRST OBS", 1)
        line = f"  2025     1     2    12    29   55.0000000     GPS{'TIME OF LAST OBS':>28}    "
        whole.write_text(f"{text[0]}TIME OF FIRST OBS   \n{line}\n{text[1].lstrip(' ').lstrip()}")
    runner.reads = 0
    run_inline([whole], tmp_path / "store", runner=runner)
    assert runner.reads == (1 if last else 2)
    assert_holds(open_group(tmp_path / "store", GROUP), [*files, whole])


@pytest.fixture(scope="module")
def many_days(tmp_path_factory):
    """A store of 400 days and a gap."""
    folder = tmp_path_factory.mktemp("many") / "store"
    make_store(folder, [day for day in range(1, 402) if day != 200])
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 200, 402])
def test_a_late_day_among_many_writes_its_own_chunks_alone(tmp_path, many_days, number):
    """No object of the 400 days is written anew or removed: days are moved by reference.

    Written are a part of the day and its epochs, the list of days, and the end of the log book.
    """
    store = shutil.copytree(many_days, tmp_path / "store", copy_function=os.link)
    chunks = {path: path.stat().st_mtime_ns for path in (store / "chunks").iterdir()}
    size = open_repository(store).disk_bytes()
    before = open_group(store, GROUP).SNR
    row = (FIRST_DAY + number - START.astype("datetime64[D]").astype(int)) * DAY + 100
    file = write_window(tmp_path / "in" / "late.rnx", row, 180, satellites=("G01", "G02"))
    run_inline([file], store)
    assert {path: path.stat().st_mtime_ns for path in chunks} == chunks
    written = [path.stat().st_size for path in (store / "chunks").iterdir() if path not in chunks]
    assert len(written) <= 7
    assert open_repository(store).disk_bytes() - size < 2**18
    after = open_group(store, GROUP).SNR
    day = np.datetime64(FIRST_DAY + number, "D")
    assert_holds(after.sel(epoch=str(day)).to_dataset(), [file])
    others = after.isel(epoch=after.epoch.values.astype("datetime64[D]") != day)
    for part in (slice(2 * DAY), slice(-2 * DAY, None), slice(198 * DAY, 202 * DAY)):
        xr.testing.assert_equal(others.isel(epoch=part).compute(scheduler="sync"), before.isel(epoch=part))


def test_late_days_keep_the_epochs_increasing(tmp_path):
    """Days before and between stored ones find their place; no chunk of another day is written."""
    files = write_windows(tmp_path / "in", [day * DAY + 100 for day in (3, 9, 0, 5, 1)])
    dataset = None
    for part in ([1, 0], [3], [2, 4]):
        chunks = {path.name for path in (tmp_path / "store" / "chunks").rglob("*")}
        run_inline([files[index] for index in part], tmp_path / "store")
        dataset = open_group(tmp_path / "store", GROUP)
        assert np.all(np.diff(dataset.epoch.values) > np.timedelta64(0, "ns"))
        new = {path.name for path in (tmp_path / "store" / "chunks").rglob("*")} - chunks
        assert len(new) <= 3 * len(part) + 20
    assert_holds(dataset, files)


@pytest.mark.parametrize("every", [2, 5, 6, 30])
def test_days_of_other_intervals_fit(tmp_path, every):
    """Files of a smaller interval than the first make their day longer; larger ones leave gaps."""
    coarse = write_window(tmp_path / "in" / "a.rnx", 0, 40, every=every)
    run_inline([coarse], tmp_path / "store")
    fine = write_window(tmp_path / "in" / "b.rnx", 60, 8640)
    other = write_window(tmp_path / "in" / "c.rnx", 5 * DAY, 40, every=7)
    run_inline([fine, other], tmp_path / "store")
    held = open_group(tmp_path / "store", GROUP)
    assert np.all(np.diff(held.epoch.values) > np.timedelta64(0, "ns"))
    assert_holds(held, [coarse, fine, other])


def test_several_groups_share_a_store(tmp_path):
    """Receivers are groups beside each other; writing one leaves the other's values alone."""
    one, two = write_windows(tmp_path / "in", [0, 20])
    run_inline([one], tmp_path / "store", "site/one")
    run_inline([two], tmp_path / "store", "site/two")
    assert_holds(open_group(tmp_path / "store", "site/one"), [one])
    assert_holds(open_group(tmp_path / "store", "site/two"), [two])


@pytest.mark.parametrize(
    ("group", "message"),
    [
        ("../up", "is no name for a group"),
        ("", "is no name for a group"),
        ("a b", "is no name for a group"),
        ("site", "has groups below it (receiver)"),
        ("site/receiver/files", "would lie within 'site/receiver', which holds data itself"),
    ],
)
def test_groups_that_cannot_be_used_are_refused(tmp_path, group, message):
    """A group that is no name, or lies above or within another, is refused before a file is read."""
    files = write_windows(tmp_path / "in", [0])
    run_inline(files, tmp_path / "store")
    runner = InlineRunner()
    with pytest.raises(InputError) as caught:
        run_inline(files, tmp_path / "store", group, runner=runner)
    assert message in str(caught.value)
    assert runner.reads == 0


def test_other_variables_than_the_groups_are_refused(tmp_path):
    """A group keeps its set of variables; the message names both sets and the way out."""
    files = write_windows(tmp_path / "in", [0, 10])
    run_inline(files[:1], tmp_path / "store")
    with pytest.raises(InputError) as caught:
        run_inline(files[1:], tmp_path / "store", settings=Options(("SNR", "Phase")))
    assert str(caught.value) == (
        "group 'site/receiver' holds SNR, and ingest.variables asks for Phase, SNR; a group has one set of "
        "variables\n"
        "  What to do: set ingest.variables to [SNR], or name another group"
    )


def test_a_reader_that_the_workers_lack_is_refused(tmp_path):
    """A reader that is not installed is told once, with what is there, and no file is read."""
    files = write_windows(tmp_path / "in", [0, 10])
    runner = InlineRunner()
    with pytest.raises(DependencyError) as caught:
        run_inline(files, tmp_path / "store", settings=Options(reader="ours"), runner=runner)
    assert str(caught.value).startswith(
        "the workers cannot read with ingest.reader 'ours': no reader 'ours' is installed here; there are: "
    )
    assert runner.reads == 0


def test_no_files_are_refused(tmp_path):
    """An empty list of files is an error, not an empty store."""
    with pytest.raises(InputError, match="there are no files to ingest"):
        run_inline([], tmp_path / "store")


def test_an_interruption_before_the_commit_changes_nothing(tmp_path):
    """Ctrl-C while units are written leaves snapshot and lock as they were; the next run stores all."""

    class Interrupted(InlineRunner):
        def write(self, *arguments):
            super().write(*arguments)
            raise KeyboardInterrupt

    files = write_windows(tmp_path / "in", [0, 10, 20])
    first = run_inline(files[:1], tmp_path / "store")
    with pytest.raises(KeyboardInterrupt):
        run_inline(files, tmp_path / "store", runner=Interrupted())
    assert (open_repository(tmp_path / "store").snapshots(1)[0].id,) == first.snapshots
    assert_holds(open_group(tmp_path / "store", GROUP), files[:1])
    run_inline(files, tmp_path / "store")
    assert_holds(open_group(tmp_path / "store", GROUP), files)


@pytest.mark.parametrize("end", [KeyboardInterrupt, SystemExit, SystemError])
def test_what_was_read_stays_where_a_signal_ends_the_run(tmp_path, end):
    """A run that is interrupted commits the days that were made; one that fails has those of its commits."""

    class Interrupted(InlineRunner):
        n_workers = 1

        def make(self, request):
            if request.span.day == 20_098:
                raise end
            return super().make(request)

    files = [
        write_window(tmp_path / "in" / f"TEST00XXX_R_2025{day:03}0000_15M_05S_MO.rnx", (day - 1) * DAY)
        for day in range(1, 13)
    ]
    with pytest.raises(end):
        run_inline(files, tmp_path / "store", runner=Interrupted(), settings=Options(chunk=(4320, 64)))
    if end is SystemError:
        assert not (tmp_path / "store").exists()
    else:
        assert_holds(open_group(tmp_path / "store", GROUP), files[:2])
    run_inline(files, tmp_path / "store")
    assert_holds(open_group(tmp_path / "store", GROUP), files)


def test_what_was_committed_stays_whatever_ends_the_run(tmp_path):
    """A run of several days that is interrupted has stored the first ones, and says how many files."""

    class Interrupted(InlineRunner):
        n_workers = 1

        def make(self, request):
            if request.span.day == 20_098:
                raise KeyboardInterrupt
            return super().make(request)

    class Said(IngestProgress):
        said: ClassVar[list[str]] = []

        def say(self, text):
            self.said.append(text)

    files = [
        write_window(tmp_path / "in" / f"TEST00XXX_R_2025{day:03}0000_15M_05S_MO.rnx", (day - 1) * DAY)
        for day in range(1, 13)
    ]
    with pytest.raises(KeyboardInterrupt):
        run_inline(
            files,
            tmp_path / "store",
            runner=Interrupted(),
            settings=Options(commit_every="1 day", chunk=(4320, 64)),
            progress=Said(),
        )
    assert Said.said == ["2 of 12 files are stored or known; the same command goes on"]
    assert_holds(open_group(tmp_path / "store", GROUP), files[:2])
    run_inline(files, tmp_path / "store")
    assert_holds(open_group(tmp_path / "store", GROUP), files)


def test_a_file_that_changes_between_reading_and_writing_is_read_again(tmp_path):
    """A unit that is made again after its worker died, of changed files, is not written as it was."""

    class Forgetful(InlineRunner):
        forgot = False

        def write(self, fork, unit, request):
            if not self.forgot:
                self.forgot = True
                os.truncate(files[1], 100)
                return Task(unit_tasks.write_unit(fork, unit_tasks.make_unit(self.requests[-1]), request))
            return super().write(fork, unit, request)

        requests: ClassVar[list] = []

        def make(self, request):
            self.requests.append(request)
            return super().make(request)

    files = write_windows(tmp_path / "in", [0, 10, 20])
    report = run_inline(files, tmp_path / "store", runner=Forgetful())
    assert [file.path for file in report.failed] == [str(files[1])]
    assert_holds(open_group(tmp_path / "store", GROUP), [files[0], files[2]])


def test_what_another_run_has_committed_meanwhile_is_kept(tmp_path):
    """A run that began before another one committed adds to it: its days are made again under the lock."""
    files = write_windows(tmp_path / "in", [0, 5, 20])
    report = run_inline(
        files[:2], tmp_path / "store", runner=Overtaken(lambda: run_inline(files[1:], tmp_path / "store"))
    )
    assert [file.path for file in report.known] == [str(files[1])]
    assert_holds(open_group(tmp_path / "store", GROUP), files)


def test_what_another_run_has_committed_of_a_day_that_is_on_its_way_is_kept(tmp_path):
    """Also where the run commits another day before that one is written."""
    options = Options(commit_every="1 day")
    files = [
        write_window(tmp_path / "in" / f"TEST00XXX_R_2025{day:03}0000_15M_05S_MO.rnx", (day - 1) * DAY)
        for day in (1, 2)
    ]
    theirs = write_window(tmp_path / "in" / "theirs.rnx", DAY + 20)
    run_inline(
        files,
        tmp_path / "store",
        settings=options,
        runner=Overtaken(lambda: run_inline([theirs], tmp_path / "store"), at=2),
    )
    assert_holds(open_group(tmp_path / "store", GROUP), [*files, theirs])


@pytest.mark.parametrize("day", [0, 3])
@pytest.mark.parametrize("theirs", [(50, 8), (400, 8), (100, 3)])
def test_a_group_that_another_run_has_made_meanwhile_keeps_its_chunks(tmp_path, theirs, day):
    """Of two runs that make one group the first decides, and what the other has read is made for that."""
    files = write_windows(tmp_path / "in", [0, 2_000, day * DAY + 40, day * DAY + 9_000])
    run_inline(
        files[:2],
        tmp_path / "store",
        settings=Options(chunk=(100, 8)),
        runner=Overtaken(lambda: run_inline(files[2:], tmp_path / "store", settings=Options(chunk=theirs))),
    )
    data = open_group(tmp_path / "store", GROUP)
    assert_holds(data, files)
    assert data.SNR.chunks[0][0] == theirs[0]


def test_a_day_that_another_run_has_made_longer_meanwhile_is_made_anew(tmp_path):
    """Its rows are others now: nothing is lost of what the other run has stored of that day."""
    options = Options(chunk=(100, 8), commit_every="1 day")
    stored = write_window(tmp_path / "in" / "stored.rnx", 0, 20, every=2)
    files = [
        write_window(tmp_path / "in" / f"{row}.rnx", row, 20, every=2) for row in (1_000, 4_000, DAY + 80)
    ]
    fine = write_window(tmp_path / "in" / "fine.rnx", 12_000, 400)
    run_inline([stored], tmp_path / "store", settings=options)
    run_inline(
        files,
        tmp_path / "store",
        settings=options,
        runner=Overtaken(lambda: run_inline([fine], tmp_path / "store")),
    )
    assert_holds(open_group(tmp_path / "store", GROUP), [stored, *files, fine])


def test_the_report_is_json_and_a_table(tmp_path, invalid):
    """JSON holds every figure, and the table names counts, span, rate and failures."""
    files = write_windows(tmp_path / "in", [0, 10])
    report = run_inline([*files, invalid / "binary_garbage.25o"], tmp_path / "store")
    values = json.loads(json.dumps(report.as_json()))
    assert values["counts"] == {"stored": 2, "known": 0, "partly": 0, "failed": 1}
    assert values["first_day"] == "2025-01-01"
    assert values["exit_status"] == 3
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(draw_report(report))
    text = console.export_text()
    assert "2 stored, 0 known, 0 partly, 1 failed" in text
    assert "20 epochs × 5 signals, 2025-01-01 to 2025-01-01" in text  # noqa: RUF001
    assert f"failed: {invalid / 'binary_garbage.25o'}: " in text


def test_notes_are_counted_by_kind():
    """What was left out of all files is summed up, whatever the lines, and whether it was one or several."""
    files = [
        FileOutcome("a", "stored", notes=("left out 1 damaged epoch, at line 33: satellite G01: no number",)),
        FileOutcome(
            "b", "stored", notes=("left out 1,200 damaged epochs, the first at line 5", "the file has no S1")
        ),
        FileOutcome("c", "failed", "no epochs"),
    ]
    report = IngestReport(store="s", group="g", files=tuple(files))
    counts = {
        "left out damaged epochs": {"count": 1201, "files": 2},
        "the file has no S1": {"count": 1, "files": 1},
    }
    assert report.as_json()["notes_by_kind"] == counts
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(draw_report(report))
    text = console.export_text()
    assert "left out damaged epochs: 1,201 in 2 files" in text
    assert "stored: a: left out 1 damaged epoch, at line 33: satellite G01: no number" in text


def test_a_store_can_be_copied_and_added_to(tmp_path):
    """Nothing in a store depends on where it lies."""
    files = write_windows(tmp_path / "in", [0, 10])
    run_inline(files[:1], tmp_path / "store")
    shutil.copytree(tmp_path / "store", tmp_path / "elsewhere")
    run_inline(files, tmp_path / "elsewhere")
    assert_holds(open_group(tmp_path / "elsewhere", GROUP), files)


def test_a_cluster_that_is_lost_after_the_commit_fails_no_run(tmp_path):
    """What is committed is reported, whatever the cluster answers afterwards."""

    class Lost(InlineRunner):
        def release(self, unit):
            raise OSError(errno.ECONNRESET, "the connection to the scheduler is lost")

    files = write_windows(tmp_path / "in", [0, 10])
    report = run_inline(files, tmp_path / "store", runner=Lost())
    assert (report.exit_status, len(report.stored)) == (ExitStatus.OK, 2)
    assert_holds(open_group(tmp_path / "store", GROUP), files)


def test_a_file_that_is_lost_in_the_middle_of_a_run_is_whole_after_the_next(tmp_path):
    """What a commit has of it is told by the log book, so that it counts when the day is made again."""
    files = [
        write_window(tmp_path / "in" / "long.rnx", DAY - 5, 10),
        write_window(tmp_path / "in" / "b.rnx", 0),
    ]

    class Losing(InlineRunner):
        n_workers = 1

        def make(self, request):
            if request.span.day > 20_089:
                files[0].rename(tmp_path / "gone")
            return super().make(request)

    options = {"settings": Options(commit_every="1 day", chunk=(4320, 64))}
    report = run_inline(files, tmp_path / "store", runner=Losing(), **options)
    (failed,) = report.failed
    assert failed.reason == "cannot be opened: No such file or directory (a part of it was stored before)"
    statuses = {Path(record.path).name: record.status for record in read_log(tmp_path / "store", GROUP)}
    assert statuses == {"b.rnx": "stored", "long.rnx": "begun"}
    assert open_group(tmp_path / "store", GROUP).dropna("epoch", how="all").sizes["epoch"] == 15
    # It counts when its time is made again: the value of a file that begins earlier differs.
    (tmp_path / "gone").rename(files[0])
    files.append(write_window(tmp_path / "in" / "c.rnx", DAY - 8, 4, off=0.25))
    run_inline([files[2]], tmp_path / "store", **options)
    first_day = serial_model(files).sel(epoch="2025-01-01")
    assert_dataset_equals(open_group(tmp_path / "store", GROUP), first_day)
    run_inline(files, tmp_path / "store", **options)
    assert_holds(open_group(tmp_path / "store", GROUP), files)


def test_a_full_disk_of_a_worker_makes_a_commit_and_is_an_error_where_that_does_not_help(tmp_path):
    """What was made before is stored, and the message says where there is no room."""
    files = [write_window(tmp_path / "in" / f"{day}.rnx", day * DAY) for day in range(4)]

    class Full(InlineRunner):
        n_workers, units, full_at = 1, 0, (2,)

        def make(self, request):
            unit = unit_tasks.make_unit(request)
            self.units += 1
            if self.units in self.full_at:
                reply = json.loads(unit.reply.split(b"\n")[0]) | {
                    "problem": "/spill: No space left on device"
                }
                return Task(json.dumps(reply).encode(), unit)
            return Task(unit.reply, unit)

    report = run_inline(files, tmp_path / "store", runner=Full())
    assert (len(report.stored), len(report.snapshots)) == (4, 2)
    assert_holds(open_group(tmp_path / "store", GROUP), files)

    class Fuller(Full):
        full_at = range(2, 99)

    with pytest.raises(ClusterError, match="keep what it has read: /spill: No space left on device"):
        run_inline(files, tmp_path / "other", runner=Fuller())
    assert_holds(open_group(tmp_path / "other", GROUP), files[:1])


def test_a_store_that_is_compacted_during_a_run_does_not_end_it(tmp_path):
    """The snapshot that a run has begun with is gone then; it goes on with the newest."""

    class Compacting(InlineRunner):
        compacted = False

        def make(self, request):
            if not self.compacted:
                self.compacted = True
                run_inline(files[:1], tmp_path / "store", group="site/other")
                now = datetime.now(UTC) + timedelta(seconds=1)
                clean_store(tmp_path / "store", older_than=timedelta(0), now=now, expire=True)
            try:
                return super().make(request)
            except IcechunkError as exc:
                return Task(exc)

        def answer(self, task):
            if isinstance(task.answer, IcechunkError):
                raise TaskDiedError(str(task.answer))
            return super().answer(task)

    files = write_windows(tmp_path / "in", [0, 5, 20])
    run_inline(files[:2], tmp_path / "store")
    report = run_inline(files, tmp_path / "store", runner=Compacting())
    assert (len(report.stored), len(report.known)) == (1, 2)
    assert_holds(open_group(tmp_path / "store", GROUP), files)
