"""Workers that lie: whatever they answer, the store has what was asked for, or the run ends with an error."""

from __future__ import annotations

import json

import icechunk
import numpy as np
import pytest
import zarr

from canvod.launch.errors import ClusterError, StoreError
from canvod.launch.ingest.read import open_group
from canvod.launch.ingest.runner import Task
from canvod.launch.ingest.store import _head, open_repository
from canvod.launch.runtime.blocks import DAY_NS
from ingest_files import InlineRunner, assert_holds, run_inline, write_windows

GROUP, OTHER = "site/receiver", "site/other"
DAY = 17_280
"""Epochs of 5 s in a day."""


@pytest.fixture
def place(tmp_path):
    """A store of two groups of one day; with it the files of the day, and those of the next one."""
    files = write_windows(tmp_path / "in", [0, 10])
    run_inline(files, tmp_path / "store")
    run_inline(files, tmp_path / "store", OTHER)
    return tmp_path / "store", files, write_windows(tmp_path / "in", [DAY])


def fork_of(encoded):
    """A fork from its encoding."""
    fork = icechunk.ForkSession.__new__(icechunk.ForkSession)
    fork.__setstate__({"_session": encoded})
    return fork


def encoded(fork):
    """Encoding of a fork."""
    return fork.__getstate__()["_session"]


def set_to_one(array):
    """Change the first values of an array."""
    array[:10] = 1


CHANGES = {
    "another group": lambda root: set_to_one(root[OTHER]["SNR"]),
    "another day": lambda root: set_to_one(root[GROUP]["SNR"]),
    "the axis": lambda root: set_to_one(root[GROUP]["epoch"]),
    "attributes": lambda root: root[OTHER].attrs.update(canvod_launch_format=99),
    "a new group": lambda root: root.create_group("new"),
    "a deleted array": lambda root: root[OTHER].__delitem__("SNR"),
    "a deleted group": lambda root: root.__delitem__(OTHER),
    "a smaller array": lambda root: root[GROUP]["SNR"].resize((0, 0)),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_worker_that_changes_anything_else_changes_nothing(place, change):
    """What is changed beside the chunks that were asked for ends the run before it commits."""
    path, files, late = place
    before = open_repository(path).reader().snapshot_id

    class Liar(InlineRunner):
        def write(self, fork, unit, request):
            reply, _, changed = super().write(fork, unit, request).answer.partition(b"\n")
            session = fork_of(changed)
            change(zarr.open_group(session.store, mode="r+"))
            return Task(reply + b"\n" + encoded(session))

    with pytest.raises(StoreError, match="a worker has changed what it was not asked to"):
        run_inline(late, path, runner=Liar())
    assert open_repository(path).reader().snapshot_id == before
    run_inline(late, path)
    assert_holds(open_group(path, GROUP).compute(scheduler="sync"), [*files, *late])
    assert_holds(open_group(path, OTHER).compute(scheduler="sync"), files)


def test_a_fork_of_another_store_or_snapshot_is_refused(place, tmp_path):
    """A worker cannot name the groups of a store of its own: the fork has to be the one that it got."""
    path, files, late = place
    run_inline(files, tmp_path / "fake")
    before = open_repository(path).reader().snapshot_id

    class Liar(InlineRunner):
        def write(self, fork, unit, request):
            reply, _, _ = super().write(fork, unit, request).answer.partition(b"\n")
            session = open_repository(tmp_path / "fake").writer().fork()
            zarr.open_group(session.store, mode="r+")[GROUP]["SNR"][:10] = 1.0
            return Task(reply + b"\n" + encoded(session))

    with pytest.raises(StoreError, match="which store or snapshot it is of"):
        run_inline(late, path, runner=Liar())
    assert open_repository(path).reader().snapshot_id == before


def test_the_encoding_of_forks_is_as_it_is_expected(place):
    """What comes before the changes is the most of a fork, and stays as it is when something is written."""
    sent = open_repository(place[0]).fork(open_repository(place[0]).writer())
    session = fork_of(sent)
    set_to_one(zarr.open_group(session.store, mode="r+")[GROUP]["SNR"])
    assert len(_head(sent)) > len(sent) / 2
    assert _head(encoded(session)) == _head(sent) != b""
    assert encoded(session) != sent


def replace_in(reply, **changed):
    """A reply with other fields."""
    line, _, rest = reply.partition(b"\n")
    return json.dumps(json.loads(line) | changed).encode() + b"\n" + rest


def moved_epochs(reply):
    """A reply with epochs of the day after."""
    line, _, rest = reply.partition(b"\n")
    return line + b"\n" + (np.frombuffer(rest, "<i8") + 86_400 * 10**9).tobytes()


def repeated_epochs(reply):
    """A reply with an epoch twice."""
    line, _, rest = reply.partition(b"\n")
    epochs = np.frombuffer(rest, "<i8").copy()
    epochs[1] = epochs[0]
    return line + b"\n" + epochs.tobytes()


def other_days(reply, *days):
    """A reply that says of its first file that it has these days, each as a whole."""
    line, _, rest = reply.partition(b"\n")
    answer = json.loads(line)
    answer["files"][0]["days"] = [[day, day * DAY_NS, (day + 1) * DAY_NS - 1] for day in days]
    return json.dumps(answer).encode() + b"\n" + rest


REPLIES = {
    "days without order": lambda reply: other_days(reply, 20_090, 20_089),
    "days beyond all time": lambda reply: other_days(reply, 2**50),
    "more days than epochs": lambda reply: other_days(reply, *range(20_000)),
    "epochs of another day": moved_epochs,
    "epochs twice": repeated_epochs,
    "no signal": lambda reply: replace_in(reply, sid=["G01"]),
    "a signal twice": lambda reply: replace_in(reply, sid=["G01|L1|C"] * 5),
    "parts without end": lambda reply: replace_in(reply, parts_needed=2**40),
    "fewer parts": lambda reply: replace_in(reply, parts_needed=1),
    "parts of no day": lambda reply: replace_in(reply, parts_needed=7),
    "epochs that are not there": lambda reply: replace_in(reply, replaced_epochs=10**9),
    "less than no epochs": lambda reply: replace_in(reply, replaced_epochs=-1),
    "other files": lambda reply: replace_in(reply, files=[]),
    "no JSON": lambda reply: b"\x80" + reply,
}


@pytest.mark.parametrize("lie", REPLIES.values(), ids=REPLIES)
def test_a_worker_whose_answer_cannot_be_ends_the_run(place, lie):
    """The error says that a worker's answer is wrong; nothing is committed."""
    path, files, late = place
    before = open_repository(path).reader().snapshot_id

    class Liar(InlineRunner):
        def make(self, request):
            task = super().make(request)
            return Task(lie(task.answer), task.data)

    with pytest.raises(ClusterError, match="answer"):
        run_inline(late, path, runner=Liar())
    assert open_repository(path).reader().snapshot_id == before
    assert_holds(open_group(path, GROUP).compute(scheduler="sync"), files)


def test_a_file_that_has_other_days_whenever_it_is_read_fails(place):
    """A worker that always says more cannot keep a run going for ever."""
    path, _, late = place
    made = []

    class Liar(InlineRunner):
        def make(self, request):
            task = super().make(request)
            made.append(request)
            return Task(other_days(task.answer, 20_090, 20_090 + len(made)), task.data)

    report = run_inline(late, path, runner=Liar())
    assert [file.status for file in report.files] == ["failed"]
    assert "has other days whenever it is read" in report.files[0].reason
    assert len(made) < 20


def test_a_header_that_claims_years_costs_no_more_than_a_few_reads(tmp_path):
    """A wrong TIME OF LAST OBS is not taken at its word: the file is not read for each day of 50 years."""
    (file,) = write_windows(tmp_path / "in", [0])
    text = file.read_text()
    first = next(line for line in text.splitlines() if "TIME OF FIRST OBS" in line)
    last = first.replace("2025", "2075", 1).replace("FIRST OBS", "LAST OBS ")
    file.write_text(text.replace(first, f"{first}\n{last}"))
    runner = InlineRunner()
    report = run_inline([file], tmp_path / "store", runner=runner)
    assert (len(report.stored), runner.reads) == (1, 2)
    assert_holds(open_group(tmp_path / "store", GROUP).compute(scheduler="sync"), [file])
