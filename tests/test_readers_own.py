"""A reader of a lab's own: an entry point of an installed package, used by name, and never trusted."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from canvod.launch.config import load_settings
from canvod.launch.errors import DependencyError
from canvod.launch.ingest.job import IngestJob
from canvod.launch.ingest.pool import PoolRunner
from canvod.launch.ingest.read import open_group
from canvod.launch.readers import NoReaderError, Observations, find_reader, reader_names
from canvod.launch.runtime import file_tasks
from ingest_files import Options, run_inline

TALKATIVE = """
from dataclasses import replace

print("imported")
quiet = read


def read(path, variables, /):
    print("reading", path)
    note = "left out 2 lines that belong to no epoch, the first at line 7"
    return replace(quiet(path, variables), station="LOGGER", notes=(note,))
"""


def example():
    """Return the reader that docs/readers.md shows."""
    page = Path(__file__).parents[1] / "docs/readers.md"
    chapter = page.read_text(encoding="utf-8").split("## A reader of your own")[1]
    return chapter.split("```python\n")[1].split("```")[0]


@pytest.fixture
def lab(tmp_path):
    """Return the environment of a program that finds a lab's package, which offers the reader ``logger``."""
    site = tmp_path / "site"
    metadata = site / "lab_logger-1.2.dist-info"
    metadata.mkdir(parents=True)
    (site / "lab_logger.py").write_text(example() + TALKATIVE)
    (metadata / "METADATA").write_text("Metadata-Version: 2.4\nName: lab-logger\nVersion: 1.2\n")
    (metadata / "entry_points.txt").write_text("[canvod.launch.readers]\nlogger = lab_logger:read\n")
    return os.environ | {"PYTHONPATH": str(site)}


def ingest(environment, *arguments):
    """Run the command in processes, and return its exit status, its standard output and its messages."""
    command = [Path(sys.executable).with_name("canvod-launch"), "ingest", *arguments, "--backend", "process"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    return done.returncode, done.stdout, done.stderr


def test_a_reader_of_a_lab_reads_in_processes(tmp_path, lab):
    """It is used by its name and recorded with its version; what it prints does not reach standard output."""
    logs = [tmp_path / "a.log", tmp_path / "b.log"]
    logs[0].write_text("0 G01 45\n0 G02 40\n30 G01 46\n")
    logs[1].write_text("60 G01 47\n")
    empty = tmp_path / "c.log"
    empty.write_text("")
    inputs = [*logs, empty, "--store", tmp_path / "store", "--group", "lab/logger", "--workers", "1"]
    status, out, err = ingest(lab, *inputs, "--reader", "logger", "--json")
    assert status == 3, err
    report = json.loads(out)
    assert [file["status"] for file in report["files"]] == ["stored", "stored", "failed"]
    assert report["files"][2]["reason"] == "an empty log"
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert report["files"][0]["reader"] == f"logger (lab-logger 1.2, Python {version})"
    assert report["notes_by_kind"] == {"left out lines that belong to no epochs": {"count": 4, "files": 2}}
    group = open_group(tmp_path / "store", "lab/logger")
    assert group.SNR.sel(sid="G01|L1|C").dropna("epoch").values.tolist() == [45, 46, 47]
    assert group.attrs["stations"] == ["LOGGER"]
    assert "reader" not in group.attrs


def test_a_reader_that_is_not_installed_is_refused_before_anything_starts(tmp_path, lab):
    """One message names those that are there; no cluster is started, no store made."""
    (tmp_path / "a.log").write_text("0 G01 45\n")
    status, out, err = ingest(
        lab, tmp_path / "a.log", "--store", tmp_path / "store", "--group", "lab/x", "--reader", "loger"
    )
    assert (status, out) == (1, "")
    assert "ingest.reader is 'loger', which is not installed here; " in err
    assert "logger, rinex" in err
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(("packages", "refused"), [([], True), (["lab-logger==1.2"], False)])
def test_images_have_ours_and_what_is_added_to_them(tmp_path, packages, refused):
    """Another reader in containers is refused before they start, unless packages are added."""
    (tmp_path / "a.log").write_text("0 G01 45\n")
    settings = load_settings({"ingest": {"reader": "logger"}, "launch": {"packages": packages}})
    job = IngestJob([tmp_path / "a.log"], tmp_path / "store", "lab/x", settings)
    plan = SimpleNamespace(backend="docker", detached=False)
    if not refused:
        job._check_reader(plan)
        return
    with pytest.raises(DependencyError) as caught:
        job._check_reader(plan)
    assert str(caught.value) == (
        "ingest.reader is 'logger', and the images have rinex alone\n"
        "  What to do: name the package that offers it in launch.packages (canvod-readers for canvod), take "
        "processes (launch.backend: process), or write ingest.reader: rinex"
    )


def test_a_reader_that_does_not_import_is_told_once(tmp_path, lab, monkeypatch):
    """The reason is one message, and not one for each file; no store is made."""
    Path(lab["PYTHONPATH"], "lab_logger.py").write_text("import no_such_module\n")
    logs = [tmp_path / name for name in ("a.log", "b.log")]
    for log in logs:
        log.write_text("0 G01 45\n")
    monkeypatch.syspath_prepend(lab["PYTHONPATH"])
    with PoolRunner(1) as runner, pytest.raises(DependencyError) as caught:
        run_inline(logs, tmp_path / "store", runner=runner, settings=Options(reader="logger"))
    assert caught.value.message == (
        "the workers cannot read with ingest.reader 'logger': the reader 'logger' (lab_logger:read) cannot "
        "be imported: ModuleNotFoundError: No module named 'no_such_module'. Install what it needs where the "
        "files are read."
    )
    assert not (tmp_path / "store").exists()


def offer(monkeypatch, function):
    """Let a function be the reader that every name stands for."""
    monkeypatch.setattr("canvod.launch.readers.registry.find_reader", lambda _name: function)


def observations(**changes):
    """Return observations of one signal at two epochs, with changes."""
    good = {
        "epoch": np.array([0, 30]) * 1_000_000_000,
        "sid": ("G01|L1|C",),
        "variables": {"SNR": np.array([[45.0], [46.0]])},
    }
    return Observations(**(good | changes))


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (None, "the reader gave no observations"),
        (observations(epoch=np.array([30, 30])), "epochs that do not increase"),
        (observations(epoch=np.array([])), "holds no epochs"),
        (observations(sid=("G01",)), "signals that are not sv|band|code, each once"),
        (observations(sid=("G01|L1|C", "G01|L1|C")), "signals that are not sv|band|code, each once"),
        (observations(variables={}), "the reader gave no observations: KeyError"),
        (observations(variables={"SNR": np.zeros((1, 1))}), r"SNR of shape \(1, 1\), not \(2, 1\)"),
    ],
)
def test_what_a_reader_gives_wrongly_fails_that_file(tmp_path, monkeypatch, given, reason):
    """A reader's fault is the failure of a file, and never reaches a store."""
    offer(monkeypatch, lambda _path, _variables: given)
    (tmp_path / "file").write_text("anything")
    found, _ = file_tasks.read_file(str(tmp_path / "file"), "rinex", ("SNR",))
    assert found.failure is not None
    assert re.search(reason, found.reason)


def test_a_file_that_changes_while_it_is_read_is_never_taken_for_known(tmp_path, monkeypatch):
    """Where a reader takes no digest the task does, and leaves it out if the file is not as it was."""
    file = tmp_path / "file"
    file.write_text("first")

    def read(path, _variables):
        if grow:
            Path(path).write_text("first and more")
        return observations()

    offer(monkeypatch, read)
    grow = False
    assert len(file_tasks.read_file(str(file), "rinex", ("SNR",))[0].digest) == 64
    grow = True
    assert file_tasks.read_file(str(file), "rinex", ("SNR",))[0].digest == ""


def test_readers_by_name():
    """Ours is always there; one that is not is refused with what is."""
    assert "rinex" in reader_names()
    assert find_reader("rinex").__module__.startswith("canvod.launch.readers.rinex")
    with pytest.raises(NoReaderError, match=r"no reader 'none' is installed here; there are: .*rinex"):
        find_reader("none")
    if "canvod" not in reader_names():
        with pytest.raises(NoReaderError, match=r"Install canvod-readers \(Python 3.14 or newer\)"):
            find_reader("canvod")


def test_a_runs_other_reader_is_told(tmp_path, monkeypatch):
    """Files of a group that were read by different readers, or versions, are told."""
    offer(
        monkeypatch,
        lambda path, _variables: observations(epoch=np.array([0, 30]) * 10**9 + int(Path(path).name)),
    )
    for name in ("1", "2"):
        (tmp_path / name).write_text(name)
    assert run_inline([tmp_path / "1"], tmp_path / "store").notices == ()
    monkeypatch.setattr(file_tasks, "reader_version", lambda _name: "lab-logger 2.0")
    monkeypatch.setattr(file_tasks, "reader_problem", lambda _name: b"")
    report = run_inline([tmp_path / "2"], tmp_path / "store", settings=Options(reader="logger"))
    (notice,) = report.notices
    assert notice.startswith(
        "the files of this group were read by different readers: logger (lab-logger 2.0, Python "
    )
    assert ", rinex (canvod-launch " in notice
    monkeypatch.setattr(file_tasks, "reader_problem", lambda _name: b"cannot be imported")
    with pytest.raises(DependencyError, match="cannot be imported"):
        run_inline([tmp_path / "2"], tmp_path / "other", settings=Options(reader="logger"))
