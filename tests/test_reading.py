"""Reading a store back, by whatever name it has: what xarray and zarr take, lazily, here and on workers."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr

from canvod.launch import open_group, open_store
from canvod.launch.errors import InputError
from ingest_files import assert_holds, run_inline, write_windows

distributed = pytest.importorskip("distributed")

GROUP = "site/receiver"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a store of two files in one group, and a link to it."""
    place = tmp_path_factory.mktemp("place")
    run_inline(write_windows(place / "in", [0, 10]), place / "store")
    (place / "link").symlink_to("store")
    return place


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    """A client with a worker in a process of its own, whose current folder is another one."""
    with (
        distributed.LocalCluster(
            n_workers=1,
            threads_per_worker=1,
            memory_limit=0,
            dashboard_address="127.0.0.1:0",
            local_directory=str(tmp_path_factory.mktemp("dask")),
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        client.run(os.chdir, "/")
        yield client


@pytest.fixture(params=["absolute", "relative", "home", "link", "path"])
def name(request, place, monkeypatch):
    """One of the names of the store."""
    monkeypatch.chdir(place)
    monkeypatch.setenv("HOME", str(place))
    return {
        "absolute": f"{place}/store",
        "relative": "store",
        "home": "~/store/",
        "link": "link",
        "path": Path("in/../link"),
    }[request.param]


def test_xarray_and_zarr_take_a_store_as_it_is(place):
    """The README's own line, without a word about consolidated metadata (a warning is a failure here)."""
    data = xr.open_zarr(open_store(place / "store"), group=GROUP)
    assert data.sizes == {"epoch": 17_280, "sid": 5}
    assert data.SNR.chunks == ((4_320,) * 4, (5,))
    group = zarr.open_group(open_store(place / "store"), mode="r")
    assert group[f"{GROUP}/SNR"].shape == (17_280, 5)


def test_a_store_is_read_only_and_stays_at_its_snapshot(tmp_path):
    """Nothing can be written, and a later commit changes nothing of what was opened before."""
    files = write_windows(tmp_path / "in", [0, 10])
    run_inline(files[:1], tmp_path / "store")
    store, data = open_store(tmp_path / "store"), open_group(tmp_path / "store", GROUP)
    with pytest.raises(ValueError, match="read-only"):
        zarr.open_group(store, mode="a")
    run_inline(files, tmp_path / "store")
    for opened in (xr.open_zarr(store, group=GROUP), data):
        assert_holds(opened.compute(scheduler="sync"), files[:1])
    assert_holds(open_group(tmp_path / "store", GROUP).compute(scheduler="sync"), files)


def test_a_group_is_computed_by_the_client_of_the_program(client, place, name):
    """By each name of its store; workers and a pickle of it find the same values from another folder."""
    expected = xr.open_zarr(open_store(place / "store"), group=GROUP, chunks=None).SNR.values
    data = open_group(name, GROUP)
    assert np.array_equal(data.SNR.values, expected, equal_nan=True)
    places = data.SNR.data.map_blocks(lambda block: np.full(block.shape, os.getpid()), dtype=int).compute()
    assert set(places.ravel().tolist()) == set(client.run(os.getpid).values())
    pickled = pickle.dumps(data)
    sent = client.submit(lambda data: data.SNR.compute(scheduler="synchronous").values, data, pure=False)
    os.chdir("/")
    assert np.array_equal(sent.result(60), expected, equal_nan=True)
    found = pickle.loads(pickled).SNR.compute(scheduler="synchronous")  # noqa: S301 - our own
    assert np.array_equal(found.values, expected, equal_nan=True)


@pytest.mark.parametrize("group", ["site/other", "site", "site/receiver/SNR"])
def test_a_group_that_is_not_there_is_told_with_those_that_are(place, group):
    """A group that holds no arrays of its own, and an array, are none either."""
    with pytest.raises(InputError, match=f"holds no group '{group}'; it holds site/receiver\n") as caught:
        open_group(place / "store", group)
    assert "store show" in str(caught.value.hint)


@pytest.mark.parametrize("opens", [open_store, lambda path: open_group(path, GROUP)])
def test_what_is_no_store_is_refused(place, opens):
    """A place where nothing is, a folder of other things, a file."""
    for path, words in (("none", "there is no store"), ("in", "no Icechunk store"), ("store.lock", "file")):
        with pytest.raises(InputError, match=words):
            opens(place / path)
