"""The commands that start a cluster, or show what would be started: memory, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from canvod.launch.cli import main
from canvod.launch.units import GIB
from ingest_files import write_window

HEAVY = ["dask", "distributed", "docker", "icechunk", "numpy", "xarray", "zarr"]


@pytest.fixture(autouse=True)
def away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run in a folder with one observation file, without settings."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CANVOD_LAUNCH__BACKEND", raising=False)
    write_window(tmp_path / "data" / "0.rnx", 0)


@pytest.mark.parametrize(
    "words",
    [
        ["ingest", "data", "day 2", "--store", "s", "--group", "a/b", "-c", "none.yaml"],
        ["up", "--read-only", "data", "--writable", "day 2"],
        ["run", "--read-only", "day 2", "--", "true"],
    ],
    ids=lambda words: words[0],
)
def test_a_path_that_is_not_there_is_refused_before_anything_is_loaded(words: list[str]) -> None:
    """No settings, no engine and no library are needed to tell it."""
    code = (
        "import sys\n"
        "from canvod.launch.cli import main\n"
        f"status = main({words!r})\n"
        f"print(status, *{{*{HEAVY}}} & {{*sys.modules}})\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "1\n"
    assert f"error: {Path.cwd()}/day 2: there is no such file or folder\n" in done.stderr
    assert not Path("s").exists()


def test_memory_is_that_of_all_workers(capsys: pytest.CaptureFixture[str]) -> None:
    """It is divided among them, whether their number is given or not."""
    for options in (["--workers", "2"], []):
        assert main(["plan", "--json", "--memory", "1.5", *options]) == 0
        workers: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["workers"]
        assert sum(worker["memory_bytes"] for worker in workers) == pytest.approx(1.5 * GIB, rel=0.01)
    assert main(["compose", "--memory", "1", "--workers", "2"]) == 0
    services = yaml.safe_load(capsys.readouterr().out)["services"]
    assert [services[f"worker-{n}"]["mem_limit"] for n in range(2)] == [GIB // 2] * 2


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(["up", "--name", "too-small"], marks=pytest.mark.docker),
        ["run", "--backend", "process"],
        ["ingest", "data", "--store", "store", "--group", "a/b", "--backend", "process"],
        ["plan"],
        ["compose"],
    ],
    ids=lambda words: words[0],
)
def test_too_little_memory_is_refused_by_every_command(
    capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    """With the option's own value, before anything is started."""
    behind = ["--", "true"] if words[0] == "run" else []
    assert main([*words, "--workers", "2", "--memory", "0.01", *behind]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "command line: processing.max_memory_gb = 0.01 leaves 5 MiB for each of 2 workers" in captured.err


def test_a_cluster_that_exists_takes_no_settings(capsys: pytest.CaptureFixture[str]) -> None:
    """Its memory was set when it was started."""
    options = ["--store", "store", "--group", "a/b", "--cluster", "lab", "--memory", "1"]
    assert main(["ingest", "data", *options]) == 1
    assert "--backend, --workers and --memory cannot be set" in capsys.readouterr().err
