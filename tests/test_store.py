"""Stores on a disk: what is refused, the lock, owners, the clean-up, and what the commands show."""

from __future__ import annotations

import json
import os
import pwd
import re
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from filelock import FileLock

from canvod.launch.cli import main
from canvod.launch.errors import ExitStatus, InputError, StoreError
from canvod.launch.ingest.inspect import store_tree
from canvod.launch.ingest.permissions import check_store_access
from canvod.launch.ingest.read import open_group
from canvod.launch.ingest.store import CANVODPY_LOCK, create_store, open_repository, store_exists
from canvod.launch.ingest.store_lifecycle import clean_store
from canvod.launch.ingest.store_lock import lock_path, store_lock
from ingest_files import InlineRunner, assert_holds, run_inline, write_windows

GROUP = "site/receiver"
WORKER = 10001
NO_INPUT = 66
"""Exit status of flock(1) where it may not open the file (sysexits.h)."""
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to others")


@pytest.fixture
def store(tmp_path):
    """A store with one group of two files."""
    run_inline(write_windows(tmp_path / "in", [0, 10]), tmp_path / "store")
    return tmp_path / "store"


def test_a_place_that_holds_other_things_is_refused(tmp_path):
    """A file, and a folder with files of its own, are never made into a store."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "thesis.tex").touch()
    with pytest.raises(InputError, match="is a folder that holds files, but no Icechunk store"):
        create_store(tmp_path / "folder")
    with pytest.raises(InputError, match="is a file, not a store"):
        store_exists(tmp_path / "folder" / "thesis.tex")
    assert [entry.name for entry in (tmp_path / "folder").iterdir()] == ["thesis.tex"]


def test_looking_makes_nothing(tmp_path):
    """Asking for a store that is not there leaves nothing behind."""
    assert not store_exists(tmp_path / "none")
    with pytest.raises(InputError, match="there is no store"):
        open_repository(tmp_path / "none")
    assert not list(tmp_path.iterdir())


def test_a_group_that_is_not_there_is_named(store):
    """Opening a group that is not there says so, and how to list those that are."""
    with pytest.raises(InputError, match="holds no group 'site/other'"):
        open_group(store, "site/other")


def test_the_lock_is_one_for_all_names_of_a_store(tmp_path):
    """A store's lock is held whatever path leads to it; a waiter is told, and gives up after its time."""
    (tmp_path / "link").symlink_to(tmp_path / "store")
    said = []
    with (
        store_lock(tmp_path / "store"),
        pytest.raises(StoreError, match=r"another process has been writing to this store for 0\.1 s"),
        store_lock(tmp_path / "link", timeout_s=0.1, on_wait=said.append),
    ):
        pytest.fail("the lock was held twice")
    assert len(said) == 1
    with store_lock(tmp_path / "link", timeout_s=0):
        pass


def test_the_lock_of_a_killed_process_is_free(tmp_path):
    """A lock dies with the process that held it."""
    code = (
        "import os, signal, sys; from canvod.launch.ingest.store_lock import store_lock\n"
        "with store_lock(sys.argv[1]): os.kill(os.getpid(), signal.SIGKILL)"
    )
    ended = subprocess.run([sys.executable, "-c", code, str(tmp_path / "store")], check=False)
    assert ended.returncode == -9
    with store_lock(tmp_path / "store", timeout_s=0):
        pass


@pytest.fixture
def public():
    """A folder that every user may enter."""
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def try_lock(store: Path, uid: int | None = None) -> int:
    """Open the lock for reading, as another user, and lock it; the exit status is 0 where that succeeds."""
    command = ["flock", "--nonblock", "--shared", str(lock_path(store)), "true"]
    user: dict[str, Any] = {} if uid is None else {"user": uid, "group": uid, "extra_groups": []}
    return subprocess.run(command, capture_output=True, check=False, **user).returncode


@as_root
def test_who_may_not_write_a_store_cannot_hold_its_lock(public):
    """Not by reading its file either; who may write the store, may hold the lock."""
    store = public / "store"
    with store_lock(store):  # before there is a store
        pass
    assert try_lock(store) == 0
    assert try_lock(store, uid=WORKER) == NO_INPUT
    run_inline(write_windows(public / "in", [0]), store)
    assert try_lock(store, uid=WORKER) == NO_INPUT
    os.chown(store, 0, WORKER)
    for mode, statuses in ((0o770, (0, NO_INPUT)), (0o750, (NO_INPUT, NO_INPUT)), (0o777, (0, 0))):
        store.chmod(mode)
        with store_lock(store):
            pass
        assert (try_lock(store, uid=WORKER), try_lock(store, uid=WORKER + 1)) == statuses, oct(mode)


@as_root
def test_a_lock_belongs_to_the_owner_of_its_store(public):
    """Also where root writes to it, so that the owner can lock it afterwards."""
    store = public / "store"
    run_inline(write_windows(public / "in", [0]), store)
    for entry in (store, *store.rglob("*")):
        os.chown(entry, WORKER, WORKER)
    lock_path(store).unlink()
    with store_lock(store):
        pass
    assert (lock_path(store).stat().st_uid, lock_path(store).stat().st_gid) == (WORKER, WORKER)
    assert try_lock(store, uid=WORKER) == 0


@as_root
def test_root_writes_twice_where_everybody_may_make_files(public):
    """In a folder such as /tmp the lock stays root's, since its owner could remove it while it is held."""
    public.chmod(0o1777)
    for part in write_windows(public / "in", [0, 10]):
        run_inline([part], public / "store", owner=(WORKER, WORKER))
    assert lock_path(public / "store").stat().st_uid == 0


@as_root
def test_a_lock_file_that_another_user_has_made_is_refused(public):
    """Where everybody may make files, somebody could else hold the lock of a store that is not theirs."""
    store = public / "store"
    run_inline(write_windows(public / "in", [0]), store)
    os.chown(lock_path(store), WORKER, WORKER)
    with (
        pytest.raises(InputError, match=f"belongs to uid {WORKER}, who may not write the store") as caught,
        store_lock(store),
    ):
        pytest.fail("the lock was held")
    assert f"rm {lock_path(store)}" in (caught.value.hint or "")
    store.chmod(0o777)
    with store_lock(store):
        pass


def test_who_holds_the_lock_is_named(tmp_path):
    """With process, user and command, when the wait begins and when it ends."""
    said = []
    with store_lock(tmp_path / "store"):
        pass
    lock = lock_path(tmp_path / "store")
    with subprocess.Popen(["flock", str(lock), "sleep", "60"], start_new_session=True) as holder:
        deadline = time.monotonic() + 30
        while try_lock(tmp_path / "store") == 0:
            assert time.monotonic() < deadline
        with (
            pytest.raises(StoreError) as caught,
            store_lock(tmp_path / "store", timeout_s=0.1, on_wait=said.append),
        ):
            pytest.fail("the lock was held twice")
        os.killpg(holder.pid, signal.SIGKILL)
    user = pwd.getpwuid(os.getuid()).pw_name
    for text in (*said, str(caught.value)):
        assert f"(process {holder.pid} of user {user}: flock {str(lock)[:40]}" in text
    assert len(said) == 1


def test_the_clean_up_removes_what_an_interrupted_run_left(tmp_path, store):
    """Objects that no snapshot needs go, and what is stored stays; young objects stay unless asked for."""

    class Interrupted(InlineRunner):
        def write(self, *arguments):
            super().write(*arguments)
            raise KeyboardInterrupt

    files = write_windows(tmp_path / "more", [2_000, 5_000], count=2_000)
    size, chunks = open_repository(store).disk_bytes(), set((store / "chunks").iterdir())
    with pytest.raises(KeyboardInterrupt):
        run_inline(files, store, runner=Interrupted())
    assert open_repository(store).disk_bytes() > size
    assert set((store / "chunks").iterdir()) > chunks
    now = datetime.now(UTC)
    assert clean_store(store, older_than=timedelta(hours=1), now=now).objects == 0
    removed = clean_store(store, older_than=timedelta(0), now=now)
    assert removed.objects > 0
    assert open_repository(store).disk_bytes() <= size
    assert set((store / "chunks").iterdir()) == chunks
    assert_holds(open_group(store, GROUP), sorted((tmp_path / "in").iterdir()))
    run_inline(files, store)
    assert_holds(open_group(store, GROUP), [*(tmp_path / "in").iterdir(), *files])


def test_commits_leave_no_copies_of_the_history(store, tmp_path):
    """Icechunk keeps a list of all snapshots for each commit, and never removes it: those of an hour stay."""
    old = time.time() - 3_700
    for copy in (store / "overwritten").iterdir():
        os.utime(copy, (old, old))
    run_inline(write_windows(tmp_path / "more", [2_000]), store)
    (kept,) = (store / "overwritten").iterdir()
    assert kept.stat().st_mtime > old
    assert len(open_repository(store).snapshots()) == 3


@pytest.mark.parametrize("lock", ["ours", "canVODpy's"])
@pytest.mark.parametrize("what", ["ingest", "clean-up"])
def test_a_writer_is_waited_for(tmp_path, store, lock, what):
    """Commits and the clean-up take both locks, so that nothing is lost of what another writer commits."""
    held = store_lock(store) if lock == "ours" else FileLock(store / CANVODPY_LOCK)
    with held:
        if what == "ingest":
            call = partial(run_inline, write_windows(tmp_path / "more", [20]), store)
        else:
            call = partial(clean_store, store, older_than=timedelta(0), now=datetime.now(UTC))
        thread = threading.Thread(target=call)
        thread.start()
        thread.join(0.5)
        assert thread.is_alive()
    thread.join(30)
    assert not thread.is_alive()


@as_root
def test_everything_that_root_writes_belongs_to_the_owner(tmp_path):
    """Folders, the lock, chunks and snapshots of two runs belong to the workers' user."""
    owner = (WORKER, WORKER)
    files = write_windows(tmp_path / "in", [0, 10])
    path = tmp_path / "deep" / "store"
    for part in (files[:1], files[1:]):
        run_inline(part, path, owner=owner)
    entries = [tmp_path / "deep", *(tmp_path / "deep").rglob("*")]
    assert len(entries) > 10
    for entry in entries:
        assert (entry.stat().st_uid, entry.stat().st_gid) == owner, entry
    check_store_access(path, *owner)


@as_root
def test_a_store_that_the_workers_could_not_write_is_refused(tmp_path, store):
    """A store of another user is refused before anything starts, with the command that mends it."""
    with pytest.raises(InputError) as caught:
        check_store_access(store, WORKER, WORKER)
    assert f"{store} belongs to 0:0 (mode 755), and the workers run as 10001:10001" in str(caught.value)
    assert f"sudo chown -R 10001:10001 {store}" in str(caught.value)
    check_store_access(store, 0, 0)
    check_store_access(tmp_path / "new" / "store", WORKER, WORKER)


def test_a_store_where_none_can_be_made_is_refused():
    """A place where no folder can be made is refused with its path and the system's reason."""
    with pytest.raises(InputError, match="/proc/store: the folder of the store cannot be made"):
        create_store("/proc/store")


def test_the_tree_tells_what_is_stored(store):
    """Groups, dims, chunks, sizes, time span, signals by system, files and snapshots are there."""
    tree = store_tree(store)
    (group,) = tree.groups
    assert (group.path, group.epochs, group.files) == (GROUP, 20, 2)
    assert list(group.readers.values()) == [2]
    assert next(iter(group.readers)).startswith("rinex (canvod-launch ")
    assert group.stations == ("SIMULATED",)
    assert group.signals == {"C": 1, "E": 1, "G": 2, "R": 1}
    (array,) = group.arrays
    assert (array.name, array.dims) == ("SNR", ("epoch", "sid"))
    assert (array.shape, array.chunks) == ((17280, 5), (4320, 64))
    assert array.bytes_raw == 17280 * 5 * 4
    assert 0 < array.bytes_stored < tree.disk_bytes
    assert tree.snapshots[0].message == "Ingest into site/receiver: 2 files stored"


def test_show_prints_a_tree_or_json(store, capsys):
    """``store show`` prints the tree; with --json the same figures."""
    assert main(["store", "show", str(store)]) == ExitStatus.OK
    shown = capsys.readouterr().out
    assert "20 epochs of 1 day, 2025-01-01 to 2025-01-01, GPS time" in shown
    assert "5 signals: C 1, E 1, G 2, R 1" in shown
    assert re.search(
        r"^[0-9A-Z]{20}  20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ  Ingest into site/receiver: 2 files stored$",
        shown,
        re.MULTILINE,
    )
    assert main(["store", "show", str(store), "--json"]) == ExitStatus.OK
    values = json.loads(capsys.readouterr().out)
    (group,) = values["groups"]
    assert group["path"] == GROUP
    assert (group["first_day"], group["last_day"], group["days"]) == ("2025-01-01", "2025-01-01", 1)
    newest, oldest = values["snapshots"]
    assert datetime.strptime(newest["written_at"], "%Y-%m-%dT%H:%M:%S%z") <= datetime.now(UTC)
    # As the ingest says it, and nothing of what Icechunk notes for itself.
    assert newest["metadata"].items() >= {"days": 1, "files": {"stored": 2}}.items()
    assert not oldest["metadata"]


def test_gc_says_what_it_removed(store, capsys):
    """``store gc`` names objects and bytes."""
    assert main(["store", "gc", str(store), "--older-than", "0", "--json"]) == ExitStatus.OK
    assert set(json.loads(capsys.readouterr().out)) == {"objects", "bytes"}


def test_the_log_says_what_became_of_every_file(store, tmp_path, capsys):
    """``store log`` has a line for each file, or for each run; with --json all that is known."""
    absent = tmp_path / "in" / "absent.rnx"
    run_inline([*(tmp_path / "in").iterdir(), absent], store)
    assert main(["store", "log", str(store), "--json"]) == ExitStatus.OK
    records = json.loads(capsys.readouterr().out)
    assert [(record["status"], record["epochs"]) for record in records] == [
        ("stored", 10),
        ("stored", 10),
        ("failed", 0),
    ]
    assert main(["store", "log", str(store), "--last", "1"]) == ExitStatus.OK
    shown = capsys.readouterr().out
    assert "failed" in shown
    assert "stored" not in shown
    assert main(["store", "log", str(store), "--by", "run", "--json"]) == ExitStatus.OK
    assert [run["counts"] for run in json.loads(capsys.readouterr().out)] == [{"stored": 2}, {"failed": 1}]


@pytest.mark.parametrize("number", [24, pytest.param(96, marks=pytest.mark.slow)])
def test_compact_leaves_what_one_run_would_have_written(tmp_path, capsys, number):
    """Many runs of single files, made compact, are hardly larger than one run, and hold the same."""
    files = write_windows(tmp_path / "in", range(0, 180 * number, 180), 180)
    for file in files:
        run_inline([file], tmp_path / "store")
    run_inline(files, tmp_path / "one")
    before = store_tree(tmp_path / "store").disk_bytes
    assert main(["store", "compact", str(tmp_path / "store"), "--older-than", "0", "--json"]) == ExitStatus.OK
    assert json.loads(capsys.readouterr().out)["bytes"] > 0
    after, one = (store_tree(tmp_path / name).disk_bytes for name in ("store", "one"))
    assert after < before
    assert after <= 1.3 * one
    assert_holds(open_group(tmp_path / "store", GROUP), files)
    assert len(run_inline(files, tmp_path / "store").known) == len(files)
