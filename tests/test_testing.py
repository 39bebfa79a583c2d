"""The invariants of `canvod.launch.testing`: they hold where they should, and each difference is told."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import docker
import numpy as np
import pytest

from canvod.launch.cluster.tls import KeyFolder, make_keys
from canvod.launch.errors import EngineError
from canvod.launch.host.labels import CLUSTER_LABEL
from canvod.launch.host.owner import SCRATCH_PREFIX, semaphore_name
from canvod.launch.readers import Observations
from canvod.launch.runtime.host_process import SHARED_MEMORY
from canvod.launch.testing import (
    assert_nothing_left,
    assert_store_equals,
    assert_valid_observations,
    dataset_differences,
    find_leftovers,
    serial_model,
)
from eventually import eventually
from ingest_files import START, STEP, run_inline, write_window, write_windows
from leftovers import RUN

if TYPE_CHECKING:
    from collections.abc import Callable

    import xarray as xr

GROUP = "site/receiver"


# ------------------------------------------------------------------------------------------ leftovers
@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for keys that is this test's alone."""
    (tmp_path / "runtime").mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "runtime"))
    return tmp_path


def test_what_is_on_this_host_is_found_and_stays(runtime: Path) -> None:
    """Keys, scratch folder, semaphore, and a process that a task has started; looking removes nothing."""
    name = f"left-{RUN}"
    keys = KeyFolder(name)
    keys.write(make_keys(name))
    scratch = runtime / f"{SCRATCH_PREFIX}{name}-abcd_123"
    scratch.mkdir()
    semaphore = SHARED_MEMORY / f"sem.{semaphore_name(name, 'worker-0')}-abc"
    semaphore.touch()
    sleep = subprocess.Popen(["sleep", "60"], env=os.environ | {"TMPDIR": str(scratch / "worker-0")})
    # A process has no command line for a moment, while the kernel puts the program in its place.
    assert eventually(lambda: Path(f"/proc/{sleep.pid}/cmdline").read_bytes() == b"sleep\x0060\x00")
    try:
        for _ in range(2):
            assert find_leftovers(name, spill_dir=runtime) == [
                f"keys {keys.path}",
                f"scratch folder {scratch}",
                f"semaphore {semaphore}",
                f"process {sleep.pid}: sleep 60",
            ]
        with pytest.raises(AssertionError) as caught:
            assert_nothing_left(name, within_s=0.2, spill_dir=runtime)
        assert str(caught.value).splitlines() == [
            f"cluster {name} has left behind after 0.2 s:",
            *(f"  {line}" for line in find_leftovers(name, spill_dir=runtime)),
        ]
    finally:
        sleep.kill()
        sleep.wait()
        semaphore.unlink()
    keys.remove()
    scratch.rmdir()
    assert_nothing_left(name, spill_dir=runtime)


def test_an_engine_that_does_not_answer_is_an_error_of_canvod_launch(tmp_path: Path) -> None:
    """Whoever looks has not to know the errors of the Docker SDK."""
    client = docker.DockerClient(base_url=f"unix://{tmp_path}/docker.sock", version="1.41")
    with closing(client), pytest.raises(EngineError, match=r"^Could not look for what a cluster has left"):
        find_leftovers("any", client)


@pytest.mark.parametrize("other", ["left", "left-a-abcdefgh", "left-a.b", "left-ab", "x-left-a"])
def test_what_belongs_to_a_cluster_with_a_similar_name_is_not_found(runtime: Path, other: str) -> None:
    """Whatever of its name is part of the other's."""
    keys = KeyFolder(other)
    keys.write(make_keys(other))
    (runtime / f"{SCRATCH_PREFIX}{other}-abcd_123").mkdir()
    semaphore = SHARED_MEMORY / f"sem.{semaphore_name(other, 'worker-0')}-abc"
    semaphore.touch()
    sleep = subprocess.Popen(
        ["sleep", "60"], env=os.environ | {"TMPDIR": str(runtime / f"{SCRATCH_PREFIX}{other}-abcd_123")}
    )
    try:
        assert find_leftovers("left-a", spill_dir=runtime) == []
        assert len(find_leftovers(other, spill_dir=runtime)) == 4
    finally:
        sleep.kill()
        sleep.wait()
        semaphore.unlink()
        keys.remove()


def test_what_goes_within_the_time_is_not_left(runtime: Path) -> None:
    """It is looked for again and again."""
    name = f"going-{RUN}"
    scratch = runtime / f"{SCRATCH_PREFIX}{name}-abcd_123"
    scratch.mkdir()
    program = f"import os, sys, time; sys.stdin.read(); time.sleep(0.5); os.rmdir({str(scratch)!r})"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE) as process:
        with pytest.raises(AssertionError, match="has left behind:\n  scratch folder"):
            assert_nothing_left(name, spill_dir=runtime)
        assert process.stdin is not None
        process.stdin.close()
        assert_nothing_left(name, within_s=30, spill_dir=runtime)


@pytest.mark.docker
def test_what_is_on_the_engine_is_found_and_stays(engine: docker.DockerClient) -> None:
    """A network and a volume with the cluster's label, though nothing runs."""
    name = f"left-{RUN}"
    labels = {CLUSTER_LABEL: name}
    network = engine.networks.create(f"canvod-launch-{name}", labels=labels)
    volume = engine.volumes.create(f"canvod-launch-{name}", labels=labels)
    try:
        for _ in range(2):
            with pytest.raises(AssertionError, match=f"network {network.name}\n  volume {volume.name}$"):
                assert_nothing_left(name, engine)
    finally:
        network.remove()
        volume.remove()
    assert_nothing_left(name, engine)


# ---------------------------------------------------------------------------------------------- store
def test_a_store_holds_what_a_serial_read_gives(tmp_path: Path) -> None:
    """Whatever the order of the files, and of the model's axes."""
    files = write_windows(tmp_path / "in", [0, 10, 5])
    run_inline(files, tmp_path / "store")
    model = serial_model(files[::-1])
    assert model.sizes == {"epoch": 20, "sid": 5}
    assert_store_equals(tmp_path / "store", GROUP, model)
    assert_store_equals(
        tmp_path / "store", GROUP, model.isel(epoch=slice(None, None, -1), sid=[3, 1, 0, 2, 4])
    )


def test_the_first_value_of_a_cell_counts(tmp_path: Path) -> None:
    """The earlier file's, and of two that begin together the longer one's; else what was held."""
    short = write_window(tmp_path / "in" / "a.rnx", 10, 5, off=1.0)
    long = write_window(tmp_path / "in" / "b.rnx", 10, 10, off=2.0)
    early = write_window(tmp_path / "in" / "c.rnx", 5, 7, off=3.0)
    run_inline([short, long], tmp_path / "store")
    before = serial_model([short, long])
    assert_store_equals(tmp_path / "store", GROUP, before)
    run_inline([early], tmp_path / "store")
    assert_store_equals(tmp_path / "store", GROUP, serial_model([short, long, early]))
    with pytest.raises(AssertionError, match="SNR: values that differ: "):
        assert_store_equals(tmp_path / "store", GROUP, serial_model([early], held=before))


def change_value(model: xr.Dataset) -> xr.Dataset:
    """Change one value by the least that there is."""
    values = model.SNR.values.copy()
    row, column = np.argwhere(np.isfinite(values))[0]
    values[row, column] = np.nextafter(values[row, column], np.float32(np.inf))
    return model.assign(SNR=(("epoch", "sid"), values))


def remove_value(model: xr.Dataset) -> xr.Dataset:
    """Make one value a NaN."""
    values = model.SNR.values.copy()
    values[tuple(np.argwhere(np.isfinite(values))[0])] = np.nan
    return model.assign(SNR=(("epoch", "sid"), values))


CHANGES: dict[str, tuple[Callable[[xr.Dataset], xr.Dataset], str]] = {
    "value": (
        change_value,
        r"^SNR: values that differ: 1; 2025-01-01T00:00:00\.0+ C05\|\S+: 34\.0, expected 34\.00000\d+$",
    ),
    "no value": (remove_value, r"^SNR: values that differ: 1; .*: 34\.0, expected nan$"),
    "fewer epochs": (
        lambda model: model.isel(epoch=slice(2, None)),
        r"^epoch: 2 not expected: 2025-01-01T00:00:00\.0{9}, 2025-01-01T00:00:05\.0{9}$",
    ),
    "more epochs": (
        lambda model: model.assign_coords(epoch=model.epoch + np.timedelta64(1, "D")),
        r"^epoch: 20 missing: 2025-01-02T00:00:00\.0{9}, .*, \.\.\.$",
    ),
    "fewer signals": (lambda model: model.isel(sid=[1, 2, 3, 4]), r"^sid: 1 not expected: \S+$"),
    "other dtype": (lambda model: model.astype("float64"), "^SNR: dtype float32, expected float64$"),
    "other name": (lambda model: model.rename(SNR="Phase"), "^variables: 1 missing: Phase$"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_each_difference_from_the_model_is_told(tmp_path: Path, change: str) -> None:
    """With its labels, and both values."""
    files = write_windows(tmp_path / "in", [0, 10])
    run_inline(files, tmp_path / "store")
    changed, message = CHANGES[change]
    with pytest.raises(AssertionError) as caught:
        assert_store_equals(tmp_path / "store", GROUP, changed(serial_model(files)))
    first, *lines = str(caught.value).splitlines()
    assert first == "the group differs from the model:"
    assert any(re.search(message, line.strip()) for line in lines), lines


def test_an_axis_that_is_not_one_is_told(tmp_path: Path) -> None:
    """Epochs that go back, and labels that are there twice."""
    model = serial_model(write_windows(tmp_path / "in", [0]))
    twice = model.isel(epoch=[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9])
    assert dataset_differences(twice, model) == [
        "epoch: not strictly increasing",
        f"epoch: labels that are there more than once: {START + 9 * STEP}",
    ]


# --------------------------------------------------------------------------------------------- reader
def valid() -> Observations:
    """Observations of two epochs and two signals."""
    values = np.array([[40, np.nan], [41, 30]], dtype=np.float32)
    return Observations(np.array([1, 2], dtype=np.int64), ("G01|L1|C", "G02|L1|C"), {"SNR": values})


def test_valid_observations_pass() -> None:
    """And are left as they are."""
    assert_valid_observations(valid())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"epoch": np.array([2, 1], dtype=np.int64)},
            r"not strictly increasing, 1 times; first \(2, 1\)",
        ),
        ({"epoch": np.array([1, 2], dtype=np.int32)}, "epoch: dtype int32, not int64"),
        ({"epoch": np.empty(0, np.int64)}, "0 epochs, 2 signals"),
        ({"sid": ("G02|L1|C", "G01|L1|C")}, "sid: not sorted"),
        ({"variables": {"Phase": np.ones((2, 2))}}, r"variables: \['Phase'\], asked for were \['SNR'\]"),
        ({"variables": {"SNR": np.ones((2, 2))}}, "SNR: dtype float64, not float32"),
        ({"variables": {"SNR": np.ones((1, 2), np.float32)}}, r"SNR: shape \(1, 2\), not \(2, 2\)"),
        ({"variables": {"SNR": np.array([[0, 1], [1, 0]], np.float32)}}, "SNR: 2 values are 0"),
        (
            {"variables": {"SNR": np.array([[np.nan, 1], [np.nan, 1]], np.float32)}},
            r"sid: without any value: \['G01\|L1\|C'\]",
        ),
        ({"notes": ("two\nlines",)}, "notes: longer than 400 characters, or not printable"),
    ],
    ids=lambda each: str(each)[:30] if isinstance(each, str) else "",
)
def test_each_rule_that_a_reader_breaks_is_told(change: dict[str, Any], message: str) -> None:
    """With what it has returned."""
    with pytest.raises(AssertionError, match=message):
        assert_valid_observations(replace(valid(), **change))
