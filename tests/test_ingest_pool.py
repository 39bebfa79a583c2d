"""The ingest on a pool of processes: the same result, whatever dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import psutil
import pytest

from canvod.launch.ingest.pool import NOTICE, PoolRunner
from canvod.launch.ingest.read import open_group
from deadly_reader import make_deadly
from eventually import eventually
from ingest_files import Options, assert_holds, run_inline, write_window, write_windows

GROUP = "site/receiver"


def holds(store, files, variables=("SNR",)):
    """Assert that a store holds exactly these files."""
    assert_holds(open_group(store, GROUP).compute(scheduler="sync"), files, variables=variables)


def test_a_pool_stores_what_a_serial_read_gives(tmp_path):
    """Processes store the values of a serial read; nothing is left of the pool, and its limits are said."""

    class Watched(PoolRunner):
        started: ClassVar[list[psutil.Process]] = []

        def wait(self, started):
            done = super().wait(started)
            self.started.extend(psutil.Process(int(name.split("-")[1])) for name in self.memory())
            return done

    files = write_windows(tmp_path / "in", range(0, 6_000, 1_000))
    with Watched(2, cpus=[[0]], nice=5, spool_dir=tmp_path) as runner:
        report = run_inline(files, tmp_path / "store", runner=runner, settings=Options(("SNR", "Phase")))
        # A process that was started for the last file may not have taken its limits yet.
        assert eventually(lambda: {(p.nice(), *p.cpu_affinity()) for p in runner.started} == {(5, 0)})
    holds(tmp_path / "store", files, ("SNR", "Phase"))
    assert report.notices == (NOTICE,)
    assert report.peak_memory_bytes
    psutil.wait_procs(set(runner.started), timeout=10)
    assert not any(process.is_running() and process.status() != "zombie" for process in runner.started)
    assert not list(tmp_path.glob("canvod-launch-*"))


@pytest.mark.parametrize("kind", ["make", "write"])
def test_a_killed_process_costs_no_file(tmp_path, kind):
    """SIGKILL of a process while it makes units, or writes, loses nothing."""

    class Deadly(PoolRunner):
        killed = 0

        def _strike(self, now):
            if now == kind and not self.killed and (there := list(self.memory())):
                self.killed += 1
                os.kill(int(there[0].split("-")[1]), signal.SIGKILL)

        def make(self, request):
            task = super().make(request)
            self._strike("make")
            return task

        def write(self, *arguments):
            task = super().write(*arguments)
            self._strike("write")
            return task

    files = write_windows(tmp_path / "in", range(0, 8_000, 1_000))
    with Deadly(2) as runner:
        report = run_inline(files, tmp_path / "store", runner=runner)
    assert runner.killed == 1
    assert len(report.stored) == 8
    holds(tmp_path / "store", files)


def test_only_a_file_that_kills_its_reader_fails(tmp_path, monkeypatch):
    """Files that crash their process fail with the signal; all others are stored."""
    monkeypatch.setenv("PYTHONPATH", str(make_deadly(tmp_path / "deadly")))
    good = write_windows(tmp_path / "in", range(0, 40, 10))
    killer = write_window(tmp_path / "in" / "killer.rnx", 40)
    crasher = write_window(tmp_path / "in" / "crasher.rnx", 50)
    once = write_window(tmp_path / "in" / "once.rnx", 60)
    with PoolRunner(2) as runner:
        report = run_inline([good[0], killer, *good[1:], crasher, once], tmp_path / "store", runner=runner)
    reasons = {Path(file.path).name: file.reason for file in report.failed}
    assert set(reasons) == {"killer.rnx", "crasher.rnx"}
    assert "was ended by SIGKILL" in reasons["killer.rnx"]
    assert "was ended by SIGABRT" in reasons["crasher.rnx"]
    holds(tmp_path / "store", [*good, once])


def lives(pid):
    """Whether a process is there, and not only its exit status."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_processes_end_with_a_killed_parent(tmp_path):
    """SIGKILL of the program that owns a pool leaves no process of the pool behind."""
    code = (
        "from canvod.launch.ingest.pool import PoolRunner\n"
        "from canvod.launch.runtime import file_tasks\n"
        "if __name__ == '__main__':\n"
        "    runner = PoolRunner(2)\n"
        "    runner.call(file_tasks.reader_problem, 'rinex').answer.result()\n"
        "    print(*(name.split('-')[1] for name in runner.memory()), flush=True)\n"
        "    import time; time.sleep(60)\n"
    )
    (tmp_path / "owner.py").write_text(code)
    with subprocess.Popen([sys.executable, str(tmp_path / "owner.py")], stdout=subprocess.PIPE) as owner:
        pids = [int(pid) for pid in owner.stdout.readline().split()]
        owner.kill()
    assert pids
    assert eventually(lambda: not any(map(lives, pids))), "processes of the pool outlive their parent"


PROGRAM = """
import os
from canvod.launch.ingest.pool import PoolRunner

with PoolRunner(1) as runner:
    runner._pool().submit(os.write, 1, b"a reader prints\\n").result()
    runner._pool().submit(print, "and again", flush=True).result()
    print("here", os.getpid())
"""


@pytest.mark.parametrize("how", ["script", "standard input"])
def test_processes_import_neither_the_program_nor_the_current_folder(tmp_path, how):
    """No guard is needed, what they print is no output, and nothing is left of them."""
    for name in ("signal", "types", "numpy", "struct"):
        (tmp_path / f"{name}.py").write_text(
            "raise SystemExit('a module of the current folder was imported')\n"
        )
    (tmp_path / "elsewhere").mkdir()
    script, temporary = tmp_path / "elsewhere" / "program.py", tmp_path / "temporary"
    temporary.mkdir()
    script.write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, *([str(script)] if how == "script" else ["-P"])],
        input=PROGRAM,
        cwd=tmp_path,
        env=os.environ | {"TMPDIR": str(temporary)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("here ")
    assert done.stderr == "a reader prints\nand again\n"
    assert list(temporary.iterdir()) == []
    assert not list(Path("/dev/shm").glob(f"sem.canvod-launch.*.{done.stdout.split()[1]}.*.pool.*"))
