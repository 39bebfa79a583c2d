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
from ingest_files import CountingStore, Options, assert_holds, run_inline, write_window, write_windows

distributed = pytest.importorskip("distributed")

GROUP = "site/receiver"
PART, DAY = 4_320, 17_280
"""Epochs of 5 s in a part of a day, and in a day."""


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


@pytest.fixture(scope="module")
def days(tmp_path_factory):
    """A store of three days, which came out of order, in chunks of a quarter of a day by two signals."""
    place = tmp_path_factory.mktemp("days")
    for day in (2, 0, 1):
        files = write_windows(place / f"day{day}", [day * DAY + part * PART + 90 for part in range(4)], 20)
        run_inline(files, place / "store", settings=Options(chunk=(PART, 2)))
    return place / "store"


SELECTIONS = {
    "a day": (lambda snr: snr.sel(epoch="2025-01-02"), range(4, 8), range(3)),
    "an hour": (lambda snr: snr.sel(epoch=slice("2025-01-02T06:30", "2025-01-02T07:30")), [5], range(3)),
    "over midnight": (lambda snr: snr.sel(epoch=slice("2025-01-01T23", "2025-01-02T01")), [3, 4], range(3)),
    "a day of a signal": (lambda snr: snr.sel(epoch="2025-01-03", sid="G01|L1|C"), range(8, 12), [1]),
    "a signal": (lambda snr: snr.sel(sid="R04|G1|C"), range(12), [2]),
    "signals of a system": (lambda snr: snr.isel(epoch=100, sid=snr.system.values == "G"), [0], [1]),
    "the last value": (lambda snr: snr.isel(epoch=-1, sid=-1), [11], [2]),
    "rows that lie apart": (lambda snr: snr.isel(epoch=[0, 5 * PART], sid=slice(2)), [0, 5], [0]),
    "the nearest epoch": (
        lambda snr: snr.sel(epoch="2025-01-03T12:00:01", method="nearest"),
        [10],
        range(3),
    ),
}


@pytest.mark.parametrize("lazily", ["by Dask", "by xarray"])
@pytest.mark.parametrize("selection", SELECTIONS)
def test_a_selection_loads_its_chunks_alone(days, selection, lazily):
    """Opening loads no values; a selection by label or by position loads each chunk that it needs, once."""
    choose, rows, columns = SELECTIONS[selection]
    fetched = CountingStore.fetched
    fetched.clear()
    data = xr.open_zarr(
        CountingStore(open_store(days)),
        group=GROUP,
        consolidated=False,
        chunks={} if lazily == "by Dask" else None,
    )
    chosen = choose(data.SNR)
    assert not any("/SNR/c/" in key for key in fetched)
    chosen.compute(scheduler="sync")
    loaded = [key for key in fetched if "/SNR/c/" in key]
    assert sorted(loaded) == sorted(f"{GROUP}/SNR/c/{row}/{column}" for row in rows for column in columns)


def test_a_day_is_read_where_the_chunks_of_others_are_gone(tmp_path):
    """A group that is open needs no other file of the store than those that the day's values are in."""
    files = [write_window(tmp_path / "in" / f"{day}.rnx", day * DAY + 100, 4_000) for day in range(3)]
    of_day = {}
    chunks = tmp_path / "store" / "chunks"
    for day, file in enumerate(files):
        held = set().union(*of_day.values())
        run_inline([file], tmp_path / "store")
        of_day[day] = set(chunks.iterdir()) - held
    data = open_group(tmp_path / "store", GROUP)
    for chunk in of_day[0] | of_day[2]:
        chunk.unlink()
    assert_holds(data[["SNR"]].sel(epoch="2025-01-02").compute(scheduler="sync"), files[1:2])
    with pytest.raises(Exception, match="chunk"):
        data.SNR.sel(epoch="2025-01-01").compute(scheduler="sync")


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
