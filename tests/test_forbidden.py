"""Paths that a user may not look at are refused in a sentence, on every Python."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from canvod.launch.paths import exists, is_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PROGRAM = "import sys; from canvod.launch.cli import main; sys.exit(main())"
REFUSED_MOUNT = """
import sys
from canvod.launch.cluster.host_paths import make_mounts, require_mounts
from canvod.launch.config import load_settings
from canvod.launch.errors import ConfigError
from canvod.launch.host.detect import read_inventory
from canvod.launch.plan.planner import make_plan

mounts = make_mounts(sys.argv[1:], [])
plan = make_plan(
    load_settings(None),
    read_inventory(),
    backend="docker",
    name="x",
    python="3.14",
    version="1",
    mounts=mounts,
)
try:
    require_mounts(plan)
except ConfigError as refusal:
    print(refusal.message)
"""
NOBODY = 65534


@pytest.fixture
def forbidden(tmp_path: Path) -> Iterator[Path]:
    """A folder that nobody may enter; it holds a folder ``in``."""
    folder = tmp_path / "forbidden"
    (folder / "in").mkdir(parents=True)
    folder.chmod(0)
    if os.geteuid() == 0:
        os.chown(folder, NOBODY, NOBODY)
    yield folder
    folder.chmod(0o755)


def call(*words: str, program: str = PROGRAM) -> subprocess.CompletedProcess[str]:
    """Run canvod-launch, or another program, without root's right to look everywhere."""
    before: list[str] = []
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("root sees everything, unless setpriv takes that right away")
        before = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"]
    return subprocess.run(
        [*before, sys.executable, "-c", program, *words],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"CANVOD_LAUNCH__BACKEND": "process"},
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("ingest {forbidden}/in --store {free}/store --group a/b", "{forbidden}/in: cannot be read"),
        ("ingest {free} --store {forbidden}/store --group a/b", "{forbidden}/store: you may not look into"),
        ("store show {forbidden}/store", "{forbidden}/store: you may not look into"),
        ("simulate {forbidden}/sim --hours 1", "{forbidden}/sim may not be written to"),
        ("plan --config {forbidden}/x.yaml", "{forbidden}/x.yaml: this user may not read it"),
        ("run -- {forbidden}/program", "There is no command {forbidden}/program"),
    ],
)
def test_a_path_below_a_forbidden_folder_is_refused_by_name(
    forbidden: Path, tmp_path: Path, words: str, message: str
) -> None:
    """One block that names it, with what to do; never a bug."""
    free = tmp_path / "free"
    free.mkdir()
    (free / "file.25o").write_text("")
    places = {"forbidden": forbidden, "free": free}
    done = call(*words.format(**places).split())
    assert message.format(**places) in done.stderr
    assert "to do: " in done.stderr
    assert done.returncode in {1, 127}, done.stderr


@pytest.mark.parametrize("folders", [(), ("store",)], ids=["new", "without a place for its lock"])
def test_a_store_that_cannot_be_written_is_refused_before_anything_is_read(
    forbidden: Path, tmp_path: Path, folders: tuple[str, ...]
) -> None:
    """The folder is named that the user may not write, and no cluster starts."""
    forbidden.chmod(0o755)
    for name in folders:
        (forbidden / name).mkdir(mode=0o777)
    forbidden.chmod(0o555)
    (tmp_path / "file.25o").write_text("")
    done = call(*f"ingest {tmp_path}/file.25o --store {forbidden}/store --group a/b".split())
    assert f"{forbidden}: uid {os.geteuid()} may not write it" in done.stderr
    assert f"an ingest into {forbidden}/store has to" in done.stderr
    assert "dask_cluster_started" not in done.stderr
    assert done.returncode == 1


def test_mounts_that_cannot_be_seen_are_refused(forbidden: Path, tmp_path: Path) -> None:
    """What is not there, and what this user may not look at, in words of their own."""
    for path, words in (
        (tmp_path / "missing", "Workers cannot see what is not there"),
        (forbidden / "in", "may not look at what its workers are to see"),
    ):
        done = call(str(path), program=REFUSED_MOUNT)
        assert f"{words}: {path}" in done.stdout, done.stderr


def test_what_may_not_be_looked_at_is_not_there(tmp_path: Path) -> None:
    """The questions have answers, whatever the Python."""
    assert exists(tmp_path)
    assert is_folder(tmp_path)
    assert not exists(tmp_path / "missing")
    (tmp_path / "file").write_text("")
    assert exists(tmp_path / "file")
    assert not is_folder(tmp_path / "file")
