"""Files that are larger than a worker's memory are refused by name, and nothing else is."""

from __future__ import annotations

import gzip
import os
import zipfile

import numpy as np
import pytest

from canvod.launch.ingest.read import open_group
from canvod.launch.ingest.run import ingest
from canvod.launch.ingest.runner import DaskRunner
from canvod.launch.readers import VARIABLES, plain_size, read_observations
from canvod.launch.runtime.memory_need import OWN_BYTES, least_data_bytes, needed_bytes
from canvod.launch.simulate import RinexHeader, write_rinex
from ingest_files import (
    START,
    STEP,
    InlineRunner,
    Options,
    assert_holds,
    run_inline,
    write_window,
    write_windows,
)

GROUP = "site/receiver"
MIB = 2**20


class Limited(InlineRunner):
    """Workers that may use so much beside what every worker has."""

    def __init__(self, beside):
        super().__init__()
        self.memory_limit_bytes = OWN_BYTES + beside


def write_sparse(path, first, count):
    """Write a file with another satellite in each epoch: little text, and large arrays."""
    names = [f"G{number:02}" for number in range(1, 33)]
    rows = np.arange(count)
    observations = {
        name: {"S1C": np.where(rows % 32 == index, 40.0, np.nan)} for index, name in enumerate(names)
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_rinex(
        path,
        RinexHeader(interval_s=5.0, marker_name="SIMULATED"),
        START + (first + rows) * STEP,
        observations,
    )
    return path


@pytest.mark.parametrize("variables", [("SNR",), tuple(VARIABLES)])
def test_arrays_are_never_smaller_than_what_the_text_tells(rosalia, tmp_path, variables):
    """The least size of real and simulated files is not above the real one."""
    real = [next((rosalia / folder).rglob("*.rnx")) for folder in ("01_reference", "02_canopy")]
    for path in (*real, write_window(tmp_path / "a.rnx", 0, 500), write_sparse(tmp_path / "b.rnx", 0, 500)):
        read = read_observations(str(path), variables)
        size = sum(values.nbytes for values in read.variables.values())
        assert 0 < least_data_bytes(plain_size(str(path)), variables) <= size


def test_packed_files_count_by_what_they_unpack_to(tmp_path):
    """Gzip and zip say how much they have packed; a file that says nothing counts by its own size."""
    text = b"text of a file " * 1000
    (tmp_path / "plain").write_bytes(text)
    (tmp_path / "gzip").write_bytes(gzip.compress(text))
    with zipfile.ZipFile(tmp_path / "zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("file", text)
    (tmp_path / "damaged").write_bytes(b"PK\x03\x04 and nothing else")
    (tmp_path / "short").write_bytes(b"\x1f\x8b")
    sizes = {path.name: plain_size(str(path)) for path in tmp_path.iterdir()}
    assert sizes == {"plain": len(text), "gzip": len(text), "zip": len(text), "damaged": 0, "short": 2}
    assert plain_size(str(tmp_path / "missing")) == 0


def test_a_file_that_is_too_large_by_its_length_is_not_read_and_costs_no_other(tmp_path):
    """It fails with its size, what it needs, the limit and what to raise; with more memory it is stored."""
    small = write_windows(tmp_path / "in", [0, 10])
    large = write_window(tmp_path / "in" / "large.rnx", 20, 3000)
    least = least_data_bytes(large.stat().st_size, ["SNR"])
    runner = Limited(needed_bytes(least) - OWN_BYTES - 1)
    report = run_inline([large, *small], tmp_path / "store", runner=runner)
    assert (len(report.stored), [file.path for file in report.failed]) == (2, [str(large)])
    assert report.exit_status == 3
    reason = report.failed[0].reason
    assert reason.startswith("a file of ")
    assert "needs 160 MiB of memory or more, and a worker may use 160 MiB: raise processing.max_mem" in reason
    again = run_inline([large, *small], tmp_path / "store", runner=Limited(10 * MIB))
    assert (len(again.stored), len(again.failed)) == (1, 0)
    assert_holds(open_group(tmp_path / "store", GROUP).compute(scheduler="sync"), [*small, large])


def test_a_file_whose_arrays_are_too_large_is_refused_when_they_are_known(tmp_path):
    """A short text may have large arrays: the file fails before the worker dies of it, and costs no other."""
    small = write_windows(tmp_path / "in", [0, 10])
    large = write_sparse(tmp_path / "in" / "large.rnx", 20, 3000)
    size = 3000 * 32 * 4
    assert least_data_bytes(large.stat().st_size, ["SNR"]) < size / 4
    report = run_inline([large, *small], tmp_path / "store", runner=Limited(5 * size))
    assert [file.path for file in report.failed] == [str(large)]
    assert "needs 16" in report.failed[0].reason
    assert_holds(open_group(tmp_path / "store", GROUP).compute(scheduler="sync"), small)
    assert run_inline([large], tmp_path / "more", runner=Limited(6 * size)).failed == ()


@pytest.mark.slow
def test_a_real_file_that_is_too_large_kills_no_worker(tmp_path, rosalia):
    """Six hours of a receiver in one file, on a worker of 200 MiB: refused by name; a small one is stored."""
    distributed = pytest.importorskip("distributed")
    parts = sorted((rosalia / "01_reference").rglob("*.rnx"))
    texts = [part.read_bytes() for part in parts]
    large = tmp_path / "in" / "large.rnx"
    large.parent.mkdir()
    large.write_bytes(texts[0] + b"".join(text[text.index(b"END OF HEADER") + 14 :] for text in texts[1:]))
    options = Options(tuple(VARIABLES))
    with (
        distributed.LocalCluster(
            n_workers=1,
            threads_per_worker=1,
            memory_limit=200 * MIB,
            dashboard_address="127.0.0.1:0",
            local_directory=str(tmp_path / "dask"),
        ) as cluster,
        distributed.Client(cluster) as client,
        DaskRunner(client) as runner,
    ):
        before = client.run(os.getpid)
        report = ingest([large, parts[-1]], tmp_path / "store", GROUP, runner=runner, settings=options)
        assert client.run(os.getpid) == before
    assert [file.path for file in report.failed] == [str(large)]
    assert report.failed[0].reason.startswith("a file of 51.3 MiB needs ")
    assert "a worker may use 200 MiB" in report.failed[0].reason
    held = open_group(tmp_path / "store", GROUP).compute(scheduler="sync")
    assert_holds(held, parts[-1:], variables=options.variables)
