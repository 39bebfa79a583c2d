"""A launcher that is killed, or whose engine stops answering, at every stage: nothing is left.

The moments come from a seed, so that a failure can be had again: CANVOD_CHAOS_SEED, and CANVOD_CHAOS_ROUNDS
for more of them.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from canvod.launch.docker.orphans import prune_engine
from engine_proxy import EngineProxy
from leftovers import GRACE_S, SEED, assert_gone, processes_with

if TYPE_CHECKING:
    import docker

pytestmark = [pytest.mark.docker, pytest.mark.usefixtures("images")]

ROUNDS = int(os.environ.get("CANVOD_CHAOS_ROUNDS", "4"))

LIFETIME_S = 6.0
"""What the program below takes from its start until all is closed, at the most."""

PROGRAM = """
import os, sys, time
from canvod.launch import DaskClusterManager, manager as module

def main():
    name, how = sys.argv[1:]
    if how == "impatient":
        module.REQUEST_TIMEOUT_S = 5
    settings = {"launch": {"backend": "docker", "dashboard_port": 0}}
    manager = DaskClusterManager(settings, n_workers=2, memory_limit_per_worker="1GiB", cluster_name=name)
    print("up", flush=True)
    if how == "tasks":
        futures = manager.task_client.map(time.sleep, [600, 601])
        time.sleep(1)
    elif how == "stuck":
        import re  # such a match holds the interpreter for hours
        futures = manager.task_client.map(re.match, [r"(a+)+$"] * 2, ["a" * 60 + "b", "a" * 61 + "b"])
        time.sleep(1)
    elif how == "forked" and os.fork() == 0:
        time.sleep(60)  # holds all that the launcher has open
        os._exit(0)
    print("at it", flush=True)
    if how == "close":
        manager.close()
        print("closed", flush=True)
    time.sleep(600)

if __name__ == "__main__":
    main()
"""


def launch(folder: Path, name: str, how: str = "idle", engine: str | None = None) -> subprocess.Popen[str]:
    """Start a program that starts a cluster."""
    script = folder / "launcher.py"
    script.write_text(PROGRAM)
    environment = dict(os.environ)
    if engine is not None:
        environment["DOCKER_HOST"] = engine
    return subprocess.Popen(
        [sys.executable, str(script), name, how],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=environment,
    )


def read_until(process: subprocess.Popen[str], line: str) -> None:
    """Wait for a line of the program's."""
    assert process.stdout is not None
    for said in process.stdout:
        if said.strip() == line:
            return
    _, errors = process.communicate()
    pytest.fail(f"the program ended before it said {line!r}:\n{errors}")


def kill(process: subprocess.Popen[str]) -> None:
    """Kill a launcher, and only it, as the kernel does when memory is out."""
    process.kill()
    process.communicate()


def engine_stages() -> list[tuple[str, str]]:
    """Requests that a start makes, each a stage before and after which a launcher may die."""
    requests = ["POST /networks/create", *["POST /containers/create"] * 3, *["POST /containers/id/start"] * 3]
    return [
        (moment, f"{request}#{requests[: index + 1].count(request)}")
        for index, request in enumerate(requests)
        for moment in ("before", "after")
    ]


def chosen_stages() -> list[tuple[str, str]]:
    """Some of them, by the seed; all where there are rounds enough."""
    stages = engine_stages()
    random.Random(SEED).shuffle(stages)  # noqa: S311 - a schedule, no secret
    return stages[:ROUNDS]


class KillAt:
    """A fault: kill the launcher when one request comes for the nth time."""

    def __init__(self, moment: str, stage: str) -> None:
        self.moment = moment
        self.request, _, number = stage.partition("#")
        self.left = int(number)
        self.process: subprocess.Popen[str] | None = None
        self.done = False

    def __call__(self, moment: str, request: str) -> bool:
        if moment != self.moment or self.done or not self._matches(request):
            return False
        self.left -= 1
        if self.left == 0 and self.process is not None:
            os.kill(self.process.pid, signal.SIGKILL)
            self.done = True
        return False

    def _matches(self, request: str) -> bool:
        path = request.split("?", maxsplit=1)[0]
        if self.request.endswith("/start"):
            return path.startswith("POST /containers/") and path.endswith("/start")
        return path == self.request


@pytest.mark.parametrize(("moment", "stage"), chosen_stages(), ids=str)
def test_a_launcher_killed_at_any_request_leaves_nothing(
    engine: docker.DockerClient, tmp_path: Path, moment: str, stage: str
) -> None:
    """SIGKILL right before, or right after, one request of the start has reached the engine."""
    name = f"killed-{random.randrange(10**6)}"  # noqa: S311 - a name
    fault = KillAt(moment, stage)
    with EngineProxy(tmp_path / "engine.sock", fault) as proxy:
        process = fault.process = launch(tmp_path, name, engine=proxy.address)
        process.communicate(timeout=120)
        assert fault.done
        assert process.returncode == -signal.SIGKILL
        assert_gone(engine, name)


@pytest.mark.parametrize("number", range(max(1, ROUNDS // 2)))
def test_a_launcher_killed_at_any_moment_leaves_nothing(
    engine: docker.DockerClient, tmp_path: Path, number: int
) -> None:
    """SIGKILL after a random time: while it imports, starts, works or closes."""
    name = f"any-moment-{number}"
    process = launch(tmp_path, name, "close")
    time.sleep(random.Random(SEED + number).uniform(0, LIFETIME_S))  # noqa: S311 - a schedule, no secret
    kill(process)
    assert_gone(engine, name)


@pytest.mark.parametrize("how", ["idle", "tasks", "stuck", "forked", "close"])
def test_a_launcher_killed_at_work_leaves_nothing(
    engine: docker.DockerClient, tmp_path: Path, how: str
) -> None:
    """SIGKILL while the cluster is idle, works, hangs in a task that cannot be interrupted, or is closed.

    Also where the launcher has a child that goes on.
    """
    name = f"killed-{how}"
    process = launch(tmp_path, name, how)
    read_until(process, "at it")
    if how == "close":
        time.sleep(random.Random(SEED).uniform(0, 1))  # noqa: S311 - a schedule, no secret
    process.kill()
    process.wait()
    try:
        assert_gone(engine, name)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.mark.parametrize("how", ["idle", "stuck"])
def test_the_lease_ends_containers_also_where_the_reaper_is_killed(
    engine: docker.DockerClient, tmp_path: Path, how: str
) -> None:
    """Launcher and companion gone at once: the containers end by themselves, within grace time + 10 s."""
    name = f"ephemeral-{how}"
    process = launch(tmp_path, name, how)
    read_until(process, "at it")
    for pid in pids_of_reaper(name):
        os.kill(pid, signal.SIGKILL)
    kill(process)
    assert_gone(engine, name, GRACE_S + 30)


def pids_of_reaper(name: str) -> list[int]:
    """Process IDs of the companion of one cluster's launcher."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                words = (entry / "cmdline").read_text().split("\0")
            except OSError:
                continue
            if "canvod.launch.docker.watchdog" in words and name in words:
                found.append(int(entry.name))
    assert found
    return found


def test_no_companion_outlives_a_cluster_that_was_closed(engine: docker.DockerClient, tmp_path: Path) -> None:
    """A launcher that ends by itself takes its companion along."""
    name = "companion"
    process = launch(tmp_path, name, "close")
    read_until(process, "closed")
    assert [line for line in processes_with("cluster.reaper") if name in line] == []
    kill(process)
    assert_gone(engine, name)


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["create", "attach", "start"])
def test_an_engine_that_stops_answering_is_one_message_with_what_is_left(
    engine: docker.DockerClient, tmp_path: Path, stage: str
) -> None:
    """Mid-start the engine falls silent: the error says what was asked, what may be left, and the command."""
    name = f"silent-{stage}"
    stopped: list[str] = []

    def fall_silent(moment: str, request: str) -> bool:
        if moment == "after" and request.startswith("POST /containers/") and f"/{stage}" in request:
            stopped.append(request)
        return bool(stopped)

    with EngineProxy(tmp_path / "engine.sock", fall_silent) as proxy:
        process = launch(tmp_path, name, "impatient", engine=proxy.address)
        _, errors = process.communicate(timeout=240)
    assert process.returncode == 1
    assert "did not answer in time" in errors
    assert f"Cluster {name} is not gone entirely" in errors
    assert f"canvod-launch down {name}" in errors
    for pid in pids_of_reaper(name):  # it waits for an engine behind a socket that is gone now
        os.kill(pid, signal.SIGKILL)
    assert any(name in item for item in prune_engine(engine))
    assert_gone(engine, name)
