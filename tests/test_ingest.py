"""An ingest from files to a commit, in one process: what is stored, skipped, failed and reported."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from canvod.launch.cli.ingest import draw_report
from canvod.launch.errors import DependencyError, ExitStatus, InputError
from canvod.launch.ingest.read import open_group, open_store
from canvod.launch.ingest.report import FileOutcome, IngestReport
from canvod.launch.ingest.store import open_repository
from canvod.launch.runtime import tasks
from hypothesis_profiles import EXAMPLES
from ingest_files import (
    InlineRunner,
    Options,
    assert_holds,
    run_inline,
    true_snr,
    write_window,
    write_windows,
)

GROUP = "site/receiver"


def test_what_is_stored_is_what_a_serial_read_gives(tmp_path):
    """Values, epochs and signals equal a serial read; report and snapshot say what was stored."""
    files = write_windows(tmp_path / "in", range(0, 50, 10))
    report = run_inline(files[::-1], tmp_path / "store")
    assert_holds(open_group(tmp_path / "store", GROUP), files)
    assert [file.path for file in report.stored] == [str(file) for file in files[::-1]]
    assert (report.epochs, report.exit_status) == (50, ExitStatus.OK)
    assert report.bytes_read == sum(file.stat().st_size for file in files)
    assert report.bytes_stored > 0
    newest = open_repository(tmp_path / "store").snapshots(1)[0]
    assert newest.id == report.snapshot_id
    assert newest.metadata["files"] == 5
    assert newest.metadata["reader"] == "rinex"


def test_a_group_opens_with_two_dims_and_their_coordinates_only(tmp_path):
    """``xr.open_zarr`` on the group gives dims epoch and sid, CF times, and no warning."""
    run_inline(
        write_windows(tmp_path / "in", [0, 10]), tmp_path / "store", settings=Options(("SNR", "Doppler"))
    )
    dataset = xr.open_zarr(open_store(tmp_path / "store"), group=GROUP)
    assert set(dataset.dims) == {"epoch", "sid"}
    assert set(dataset.coords) == {"epoch", "sid", "sv", "system", "band", "code"}
    assert set(dataset.data_vars) == {"SNR", "Doppler"}
    assert dataset.epoch.dtype == np.dtype("datetime64[ns]")
    assert dataset.epoch.attrs["time_scale"] == "GPS"
    assert dataset.SNR.attrs["units"] == "dB-Hz"
    assert dataset.SNR.chunks[0] == (10, 10)
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
    assert (len(again.skipped), again.snapshot_id, again.exit_status) == (2, None, ExitStatus.OK)
    assert again.epochs == first.epochs
    assert open_repository(tmp_path / "store").snapshots(1)[0].id == first.snapshot_id


def test_moved_files_are_known_by_their_content(tmp_path):
    """A file under another name is not read again; the reason names the one that was stored."""
    file = write_window(tmp_path / "in" / "a.rnx", 0)
    run_inline([file], tmp_path / "store")
    moved = file.rename(tmp_path / "b.rnx")
    runner = InlineRunner()
    report = run_inline([moved], tmp_path / "store", runner=runner)
    assert runner.reads == 0
    assert report.skipped[0].reason == f"stored already, with the same content, as {file}"


def test_files_of_one_name_and_size_in_two_folders_are_two_files(tmp_path):
    """Neither name nor size tells that a file is stored already."""
    one = write_window(tmp_path / "day1" / "obs.rnx", 0, 7)
    two = write_window(tmp_path / "day2" / "obs.rnx", 35, 7)
    assert one.stat().st_size == two.stat().st_size
    run_inline([one], tmp_path / "store")
    assert len(run_inline([two], tmp_path / "store").stored) == 1
    assert_holds(open_group(tmp_path / "store", GROUP), [one, two])


def test_a_file_that_has_grown_contributes_what_is_new(tmp_path):
    """A file that is still written to is read again, and its new epochs are added; the old ones are kept."""
    file = write_window(tmp_path / "in" / "live.rnx", 0, 10)
    run_inline([file], tmp_path / "store")
    write_window(file, 0, 25)
    report = run_inline([file], tmp_path / "store")
    assert (report.stored[0].epochs, report.stored[0].epochs_stored) == (25, 15)
    assert report.stored[0].reason == (
        "10 of 25 epochs were there already, from live.rnx as it was before, and kept"
    )
    assert report.overlapping_epochs == 10
    assert_holds(open_group(tmp_path / "store", GROUP), [file])


def test_a_file_without_new_epochs_is_skipped_by_the_name_of_the_other(tmp_path):
    """A file whose epochs another one holds is skipped, named in the reason, and not read another time."""
    whole = write_window(tmp_path / "in" / "whole.rnx", 0, 30)
    part = write_window(tmp_path / "in" / "part.rnx", 10, 10)
    report = run_inline([part, whole], tmp_path / "store")
    assert report.skipped[0].path == str(part)
    assert report.skipped[0].reason == "all 10 epochs were there already, from whole.rnx, and kept"
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
    assert (report.stored[-1].epochs, report.stored[-1].epochs_stored) == (10, 7)
    assert report.stored[-1].reason == (
        "3 of 10 epochs were there already, from GO.rnx, and kept; "
        "values were added to 7 epochs that were there already, from GO.rnx"
    )
    assert_holds(open_group(tmp_path / "store", GROUP), [gps, glonass])
    runner = InlineRunner()
    run_inline([gps, glonass], tmp_path / "store", runner=runner)
    assert runner.reads == 0


@pytest.mark.parametrize("runs", [1, 2])
def test_values_that_differ_from_those_before_them_are_told(tmp_path, runs):
    """The first value counts, in one run and in two, and the file's note has the number of the others."""
    first = write_window(tmp_path / "in" / "a.rnx", 7, satellites=("G01",))
    other = write_window(tmp_path / "in" / "b.rnx", 12, satellites=("G01", "E03"), off=1.0)
    if runs == 1:
        report = run_inline([other, first], tmp_path / "store")
    else:
        run_inline([first], tmp_path / "store")
        report = run_inline([other], tmp_path / "store")
    assert report.stored[0].notes == ("5 values differ from those that were kept: of a.rnx",)
    held = open_group(tmp_path / "store", GROUP).SNR.sel(sid="G01|L1|C")
    assert np.array_equal(held[:10], true_snr("G01", np.arange(7, 17)))
    assert np.array_equal(held[10:], true_snr("G01", np.arange(17, 22)) + 1)


def test_a_file_with_other_values_only_is_skipped_and_told(tmp_path):
    """A file that gives no value is not stored, makes no snapshot, and says what differs."""
    first = write_window(tmp_path / "in" / "a.rnx", 0)
    other = write_window(tmp_path / "in" / "b.rnx", 0, off=0.25)
    before = run_inline([first], tmp_path / "store")
    report = run_inline([other], tmp_path / "store")
    assert (report.skipped[0].epochs_stored, report.snapshot_id) == (0, None)
    assert report.skipped[0].notes == ("40 values differ from those that were kept: of a.rnx",)
    assert open_repository(tmp_path / "store").snapshots(1)[0].id == before.snapshot_id


def test_a_bad_file_costs_no_other(tmp_path, invalid):
    """Files that cannot be read fail with a reason each, all others are stored, and the status is 3."""
    good = write_windows(tmp_path / "in", [0, 10])
    bad = [invalid / "binary_garbage.25o", invalid / "header_only.25o", tmp_path / "absent.rnx"]
    report = run_inline([good[0], *bad, good[1]], tmp_path / "store")
    assert [file.path for file in report.failed] == [str(file) for file in bad]
    assert all(file.reason for file in report.failed)
    assert "No such file" in report.failed[-1].reason
    assert (len(report.stored), report.exit_status) == (2, ExitStatus.SOME_FAILED)
    assert_holds(open_group(tmp_path / "store", GROUP), good)


def test_no_store_is_made_when_no_file_can_be_read(tmp_path, invalid):
    """A run in which every file fails leaves nothing behind."""
    report = run_inline([invalid / "binary_garbage.25o"], tmp_path / "store")
    assert (len(report.failed), report.snapshot_id) == (1, None)
    assert not (tmp_path / "store").exists()


def test_late_days_keep_the_epochs_increasing(tmp_path):
    """Files that belong before and between stored ones find their place; what was stored is as it was."""
    files = write_windows(tmp_path / "in", [20, 60, 0, 40, 5])
    dataset = None
    for part in ([1, 0], [3], [2, 4]):
        run_inline([files[index] for index in part], tmp_path / "store", settings=Options(chunk_epochs=7))
        dataset = open_group(tmp_path / "store", GROUP)
        assert np.all(np.diff(dataset.epoch.values) > np.timedelta64(0, "ns"))
    assert_holds(dataset, files)
    assert dataset.SNR.encoding["chunks"][0] == 7


@settings(
    max_examples=EXAMPLES // 16, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    starts=st.lists(st.integers(0, 60), min_size=1, max_size=5, unique=True),
    count=st.integers(1, 20),
    chunk_epochs=st.sampled_from([None, 3, 16]),
    data=st.data(),
)
def test_order_and_number_of_runs_do_not_matter(tmp_path, starts, count, chunk_epochs, data):
    """In a real store, any order of files in any number of runs holds what a serial read gives."""
    with tempfile.TemporaryDirectory(dir=tmp_path) as name:
        folder = Path(name)
        files = data.draw(st.permutations(write_windows(folder / "in", starts, count)))
        readable = [file for file in files if run_inline([file], folder / "one" / file.stem).stored]
        cut = data.draw(st.integers(0, len(files)))
        for part in filter(None, (files[:cut], files[cut:])):
            run_inline(part, folder / "store", settings=Options(chunk_epochs=chunk_epochs))
        if readable:
            assert_holds(open_group(folder / "store", GROUP), readable)


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
    """Ctrl-C while chunks are written leaves snapshot and lock as they were; the next run stores all."""

    class Interrupted(InlineRunner):
        def write(self, fork, batches):
            yield next(iter(super().write(fork, batches)))
            raise KeyboardInterrupt

    files = write_windows(tmp_path / "in", [0, 10, 20])
    first = run_inline(files[:1], tmp_path / "store")
    with pytest.raises(KeyboardInterrupt):
        run_inline(files, tmp_path / "store", runner=Interrupted())
    assert open_repository(tmp_path / "store").snapshots(1)[0].id == first.snapshot_id
    assert_holds(open_group(tmp_path / "store", GROUP), files[:1])
    run_inline(files, tmp_path / "store")
    assert_holds(open_group(tmp_path / "store", GROUP), files)


def test_a_file_that_changes_between_reading_and_writing_is_left_out(tmp_path):
    """A source that is lost after the layout was made fails alone; the others are laid out anew."""

    class Forgetful(InlineRunner):
        def write(self, fork, batches):
            os.truncate(files[1], 100)
            self.data[1] = tasks.read_file(str(files[1]), "rinex", ("SNR",))
            return super().write(fork, batches)

    files = write_windows(tmp_path / "in", [0, 10, 20])
    report = run_inline(files, tmp_path / "store", runner=Forgetful())
    assert [file.path for file in report.failed] == [str(files[1])]
    assert "was read once, but not again" in report.failed[0].reason
    assert_holds(open_group(tmp_path / "store", GROUP), [files[0], files[2]])


def test_what_another_run_has_committed_meanwhile_is_kept(tmp_path):
    """A run that began before another one committed adds to it: the axes are read again under the lock."""

    class Overtaken(InlineRunner):
        def read(self, paths, reader, variables):
            yield from super().read(paths, reader, variables)
            run_inline(files[1:], tmp_path / "store")

    files = write_windows(tmp_path / "in", [0, 5, 20])
    report = run_inline(files[:2], tmp_path / "store", runner=Overtaken())
    assert [file.path for file in report.skipped] == [str(files[1])]
    assert_holds(open_group(tmp_path / "store", GROUP), files)


def test_the_report_is_json_and_a_table(tmp_path, invalid):
    """JSON holds every figure, and the table names counts, span, rate and failures."""
    files = write_windows(tmp_path / "in", [0, 10])
    report = run_inline([*files, invalid / "binary_garbage.25o"], tmp_path / "store")
    values = json.loads(json.dumps(report.as_json()))
    assert values["counts"] == {"stored": 2, "skipped": 0, "failed": 1}
    assert values["first_epoch_gps"] == "2025-01-01T00:00:00"
    assert "first_epoch" not in values
    assert values["exit_status"] == 3
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(draw_report(report))
    text = console.export_text()
    assert "2 stored, 0 skipped, 1 failed" in text
    assert "20 epochs × 5 signals, 2025-01-01T00:00:00 to 2025-01-01T00:01:35 GPS time" in text  # noqa: RUF001
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
    report = IngestReport(store="s", group="g", reader="rinex", files=tuple(files))
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


def test_a_group_whose_record_has_fewer_columns_is_added_to(tmp_path):
    """Groups that were made before readers and stations were recorded go on, with blanks for old files."""
    files = write_windows(tmp_path / "in", [0, 10])
    run_inline(files[:1], tmp_path / "store")
    repository = open_repository(tmp_path / "store")
    session = repository.writer()
    group = zarr.open_group(session.store, path=GROUP, mode="r+")
    del group["files/reader"], group["files/station"], group.attrs["stations"]
    repository.commit(session, "as it was made before", {})
    assert len(run_inline(files, tmp_path / "store").skipped) == 1
    group = zarr.open_group(open_store(tmp_path / "store"), path=GROUP, mode="r")
    assert group["files/station"][:].tolist() == ["", "SIMULATED"]
    assert_holds(open_group(tmp_path / "store", GROUP), files)


def test_a_store_can_be_copied_and_added_to(tmp_path):
    """Nothing in a store depends on where it lies."""
    files = write_windows(tmp_path / "in", [0, 10])
    run_inline(files[:1], tmp_path / "store")
    shutil.copytree(tmp_path / "store", tmp_path / "elsewhere")
    run_inline(files, tmp_path / "elsewhere")
    assert_holds(open_group(tmp_path / "elsewhere", GROUP), files)


@pytest.mark.parametrize("method", ["peak_memory", "forget"])
def test_a_cluster_that_is_lost_after_the_commit_fails_no_run(tmp_path, monkeypatch, method):
    """What is committed is reported, whatever the cluster answers afterwards."""

    def fail(_runner):
        raise OSError(errno.ECONNRESET, "the connection to the scheduler is lost")

    monkeypatch.setattr(InlineRunner, method, fail)
    files = write_windows(tmp_path / "in", [0, 10])
    report = run_inline(files, tmp_path / "store")
    assert report.exit_status == ExitStatus.OK
    assert report.snapshot_id is not None
    assert len(report.stored) == 2
    assert bool(report.peak_memory_bytes) == (method != "peak_memory")
    assert_holds(open_group(tmp_path / "store", GROUP), files)
