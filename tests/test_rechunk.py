"""A group anew in other chunks: what it holds stays, whatever its days are and whatever ends the work."""

from __future__ import annotations

import json
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
import zarr
from flat_cost import FIRST_DAY, make_store
from hypothesis import given, settings
from hypothesis import strategies as st

from canvod.launch.cli import main
from canvod.launch.errors import ExitStatus, InputError
from canvod.launch.ingest.group import read_state
from canvod.launch.ingest.read import open_group, open_store, read_log
from canvod.launch.ingest.rechunk import rechunk_group
from canvod.launch.ingest.store import open_repository
from canvod.launch.runtime.blocks import DAY_NS
from canvod.launch.testing import dataset_differences
from hypothesis_profiles import EXAMPLES
from ingest_files import InlineRunner, Options, assert_holds, run_inline, write_window, write_windows

GROUP = "site/receiver"
DAY = 17_280
"""Epochs of 5 s in a day."""


def state_of(store):
    """The group without its values."""
    return read_state(open_repository(store).reader(), GROUP)


def chunk_of(store, name="SNR"):
    """Chunk of a variable."""
    return zarr.open_group(open_store(store), path=GROUP, mode="r")[name].chunks


@pytest.fixture
def store(tmp_path):
    """A store of four days of two intervals and all signals, one of them in more parts than the others."""
    files = [
        write_window(tmp_path / "in" / "a.rnx", 102, 40, satellites=("G01", "R04"), every=6),
        write_window(tmp_path / "in" / "b.rnx", 8_000, 800),
        write_window(tmp_path / "in" / "late.rnx", 3 * DAY + 17_200, 160),
        write_window(tmp_path / "in" / "c.rnx", 2 * DAY, 50, satellites=("E03", "C05")),
    ]
    for file in files:
        run_inline([file], tmp_path / "store", settings=Options(("SNR", "Phase"), chunk=(360, 4)))
    return tmp_path / "store"


@pytest.mark.parametrize("chunk", [(360, 2), (45, 4), (180, 64), (720, 1), (2_880, 3), (500, 8), (17_280, 5)])
def test_what_a_group_holds_stays(tmp_path, store, chunk):
    """Values, epochs, signals, attributes, log book; its chunks alone are others. An ingest goes on."""
    files = sorted((tmp_path / "in").iterdir())
    variables = ("SNR", "Phase")
    before, log, attributes = open_group(store, GROUP).load(), read_log(store, GROUP), state_of(store)
    done = rechunk_group(store, GROUP, chunk)
    assert (done.before, done.chunk, done.days) == ((360, 4), chunk, 4)
    assert [chunk_of(store, name) for name in variables] == [chunk, chunk]
    after, state = open_group(store, GROUP).load(), state_of(store)
    assert_holds(after, files, variables=variables)
    assert np.all(np.diff(after.epoch.values) > np.timedelta64(0, "ns"))
    assert all(after[name].attrs == before[name].attrs for name in before.variables)
    assert after.attrs == before.attrs | {"canvod_launch_revision": attributes.revision + 1}
    assert read_log(store, GROUP) == log
    assert state.days.day.tolist() == attributes.days.day.tolist()
    assert state.days.epochs.tolist() == attributes.days.epochs.tolist()
    more = [
        write_window(tmp_path / "in" / "d.rnx", 8_010, 90, off=0.5),
        write_window(tmp_path / "in" / "e.rnx", DAY + 17_000, 90, satellites=("G02",)),
        write_window(tmp_path / "in" / "f.rnx", 9 * DAY, 90, every=3),
    ]
    options = Options(variables, chunk=(360, 4))
    run_inline([*files, *more], store, settings=options)
    assert_holds(open_group(store, GROUP), [*files, *more], variables=variables)
    assert chunk_of(store) == chunk


@settings(max_examples=EXAMPLES // 20, deadline=None)
@given(chunk=st.tuples(st.integers(150, 2_000), st.integers(1, 9)))
def test_any_chunks_hold_the_same(tmp_path_factory, chunk):
    """Also of odd numbers of epochs, and there and back again."""
    folder = tmp_path_factory.mktemp("any")
    files = write_windows(folder / "in", [0, DAY - 20, 3 * DAY], 30)
    run_inline(files, folder / "store", settings=Options(chunk=(432, 4)))
    before = open_group(folder / "store", GROUP).load()
    rechunk_group(folder / "store", GROUP, chunk)
    assert_holds(open_group(folder / "store", GROUP), files)
    rechunk_group(folder / "store", GROUP, (432, 4))
    again = open_group(folder / "store", GROUP).load()
    assert again.drop_attrs().identical(before.drop_attrs())


def test_without_a_wish_chunks_fit_the_usual_interval(tmp_path, store):
    """Those of a new group with the same files, whatever fillers the old chunks needed."""
    files = sorted((tmp_path / "in").iterdir())
    run_inline(files, tmp_path / "new", settings=Options(("SNR", "Phase")))
    assert rechunk_group(store).chunk == chunk_of(tmp_path / "new")
    new, held = state_of(tmp_path / "new"), state_of(store)
    assert (held.parts, held.days.parts.tolist()) == (new.parts, new.days.parts.tolist())
    assert not dataset_differences(open_group(store, GROUP), open_group(tmp_path / "new", GROUP))


def test_a_run_that_is_overtaken_takes_the_new_chunks(tmp_path, store):
    """An ingest whose group gets other chunks meanwhile makes its days for these."""

    class Overtaken(InlineRunner):
        overtaken = False

        def make(self, request):
            task = super().make(request)
            if not self.overtaken:
                self.overtaken = True
                rechunk_group(store, GROUP, (90, 3))
            return task

    more = write_windows(tmp_path / "more", [50, 9_000, 5 * DAY])
    run_inline(more, store, settings=Options(("SNR", "Phase")), runner=Overtaken())
    files = [*(tmp_path / "in").iterdir(), *more]
    assert_holds(open_group(store, GROUP), files, variables=("SNR", "Phase"))


def test_a_kill_in_the_middle_changes_nothing(tmp_path, store):
    """The group is as before, its lock is free, and the space of what was written comes back."""
    before, size = open_group(store, GROUP).load(), open_repository(store).disk_bytes()
    code = (
        "import os, signal, sys; from canvod.launch.ingest.rechunk import rechunk_group\n"
        "def kill(done, total): done == 3 and os.kill(os.getpid(), signal.SIGKILL)\n"
        "rechunk_group(sys.argv[1], chunk=(90, 1), progress=kill)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(store)], check=False).returncode == -9
    assert open_repository(store).disk_bytes() > size
    assert open_group(store, GROUP).load().identical(before)
    assert main(["store", "gc", str(store), "--older-than", "0"]) == ExitStatus.OK
    assert open_repository(store).disk_bytes() <= size + 1024
    rechunk_group(store, GROUP, (90, 1))
    assert_holds(open_group(store, GROUP), (tmp_path / "in").iterdir(), variables=("SNR", "Phase"))


def test_memory_does_not_grow_with_the_days(tmp_path):
    """Days are written one after the other: four times as many take no more than a quarter more."""
    peaks = []
    for days in (10, 40):
        make_store(tmp_path / str(days), range(days))
        tracemalloc.start()
        rechunk_group(tmp_path / str(days), GROUP, (2_160, 16))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.25 * peaks[0]
    data = open_group(tmp_path / "40", GROUP)
    assert int(data.SNR.notnull().sum()) == 40 * DAY * 32
    assert data.epoch.values[0].astype(np.int64) == FIRST_DAY * DAY_NS


@pytest.mark.parametrize(
    ("group", "chunk", "message"),
    [
        ("site/other", (90, 4), "holds no group 'site/other'; it holds site/receiver"),
        (GROUP, (0, 4), "a chunk of 0 epochs and 4 signals cannot be"),
        (GROUP, (90, 0), "a chunk of 90 epochs and 0 signals cannot be"),
        (GROUP, (20_000, 4), "allowed are 1 to 17280 epochs, which is a day of this group"),
    ],
)
def test_what_cannot_be_is_refused(store, group, chunk, message):
    """A group that is not there, and chunks of nothing or of more than a day; nothing is changed."""
    before = open_repository(store).snapshots(1)
    with pytest.raises(InputError) as caught:
        rechunk_group(store, group, chunk)
    assert message in str(caught.value)
    assert open_repository(store).snapshots(1) == before


def test_the_command_says_what_it_did(store, capsys):
    """``store rechunk`` names the chunks before and after, also as JSON; and where there is nothing to do."""
    assert main(["store", "rechunk", str(store), "--group", GROUP, "--chunk", "90", "3"]) == ExitStatus.OK
    out = capsys.readouterr().out
    assert "Wrote 4 days of site/receiver anew, in chunks of 90 epochs by 3 signals (before: 360 by 4)" in out
    assert main(["store", "rechunk", str(store), "--chunk", "90", "3"]) == ExitStatus.OK
    assert "site/receiver has chunks of 90 epochs by 3 signals already" in capsys.readouterr().out
    assert main(["store", "rechunk", str(store), "--chunk", "45", "3", "--json"]) == ExitStatus.OK
    values = json.loads(capsys.readouterr().out)
    assert (values["before"], values["chunk"], values["days"]) == ([90, 3], [45, 3], 4)
    assert values["snapshot"] == open_repository(store).snapshots(1)[0].id


def test_the_command_takes_the_chunks_of_the_settings(store, tmp_path, capsys):
    """``ingest.chunk``, where none are asked for."""
    (tmp_path / "settings.yaml").write_text("ingest: {chunk: [180, 2]}\n")
    command = ["store", "rechunk", str(store), "--config", str(tmp_path / "settings.yaml"), "--json"]
    assert main(command) == ExitStatus.OK
    assert json.loads(capsys.readouterr().out)["chunk"] == [180, 2]
