"""Several ingests into one store that is not there yet, at the same instant and in processes of their own."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import subprocess

import pytest

from canvod.launch.ingest.read import open_group
from canvod.launch.ingest.store import FIRST_SNAPSHOT, create_store, open_repository, store_exists
from canvod.launch.ingest.store_lifecycle import remove_empty_store, store_in_use
from ingest_files import assert_holds, run_inline, write_windows
from many_writers import use_and_write

GROUPS = {"one group": ("site/one", "site/one"), "two groups": ("site/one", "site/two")}

PROGRAM = """
import os, signal, sys, time
from pathlib import Path
import canvod.launch.ingest.job, canvod.launch.ingest.pool
from canvod.launch.cli import main
from canvod.launch.ingest.store import Store

def end(self, *arguments):
    if how == "killed after its commit":
        commit(self, *arguments)
    os.kill(os.getpid(), signal.SIGINT if how == "interrupted" else signal.SIGKILL)
    time.sleep(60)

go, how, *arguments = sys.argv[1:]
commit = Store.commit
if how != "goes on":
    Store.commit = end
print("ready", flush=True)
deadline = time.monotonic() + 60
while not Path(go).exists():
    assert time.monotonic() < deadline
sys.exit(main(["ingest", *arguments, "--workers", "1", "--json"]))
"""
"""An ingest on a pool that begins when a file is there, and may be ended when its files are written."""

STATUSES = {
    "goes on": 0,
    "killed before its commit": -signal.SIGKILL,
    "killed after its commit": -signal.SIGKILL,
    "interrupted": 128 + signal.SIGINT,
}


@pytest.fixture
def ingest(tmp_path, bare_python):
    """Run ingests, each of its files into its group, from the same instant on; what each reports."""
    (tmp_path / "program.py").write_text(PROGRAM)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def run(*jobs):
        go = tmp_path / "go"
        go.unlink(missing_ok=True)
        programs = []
        for how, group, files in jobs:
            command = [bare_python, tmp_path / "program.py", go, how, *files]
            command += ["--store", tmp_path / "store", "--group", group]
            programs.append(
                subprocess.Popen(
                    list(map(str, command)),
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                    env=environment,
                    cwd=tmp_path,
                )
            )
        for program in programs:
            assert program.stdout.readline() == "ready\n", program.communicate()[1]
        go.touch()
        said = [program.communicate(timeout=200) for program in programs]
        for (how, *_), program, (_, errors) in zip(jobs, programs, said, strict=True):
            assert program.returncode == STATUSES[how], errors
        return [json.loads(out) if out else None for out, _ in said]

    return run


@pytest.mark.slow
@pytest.mark.parametrize("how", STATUSES)
@pytest.mark.parametrize("groups", GROUPS)
def test_whatever_ends_one_ingest_the_other_stores_everything(tmp_path, ingest, groups, how):
    """Of files of the same days, too; and the same command again stores the rest."""
    one, two = GROUPS[groups]
    mine = write_windows(tmp_path / "mine", [0, 20, 9_000, 40_000])
    # Of one day, so that whoever is second makes all of them anew, and one commit has them.
    others = write_windows(tmp_path / "others", [10, 4_000, 9_010, 12_000])
    report, _ = ingest(("goes on", one, mine), (how, two, others))
    assert report["counts"]["failed"] == report["counts"]["partly"] == 0
    is_stored = how in {"goes on", "killed after its commit"}
    if one != two or is_stored:
        assert_holds(open_group(tmp_path / "store", one), [*mine, *(others if one == two else ())])
    else:
        assert_holds(open_group(tmp_path / "store", one), mine)
    (again,) = ingest(("goes on", two, others))
    assert again["counts"]["known" if is_stored else "stored"] == 4
    assert_holds(open_group(tmp_path / "store", two), [*others, *(mine if one == two else ())])


@pytest.mark.slow
def test_one_ingest_of_damaged_files_costs_the_other_nothing(tmp_path, ingest, invalid, monkeypatch):
    """It has made the store, or found it made, and does not remove what the other one uses."""
    mine = write_windows(tmp_path / "mine", [0, 20])
    damaged = shutil.copy(invalid / "binary_garbage.25o", tmp_path / "rosa0010.25o")
    monkeypatch.setitem(STATUSES, "has nothing", 3)
    ingest(("goes on", "site/one", mine), ("has nothing", "site/two", [damaged]))
    assert_holds(open_group(tmp_path / "store", "site/one"), mine)


@pytest.mark.slow
def test_a_store_is_made_once_and_removed_by_the_last_that_has_nothing(tmp_path):
    """Processes that use ten new stores at the same instants lose nothing that one of them commits."""
    files = write_windows(tmp_path / "in", [0])
    stores = [tmp_path / f"store{number}" for number in range(10)]
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(4)
    processes = [
        context.Process(target=use_and_write, args=(barrier, stores, number, files)) for number in range(4)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(200)
    assert [process.exitcode for process in processes] == [0] * 4
    for round_, store in enumerate(stores):
        assert len(open_repository(store).snapshots()) == 3
        for number in range(4):
            if (number + round_) % 2:
                assert_holds(open_group(store, f"site/receiver_{number}"), files)


def test_a_store_that_another_one_uses_is_not_removed(tmp_path):
    """Though nothing was committed to it; the last one removes it."""
    with store_in_use(tmp_path / "store", remove_empty=True):
        with store_in_use(tmp_path / "store", remove_empty=True):
            pass
        remove_empty_store(tmp_path / "store")
        assert store_exists(tmp_path / "store")
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("left", [["snapshots"], ["snapshots", "transactions", "repo#1"], ["chunks"]])
def test_a_store_that_was_not_made_to_the_end_is_made(tmp_path, left):
    """A program that was killed while it made a store leaves no place that is refused for good."""
    store = tmp_path / "store"
    store.mkdir()
    for name in left:
        if name.startswith("repo"):
            (store / name).touch()
        else:
            (store / name).mkdir()
            begun = "B5ZT50CWBWDBX97EPFZ0" if name == "chunks" else f"{FIRST_SNAPSHOT}#1"
            (store / name / begun).write_text("the beginning")
    assert not store_exists(store)
    files = write_windows(tmp_path / "in", [0])
    run_inline(files, store)
    assert_holds(open_group(store, "site/receiver"), files)


def test_a_store_whose_list_of_snapshots_is_gone_is_not_made_anew(tmp_path):
    """It may still have data, which nothing may remove."""
    run_inline(write_windows(tmp_path / "in", [0]), tmp_path / "store")
    (tmp_path / "store" / "repo").unlink()
    before = sorted((tmp_path / "store").rglob("*"))
    with pytest.raises(Exception, match="is a folder that holds files, but no Icechunk store"):
        create_store(tmp_path / "store")
    assert sorted((tmp_path / "store").rglob("*")) == before
