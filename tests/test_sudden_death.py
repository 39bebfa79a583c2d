"""A launcher that is killed, or whose engine stops answering, at a known stage: nothing is left.

Stages are requests to the engine, chosen by a seed, so that a failure can be repeated: CANVOD_CHAOS_SEED,
and CANVOD_CHAOS_ROUNDS for more of them. Each test asserts that its stage was reached.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from canvod.launch.cluster.orphans import prune_engine, prune_keys
from canvod.launch.testing import assert_nothing_left, find_leftovers
from engine_proxy import AtRequest, EngineProxy, request_name
from eventually import eventually
from leftovers import GONE_WITHIN_S, GRACE_S, SEED

if TYPE_CHECKING:
    import docker

pytestmark = [pytest.mark.docker, pytest.mark.usefixtures("images")]

ROUNDS = int(os.environ.get("CANVOD_CHAOS_ROUNDS", "4"))

PROGRAM = """
import os, sys, time
from canvod.launch import DaskClusterManager
from canvod.launch.cluster import preparation

def wait_until(condition):
    for _ in range(600):
        if condition():
            return
        time.sleep(0.1)
    sys.exit("what was waited for never came")

def answers(client, worker):
    try:
        client.sync(client.run, os.getpid, workers=[worker], callback_timeout=2)
    except TimeoutError:
        return False
    return True

def main():
    name, how = sys.argv[1:]
    if how == "impatient":
        preparation.REQUEST_TIMEOUT_S = 5
    settings = {"launch": {"backend": "docker", "dashboard_port": 0}}
    manager = DaskClusterManager(settings, n_workers=2, memory_limit_per_worker="1GiB", cluster_name=name)
    print("up", flush=True)
    if how == "tasks":
        client = manager.task_client
        futures = client.map(time.sleep, [600, 601])
        wait_until(lambda: sum(map(len, client.processing().values())) == 2)
    elif how == "stuck":
        import re  # such a match holds the interpreter for hours
        client = manager.task_client
        futures = client.map(re.match, [r"(a+)+$"] * 2, ["a" * 60 + "b", "a" * 61 + "b"])
        wait_until(lambda: not any(answers(client, worker) for worker in client.nthreads()))
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
    """Requests that the life of a cluster makes, each a stage before and after which a launcher may die."""
    start = ["POST /networks/create", *["POST /containers/create"] * 3, *["POST /containers/id/start"] * 3]
    requests = [*start, *["DELETE /containers/id"] * 3, "DELETE /networks/id"]
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


@pytest.mark.parametrize(("moment", "stage"), chosen_stages(), ids=str)
def test_a_launcher_killed_at_any_request_leaves_nothing(
    engine: docker.DockerClient, tmp_path: Path, moment: str, stage: str
) -> None:
    """SIGKILL right before, or right after, one request of start or removal has reached the engine."""
    name = f"killed-{random.randrange(10**6)}"  # noqa: S311 - a name

    def kill_launcher() -> None:
        os.kill(process.pid, signal.SIGKILL)

    fault = AtRequest(moment, stage, kill_launcher)
    with EngineProxy(tmp_path / "engine.sock", fault) as proxy:
        process = launch(tmp_path, name, "close", engine=proxy.address)
        said, errors = process.communicate(timeout=120)
        assert fault.reached, errors
        assert process.returncode == -signal.SIGKILL
        assert "closed" not in said
        assert ("up" in said) == stage.startswith("DELETE")
        assert_nothing_left(name, engine, within_s=GONE_WITHIN_S)


@pytest.mark.parametrize("how", ["idle", "tasks", "stuck", "forked"])
def test_a_launcher_killed_at_work_leaves_nothing(
    engine: docker.DockerClient, tmp_path: Path, how: str
) -> None:
    """SIGKILL while the cluster is idle, works, or hangs in tasks that cannot be interrupted.

    Also where the launcher has a child that goes on.
    """
    name = f"killed-{how}"
    process = launch(tmp_path, name, how)
    read_until(process, "at it")
    process.kill()
    process.wait()
    try:
        assert_nothing_left(name, engine, within_s=GONE_WITHIN_S)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.mark.usefixtures("own_runtime")
@pytest.mark.parametrize("how", ["idle", "stuck"])
def test_the_lease_ends_containers_also_where_the_watchdog_is_killed(
    engine: docker.DockerClient, tmp_path: Path, how: str
) -> None:
    """Launcher and watchdog killed at once: the containers end by themselves, and prune removes the rest."""
    name = f"ephemeral-{how}"
    process = launch(tmp_path, name, how)
    read_until(process, "at it")
    for pid in pids_of_watchdog(name):
        os.kill(pid, signal.SIGKILL)
    kill(process)

    def kinds_left() -> list[str]:
        return [line.split()[0] for line in find_leftovers(name, engine)]

    assert eventually(lambda: not {"container", "volume"} & {*kinds_left()}, timeout_s=GRACE_S + 30)
    assert kinds_left() == ["network", "keys"]
    prune_engine(engine)
    prune_keys()
    assert_nothing_left(name, engine)


def pids_of_watchdog(name: str) -> list[int]:
    """Process IDs of the watchdog of one cluster's launcher."""
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


def test_nothing_is_left_of_a_cluster_that_was_closed(engine: docker.DockerClient, tmp_path: Path) -> None:
    """Not even its watchdog, while the program that closed it goes on."""
    name = "closed"
    process = launch(tmp_path, name, "close")
    try:
        read_until(process, "closed")
        assert_nothing_left(name, engine)
        assert process.poll() is None
    finally:
        kill(process)


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
    assert stopped
    assert process.returncode == 1
    assert "did not answer in time" in errors
    assert f"Cluster {name} is not removed entirely" in errors
    assert f"canvod-launch down {name}" in errors
    for pid in pids_of_watchdog(name):  # it waits for an engine behind a socket that is gone now
        os.kill(pid, signal.SIGKILL)
    assert find_leftovers(name, engine)
    prune_engine(engine)
    prune_keys()
    assert_nothing_left(name, engine)


def test_a_network_that_the_engine_makes_too_late_is_told_and_removed(
    engine: docker.DockerClient, tmp_path: Path
) -> None:
    """The launcher has given up waiting for it, and cannot know that it found all there is to remove."""
    name = "late-network"
    held: list[str] = []

    def answer_late(moment: str, request: str) -> None:
        if (moment, request_name(request)) == ("before", "POST /networks/create"):
            held.append(request)
            known = len(proxy.requests)
            eventually(lambda: "GET /containers/json" in map(request_name, proxy.requests[known:]))

    with EngineProxy(tmp_path / "engine.sock", answer_late) as proxy:
        process = launch(tmp_path, name, "impatient", engine=proxy.address)
        _, errors = process.communicate(timeout=240)
        assert held
        assert "did not answer in time" in errors
        assert f"Cluster {name} is not removed entirely" in errors
        assert_nothing_left(name, engine, within_s=GONE_WITHIN_S)
