"""The life cycle of clusters: what starts, what is started again, and what ends whatever happens."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
from distributed.comm.core import connect as dask_connect

from canvod.launch.cluster.scheduler_connection import SchedulerConnection
from canvod.launch.errors import ClusterError, PlanError
from canvod.launch.manager import DaskClusterManager
from canvod.launch.testing import assert_nothing_left, find_leftovers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SETTINGS = {"launch": {"backend": "process", "dashboard_port": 0}}


def eventually[T](question: Callable[[], T], *, timeout_s: float = 60.0) -> T:
    """Ask until the answer is true, or the time is up."""
    deadline = time.monotonic() + timeout_s
    while not (answer := question()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return answer


def start(**options: Any) -> DaskClusterManager:
    """Start two small workers as processes."""
    return DaskClusterManager(SETTINGS, n_workers=2, memory_limit_per_worker="512MiB", **options)


@pytest.fixture(scope="module")
def shared() -> Iterator[DaskClusterManager]:
    """A cluster of two processes that several tests use."""
    with start() as manager:
        yield manager


@pytest.fixture
def manager(shared: DaskClusterManager) -> DaskClusterManager:
    """The shared cluster, with both of its workers."""
    shared.cluster.scale(2)
    assert eventually(lambda: names(shared) == ["worker-0", "worker-1"])
    return shared


def names(manager: DaskClusterManager) -> list[str]:
    """Names of the workers that are registered."""
    workers = manager.client.scheduler_info(n_workers=-1)["workers"].values()
    return sorted(worker["name"] for worker in workers)


def kill_nanny(manager: DaskClusterManager, name: str) -> str:
    """Kill the process of a worker, and return its number."""
    members = {member.name: member for member in manager.cluster.backend.describe().containers}
    os.kill(int(members[name].id), signal.SIGKILL)
    return members[name].id


def replaced(manager: DaskClusterManager, name: str, before: str) -> bool:
    """Whether a worker is there again, with another process."""
    members = {member.name: member.id for member in manager.cluster.backend.describe().containers}
    return members.get(name, before) != before and name in names(manager)


@pytest.mark.slow
def test_a_worker_that_was_retired_comes_back_when_asked_for(manager: DaskClusterManager) -> None:
    """As with `LocalCluster`: it stays away until `scale` asks for it."""
    manager.client.retire_workers(names=["worker-1"])
    assert eventually(lambda: names(manager) == ["worker-0"])
    assert eventually(lambda: "worker-1" not in manager.cluster.worker_spec)
    manager.cluster.scale(2)
    assert eventually(lambda: names(manager) == ["worker-0", "worker-1"])


@pytest.mark.slow
def test_results_of_a_worker_that_goes_stay(manager: DaskClusterManager) -> None:
    """It hands them over to those that stay."""
    future = manager.client.submit(os.getpid, workers=["worker-1"], pure=False)
    there = future.result()
    manager.cluster.scale(1)
    assert eventually(lambda: names(manager) == ["worker-0"])
    assert future.result(timeout=30) == there


@pytest.mark.slow
def test_limits_that_the_plan_has_not_are_refused(manager: DaskClusterManager) -> None:
    """`adapt` says so as `scale` does."""
    for refused in (
        lambda: manager.cluster.scale(3),
        lambda: manager.cluster.adapt(maximum=3),
        lambda: manager.cluster.adapt(minimum=3),
    ):
        with pytest.raises(PlanError, match=r"Cannot scale to 3 workers: the plan of cluster \w+ has 2"):
            refused()


@pytest.mark.slow
def test_a_worker_is_started_again_as_long_as_it_ends_now_and_then(
    manager: DaskClusterManager, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only ends that follow each other closely are counted; then it is given up, and that is told."""
    monkeypatch.setattr("canvod.launch.cluster.planned_cluster.MAX_RESTARTS", 1)
    monkeypatch.setattr("canvod.launch.cluster.planned_cluster.RESTART_WINDOW_S", 0.0)
    for _ in range(2):
        before = kill_nanny(manager, "worker-0")
        assert eventually(lambda before=before: replaced(manager, "worker-0", before))
    monkeypatch.setattr("canvod.launch.cluster.planned_cluster.RESTART_WINDOW_S", 600.0)
    kill_nanny(manager, "worker-0")
    assert eventually(lambda: "worker-0" not in manager.cluster.worker_spec)
    manager.cluster.scale(2)
    assert eventually(lambda: names(manager) == ["worker-0", "worker-1"])


@pytest.mark.slow
def test_a_worker_that_cannot_be_removed_costs_no_place(
    manager: DaskClusterManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the backend says is logged, and the worker is started again."""
    stop, refused = manager.cluster.backend.stop, []

    def refuse_once(names: Any) -> None:
        names = list(names)
        stop(names)
        if not refused:
            refused.append(names)
            raise ClusterError("the engine does not answer")

    monkeypatch.setattr(manager.cluster.backend, "stop", refuse_once)
    before = kill_nanny(manager, "worker-1")
    assert eventually(lambda: replaced(manager, "worker-1", before))
    assert refused


@pytest.mark.slow
def test_a_lease_that_cannot_be_taken_is_tried_again(
    manager: DaskClusterManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the error is: tornado raises ValueError where somebody hangs up before TLS begins."""
    tried: list[str] = []

    async def connect(address: str, **options: Any) -> Any:
        tried.append(address)
        if len(tried) == 1:
            raise ValueError("IOStream is not idle; cannot convert to SSL")
        return await dask_connect(address, **options)

    monkeypatch.setattr("distributed.comm.core.connect", connect)
    monkeypatch.setattr("canvod.launch.cluster.scheduler_connection.RECONNECT_INTERVAL_S", 0.05)
    with SchedulerConnection(manager.scheduler_address, manager.cluster.security) as connection:
        connection.hold_lease()
        assert eventually(lambda: len(tried) >= 2)


@pytest.mark.slow
def test_the_cluster_goes_although_the_client_cannot_be_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What closing the client raises is raised when all is gone."""
    manager = start(cluster_name=f"unclosed-{os.getpid()}")
    client = manager.client
    monkeypatch.setattr("canvod.launch.manager.close_client", _refuse)
    with pytest.raises(OSError, match="not closed"):
        manager.close()
    client.close()
    assert_nothing_left(f"unclosed-{os.getpid()}")
    manager.close()


def _refuse(_client: object) -> None:
    raise OSError("not closed")


@pytest.mark.slow
def test_the_users_own_error_is_the_one_that_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    """What could not be removed is a note of it."""
    with pytest.raises(ValueError, match="of the user") as caught, start() as manager:  # noqa: PT012
        stop = manager.cluster.backend.close

        def incomplete() -> list[str]:
            stop()
            return ["network cv: still in use"]

        monkeypatch.setattr(manager.cluster.backend, "close", incomplete)
        raise ValueError("of the user")
    assert "network cv: still in use" in "".join(caught.value.__notes__)


@pytest.mark.slow
def test_signals_do_what_they_did_before_once_a_manager_is_closed() -> None:
    """The handlers of the constructor are for the life of the cluster."""
    program = (
        "import signal; from canvod.launch import DaskClusterManager\n"
        "numbers = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)\n"
        "def handlers(): return [signal.getsignal(number) for number in numbers]\n"
        "before = handlers()\n"
        f"with DaskClusterManager({SETTINGS!r}, n_workers=1, memory_limit_per_worker='512MiB'):\n"
        "    assert handlers()[0] != before[0]\n"
        "assert handlers() == before, handlers()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], check=False, stderr=subprocess.PIPE, timeout=120)
    assert done.returncode == 0, done.stderr.decode()


@pytest.mark.slow
def test_a_cell_that_runs_twice_leaves_one_cluster(capsys: pytest.CaptureFixture[str]) -> None:
    """The first cluster is named when the second is started, and goes with the last reference to it."""
    first, second = (f"cell-{os.getpid()}-{number}" for number in range(2))
    manager = start(cluster_name=first)
    manager.client.submit(sum, [1, 2]).result()
    manager = start(cluster_name=second)
    gc.collect()
    assert_nothing_left(first)
    assert find_leftovers(second)
    manager.close()
    assert_nothing_left(second)


@pytest.mark.slow
def test_a_process_cluster_that_is_closed_says_nothing() -> None:
    """In a kernel, say, whose program goes on: no log line of Dask's."""
    program = (
        "import logging, sys, time; logging.basicConfig(level=logging.INFO)\n"
        "from canvod.launch import DaskClusterManager\n"
        f"manager = DaskClusterManager({SETTINGS!r}, n_workers=1, memory_limit_per_worker='512MiB')\n"
        "manager.client.submit(sum, [1, 2]).result(); print('up', file=sys.stderr, flush=True)\n"
        "manager.close(); time.sleep(2)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120
    )
    lines = done.stderr.partition("up\n")[2].splitlines()
    assert [line for line in lines if "canvod.launch" not in line] == []


@pytest.mark.slow
def test_the_memory_of_a_cluster_is_seen_against_its_budget(manager: DaskClusterManager) -> None:
    """Of scheduler and workers, whoever's children they are; and never more is available than it leaves."""
    before = manager.memory.used_gb()
    assert 0.1 < before < 1
    assert manager.memory.used_percent() == pytest.approx(100 * before / 1, rel=0.3)
    held = manager.client.submit(os.urandom, 200 * 1024**2, workers=["worker-0"])
    assert manager.client.submit(len, held).result() == 200 * 1024**2
    assert manager.memory.used_gb() > before + 0.15
    assert manager.memory.available_gb() < 1 - before
