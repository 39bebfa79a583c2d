"""A user's own settings of Dask, made for other clusters, change nothing of ours."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import dask.config
import distributed  # noqa: F401 - brings its defaults
import pytest

from canvod.launch.cluster.dask_settings import DaskDefaults
from canvod.launch.errors import ExitStatus
from ingest_files import write_window

if TYPE_CHECKING:
    from pathlib import Path

ELSEWHERE = """
temporary-directory: /nowhere
tokenize: {ensure-deterministic: true}
scheduler: processes
distributed:
  admin: {event-loop: uvloop, log-format: "%(nonsense"}
  client: {preload: [nowhere]}
  comm:
    compression: lz4
    default-scheme: ucx
    timeouts: {connect: 1 ms, tcp: 1 ms}
    tls: {min-version: 9, ciphers: nonsense, ca-file: /nowhere/ca.pem}
  dashboard: {link: "/user/{NO_SUCH_VARIABLE}/proxy/{port}/status"}
  logging-file-config: /nowhere/logging.conf
  nanny:
    environ: {TZ: Mars/Phobos}
    pre-spawn-environ: {PYTHONPATH: /nowhere, LD_PRELOAD: /nowhere.so}
    preload: [nowhere]
  scheduler: {allowed-failures: 0, idle-timeout: 1 s, preload: [nowhere], work-stealing: false}
  worker:
    memory: {target: 0.01, spill: 0.02, pause: 0.03, terminate: 0.04}
    multiprocessing-method: fork
    preload: [nowhere]
    resources: {GPU: 1}
"""
"""What others need, and what would keep our clusters from starting, stop them, or slow them down."""

VARIABLES = {
    "DASK_DISTRIBUTED__WORKER__MULTIPROCESSING_METHOD": "fork",
    "DASK_DISTRIBUTED__COMM__COMPRESSION": "lz4",
    "DASK_SCHEDULER_ADDRESS": "tcp://127.0.0.1:1",
    "DASK_TEMPORARY_DIRECTORY": "/nowhere",
}

PROGRAM = """
import json, sys
import dask
import dask.array as array
from canvod.launch import DaskClusterManager

def settings(section):
    import dask.config
    return dask.config.get(section)

theirs = dask.config.get("distributed.comm.compression")
with DaskClusterManager(n_workers=1, memory_limit_per_worker="1GiB", backend="process") as manager:
    worker = manager.client.submit(settings, "distributed.worker", pure=False).result(timeout=60)
    assert array.ones(10, chunks=5).sum().compute() == 10
    print(json.dumps([worker["memory"]["target"], worker["resources"], worker["preload"]]))
    assert manager.dashboard_link.startswith("http://127.0.0.1:")
assert theirs == dask.config.get("distributed.comm.compression") == "lz4"
"""


def environment(folder: Path, text: str) -> dict[str, str]:
    """Environment of a user with a file of settings."""
    (folder / "settings").mkdir()
    (folder / "settings" / "dask.yaml").write_text(text)
    return os.environ | {"DASK_CONFIG": str(folder / "settings")}


def run(arguments: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run Python."""
    return subprocess.run(
        [sys.executable, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


COMMAND = ["-c", "import sys; from canvod.launch.cli import main; sys.exit(main())"]


@pytest.mark.slow
def test_settings_for_other_clusters_change_nothing_of_ours(tmp_path: Path) -> None:
    """A program has its own settings back when it has closed our cluster; workers never see them."""
    done = run(["-c", PROGRAM], environment(tmp_path, ELSEWHERE) | VARIABLES)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [0.6, {}, []]
    assert "nowhere" not in done.stderr


@pytest.mark.slow
def test_an_ingest_is_the_same_whatever_the_settings_of_its_user(tmp_path: Path) -> None:
    """The command ends with 0, and says nothing of Dask's."""
    files = [str(write_window(tmp_path / f"{first}.rnx", first)) for first in (0, 10)]
    options = ["--store", str(tmp_path / "store"), "--group", "site/receiver", "--backend", "process"]
    command = [*COMMAND, "ingest", *files, *options, "--workers", "1", "--json"]
    done = run(command, environment(tmp_path, ELSEWHERE) | VARIABLES)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["counts"]["stored"], report["epochs"]) == (2, 20)
    assert "distributed" not in done.stderr


@pytest.mark.parametrize(
    ("text", "variables"),
    [
        ("distributed: [broken\n", {}),
        ("- a list\n", {}),
        ("", {"DASK_INTERNAL_INHERIT_CONFIG": "no base64"}),
    ],
)
def test_settings_that_dask_cannot_read_are_one_message(
    tmp_path: Path, text: str, variables: dict[str, str]
) -> None:
    """It names the file; a program gets the same as an error of the settings."""
    theirs = environment(tmp_path, text) | variables
    folder = tmp_path / "data"
    write_window(folder / "0.rnx", 0)
    options = ["--store", str(tmp_path / "store"), "--group", "site/receiver", "--backend", "process"]
    done = run([*COMMAND, "ingest", str(folder), *options, "--json"], theirs)
    assert done.returncode == ExitStatus.REFUSED, done.stderr
    error = json.loads(done.stdout)
    assert error["kind"] == "config"
    if not variables:
        assert str(tmp_path / "settings" / "dask.yaml") in error["error"]
    assert not (tmp_path / "store").exists()
    done = run(["-c", "from canvod.launch import DaskClusterManager as M; M(backend='process')"], theirs)
    assert "canvod.launch.errors.ConfigError: Dask cannot be imported" in done.stderr


def test_a_folder_of_settings_that_is_not_there_is_no_matter(tmp_path: Path) -> None:
    """Dask takes it for empty, and so do we."""
    theirs = os.environ | {"DASK_CONFIG": str(tmp_path / "nowhere")}
    done = run(["-c", "from canvod.launch.cluster.keywords import require_dask as r; r()"], theirs)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_users_settings_come_back_with_the_last_cluster() -> None:
    """Of several at once, closed in whatever order."""
    name = "distributed.comm.timeouts.connect"
    before = dask.config.get(name)
    with dask.config.set({name: "17 s"}):
        first, second = DaskDefaults(), DaskDefaults()
        assert dask.config.get(name) == before
        first.end()
        first.end()
        assert dask.config.get(name) == before
        second.end()
        assert dask.config.get(name) == "17 s"
    assert dask.config.get(name) == before


def test_certificates_hold_for_a_scheduler_of_somebody_else() -> None:
    """They are where the user has put them; nothing else of the section is taken."""
    theirs = {"distributed.comm.tls.ca-file": "/ca.pem", "distributed.comm.compression": "lz4"}
    with dask.config.set(theirs):
        defaults = DaskDefaults()
        assert dask.config.get("distributed.comm.tls.ca-file") is None
        defaults.end()
        defaults = DaskDefaults(certificates=True)
        assert dask.config.get("distributed.comm.tls.ca-file") == "/ca.pem"
        assert dask.config.get("distributed.comm.compression") is not True
        assert dask.config.get("distributed.comm.compression") != "lz4"
        defaults.end()
        assert dask.config.get("distributed.comm.compression") == "lz4"
