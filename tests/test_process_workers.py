"""Workers that are processes of this host: they begin as programs of their own, and leave nothing behind."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from tempfile import gettempdir

import pytest

from canvod.launch.cluster.orphans import prune_host
from canvod.launch.cluster.tls import make_keys
from canvod.launch.host.owner import SCRATCH_PREFIX, owner_lives, owner_mark, semaphore_name
from canvod.launch.runtime import worker
from canvod.launch.runtime.keys import write_keys
from canvod.launch.testing import assert_nothing_left, find_leftovers
from eventually import eventually

PROGRAM = """
from canvod.launch import DaskClusterManager

class Number:
    value = 3

def value_of(number):
    import sys
    print("a task prints")
    import ctypes
    ctypes.CDLL(None).puts(b"so does C")
    ctypes.CDLL(None).fflush(None)
    return number.value, sorted(set(sys.modules) & {"numpy", "trap"})

manager = DaskClusterManager(
    n_workers=1, memory_limit_per_worker="1GiB", backend="process", cluster_name=NAME
)
print(manager.client.submit(value_of, Number()).result()[0])
manager.close()
"""

TRAP = "raise SystemExit('a module of the current folder was imported')\n"


def run(folder: Path, arguments: list[str], program: str, **options: str) -> subprocess.CompletedProcess[str]:
    """Run Python in a folder with traps, with temporary files of its own."""
    here, temporary = folder / "here", folder / "tmp"
    here.mkdir()
    temporary.mkdir()
    for name in ("signal", "types", "numpy", "struct", "multiprocessing"):
        (here / f"{name}.py").write_text(TRAP)
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=here,
        env=os.environ | {"TMPDIR": str(temporary)} | options,
        input=program,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert list(temporary.iterdir()) == []
    return done


@pytest.mark.slow
@pytest.mark.parametrize("how", ["script", "standard input", "argument"])
def test_a_program_needs_no_guard_wherever_it_is_read_from(tmp_path: Path, how: str) -> None:
    """Workers import neither the program nor what lies in the current folder; only it writes to stdout."""
    name = f"guard-{os.getpid()}"
    program = PROGRAM.replace("NAME", repr(name))
    (tmp_path / "program.py").write_text(program)
    arguments = {"script": ["../program.py"], "standard input": ["-P"], "argument": ["-P", "-c", program]}[
        how
    ]
    done = run(tmp_path, arguments, program if how == "standard input" else "")
    assert (done.returncode, done.stdout) == (0, "3\n"), done.stderr
    assert "a task prints\nso does C\n" in done.stderr
    assert "Traceback" not in done.stderr
    assert "distributed" not in done.stderr
    assert_nothing_left(name)


@pytest.mark.slow
def test_workers_import_what_the_program_can(tmp_path: Path) -> None:
    """A module beside the script is found by its name; the names of all folders may be long."""
    runtime = tmp_path / ("long" * 30)
    runtime.mkdir(mode=0o700)
    (tmp_path / "beside.py").write_text("def name(): return __name__\n")
    (tmp_path / "program.py").write_text(
        "import beside\n"
        + PROGRAM.replace("NAME", repr(f"beside-{os.getpid()}")).replace(
            "submit(value_of, Number()).result()[0]", "submit(beside.name).result()"
        )
    )
    done = run(tmp_path, ["../program.py"], "", XDG_RUNTIME_DIR=str(runtime))
    assert (done.returncode, done.stdout) == (0, "beside\n"), done.stderr


def kinds_left(name: str, folder: Path) -> list[str]:
    """What kinds of things a cluster has here, each once."""
    found = find_leftovers(name, spill_dir=folder)
    return sorted({re.split(r" [/\d]", line)[0] for line in found})


KILLED = """
import time
from canvod.launch import DaskClusterManager
manager = DaskClusterManager(
    n_workers=2, memory_limit_per_worker="1GiB", backend="process", cluster_name=NAME
)
def greedy():
    import subprocess, tempfile
    with tempfile.NamedTemporaryFile() as file:
        file.write(bytes(1000_000))
        file.flush()
        print(file.name, flush=True)
        subprocess.run(["sleep", "600.25"])
future = manager.client.submit(greedy)
time.sleep(600)
"""


@pytest.mark.slow
@pytest.mark.usefixtures("own_runtime")
def test_a_launcher_that_is_killed_leaves_an_empty_folder_for_the_next_start() -> None:
    """Its workers go, with what they have started, their temporary files and their semaphores."""
    name = f"killed-{os.getpid()}"
    folder = Path(gettempdir())
    program = subprocess.Popen(
        [sys.executable, "-c", KILLED.replace("NAME", repr(name))], stderr=subprocess.PIPE, text=True
    )
    assert program.stderr is not None
    temporary = Path(next(line for line in program.stderr if line.startswith("/")).strip())
    assert temporary.is_relative_to(folder)
    assert temporary.exists()
    program.kill()
    program.wait()
    expected = ["keys", "scratch folder"]
    assert eventually(lambda: kinds_left(name, folder) == expected), find_leftovers(name)
    assert not temporary.exists()
    (scratch,) = folder.iterdir()
    assert sum(entry.stat().st_size for entry in scratch.rglob("*") if entry.is_file()) < 1000
    assert f"scratch {scratch}" in prune_host()
    assert_nothing_left(name)
    program.stderr.close()


def test_a_worker_that_waits_for_its_scheduler_ends_with_its_launcher(tmp_path: Path) -> None:
    """There is no scheduler yet that could tell it."""
    keys, scratch = tmp_path / "keys", tmp_path / "scratch"
    keys.mkdir()
    scratch.mkdir()
    write_keys(keys, make_keys("early").files("worker"))
    program = f"""if True:
        import os, subprocess, sys, time
        arguments = [f"--launcher={{os.getpid()}}", "--scheduler-file={tmp_path}/none", "--nthreads=1",
                     "--keys={keys}", "--spill-path={scratch}", "--semaphores=early"]
        command = [sys.executable, "-m", "canvod.launch.runtime.worker", *arguments]
        print(subprocess.Popen(command, start_new_session=True).pid, flush=True)
        time.sleep(60)
    """
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as launcher:
        assert launcher.stdout is not None
        nanny = owner_mark(int(launcher.stdout.readline()))
        launcher.kill()
    assert eventually(lambda: not owner_lives(nanny), timeout_s=30)
    assert not scratch.exists()


@pytest.mark.slow
def test_an_interrupt_is_the_programs_alone(tmp_path: Path) -> None:
    """Ctrl-C ends the program with its own traceback; Dask and the workers add nothing."""
    script = PROGRAM.replace("NAME", repr(f"interrupt-{os.getpid()}")).replace(
        "print(manager.client.submit(value_of, Number()).result()[0])",
        "import time; task = manager.client.submit(time.sleep, 1.5)\nprint('up', flush=True); time.sleep(60)",
    )
    program = subprocess.Popen(
        [sys.executable, "-c", script],
        env=os.environ | {"TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert program.stdout is not None
    assert program.stdout.readline() == "up\n"
    os.killpg(program.pid, signal.SIGINT)
    _, err = program.communicate(timeout=60)
    assert err.count("Traceback") == 1, err
    assert err.rstrip().endswith("KeyboardInterrupt")
    assert "distributed" not in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["keys", "scratch folder", "process", "semaphore"])
def test_a_start_that_is_interrupted_leaves_no_worker(tmp_path: Path, stage: str) -> None:
    """Nor a line of one, whatever of it is there already."""
    name = f"early-{os.getpid()}"
    script = f"""if True:
        from canvod.launch import DaskClusterManager
        DaskClusterManager(
            n_workers=2, memory_limit_per_worker="1GiB", backend="process", cluster_name={name!r}
        )
        print("up")
    """
    program = subprocess.Popen(
        [sys.executable, "-c", script],
        env=os.environ | {"TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    eventually(lambda: stage in kinds_left(name, tmp_path) or program.poll() is not None)
    assert program.poll() is None, program.communicate()
    program.send_signal(signal.SIGINT)
    out, err = program.communicate(timeout=60)
    assert program.returncode in {128 + signal.SIGINT, -signal.SIGINT}, err
    assert out == "", "the cluster was up before the signal came"
    assert err.count("Traceback") <= 1, err
    assert_nothing_left(name, spill_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_worker_whose_nanny_dies_is_replaced(tmp_path: Path) -> None:
    """The cluster has it again soon, under the same name."""
    from canvod.launch import DaskClusterManager

    with DaskClusterManager(
        {"launch": {"spill_dir": str(tmp_path)}},
        n_workers=1,
        memory_limit_per_worker="1GiB",
        backend="process",
    ) as manager:
        first = manager.client.submit(os.getppid).result()
        members = {member.name: member for member in manager.cluster.backend.describe().containers}
        nanny = int(members["worker-0"].id)
        assert first != os.getpid()
        os.kill(nanny, signal.SIGKILL)
        assert eventually(lambda: manager.client.submit(os.getppid, pure=False).result(timeout=30) != first)
    assert list(tmp_path.iterdir()) == []


def test_only_semaphores_of_ended_processes_are_pruned() -> None:
    """What belongs to a process that lives, and what is not ours, stays."""
    ended = subprocess.run(
        [
            sys.executable,
            "-c",
            "from canvod.launch.host.owner import semaphore_name; print(semaphore_name('ended', 'w'))",
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    folder = Path("/dev/shm")
    orphan, kept = folder / f"sem.{ended}-abc", folder / f"sem.{semaphore_name('alive', 'worker-0')}-abc"
    foreign = folder / f"sem.canvod-launch.{os.getpid()}"
    try:
        for path in (orphan, kept, foreign):
            path.touch()
        assert f"semaphore {orphan}" in prune_host()
        assert not orphan.exists()
        assert kept.exists()
        assert foreign.exists()
    finally:
        for path in (orphan, kept, foreign):
            path.unlink(missing_ok=True)


def test_a_folder_of_a_process_that_lives_stays(tmp_path: Path) -> None:
    """Its mark tells."""
    scratch = tmp_path / f"{SCRATCH_PREFIX}mine"
    scratch.mkdir()
    (scratch / "launcher").write_text(owner_mark())
    assert f"scratch {scratch}" not in prune_host(tmp_path)
    assert scratch.exists()


def test_a_folder_whose_mark_is_being_written_stays(tmp_path: Path) -> None:
    """A worker's folder begins with an empty mark; another process may prune at that moment."""
    scratch = tmp_path / f"{SCRATCH_PREFIX}new"
    scratch.mkdir()
    (scratch / "launcher").touch()
    assert f"scratch {scratch}" not in prune_host(tmp_path)
    assert scratch.exists()


def test_two_may_prune_at_the_same_time(tmp_path: Path) -> None:
    """What one of them has removed already is no error of the other."""
    mark = owner_mark().rpartition("/")[0] + "/1"  # of a process that was started at another time
    for number in range(200):
        scratch = tmp_path / f"{SCRATCH_PREFIX}{number}"
        scratch.mkdir()
        (scratch / "launcher").write_text(mark)
    with ThreadPoolExecutor(4) as threads:
        removed = list(threads.map(prune_host, [tmp_path] * 4))
    assert {line for lines in removed for line in lines if str(tmp_path) in line} == {
        f"scratch {tmp_path}/{SCRATCH_PREFIX}{number}" for number in range(200)
    }
    assert list(tmp_path.iterdir()) == []


def test_a_scheduler_that_is_busy_is_not_gone(monkeypatch):
    """On a slow host its handshake takes longer than the look for it; a refused connection is the end."""
    monkeypatch.setattr(worker, "ORPHANED_AFTER_S", 0.2)
    arguments = {"ssl_context": ssl.create_default_context()}

    async def check() -> None:
        with ExitStack() as stack:
            silent = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            silent.settimeout(0)
            address = f"tls://127.0.0.1:{silent.getsockname()[1]}"
            orphaned = asyncio.create_task(worker._orphaned(address, arguments))
            for _ in range(3):  # it gives up a connection without an answer, and makes the next one
                accepted = asyncio.get_running_loop().sock_accept(silent)
                connection, _ = await asyncio.wait_for(accepted, 10)
                stack.enter_context(connection)
            assert not orphaned.done()
        await asyncio.wait_for(orphaned, 10)

    asyncio.run(check())
