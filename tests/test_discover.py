"""Observation files are found by their names; what is passed over is counted."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from canvod.launch.errors import InputError
from canvod.launch.ingest import discover as discovery
from canvod.launch.ingest.discover import discover

if TYPE_CHECKING:
    from pathlib import Path

OBSERVATIONS = [
    "ROSA01TUW_R_20250010000_15M_05S_AA.rnx",
    "ROSA00AUT_R_20250010000_01D_30S_MO.rnx",
    "ROSA00AUT_R_20250020000_01D_30S_MO.crx",
    "ROSA00AUT_R_20250030000_01D_30S_MO.crx.gz",
    "ROSA00AUT_R_20250040000_01D_30S_MO.rnx.gz",
    "ROSA00AUT_R_20250050000_01D_30S_GO.RNX",
    "rosa0010.25o",
    "rosa0020.25O",
    "rosa0030.25d",
    "rosa0040.25d.Z",
    "rosa0050.25o.gz",
    "rosa006a15.25o.Z",
    "rosa0070.25D",
    "rosa0080.25O.bz2",
    "rosa0090.25d.zip",
    "ROSA00AUT_R_20250060000_01D_30S_MO.CRX.GZ",
    "ROSA00AUT_R_20250070000_01D_30S_MO.rnx.bz2",
    "ROSA00AUT_R_20250080000_01D_30S_MO.zip",
    "ROSA00AUT_S_20250090000_01H_01S_MO.crx.Z",
    "campaign.obs",
    "campaign.rnx",
]
CANVOD = ["campaign.sbf", "rosa0010.25_", "rosa0020.25_.gz", "campaign.nmea", "OTHER.SBF.Z"]
OTHERS = {
    "ROSA00AUT_R_20250010000_01D_MN.rnx": discovery.OTHER_RINEX,
    "ROSA00AUT_R_20250010000_01D_GN.rnx.gz": discovery.OTHER_RINEX,
    "ROSA00AUT_R_20250010000_01D_30S_MM.rnx": discovery.OTHER_RINEX,
    "rosa0010.25n": discovery.OTHER_RINEX,
    "rosa0010.25m.gz": discovery.OTHER_RINEX,
    "ROSA00AUT_R_20250010000_01D_MN.zip": discovery.OTHER_RINEX,
    "notes.txt": discovery.NOT_OBSERVATIONS,
    "ROSA00AUT.zip": discovery.NOT_OBSERVATIONS,
    ".hidden.rnx": discovery.HIDDEN,
}


def touch(folder: Path, *names: str) -> list[Path]:
    """Make files of these names, one byte each."""
    paths = [folder / name for name in names]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return paths


def names(*inputs: Path, **options: Any) -> list[str]:
    """Return the names of what is found."""
    return [file.path.name for file in discover(inputs, **options).files]


def test_names_decide_in_folders(tmp_path):
    """Observation files are taken, others counted by reason, in folders within folders too."""
    touch(tmp_path, *OBSERVATIONS, *OTHERS)
    touch(tmp_path, "2025/001/deep0010.25o", ".cache/hidden0010.25o")
    found = discover([tmp_path])
    assert {file.path.name for file in found.files} == {*OBSERVATIONS, "deep0010.25o"}
    assert all(file.path.is_absolute() and file.size_bytes == 1 for file in found.files)
    assert found.ignored == {discovery.HIDDEN: 2, discovery.OTHER_RINEX: 6, discovery.NOT_OBSERVATIONS: 2}


def test_what_canvod_readers_alone_reads_is_looked_for_with_it_alone(tmp_path):
    """SBF and NMEA are observation files where ``ingest.reader`` is canvod, and else are not."""
    touch(tmp_path, *CANVOD, "rosa0010.25o")
    assert names(tmp_path) == ["rosa0010.25o"]
    assert set(names(tmp_path, reader="canvod")) == {*CANVOD, "rosa0010.25o"}
    assert discover([tmp_path]).ignored == {discovery.NOT_OBSERVATIONS: 5}
    file = discover([tmp_path / "rosa0010.25_"], reader="canvod").files[0]
    assert (file.station, file.start) == ("rosa", np.datetime64("2025-01-01T00:00"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"\*\.sbf and ssssdddf\.YY_ \(SBF\)"):
        discover([tmp_path / "empty"], reader="canvod")


def test_real_files_are_found_in_the_order_of_time(rosalia):
    """All 48 files, both receivers side by side, each with start and station."""
    found = discover([rosalia])
    starts = [file.start for file in found.files]
    assert len(starts) == 48
    assert starts == sorted(starts)
    assert starts[0] == np.datetime64("2025-01-01T00:00")
    assert starts[-1] == np.datetime64("2025-01-01T05:45")
    assert {file.station for file in found.files} == {"ROSR01TUW", "ROSA01TUW"}
    assert found.ignored == {}


@pytest.mark.parametrize(
    ("name", "start", "station"),
    [
        ("ROSA01TUW_R_20243661545_15M_05S_AA.rnx", "2024-12-31T15:45", "ROSA01TUW"),
        ("rosa0010.25o", "2025-01-01T00:00", "rosa"),
        ("rosa032x.25o", "2025-02-01T23:00", "rosa"),
        ("rosa001b30.99d.Z", "1999-01-01T01:30", "rosa"),
        ("rosa9990.25o", None, "rosa"),
        ("00030010.25o", "2025-01-01T00:00", "0003"),
        ("20250131.25o", None, None),
        ("campaign.rnx", None, None),
    ],
)
def test_start_and_station_are_read_from_the_name(tmp_path, name, start, station):
    """Long and short names tell when a file starts; others, and dates, tell nothing and come last."""
    touch(tmp_path, name, "zzzz.rnx")
    file, last = discover([tmp_path]).files
    assert (file.start, file.station) == (None if start is None else np.datetime64(start), station)
    assert last.path.name == "zzzz.rnx"


def test_a_named_file_is_taken_whatever_its_name(tmp_path):
    """Someone who names a file means it, hidden or not."""
    paths = touch(tmp_path, "notes.txt", ".hidden", "rosa0010.25n")
    assert set(names(*paths)) == {"notes.txt", ".hidden", "rosa0010.25n"}


def test_a_file_is_taken_once(tmp_path):
    """Named twice, found in its folder, reached by a link: one file is one file."""
    (path,) = touch(tmp_path, "data/rosa0010.25o")
    (tmp_path / "link.25o").symlink_to(path)
    (tmp_path / "linked").symlink_to(path.parent)
    found = discover([path, path, path.parent, tmp_path])
    assert [file.path for file in found.files] == [path.resolve()]
    assert found.ignored[discovery.REPEATED] == 3


def test_loops_and_broken_links_do_no_harm(tmp_path):
    """A folder that contains itself is walked once; links to nowhere and pipes are counted."""
    touch(tmp_path, "a/rosa0010.25o")
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    (tmp_path / "a" / "self.25o").symlink_to("self.25o")
    (tmp_path / "gone.25o").symlink_to("nowhere.25o")
    os.mkfifo(tmp_path / "pipe.25o")
    found = discover([tmp_path])
    assert [file.path.name for file in found.files] == ["rosa0010.25o"]
    assert found.ignored == {discovery.NOT_REGULAR: 3}


def test_of_a_file_and_its_packed_copies_one_is_taken(tmp_path):
    """The plain file wins, else the shortest name; the copies are counted."""
    touch(tmp_path, "X.rnx", "X.rnx.gz", "X.crx.gz", "rosa0010.25o", "rosa0010.25d.Z", "Y.crx.gz", "Y.crx")
    found = discover([tmp_path])
    assert {file.path.name for file in found.files} == {"X.rnx", "Y.crx", "rosa0010.25o"}
    assert found.ignored == {discovery.PACKED_COPY: 4}


def test_stores_are_not_looked_into(tmp_path):
    """The store that is written, and any other Icechunk or Zarr store, is passed over."""
    touch(tmp_path, "rosa0010.25o", "new.store/a.rnx", "ice/snapshots/1", "ice/manifests/1", "ice/b.rnx")
    touch(tmp_path, "zarr/zarr.json", "zarr/c.rnx")
    found = discover([tmp_path], store=tmp_path / "new.store")
    assert [file.path.name for file in found.files] == ["rosa0010.25o"]
    assert found.ignored == {discovery.STORE: 3}


def test_a_missing_input_is_refused(tmp_path):
    """The error names the path and says where it was looked up."""
    with pytest.raises(InputError, match="gone: there is no such file or folder") as caught:
        discover([tmp_path / "gone"])
    assert "from the current folder" in str(caught.value)


def test_nothing_found_says_what_was_looked_for(tmp_path):
    """The error names the place, what was passed over, and the patterns."""
    touch(tmp_path, "notes.txt", "rosa0010.25n")
    with pytest.raises(InputError) as caught:
        discover([tmp_path])
    text = str(caught.value)
    assert f"no observation files in {tmp_path}" in text
    assert "1 not named like observation files" in text
    assert "ssssdddf.YYo" in text
    assert "a named file is always taken" in text
    with pytest.raises(InputError, match="there are no files at all"):
        discover([])


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every folder")
def test_a_folder_that_cannot_be_read_is_an_error(tmp_path):
    """Files that may be missed without a word are worse than an error."""
    touch(tmp_path, "rosa0010.25o", "closed/rosa0020.25o")
    (tmp_path / "closed").chmod(0)
    try:
        with pytest.raises(InputError, match=r"closed: cannot be read \(Permission denied\)"):
            discover([tmp_path])
    finally:
        (tmp_path / "closed").chmod(0o700)


def test_an_input_that_is_neither_file_nor_folder_is_refused(tmp_path):
    """A pipe would keep a worker waiting for ever."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="pipe: neither a file nor a folder"):
        discover([tmp_path / "pipe"])


@given(st.permutations(OBSERVATIONS))
def test_the_order_of_inputs_does_not_matter(tmp_path_factory, order):
    """The same files give the same list, however they are given."""
    folder = tmp_path_factory.getbasetemp() / "order"
    paths = touch(folder, *order)
    assert discover(paths) == discover([folder])
