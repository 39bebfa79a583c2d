"""`canvod-launch run`: a command's own exit status and signals, and a cluster that is gone afterwards."""

from __future__ import annotations

import json
import os
import pty
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from canvod.launch.child import find_program, python_of, run_child
from canvod.launch.cluster.tls import keys_home
from canvod.launch.errors import CommandNotExecutableError, CommandNotFoundError
from canvod.launch.testing import assert_nothing_left

if TYPE_CHECKING:
    import docker

SETTINGS = """
processing: {resource_mode: manual, n_max_threads: 1, max_memory_gb: 1}
launch: {backend: process, dashboard_port: 0, log_level: warning}
"""

COUNTER = """
import os, signal, sys, time

count = {signal.SIGINT: 0, signal.SIGTERM: 0, signal.SIGHUP: 0}
def take(number, frame):
    count[number] += 1
for number in count:
    signal.signal(number, take)
print("ready", flush=True)
deadline = time.monotonic() + 30
while not sum(count.values()) and time.monotonic() < deadline:
    time.sleep(0.05)
time.sleep(0.5)  # a second one would come within a moment
print("came", *count.values(), flush=True)
sys.exit(9)
"""
"""A program that counts the signals that it gets, ends half a second after the first, and says so."""


def command(*words: str) -> list[str]:
    """The command line of canvod-launch, in this environment."""
    program = "import sys; from canvod.launch.cli import main; sys.exit(main())"
    return [sys.executable, "-c", program, *words]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with settings, and the program that counts."""
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "processing.yaml").write_text(SETTINGS)
    (tmp_path / "counter.py").write_text(COUNTER)
    return tmp_path


def call(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        command("run", *words), capture_output=True, text=True, timeout=120, cwd=folder, check=False
    )


def at_terminal(folder: Path, words: list[str], typed: bytes) -> tuple[bytes, int]:
    """Run a program at a terminal, and type there once it is ready; what is shown, and its exit status."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(folder)
        os.execv(words[0], words)  # noqa: S606 - the test's own command
    said = b""
    while b"ready" not in said:
        said += os.read(terminal, 65536)
    os.write(terminal, typed)
    try:
        while piece := os.read(terminal, 65536):
            said += piece
    except OSError:
        pass  # the end of a terminal
    _, status = os.waitpid(pid, 0)
    os.close(terminal)
    return said, os.waitstatus_to_exitcode(status)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "status"), [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137), ("kill -TERM $$", 143)]
)
def test_the_exit_status_is_the_commands(folder: Path, script: str, status: int) -> None:
    """Or 128 + n where a signal killed it; nothing of the cluster is left."""
    done = call(folder, "--", "sh", "-c", script)
    assert done.returncode == status, done.stderr
    assert done.stdout == ""


@pytest.mark.slow
def test_the_life_of_a_cluster_is_logged_with_its_fields(folder: Path) -> None:
    """Start, memory, end: one JSON object a line and no other line, with what runs and for how long."""
    (folder / "config" / "processing.yaml").write_text(
        SETTINGS.replace("log_level: warning", "log_level: info, log_format: json")
    )
    done = call(folder, "--", "true")
    logged = [json.loads(line) for line in done.stderr.splitlines()]
    found = {line["event"]: line for line in logged}
    events = ["dask_cluster_started", "memory_stats", "dask_cluster_shutting_down", "dask_cluster_stopped"]
    assert [line["event"] for line in logged if line["event"] in events] == events
    started = found["dask_cluster_started"]
    assert (started["backend"], started["n_workers"], started["memory_limit_gb"]) == ("process", 1, 1.0)
    assert (started["threads_per_worker"], started["nice_priority"]) == (1, 0)
    assert started["scheduler_address"].startswith("tls://127.0.0.1:")
    assert started["dashboard_link"].startswith("http://127.0.0.1:")
    assert started["cpu_affinity"]
    assert found["memory_stats"]["available_gb"] > 0
    assert {line["cluster"] for line in logged if "cluster" in line} == {started["cluster"]}
    assert found["dask_cluster_stopped"]["seconds"] >= 0


@pytest.mark.slow
@pytest.mark.parametrize("separator", [["--"], []], ids=["separated", "not separated"])
def test_a_bare_client_connects(folder: Path, separator: list[str]) -> None:
    """And its options are its own, whatever canvod-launch has."""
    program = (
        "import sys, distributed; print(distributed.Client().submit(sum, [1, 2]).result(), sys.argv[1:])"
    )
    done = call(folder, *separator, sys.executable, "-c", program, "--json", "--debug", "--workers")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "3 ['--json', '--debug', '--workers']\n"


@pytest.mark.docker
def test_a_bare_client_connects_to_containers(
    folder: Path, images: object, engine: docker.DockerClient
) -> None:
    """With the keys of the cluster, which go with it."""
    del images
    program = (
        "import os, distributed; client = distributed.Client();"
        "print(client.submit(sum, [1, 2]).result(), os.environ['DASK_DISTRIBUTED__COMM__TLS__CA_FILE'])"
    )
    done = call(folder, "--backend", "docker", "--", sys.executable, "-c", program)
    assert done.returncode == 0, done.stderr
    answer, ca = done.stdout.split()
    assert answer == "3"
    assert Path(ca).is_relative_to(keys_home())
    folder_of_keys = Path(ca).parent.parent
    assert not folder_of_keys.exists()
    assert_nothing_left(folder_of_keys.name.partition(".")[0], engine)


@pytest.mark.docker
def test_a_command_stores_what_its_workers_read(
    folder: Path, images: object, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The workers see what was named under the same paths, and write only where they may."""
    del images
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("target")
    for path in (source, source.parent, target):
        path.chmod(0o777)
    (source / "file").write_text("observed")
    (folder / "job.py").write_text(
        "import distributed, shutil, sys\n"
        "source, target = sys.argv[1:]\n"
        "client = distributed.Client()\n"
        "client.submit(shutil.copyfile, source + '/file', target + '/file').result()\n"
        "try:\n"
        "    client.submit(shutil.copyfile, target + '/file', source + '/other').result()\n"
        "except OSError as refusal:\n"
        "    print(refusal.strerror)\n"
    )
    options = ("--backend", "docker", "--read-only", str(source), "--writable", str(target))
    done = call(folder, *options, "--", sys.executable, "job.py", str(source), str(target))
    assert (done.returncode, done.stdout) == (0, "Read-only file system\n"), done.stderr
    assert (target / "file").read_text() == "observed"


def test_the_python_of_a_command_is_told(tmp_path: Path) -> None:
    """Of an interpreter, and of scripts whose first line names one; of nothing else."""
    own = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert python_of(sys.executable) == own
    scripts = {f"#!{sys.executable} -P\n": own, "#!/bin/sh\n": None, "#!\n": None, "print()\n": None}
    scripts["#!/usr/bin/env -S no-such-python3.99\n"] = None
    for first, expected in scripts.items():
        (tmp_path / "script").write_text(first)
        assert python_of(str(tmp_path / "script")) == expected, first
    assert python_of(str(tmp_path / "missing")) is None
    assert python_of(str(tmp_path / "python3")) is None


@pytest.mark.slow
def test_another_python_is_warned_of_before_the_start(folder: Path) -> None:
    """What would fail later without a word is said now, with the remedy; the command runs all the same."""
    other = folder / "python3.99"
    other.write_text("#!/bin/sh\necho 3.99\n")
    other.chmod(0o755)
    done = call(folder, "--", str(other))
    assert (done.returncode, done.stdout) == (0, "3.99\n"), done.stderr
    assert f"{other} is Python 3.99, and the workers have" in done.stderr
    assert f"use {sys.executable}" in done.stderr


@pytest.mark.docker
def test_images_follow_the_python_of_the_command(folder: Path) -> None:
    """Workers are to run the functions that the command defines itself; what cannot be had is refused."""
    other = folder / "python3.99"
    other.write_text("#!/bin/sh\necho 3.99\n")
    other.chmod(0o755)
    done = call(folder, "--backend", "docker", "--", str(other))
    assert (done.returncode, done.stdout) == (1, "")
    assert "No base image of Python 3.99 can be had" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda n: n.name)
@pytest.mark.parametrize("whom", ["process", "group"])
def test_a_signal_reaches_the_command_once(folder: Path, number: signal.Signals, whom: str) -> None:
    """Whether it is sent to canvod-launch alone, or to all its group; the command decides what it means."""
    process = subprocess.Popen(
        command("run", "--", sys.executable, "counter.py"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    if whom == "group":
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    out, errors = process.communicate(timeout=60)
    expected = {signal.SIGINT: "1 0 0", signal.SIGTERM: "0 1 0", signal.SIGHUP: "0 0 1"}[number]
    assert out == f"came {expected}\n"
    assert process.returncode == 9, errors


@pytest.mark.slow
def test_ctrl_c_at_a_terminal_reaches_the_command_once(folder: Path) -> None:
    """The command has the terminal: it reads from it, and what is typed there is for it alone."""
    words = command("run", "--", sys.executable, "counter.py")
    said, status = at_terminal(folder, words, b"\x03")
    assert b"came 1 0 0" in said
    assert status == 9


@pytest.mark.slow
def test_a_command_may_read_from_the_terminal(folder: Path) -> None:
    """It is not stopped for that, and the shell has the terminal back afterwards."""
    run = command("run", "--", "sh", "-c", "echo ready; read line; echo got $line")
    words = [sys.executable, "-c", f"import subprocess; subprocess.run({run!r}); print(input(), 'back')"]
    said, _ = at_terminal(folder, words, b"one\ntwo\n")
    assert b"got one" in said
    assert b"two back" in said


CHILD = "import os, sys; from canvod.launch.child import run_child; run_child(sys.argv[1:], os.environ)"
"""A program that runs another one as its child."""


def test_a_pager_behind_a_command_has_its_keys(folder: Path) -> None:
    """In a pipeline the terminal belongs to all of it."""
    pager = "print(input(), flush=True); print('typed', open('/dev/tty').readline())"
    program = shlex.join([sys.executable, "-c", CHILD, "sh", "-c", "echo ready; sleep 2"])
    pipeline = f"{program} | {shlex.join([sys.executable, '-c', pager])}"
    said, status = at_terminal(folder, ["/bin/sh", "-c", pipeline], b"q\n")
    assert b"typed q" in said
    assert status == 0


def test_ctrl_c_in_a_pipeline_reaches_the_command_once(folder: Path) -> None:
    """The terminal has sent it to the command itself; it is not passed on."""
    copy = "import signal, sys; signal.signal(2, signal.SIG_IGN); [print(l, flush=True) for l in sys.stdin]"
    program = shlex.join([sys.executable, "-c", CHILD, sys.executable, "counter.py"])
    pipeline = f"{program} | {shlex.join([sys.executable, '-c', copy])}"
    said, _ = at_terminal(folder, ["/bin/sh", "-c", f"trap : INT; {pipeline}"], b"\x03")
    assert b"came 1 0 0" in said


@pytest.mark.parametrize("name", ["no-such-command", "/no/such/command"])
def test_a_command_that_is_not_there_is_refused(folder: Path, name: str) -> None:
    """With the shell's status, before anything is started."""
    done = call(folder, "--", name)
    assert done.returncode == 127
    assert f"There is no command {name}" in done.stderr
    assert "Starting" not in done.stderr
    with pytest.raises(CommandNotFoundError):
        find_program(name)


def test_a_command_that_cannot_be_executed_is_refused(folder: Path) -> None:
    """A folder, and a file without the right to be executed."""
    done = call(folder, "--", "./counter.py")
    assert done.returncode == 126
    assert "chmod +x ./counter.py" in done.stderr
    with pytest.raises(CommandNotExecutableError, match="is a folder"):
        find_program(str(folder))


def test_a_file_that_is_no_program_is_told_from_one(folder: Path) -> None:
    """Executable by its rights, and by nothing else."""
    script = folder / "script"
    script.write_text("echo hello\n")
    script.chmod(0o755)
    with pytest.raises(CommandNotExecutableError, match="cannot be executed") as caught:
        run_child([find_program(str(script))], os.environ)
    assert "#!/bin/sh" in str(caught.value)


def test_a_child_has_the_environment_that_it_is_given(folder: Path) -> None:
    """All of it, and no more."""
    assert run_child(["/bin/sh", "-c", 'test "$A$B" = b'], {"A": "b"}) == 0
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    assert run_child(["/bin/sh", "-c", "exit 3"], {}) == 3
    assert handlers == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]


def test_a_command_has_to_be_named(folder: Path) -> None:
    """Nothing to run is a wrong command line."""
    assert call(folder).returncode == 2
