"""`DaskClusterManager`: from settings to teardown, whatever ends the program."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import dask
import psutil
import pytest

from canvod.launch.cluster.orphans import prune_host
from canvod.launch.cluster.tls import KeyFolder
from canvod.launch.docker.engine import connect
from canvod.launch.errors import (
    ClusterError,
    ConfigError,
    ImageError,
    LaunchError,
    PlanError,
    VersionMismatchError,
)
from canvod.launch.host.owner import SCRATCH_PREFIX
from canvod.launch.host.python_version import own_python
from canvod.launch.images.build_log import BuildEvent
from canvod.launch.manager import DaskClusterManager
from canvod.launch.runtime.keys import CA, CERTIFICATE, KEY
from canvod.launch.runtime.plugin import ResourceInitPlugin
from canvod.launch.testing import assert_nothing_left, find_leftovers
from engine_proxy import AtRequest, EngineProxy
from eventually import eventually
from leftovers import RUN

BACKENDS = [
    pytest.param("process", marks=pytest.mark.slow),
    pytest.param("docker", marks=pytest.mark.docker),
]

ONE_WORKER: dict[str, Any] = {"n_workers": 1, "memory_limit_per_worker": "1GiB"}
"""Where a memory limit is given, no plan depends on what other programs leave of this host's memory."""

PROGRAM = """
import faulthandler, os, signal, sys, time
faulthandler.dump_traceback_later(100, exit=True)

def wait():
    # Python acts on a signal between two instructions: one long sleep could begin just after it came.
    for _ in range(600):
        time.sleep(0.05)

from canvod.launch.manager import DaskClusterManager

def main():
    name, backend, how = sys.argv[1:]
    settings = {"launch": {"backend": backend, "dashboard_port": 0}}
    manager = DaskClusterManager(settings, n_workers=2, memory_limit_per_worker="1GiB", cluster_name=name)
    if how == "logging":
        from canvod.launch.logs import configure_logging
        configure_logging("json")
    print("up", flush=True)
    if how == "with":
        with manager:
            pass
        print("still here", flush=True)
    elif how == "exception":
        with manager:
            raise ValueError("of the user")
    elif how == "exit":
        with manager:
            sys.exit(5)
    elif how == "atexit":
        return
    elif how == "fork":
        with manager:
            if os.fork() == 0:
                manager.close()
                manager.cluster.close()
                os._exit(0)
            os.wait()
            print(manager.client.submit(sum, [1, 2]).result(), flush=True)
    elif how in ("waiting", "logging"):
        with manager:
            wait()
    elif how == "waiting without with":
        wait()

if __name__ == "__main__":
    main()
"""
"""What a user may write, and every way in which it may end."""


def start(tmp_path: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start the program in a session of its own, as a terminal does."""
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    return subprocess.Popen(
        [sys.executable, str(script), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def assert_nothing_is_left(backend: str, name: str, session: int) -> None:
    """Nothing on engine and host, and no process of the program's session."""
    client = connect() if backend == "docker" else None
    try:
        assert_nothing_left(name, client, within_s=15)
    finally:
        if client is not None:
            client.close()
    left = [process for process in psutil.process_iter(["cmdline"]) if _session(process.pid) == session]
    _, alive = psutil.wait_procs(left, timeout=15)
    assert alive == []


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("how", "status"),
    [("with", 0), ("exception", 1), ("exit", 5), ("atexit", 0)],
    ids=str,
)
def test_nothing_is_left_however_a_program_ends(
    request: pytest.FixtureRequest, tmp_path: Path, backend: str, how: str, status: int
) -> None:
    """With, exception, `sys.exit` and the mere end of a program all remove the whole cluster."""
    if backend == "docker":
        request.getfixturevalue("images")
    name = f"{backend}-ends-{how}"
    program = start(tmp_path, name, backend, how)
    out, err = program.communicate(timeout=120)
    assert program.returncode == status, err
    assert out.startswith("up")
    assert ("of the user" in err) == (how == "exception")
    assert_nothing_is_left(backend, name, program.pid)


@pytest.mark.slow
@pytest.mark.usefixtures("own_runtime")
def test_what_a_killed_program_with_processes_leaves_is_pruned(tmp_path: Path) -> None:
    """Its keys, and the folder that its workers spill to."""
    name = "process-killed"
    program = start(tmp_path, name, "process", "waiting")
    assert program.stdout is not None
    assert program.stdout.readline() == "up\n"
    scratch = list(Path(gettempdir()).glob(f"{SCRATCH_PREFIX}{name}-*"))
    assert len(scratch) == 1
    program.kill()
    program.communicate()
    eventually(lambda: len(find_leftovers(name)) <= 2)
    assert [line.partition(" /")[0] for line in find_leftovers(name)] == ["keys", "scratch folder"]
    removed = prune_host()
    assert f"scratch {scratch[0]}" in removed
    assert any(item.startswith("keys ") and name in item for item in removed)
    assert_nothing_is_left("process", name, program.pid)


@pytest.mark.docker
def test_a_fork_of_the_program_removes_nothing(images: object, tmp_path: Path) -> None:
    """A child that closes what its parent has started leaves it as it is."""
    del images
    program = start(tmp_path, "docker-forks", "docker", "fork")
    out, err = program.communicate(timeout=120)
    assert program.returncode == 0, err
    assert out.splitlines()[-1] == "3", out + err
    assert_nothing_is_left("docker", "docker-forks", program.pid)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("how", ["waiting", "waiting without with"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP], ids=lambda n: n.name)
def test_nothing_is_left_whatever_signal_ends_a_program(
    request: pytest.FixtureRequest, tmp_path: Path, backend: str, how: str, number: signal.Signals
) -> None:
    """SIGTERM, SIGINT and SIGHUP remove the whole cluster; the exit status is the shell's for the signal."""
    if backend == "docker":
        request.getfixturevalue("images")
    name = f"{backend}-{number.name.lower()}-{len(how)}"
    program = start(tmp_path, name, backend, how)
    assert program.stdout is not None
    assert program.stdout.readline() == "up\n"
    # A terminal sends Ctrl-C to everything in the foreground, `kill` to one process.
    if number is signal.SIGINT:
        os.killpg(program.pid, number)
    else:
        program.send_signal(number)
    _, err = program.communicate(timeout=60)
    assert program.returncode in {128 + number, -number}, err
    assert_nothing_is_left(backend, name, program.pid)


@pytest.mark.parametrize("backend", BACKENDS)
def test_nothing_is_left_when_ctrl_c_is_pressed_again_and_again(
    request: pytest.FixtureRequest, tmp_path: Path, backend: str
) -> None:
    """What comes while the cluster is being removed waits until it is gone."""
    if backend == "docker":
        request.getfixturevalue("images")
    name = f"{backend}-impatient"
    program = start(tmp_path, name, backend, "logging")
    assert program.stdout is not None
    assert program.stderr is not None
    assert program.stdout.readline() == "up\n"
    os.killpg(program.pid, signal.SIGINT)
    assert any("dask_cluster_shutting_down" in line for line in program.stderr)

    def has_ended() -> bool:
        os.killpg(program.pid, signal.SIGINT)
        return program.poll() is not None

    assert eventually(has_ended)
    said = program.stderr.read()
    assert "dask_cluster_stopped" in said, "the removal was over before a signal came"
    assert program.returncode in {130, -signal.SIGINT}, said
    program.stdout.close()
    program.stderr.close()
    assert_nothing_is_left(backend, name, program.pid)


@pytest.mark.docker
@pytest.mark.usefixtures("images")
@pytest.mark.parametrize(
    "stage",
    [
        "POST /networks/create#1",
        "POST /containers/create#1",
        "POST /containers/create#3",
        "POST /containers/id/start#1",
        "POST /containers/id/start#3",
    ],
)
def test_nothing_is_left_if_a_start_is_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    """SIGTERM when the engine has been sent a request of the start removes what had been started by then."""
    name = f"early-{re.sub('[^a-z0-9]', '', stage)}-{RUN}"

    def interrupt() -> None:
        program.terminate()

    fault = AtRequest("after", stage, interrupt)
    with EngineProxy(tmp_path / "engine.sock", fault) as proxy:
        monkeypatch.setenv("DOCKER_HOST", proxy.address)
        program = start(tmp_path, name, "docker", "waiting")
        out, err = program.communicate(timeout=120)
        assert fault.reached
        assert out == "", "the cluster was up before the signal came"
        assert program.returncode == 128 + signal.SIGTERM, err
        assert_nothing_is_left("docker", name, program.pid)


@pytest.fixture(scope="module")
def manager() -> Any:
    """A cluster of two processes, by canVODpy's keyword arguments."""
    with DaskClusterManager(
        n_workers=2, memory_limit_per_worker="1GiB", nice_priority=3, threads_per_worker=1, backend="process"
    ) as manager:
        yield manager


@pytest.mark.slow
def test_canvodpys_keyword_arguments_make_a_plan(manager: DaskClusterManager) -> None:
    """Number, memory and priority of the workers are as asked for."""
    plan = manager.plan
    assert (plan.resource_mode, plan.backend, len(plan.workers)) == ("manual", "process", 2)
    assert {worker.memory_bytes for worker in plan.workers} == {1024**3}
    assert {worker.nice for worker in plan.workers} == {3}
    assert manager.client.submit(os.getpriority, os.PRIO_PROCESS, 0).result() == 3


@pytest.mark.slow
def test_there_is_one_client_and_a_dashboard(manager: DaskClusterManager) -> None:
    """`client` is the same object every time, and the dashboard is on loopback."""
    assert manager.client is manager.client
    assert manager.task_client is manager.client
    assert manager.dashboard_link.startswith("http://127.0.0.1:")


@pytest.mark.slow
def test_the_plugin_tells_what_it_may_not_do(manager: DaskClusterManager) -> None:
    """A priority that may not be had, and cores that are not there, are told and change nothing."""

    def apply() -> list[str]:
        return ResourceInitPlugin(cpu_affinity=[4095], nice_value=3).apply()

    problems = manager.client.submit(apply).result()
    assert len(problems) == 1
    assert "affinity [4095] refused" in problems[0]


@pytest.mark.slow
def test_a_scheduler_that_exists_is_used_and_left_running(manager: DaskClusterManager) -> None:
    """With `scheduler_address` and keys in Dask's settings nothing is started, and closing stops nothing."""
    keys = KeyFolder(manager.plan.name).path / "client"
    prefix = "distributed.comm.tls"
    files = {"ca-file": CA, "client.cert": CERTIFICATE, "client.key": KEY}
    with (
        dask.config.set({f"{prefix}.{name}": str(keys / file) for name, file in files.items()}),
        DaskClusterManager(scheduler_address=manager.scheduler_address) as other,
    ):
        assert other.plan.backend == "remote"
        assert other.client.submit(sum, [1, 2]).result() == 3
    assert manager.client.submit(sum, [2, 2]).result() == 4


@pytest.mark.slow
def test_a_locked_scheduler_without_keys_is_one_clear_message(manager: DaskClusterManager) -> None:
    """It names the address and the settings that are missing."""
    with (
        DaskClusterManager(scheduler_address=manager.scheduler_address) as other,
        pytest.raises(ConfigError, match="wants a certificate") as refusal,
    ):
        _ = other.client
    assert manager.scheduler_address in refusal.value.message
    assert "DASK_DISTRIBUTED__COMM__TLS__CA_FILE" in (refusal.value.hint or "")


@pytest.mark.slow
def test_a_closed_manager_hands_out_no_client() -> None:
    """Closing twice is closing once, and a client of what is gone is refused."""
    manager = DaskClusterManager(**ONE_WORKER, backend="process")
    manager.close()
    manager.close()
    with pytest.raises(ClusterError, match="has been closed"):
        _ = manager.client


@pytest.mark.slow
def test_dask_computes_without_a_cluster_when_the_last_one_is_closed() -> None:
    """Also where managers are closed in the order in which they were made."""
    small: dict[str, Any] = {"n_workers": 1, "memory_limit_per_worker": "1GiB", "backend": "process"}
    first, second = DaskClusterManager(**small), DaskClusterManager(**small)
    try:
        assert first.client is not second.client
        first.close()
        assert dask.delayed(sum)([1, 2]).compute() == 3  # on the second one
    finally:
        first.close()
        second.close()
    assert dask.delayed(sum)([1, 2]).compute() == 3


@pytest.mark.parametrize(
    ("arguments", "kind", "words"),
    [
        ({"memory_limit_per_worker": "1GiB"}, ConfigError, "needs n_workers"),
        (
            {"n_workers": 1, "memory_limit_per_worker": "lots"},
            ConfigError,
            "'lots' is not an amount of memory",
        ),
        ({"n_workers": 0}, ConfigError, "processing.n_max_threads = 0"),
        ({"n_workers": 1, "nice_priority": 20}, ConfigError, "processing.nice_priority = 20"),
        ({"n_workers": 1, "cpu_affinity": [4095]}, PlanError, "4095"),
        (
            {"n_workers": 1, "memory_limit_per_worker": "100MiB"},
            PlanError,
            "memory_limit_per_worker='100MiB'",
        ),
        (
            {"n_workers": 1, "memory_limit_per_worker": "900TiB"},
            PlanError,
            "DaskClusterManager(memory_limit_per_worker='900TiB', …)",
        ),
        ({"n_workers": 1, "memory_limit_per_worker": ["4GiB"]}, ConfigError, "['4GiB'] is not an amount"),
        ({"n_workers": 1, "memory_limit_per_worker": 0.5}, PlanError, "without a unit is bytes"),
        (
            {"n_workers": "2", "memory_limit_per_worker": "1GiB"},
            ConfigError,
            "n_workers='2' is not a whole number",
        ),
        ({"config": 2}, ConfigError, "write n_workers=2"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_starts(
    arguments: dict[str, Any], kind: type[LaunchError], words: str
) -> None:
    """Each refusal names the argument and its value."""
    with pytest.raises(kind, match=r"(?s).*") as caught:
        DaskClusterManager(backend="process", **arguments)
    assert words in str(caught.value)


def test_an_empty_name_is_refused() -> None:
    """It is none: no list of names that is about nothing."""
    with pytest.raises(ConfigError, match="name='' names no cluster"):
        DaskClusterManager(name="")


def test_a_scheduler_that_is_not_there_is_reported_with_its_address() -> None:
    """The address, and what to check, are in the message."""
    manager = DaskClusterManager(scheduler_address="tcp://127.0.0.1:1")
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("canvod.launch.cluster.client.CLIENT_TIMEOUT_S", 1.0)
            with pytest.raises(ClusterError, match=r"127\.0\.0\.1:1"):
                _ = manager.client
    finally:
        manager.close()


@pytest.mark.docker
def test_images_of_another_python_are_refused_before_anything_is_built(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Who would get a client of workers that cannot run its functions is told so first, with ways out."""
    monkeypatch.setattr("canvod.launch.images.image_builder.build_images", None)
    other = "3.13" if sys.version_info[:2] != (3, 13) else "3.14"
    for backend in ("docker", "auto"):
        with pytest.raises(VersionMismatchError) as caught:
            DaskClusterManager({"launch": {"backend": backend, "python": other}}, **ONE_WORKER)
        text = str(caught.value)
        assert f"launch.python = {other}" in text
        assert f"Python {own_python()}" in text
        for way in ("leave launch.python out", f"use Python {other}", "launch.backend: process"):
            assert way in text


@pytest.mark.docker
def test_packages_of_other_versions_are_refused_before_anything_is_built(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An environment that was not made from the lock file is compared with it, package by package."""
    monkeypatch.setattr("canvod.launch.images.image_builder.build_images", None)
    versions = {"zarr": "1.0", "numpy": "1.0"}
    monkeypatch.setattr(
        "canvod.launch.images.versions.version", lambda name: versions.get(name) or version(name)
    )
    with pytest.raises(VersionMismatchError, match="nothing was started") as caught:
        DaskClusterManager({"launch": {"backend": "docker"}}, **ONE_WORKER)
    assert f"zarr: here 1.0, images {version('zarr')}" in str(caught.value)
    assert f"numpy=={version('numpy')}" in str(caught.value)
    with pytest.raises(VersionMismatchError) as caught:
        DaskClusterManager({"launch": {"backend": "docker"}}, **ONE_WORKER, own_tasks_only=True)
    assert "zarr" in str(caught.value)
    assert "numpy" not in str(caught.value)


@pytest.mark.docker
def test_no_base_image_of_this_python_is_told_before_anything_is_built(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Containers that are asked for are refused with the ways out; auto takes processes, and says why."""

    def refused(*_arguments: object, **_options: object) -> None:
        raise ImageError("No base image of Python 3.12 can be had.", hint="use Python 3.13 or 3.14")

    monkeypatch.setattr("canvod.launch.images.image_builder.choose_base", refused)
    monkeypatch.setattr("canvod.launch.images.image_builder._up_to_date", lambda *_arguments: None)
    with pytest.raises(ImageError, match=r"use Python 3\.13 or 3\.14"):
        DaskClusterManager({"launch": {"backend": "docker"}}, **ONE_WORKER)
    told: list[str] = []
    settings = {"launch": {"dashboard_port": 0}}
    with DaskClusterManager(settings, **ONE_WORKER, progress=told.append) as manager:
        assert manager.plan.backend == "process"
        assert manager.client.submit(sum, [1, 2]).result(timeout=60) == 3
    (line,) = (line for line in told if "images cannot be had" in line)
    assert "No base image of Python 3.12" in line
    assert "To have containers: use Python 3.13 or 3.14" in line


@pytest.mark.docker
@pytest.mark.parametrize("options", [{}, {"build_progress": False}], ids=["default", "quiet"])
def test_a_build_is_told_on_stderr_unless_it_is_to_be_quiet(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a program, and in a notebook, which would else be silent for minutes."""

    def build(*_arguments: object, progress: Any, **_options: object) -> None:
        progress(BuildEvent("image", "Step 1/2 : RUN", 1, 2))
        raise ImageError("stopped")

    monkeypatch.setattr("canvod.launch.images.image_builder.build_images", build)
    with pytest.raises(ImageError, match="stopped"):
        DaskClusterManager({"launch": {"backend": "docker"}}, **ONE_WORKER, **options)
    out, errors = capsys.readouterr()
    assert out == ""
    assert ("image: step 1 of 2: RUN" in errors) is not bool(options)
