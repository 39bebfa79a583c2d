"""The interface of the readers: what they refuse, what they give back, and in how much memory."""

from __future__ import annotations

import hashlib
import json
import pickle
import subprocess
import sys

import numpy as np
import pytest

from alike import ALL, outcome
from canvod.launch.readers import (
    VARIABLES,
    NoReaderError,
    UnreadableFileError,
    find_reader,
    read_observations,
    reader_names,
)
from rinex_text import epoch3, header, text

PEAK = """
import json, resource, sys, tracemalloc
from canvod.launch.readers import content, read_observations
content.BLOCK_BYTES = int(sys.argv[2])
tracemalloc.start()
result = read_observations(sys.argv[1], ("SNR",))
print(json.dumps([len(result.epoch), tracemalloc.get_traced_memory()[1]]))
"""


@pytest.fixture
def path(tmp_path):
    """A file of six epochs."""
    some = tmp_path / "some.rnx"
    some.write_bytes(text(header(), *(epoch3(5 * step, {"G01": [45, 30]}) for step in range(6))))
    return some


def test_a_file_that_cannot_be_opened_is_unreadable(tmp_path):
    """A file that vanished, or a folder, is refused like any other; no OSError comes through."""
    assert outcome(tmp_path / "gone.rnx") == "cannot be opened: No such file or directory"
    assert outcome(tmp_path) == "cannot be opened: Is a directory"


def test_what_is_given_back(path):
    """The variables that were asked for in their order and dtypes, station, and the digest of the file."""
    result = read_observations(str(path), ("Doppler", "SNR"))
    assert list(result.variables) == ["Doppler", "SNR"]
    assert {name: each.dtype for name, each in result.variables.items()} == {
        name: np.dtype(VARIABLES[name]) for name in ("Doppler", "SNR")
    }
    assert np.isnan(result.variables["Doppler"]).all()
    assert result.digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (result.station, result.sid) == ("TEST", ("G01|L1|C", "G01|L2|W"))


def test_wrong_arguments_are_no_fault_of_the_file(path):
    """An unknown reader or variable is an error of its own that lists what there is."""
    assert "rinex" in reader_names()
    assert find_reader("rinex")(str(path), ["SNR"]).station == "TEST"
    with pytest.raises(NoReaderError, match=r"no reader 'magic' is installed here; there are: .*rinex"):
        read_observations(str(path), ("SNR",), "magic")
    for wrong in (("snr",), ()):
        with pytest.raises(ValueError, match="one or more of SNR, Pseudorange, Phase, Doppler"):
            read_observations(str(path), wrong)


def test_errors_cross_processes():
    """The reason survives pickling, which all that a worker raises goes through."""
    error = pickle.loads(pickle.dumps(UnreadableFileError("line 3: no")))  # noqa: S301 - its own dump
    assert (error.reason, str(error)) == ("line 3: no", "line 3: no")


def test_memory_errors_are_not_swallowed(path, monkeypatch):
    """Running out of memory says nothing about the file."""

    def out_of_memory(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(np, "full", out_of_memory)
    with pytest.raises(MemoryError):
        read_observations(str(path), ALL)


def test_only_numpy_is_imported():
    """The package runs in workers: it needs nothing of the project, and hatanaka only for what it packs."""
    program = (
        "import sys; import canvod.launch.readers as readers; readers.find_reader('rinex'); "
        "print([name for name in sys.modules if name.partition('.')[0] in "
        "('xarray', 'pandas', 'dask', 'hatanaka', 'ncompress', 'zarr') "
        "or name.startswith('canvod.launch.') and not name.startswith('canvod.launch.readers')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout == "[]\n"


def test_memory_does_not_grow_with_the_text(tmp_path):
    """A file of many blocks is read in the memory of a few, beside its values."""
    path = tmp_path / "long.rnx"
    rows = [f"G{n:02d}" + "  20000000.000  " * 20 + "        45.000" for n in range(1, 13)]
    codes = [*[f"C{band}{mode}" for band in "125" for mode in "CSLXPWY"][:20], "S1C"]
    peaks = []
    for n_epochs in (600, 2400):
        minutes = (
            f"> 2024 01 01 {n // 60 // 60:02d} {n // 60 % 60:02d}{n % 60:11.7f}  0 12"
            for n in range(n_epochs)
        )
        path.write_bytes(text(header(codes), *([line, *rows] for line in minutes)))
        done = subprocess.run(
            [sys.executable, "-c", PEAK, str(path), "100000"],
            capture_output=True,
            text=True,
            check=True,
            timeout=200,
        )
        count, peak = json.loads(done.stdout)
        assert count == n_epochs
        peaks.append(peak)
    # 1800 epochs more: 7 MB of text, of which nothing stays, and 12 values an epoch, each with its place.
    assert peaks[1] - peaks[0] < 1800 * 12 * 60
