"""A group holds one station: told by names of files before anything starts, else by their MARKER NAMEs."""

from __future__ import annotations

import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canvod.launch.config import load_settings
from canvod.launch.errors import ExitStatus, InputError
from canvod.launch.ingest.job import IngestJob
from canvod.launch.ingest.read import open_group
from canvod.launch.ingest.stations import check_names, is_same
from canvod.launch.ingest.store import store_exists
from ingest_files import InlineRunner, Options, assert_holds, run_inline, write_window

GROUP = "site/receiver"
LONG = "{}_R_20250010000_15M_05S_MO.rnx"


def test_files_of_two_stations_are_refused_by_their_names(tmp_path):
    """The message has each station with its files, an example, and both ways out; nothing is made."""
    names = ["ROSA00AUT_R_20250010000_15M_05S_MO.rnx", "rosb0010.25o", "rosb0020.25o", "any.rnx"]
    for name in names:
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(InputError) as caught:
        IngestJob([tmp_path], tmp_path / "store", GROUP, load_settings())
    assert str(caught.value) == (
        "these files are of 2 stations by their names: "
        f"ROSA00AUT (1 file, such as {tmp_path / names[0]}), ROSB (2 files, such as {tmp_path / names[1]}); "
        "a group holds one\n"
        "  What to do: ingest each into a group of its own, or allow several stations with --mixed-stations "
        "(ingest.mixed_stations: true)"
    )
    job = IngestJob(
        [tmp_path], tmp_path / "store", GROUP, load_settings(overrides={"ingest.mixed_stations": True})
    )
    assert len(job.found.files) == 4
    assert not store_exists(tmp_path / "store")


@pytest.mark.parametrize(
    ("names", "stored", "refused"),
    [
        (["rosa0010.25o", LONG.format("ROSA00AUT"), "ROSA002b.25d.Z"], [], False),
        (["any.rnx", "rosa0010.25o", "campaign.obs"], [], False),
        ([LONG.format("ROSA00AUT"), LONG.format("ROSA01AUT")], [], True),
        ([LONG.format("ROSA00AUT"), LONG.format("ROSA01AUT"), "rosa0010.25o"], [], True),
        (["rosa0010.25o"], ["ROSA00AUT"], False),
        (["rosb0010.25o"], ["ROSA00AUT"], True),
        (["rosa0010.25o", "rosb0010.25o"], ["rosa", "rosb"], False),
        (["rosa0010.25o", "rosc0010.25o"], ["rosa", "rosb"], True),
    ],
)
def test_long_and_short_names_of_one_station_go_together(names, stored, refused):
    """A short name is that of a long one with the same start; what a group holds already is wanted."""
    if not refused:
        check_names(names, stored)
        return
    with pytest.raises(InputError, match="by their names"):
        check_names(names, stored)


@given(st.text("AB01", min_size=4, max_size=9), st.text("ab01", min_size=4, max_size=9))
def test_being_the_same_station_has_no_direction_and_no_case(one, other):
    """It does not matter which of two names comes first, nor how they are written."""
    assert is_same(one, other) == is_same(other, one) == is_same(one.lower(), other.upper())
    assert is_same(one, one.lower())


def test_a_file_with_another_marker_is_not_stored(tmp_path):
    """Where names tell nothing, files fail whose MARKER NAME is not that of most, or of the group."""
    files = [write_window(tmp_path / f"{row}.rnx", row, marker="ROSA") for row in (10, 20)]
    other = write_window(tmp_path / "0.rnx", 0, marker="ROSB")
    report = run_inline([other, *files], tmp_path / "store")
    reason = (
        "its MARKER NAME is ROSB, and the group's ROSA; name another group, or allow several stations with "
        "--mixed-stations (ingest.mixed_stations: true)"
    )
    assert [(file.path, file.reason) for file in report.failed] == [(str(other), reason)]
    assert (len(report.stored), report.exit_status) == (2, ExitStatus.SOME_FAILED)
    group = open_group(tmp_path / "store", GROUP)
    assert group.attrs["stations"] == ["ROSA"]
    assert_holds(group, files)
    runner = InlineRunner()
    again = run_inline([other, *files], tmp_path / "store", runner=runner)
    assert (len(again.failed), len(again.known), runner.reads, again.snapshots) == (1, 2, 0, ())
    assert again.failed[0].reason.startswith(f"{reason} (found earlier")
    mixed = run_inline([other, *files], tmp_path / "store", settings=Options(mixed_stations=True))
    assert (len(mixed.stored), len(mixed.known)) == (1, 2)


def test_several_markers_are_stored_where_they_are_wanted(tmp_path):
    """With mixed_stations all files are stored, and report and attributes say of which stations they are."""
    files = [
        write_window(tmp_path / f"{row}.rnx", row, marker=marker)
        for row, marker in ((0, "ROSA"), (10, "ROSB"), (20, "ROSA"))
    ]
    report = run_inline(files, tmp_path / "store", settings=Options(mixed_stations=True))
    assert report.notices == ("the files of this group are of different stations: ROSA, ROSB",)
    assert [file.station for file in report.files] == ["ROSA", "ROSB", "ROSA"]
    group = open_group(tmp_path / "store", GROUP)
    assert group.attrs["stations"] == ["ROSA", "ROSB"]
    assert_holds(group, files)
    more = [write_window(tmp_path / "30.rnx", 30, marker="rosb")]
    assert run_inline(more, tmp_path / "store").stored


def test_files_for_each_system_of_one_station_are_merged(tmp_path, invalid):
    """Two files of one time and station, one for each system, give both signals at both epochs."""
    folder = shutil.copytree(invalid.parent / "faults" / "per_system", tmp_path / "in")
    report = run_inline(sorted(folder.iterdir()), tmp_path / "store")
    assert len(report.stored) == 2
    group = open_group(tmp_path / "store", GROUP)
    assert group.sid.values.tolist() == ["G01|L1|C", "G01|L2|W", "R01|G1|C"]
    assert group.SNR.dropna("epoch").values.tolist() == [[45, 30, 41], [46, 31, 42]]


def test_two_stations_of_the_faults_are_refused(tmp_path, invalid):
    """By their names, before a file is read; and by their markers where names tell nothing."""
    folder = shutil.copytree(invalid.parent / "faults" / "two_stations", tmp_path / "in")
    files = sorted(folder.iterdir())
    with pytest.raises(InputError, match="2 stations by their names: AAAA00XXX"):
        run_inline(files, tmp_path / "store")
    renamed = [file.rename(folder / f"{number}.rnx") for number, file in enumerate(files)]
    report = run_inline(renamed, tmp_path / "store")
    assert [file.path for file in report.failed] == [str(renamed[1])]
