"""The main job in real containers: real files in, the same values out, and no file lost."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from canvod.launch import DaskClusterManager, ingest_files
from canvod.launch.errors import ClusterError
from canvod.launch.host.labels import LABEL_PREFIX, OWNER_LABEL
from canvod.launch.host.owner import owner_mark
from canvod.launch.ingest.store import open_repository
from canvod.launch.testing import assert_nothing_left, assert_store_equals, serial_model
from eventually import eventually
from leftovers import GONE_WITHIN_S, volumes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import docker

pytestmark = [pytest.mark.docker, pytest.mark.slow]

COMMAND = [sys.executable, "-c", "import sys; from canvod.launch.cli import main; sys.exit(main())", "ingest"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that containers of another user can see into, as a lab's data folder is."""
    tmp_path.chmod(0o755)
    return tmp_path


@contextmanager
def started(
    inputs: Sequence[Path], store: Path, group: str = "site/receiver"
) -> Iterator[subprocess.Popen[str]]:
    """The command on two workers in containers; ended with the test, also with one that fails."""
    options = ["--store", str(store), "--group", group, "--workers", "2", "--backend", "docker", "--json"]
    with subprocess.Popen(
        [*COMMAND, *map(str, inputs), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {"CANVOD_LAUNCH__DASHBOARD_PORT": "0", "CANVOD_PROCESSING__MAX_MEMORY_GB": "4"},
    ) as program:
        try:
            yield program
        finally:
            program.kill()


def run(inputs: Sequence[Path], store: Path, group: str = "site/receiver") -> tuple[int, dict[str, Any], str]:
    """Run the command to its end."""
    with started(inputs, store, group) as program:
        out, err = program.communicate(timeout=280)
    return program.returncode, json.loads(out or "{}"), err


def read_until(program: subprocess.Popen[str], text: str) -> str:
    """Everything that the command says on stderr up to a line with this text, which it must say."""
    assert program.stderr is not None
    said = ""
    for line in program.stderr:
        said += line
        if text in line:
            return said
    pytest.fail(f"the command ended before it said {text!r}:\n{said}")


@pytest.fixture
def damaged(invalid: Path, folder: Path) -> Path:
    """A file whose failure is told at once: from then on the workers are reading the others."""
    (folder / "damaged").mkdir()
    return Path(shutil.copy(invalid / "binary_garbage.25o", folder / "damaged" / "garbage.25o"))


def cluster_of(engine: docker.DockerClient, program: subprocess.Popen[str], timeout_s: float = 60) -> str:
    """Name of the cluster that a running command has started, once its workers' containers run."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        every = engine.api.containers(filters={"label": f"{LABEL_PREFIX}.role=worker"})
        found = [each for each in every if each["Labels"].get(OWNER_LABEL) == owner_mark(program.pid)]
        if len(found) == 2:
            return str(found[0]["Labels"][f"{LABEL_PREFIX}.cluster"])
        time.sleep(0.05)
    pytest.fail("no cluster of two workers was started")


def containers(engine: docker.DockerClient) -> set[str]:
    """Identifiers of all containers of the engine, in whatever state."""
    return {str(container["Id"]) for container in engine.api.containers(all=True)}


@pytest.mark.parametrize("receiver", ["01_reference", "02_canopy"])
def test_real_files_are_stored_as_a_serial_read_gives_them(
    images: object, engine: docker.DockerClient, rosalia: Path, folder: Path, receiver: str
) -> None:
    """24 files of each receiver, read by workers in containers: every value equal, and nothing left."""
    del images
    before = containers(engine) | volumes(engine)
    files = sorted((rosalia / receiver).rglob("*.rnx"))
    status, report, err = run([rosalia / receiver], folder / "store")
    assert status == 0, err
    assert report["counts"] == {"stored": 24, "known": 0, "partly": 0, "failed": 0}
    assert set(report["peak_memory_bytes"]) == {"worker-0", "worker-1"}
    assert_store_equals(folder / "store", "site/receiver", serial_model(files))
    assert containers(engine) | volumes(engine) <= before


def test_a_worker_that_is_killed_costs_no_file(
    images: object, engine: docker.DockerClient, rosalia: Path, damaged: Path, folder: Path
) -> None:
    """One container is killed while files are read: all are stored, with the right values."""
    del images
    files = sorted((rosalia / "02_canopy").rglob("*.rnx"))
    with started([damaged, *files], folder / "store") as program:
        cluster = cluster_of(engine, program)
        read_until(program, f"failed: {damaged}")
        engine.api.kill(f"canvod-launch-{cluster}-worker-1")
        out, err = program.communicate(timeout=280)
    assert program.returncode == 3, err
    assert json.loads(out)["counts"] == {"stored": 24, "known": 0, "partly": 0, "failed": 1}
    assert "container_ended" in err
    assert_store_equals(folder / "store", "site/receiver", serial_model(files))
    assert_nothing_left(cluster, engine)


def test_a_damaged_file_costs_no_other_and_a_second_run_stores_nothing(
    images: object, rosalia: Path, invalid: Path, folder: Path
) -> None:
    """Exit status 3 and the reason for what failed; the same run again finds everything stored."""
    del images
    data = folder / "data"
    data.mkdir()
    for file in sorted((rosalia / "01_reference").rglob("*.rnx"))[:2]:
        shutil.copy(file, data)
    good = sorted(data.iterdir())
    shutil.copy(invalid / "binary_garbage.25o", data / "garbage.25o")
    status, report, err = run([data], folder / "store")
    assert status == 3, err
    assert report["counts"] == {"stored": 2, "known": 0, "partly": 0, "failed": 1}
    failed = next(file for file in report["files"] if file["status"] == "failed")
    assert failed["path"].endswith("garbage.25o")
    assert failed["reason"]
    assert_store_equals(folder / "store", "site/receiver", serial_model(good))
    status, again, err = run(good, folder / "store")
    assert status == 0, err
    assert again["counts"] == {"stored": 0, "known": 2, "partly": 0, "failed": 0}
    assert again["snapshots"] == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda n: n.name)
def test_an_interrupted_ingest_leaves_nothing_but_what_it_has_read(
    images: object,
    engine: docker.DockerClient,
    rosalia: Path,
    damaged: Path,
    folder: Path,
    number: signal.Signals,
) -> None:
    """The exit status is the signal's; no container, no network is left, and the same command goes on."""
    del images
    with started([damaged, rosalia / "01_reference"], folder / "store") as program:
        cluster = cluster_of(engine, program)
        read_until(program, f"failed: {damaged}")
        program.send_signal(number)
        _, err = program.communicate(timeout=60)
    assert program.returncode == 128 + number, err
    assert_nothing_left(cluster, engine)
    status, report, err = run([damaged, rosalia / "01_reference"], folder / "store")
    assert status == 3, err
    assert report["counts"]["stored"] + report["counts"]["known"] == 24
    files = sorted((rosalia / "01_reference").rglob("*.rnx"))
    assert_store_equals(folder / "store", "site/receiver", serial_model(files))


KILLED_AT_ITS_COMMIT = """
import os, signal, threading, time
from canvod.launch.ingest.store import Store

commit = Store.commit

def kill():
    os.kill(os.getpid(), signal.SIGKILL)

def kill_when_a_snapshot_is_written(folder, known):
    while set(os.listdir(folder)) == known:
        time.sleep(0.001)
    kill()

def killed(store, *arguments):
    stage, folder = os.environ["KILLED"], store.path / "snapshots"
    if "GO" in os.environ:  # hold the lock until the other launcher waits for it
        open(os.environ["GO"] + ".awaited", "w").close()
        while not os.path.exists(os.environ["GO"]):
            time.sleep(0.01)
    if stage == "before":
        kill()
    if stage == "snapshot":
        known = set(os.listdir(folder))
        threading.Thread(target=kill_when_a_snapshot_is_written, args=(folder, known)).start()
    commit(store, *arguments)
    if stage == "after":
        kill()
    time.sleep(60)

Store.commit = killed
"""
"""Kills the launcher before its commit, when the snapshot is written and need not be the newest, or after."""


@pytest.mark.parametrize(
    ("stage", "possible"), [("before", {0}), ("snapshot", {0, 1}), ("after", {1})], ids=str
)
def test_a_launcher_killed_in_its_commit_costs_no_file(
    images: object,
    engine: docker.DockerClient,
    rosalia: Path,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    stage: str,
    possible: set[int],
) -> None:
    """SIGKILL while the commit is written: the store has all or nothing of it, and the next run the rest."""
    del images
    files = sorted((rosalia / "02_canopy").rglob("*.rnx"))[:4]
    (folder / "sitecustomize.py").write_text(KILLED_AT_ITS_COMMIT)
    with monkeypatch.context() as patch:
        patch.setenv("PYTHONPATH", str(folder))
        patch.setenv("KILLED", stage)
        with started(files, folder / "store") as program:
            cluster = cluster_of(engine, program)
            _, err = program.communicate(timeout=280)
    assert program.returncode == -signal.SIGKILL, err
    assert_nothing_left(cluster, engine, within_s=GONE_WITHIN_S)
    commits = len(open_repository(folder / "store").snapshots()) - 1  # the first one is the empty store
    assert commits in possible
    status, report, err = run(files, folder / "store")
    assert status == 0, err
    counts = {"stored": 4 * (1 - commits), "known": 4 * commits, "partly": 0, "failed": 0}
    assert report["counts"] == counts
    assert_store_equals(folder / "store", "site/receiver", serial_model(files))


@pytest.mark.parametrize("other", ["site/receiver", "site/other"], ids=["same group", "other group"])
@pytest.mark.parametrize("stage", ["before", "snapshot"])
def test_of_two_launchers_at_once_one_that_is_killed_costs_the_other_nothing(
    images: object,
    engine: docker.DockerClient,
    rosalia: Path,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    stage: str,
    other: str,
) -> None:
    """One makes the store and is killed in its commit, while the other waits: all is stored in the end.

    Their files overlap, and each reads and writes on workers of its own.
    """
    del images
    files = sorted((rosalia / "02_canopy").rglob("*.rnx"))[:6]
    first, second, store, go = files[:4], files[2:], folder / "store", folder / "go"
    (folder / "sitecustomize.py").write_text(KILLED_AT_ITS_COMMIT)
    with monkeypatch.context() as patch:
        for name, value in (("PYTHONPATH", folder), ("KILLED", stage), ("GO", go)):
            patch.setenv(name, str(value))
        with ExitStack() as stack:
            one = stack.enter_context(started(first, store))
            clusters = [cluster_of(engine, one)]
            assert eventually(Path(f"{go}.awaited").exists)
            first_one = stack.pop_all()
    with first_one, started(second, store, other) as two:
        clusters.append(cluster_of(engine, two))
        read_until(two, "another process is writing to")
        go.touch()
        out, err = two.communicate(timeout=280)
        one.communicate(timeout=60)
    assert (one.returncode, two.returncode) == (-signal.SIGKILL, 0), err
    assert sum(json.loads(out)["counts"].values()) == 4
    for cluster in clusters:
        assert_nothing_left(cluster, engine, within_s=GONE_WITHIN_S)
    status, report, err = run(first, store)
    assert status == 0, err
    assert report["counts"]["failed"] == report["counts"]["partly"] == 0
    if other == "site/receiver":
        assert_store_equals(store, other, serial_model(files))
    else:
        assert_store_equals(store, "site/receiver", serial_model(first))
        assert_store_equals(store, other, serial_model(second))


def test_a_cluster_whose_memory_is_full_of_other_data_ends_the_run(
    images: object, rosalia: Path, folder: Path
) -> None:
    """Workers in containers pause when memory and spill are full: the error says so, and what to raise."""
    del images
    files = sorted((rosalia / "02_canopy").rglob("*.rnx"))[:4]
    settings = {
        "processing": {"resource_mode": "manual", "n_max_threads": 2, "max_memory_gb": 1},
        "launch": {"backend": "docker", "dashboard_port": 0, "spill_gb": 0.05},
    }
    options: dict[str, Any] = {"read_only": [files[0].parent], "writable": [folder], "current_folder": False}
    with DaskClusterManager(settings, **options) as manager:
        client = manager.client
        workers, held = list(client.scheduler_info(n_workers=-1)["workers"]), []

        def statuses() -> list[str]:
            found = client.scheduler_info(n_workers=-1)["workers"].values()
            return [worker["status"] for worker in found]

        def paused() -> bool:
            # One after the other: at 95 % of its limit a worker is killed.
            for worker in workers:
                held.append(client.submit(os.urandom, 10 * 2**20, workers=[worker], pure=False))
                assert eventually(lambda: held[-1].done() or "paused" in statuses())
            return statuses() == ["paused", "paused"]

        assert eventually(paused)
        with pytest.raises(
            ClusterError, match="all 2 workers have paused, since their memory is full"
        ) as error:
            ingest_files(files, folder / "store", "site/receiver", cluster=manager)
        assert "raise processing.max_memory_gb, or launch.spill_gb" in str(error.value.hint)
        held.clear()
        assert eventually(lambda: statuses() == ["running", "running"])
        report = ingest_files(files, folder / "store", "site/receiver", cluster=manager)
    assert len(report.stored) == 4
    assert_store_equals(folder / "store", "site/receiver", serial_model(files))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a file that the workers' user may not read")
def test_files_that_the_workers_may_not_read_are_refused_before_the_start(
    images: object, engine: docker.DockerClient, rosalia: Path, folder: Path
) -> None:
    """The message names the file, the workers' user and the remedy; nothing is started."""
    del images
    secret = folder / "secret.rnx"
    shutil.copy(next((rosalia / "01_reference").rglob("*.rnx")), secret)
    secret.chmod(0o600)
    before = {network["Id"] for network in engine.api.networks()}
    status, report, _ = run([secret], folder / "store")
    assert status == 1
    assert f"{secret} cannot be read by the workers, which run as 10001:10001" in report["error"]
    assert "launch.user" in report["hint"]
    assert {network["Id"] for network in engine.api.networks()} == before
    assert not (folder / "store").exists()
