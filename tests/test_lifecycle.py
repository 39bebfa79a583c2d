"""The life cycle of clusters: what starts, what is started again, and what ends whatever happens."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from canvod.launch.cluster.planned_cluster import PlannedCluster
from canvod.launch.errors import ClusterError, ClusterExistsError, ClusterNotFoundError, PlanError
from canvod.launch.manager import DaskClusterManager
from canvod.launch.testing import assert_nothing_left, find_leftovers
from eventually import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from canvod.launch.host.clusters import ContainerInfo

SETTINGS = {"launch": {"backend": "process", "dashboard_port": 0}}


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


def members(manager: DaskClusterManager) -> dict[str, ContainerInfo]:
    """Scheduler and workers of a cluster by their names."""
    return {member.name: member for member in manager.cluster.backend.describe().containers}


def ids(manager: DaskClusterManager) -> dict[str, str]:
    """Process IDs of scheduler and workers by their names."""
    return {name: member.id for name, member in members(manager).items()}


def kill_nanny(manager: DaskClusterManager, name: str) -> str:
    """Kill the process of a worker, and return its number."""
    process = ids(manager)[name]
    os.kill(int(process), signal.SIGKILL)
    return process


def replaced(manager: DaskClusterManager, name: str, before: str) -> bool:
    """Whether a worker is there again, with another process."""
    return ids(manager).get(name, before) != before and name in names(manager)


@pytest.mark.slow
def test_a_worker_that_was_retired_comes_back_when_asked_for(manager: DaskClusterManager) -> None:
    """As with `LocalCluster`: it stays away until `scale` asks for it."""
    manager.client.retire_workers(names=["worker-1"])
    assert eventually(lambda: names(manager) == ["worker-0"])
    assert eventually(lambda: "worker-1" not in manager.cluster.worker_spec)
    manager.cluster.scale(2)
    assert eventually(lambda: names(manager) == ["worker-0", "worker-1"])


@pytest.mark.slow
def test_results_of_a_worker_that_is_retired_are_kept(manager: DaskClusterManager) -> None:
    """It hands them over to those that stay."""
    future = manager.client.submit(os.getpid, workers=["worker-1"], pure=False)
    there = future.result()
    manager.cluster.scale(1)
    assert eventually(lambda: names(manager) == ["worker-0"])
    assert future.result(timeout=30) == there


@pytest.mark.slow
def test_limits_that_the_plan_has_not_are_refused(manager: DaskClusterManager) -> None:
    """`adapt` says so as `scale` does, also of what is no number of workers."""
    cluster = manager.cluster
    for refused, words in (
        (lambda: cluster.scale(-1), "scale to -1 workers"),
        (lambda: cluster.scale("2"), "scale to '2' workers"),
        (lambda: cluster.adapt(minimum=-3), "scale to -3 workers"),
        (lambda: cluster.adapt(maximum="2"), "scale to '2' workers"),
        (lambda: cluster.adapt(minimum=2, maximum=1), "at least 2 and at most 1 workers"),
    ):
        with pytest.raises(PlanError, match=words):
            refused()
    for refused in (
        lambda: manager.cluster.scale(3),
        lambda: manager.cluster.adapt(maximum=3),
        lambda: manager.cluster.adapt(minimum=3),
    ):
        with pytest.raises(PlanError, match=r"Cannot scale to 3 workers: the plan of cluster \w+ has 2"):
            refused()


@pytest.mark.slow
def test_a_worker_is_started_again_as_long_as_it_ends_now_and_then(
    manager: DaskClusterManager, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
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
    assert "worker_given_up" in caplog.text
    manager.cluster.scale(2)
    assert eventually(lambda: names(manager) == ["worker-0", "worker-1"])


@pytest.mark.slow
def test_a_worker_that_cannot_be_removed_is_replaced(
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
def test_the_cluster_is_removed_although_the_client_cannot_be_closed(monkeypatch: pytest.MonkeyPatch) -> None:
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
def test_a_cell_that_runs_twice_leaves_one_cluster(caplog: pytest.LogCaptureFixture) -> None:
    """The first cluster is named when the second is started, and goes with the last reference to it."""
    first, second = (f"cell-{os.getpid()}-{number}" for number in range(2))
    manager = start(cluster_name=first)
    manager.client.submit(sum, [1, 2]).result()
    manager = start(cluster_name=second)
    assert any("another_cluster_is_open" in line and first in line for line in caplog.messages)
    gc.collect()
    assert eventually(lambda: not find_leftovers(first))
    assert find_leftovers(second)
    manager.close()
    assert_nothing_left(second)


@pytest.mark.slow
def test_a_process_cluster_that_is_closed_says_nothing() -> None:
    """In a kernel, say, where a second one is started afterwards: no log line of Dask's."""
    program = (
        "import logging, sys; logging.basicConfig(level=logging.INFO)\n"
        "from canvod.launch import DaskClusterManager\n"
        "for _ in range(2):\n"
        f"    manager = DaskClusterManager({SETTINGS!r}, n_workers=1, memory_limit_per_worker='512MiB')\n"
        "    manager.client.submit(sum, [1, 2]).result(); print('up', file=sys.stderr, flush=True)\n"
        "    manager.close()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120
    )
    lines = done.stderr.partition("up\n")[2].splitlines()
    assert [line for line in lines if "canvod.launch" not in line] == ["up"]  # the second one


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


@pytest.mark.slow
def test_a_worker_that_is_retired_and_asked_for_at_once_comes_back(manager: DaskClusterManager) -> None:
    """Also where `scale` comes before the process of the retired worker has ended."""
    process = ids(manager)["worker-1"]
    manager.client.retire_workers(names=["worker-1"])
    manager.cluster.scale(2)
    assert eventually(lambda: replaced(manager, "worker-1", process))


@pytest.mark.slow
def test_a_worker_that_loses_its_scheduler_is_replaced(manager: DaskClusterManager) -> None:
    """It was not told to leave, so it has not been retired."""
    process = ids(manager)["worker-1"]
    workers = manager.client.scheduler_info(n_workers=-1)["workers"].items()
    address = next(address for address, worker in workers if worker["name"] == "worker-1")

    def break_connection(dask_worker: Any) -> None:
        dask_worker.loop.add_callback(dask_worker.batched_stream.comm.abort)

    manager.client.run(break_connection, workers=[address])
    assert eventually(lambda: replaced(manager, "worker-1", process))


@pytest.mark.slow
def test_a_worker_that_a_signal_ends_is_started_again(
    manager: DaskClusterManager, caplog: pytest.LogCaptureFixture
) -> None:
    """It closes in order, as one that is retired; but it was not the scheduler that told it to."""
    manager.client.retire_workers(names=["worker-1"])
    manager.cluster.scale(2)
    assert eventually(lambda: names(manager) == ["worker-0", "worker-1"])
    for name in ("worker-0", "worker-1"):
        process = ids(manager)[name]
        os.kill(int(process), signal.SIGTERM)
        assert eventually(lambda name=name, process=process: replaced(manager, name, process))
    assert "process_ended" in caplog.text


@pytest.mark.slow
def test_a_cluster_of_processes_is_not_denied_where_it_is_named(manager: DaskClusterManager) -> None:
    """Only its own program has its plan: the message says which one that is, and what to do."""
    name = manager.plan.name
    expected = f"Cluster {name} runs in processes of the program with process ID {os.getpid()}"
    with pytest.raises(ClusterNotFoundError, match=expected) as refused:
        DaskClusterManager(name=name)
    assert "manager.client" in str(refused.value)
    assert "canvod-launch up" in str(refused.value)


@pytest.mark.slow
def test_a_worker_that_ends_before_anybody_listens_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between its registration and the moment from which the cluster is told of ends."""
    make = PlannedCluster.__init__
    killed: list[str] = []

    def kill_first(self: PlannedCluster, started: Any) -> None:
        found = {each.name: each.id for each in started.backend.describe().containers}
        killed.append(found["worker-1"])
        os.kill(int(killed[0]), signal.SIGKILL)
        # The worker process, which the scheduler knows, ends a moment after its nanny.
        assert eventually(lambda: started.backend.problem("worker-1") is not None)
        with monkeypatch.context() as patched:
            patched.setattr(PlannedCluster, "has_worker", lambda *_: True)
            make(self, started)

    monkeypatch.setattr(PlannedCluster, "__init__", kill_first)
    with start() as manager:
        assert eventually(lambda: replaced(manager, "worker-1", killed[0]))


@pytest.mark.slow
def test_no_close_waits_for_a_worker_that_is_starting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not for the time that a start may take."""
    manager = start()
    monkeypatch.setattr(PlannedCluster, "has_worker", lambda *_: False)
    before = ids(manager)["worker-1"]
    kill_nanny(manager, "worker-1")
    assert eventually(lambda: ids(manager).get("worker-1", before) != before)
    began = time.monotonic()
    manager.close()
    assert time.monotonic() - began < 15
    assert_nothing_left(manager.plan.name)


async def settled(cluster: PlannedCluster) -> None:
    """Wait until the event loop has done what it was told before, and no start of a worker is under way."""
    async with cluster._lock:
        pass


@pytest.mark.slow
def test_without_a_scheduler_no_worker_is_started_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing would come of it: what is lost is said once."""
    with start() as manager:
        before = ids(manager)
        told, tell = [], manager.cluster.backend.on_end

        def note(member: ContainerInfo) -> None:
            tell(member)
            told.append(member.name)

        monkeypatch.setattr(manager.cluster.backend, "on_end", note)
        os.kill(int(before["scheduler"]), signal.SIGKILL)
        assert eventually(lambda: sorted(told) == sorted(before))
        manager.cluster.sync(settled, manager.cluster)
        assert ids(manager) == before
        assert sum("scheduler_ended" in record.getMessage() for record in caplog.records) == 1
    assert_nothing_left(manager.plan.name)


@pytest.mark.slow
def test_a_second_cluster_of_one_name_is_refused_and_the_first_goes_on() -> None:
    """Both would be in one program, and have one folder of keys."""
    with start(cluster_name="twice") as manager:
        with pytest.raises(ClusterExistsError, match="has a cluster twice already"):
            start(cluster_name="twice")
        assert manager.client.submit(sum, [1, 2]).result() == 3
    with start(cluster_name="twice"):
        pass


def test_a_start_without_a_folder_for_spilled_data_leaves_no_keys(tmp_path: Path) -> None:
    """And says what is missing."""
    settings = {"launch": {"backend": "process", "spill_dir": str(tmp_path / "missing")}}
    name = f"spill-{os.getpid()}"
    with pytest.raises(ClusterError, match=r"missing.*\n.*launch\.spill_dir"):
        DaskClusterManager(settings, n_workers=1, memory_limit_per_worker="512MiB", cluster_name=name)
    assert_nothing_left(name)


def program(before: str = "pass") -> list[str]:
    """Command of a program that uses a cluster whose task writes a line."""
    code = (
        "import os, sys; from canvod.launch import DaskClusterManager\n"
        f"{before}\n"
        "options = dict(n_workers=1, memory_limit_per_worker='512MiB', nice_priority=5)\n"
        f"with DaskClusterManager({SETTINGS!r}, **options) as manager:\n"
        "    assert manager.client.submit(eval, 'print(1, flush=True) or 7').result() == 7\n"
    )
    return [sys.executable, "-c", code]


@pytest.mark.slow
def test_a_search_path_may_be_longer_than_an_argument() -> None:
    """The kernel takes 128 KiB for one."""
    before = "sys.path += ['/missing/' + 'x' * 90 + str(number) for number in range(2000)]"
    subprocess.run(program(before), check=True, timeout=120)


@pytest.mark.slow
def test_what_workers_write_is_in_no_file_of_a_program_without_standard_error(tmp_path: Path) -> None:
    """Its first open file has the number of standard error."""
    file = tmp_path / "results"
    opened = f"file = os.open({str(file)!r}, os.O_CREAT | os.O_WRONLY)\nassert file == 2, file"
    subprocess.run(["sh", "-c", 'exec "$@" 2>&-', "sh", *program(opened)], check=True, timeout=120)
    assert file.read_text() == ""


@pytest.mark.slow
def test_a_program_that_is_nicer_than_its_settings_has_a_cluster() -> None:
    """Nobody but root may lower a nice value: workers keep the launcher's, and so does the scheduler."""
    limited = ["setpriv", "--bounding-set", "-sys_nice", "--inh-caps", "-sys_nice"]
    if os.getuid() == 0 and shutil.which("setpriv") is None:
        pytest.skip("root may do everything, and setpriv is not here")
    rights = limited if os.getuid() == 0 else []
    subprocess.run([*rights, "nice", "-n", "10", *program()], check=True, timeout=120)
