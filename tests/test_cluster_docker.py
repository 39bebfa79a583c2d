"""Clusters of real containers: what was planned is what runs, and nothing is left afterwards."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cloudpickle
import pytest
from distributed import Client, Event

from canvod.launch.cluster.cluster_state import ClusterState
from canvod.launch.cluster.docker_backend import DockerBackend
from canvod.launch.cluster.planned_cluster import PlannedCluster
from canvod.launch.cluster.started_cluster import StartedCluster
from canvod.launch.cluster.tls import make_keys
from canvod.launch.config import load_settings
from canvod.launch.docker.engine import connect, probe_engine, translate
from canvod.launch.errors import ClusterExistsError, ContainerFailedError, EngineError, PlanError
from canvod.launch.host.detect import read_inventory
from canvod.launch.host.labels import CLUSTER_LABEL, OWNER_LABEL, UID_LABEL
from canvod.launch.host.python_version import installed_version
from canvod.launch.images.context import image_namer
from canvod.launch.manager import DaskClusterManager
from canvod.launch.plan.model import Mount
from canvod.launch.plan.planner import make_plan
from canvod.launch.testing import assert_containers_match_plan, assert_nothing_left, plan_differences
from engine_proxy import EngineProxy
from eventually import eventually
from images_fixture import OWN_PYTHON
from leftovers import RUN, volumes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import docker

    from canvod.launch.plan.model import ClusterPlan

pytestmark = pytest.mark.docker

# Workers do not have the tests: what is defined here is sent by value.
cloudpickle.register_pickle_by_value(sys.modules[__name__])


def by_value[**P, R](function: Callable[P, R]) -> Callable[P, R]:
    """Make a function that Dask cannot send by its name."""
    return lambda *arguments, **options: function(*arguments, **options)  # noqa: PLW0108 - that is the point


SETTINGS: dict[str, Any] = {
    "processing": {
        "resource_mode": "manual",
        "n_max_threads": 2,
        "max_memory_gb": 2,
        "nice_priority": 7,
    },
    "launch": {
        "backend": "docker",
        "dashboard_port": 0,
        "python": OWN_PYTHON,
        "environment": {"GREETING": "hello"},
    },
}


CALLER, SHARED_GROUP = 10001, 4321
"""Who starts the clusters of this module, and a group that this user is in."""


def plan_of(name: str, **processing: Any) -> ClusterPlan:
    """Plan a cluster of two workers on this host."""
    name = f"{name}-{RUN}"
    settings = {**SETTINGS, "processing": SETTINGS["processing"] | processing}
    engine = probe_engine()
    caller = {"uid": CALLER, "gid": CALLER, "groups": (CALLER, SHARED_GROUP)}
    host = read_inventory().model_copy(update=caller)
    loaded = load_settings(settings)
    return make_plan(
        loaded,
        host,
        backend="docker",
        name=name,
        python=OWN_PYTHON,
        version=installed_version(),
        engine=engine,
        image_for=image_namer(loaded),
    )


def started(plan: ClusterPlan) -> PlannedCluster:
    """Start a cluster."""
    started = StartedCluster(plan, connect())
    with started.stopped_on_error():
        for _ in started.start():
            pass
        return PlannedCluster(started)


def worker_names(client: Client) -> list[str]:
    """Names of the workers that are registered."""
    return sorted(worker["name"] for worker in client.scheduler_info(n_workers=-1)["workers"].values())


@pytest.fixture(scope="module")
def cluster(engine: docker.DockerClient, own_images: object) -> Iterator[PlannedCluster]:
    """A cluster of two workers that several tests look at."""
    del own_images
    before = volumes(engine)
    with started(plan_of("shared-test")) as cluster:
        yield cluster
    assert_nothing_left(cluster.name, engine)
    assert volumes(engine) <= before


@pytest.fixture
def client(cluster: PlannedCluster) -> Iterator[Client]:
    """A client of the shared cluster, with both workers up."""
    cluster.scale(2)
    with Client(cluster) as client:
        client.wait_for_workers(2, timeout=60)
        yield client


def read_identity() -> dict[str, Any]:
    """Who a task is, and what it may do."""
    try:
        Path("/opt/probe").touch()
        writable = True
    except OSError:
        writable = False
    return {
        "user": f"{os.getuid()}:{os.getgid()}",
        "groups": os.getgroups(),
        "root_writable": writable,
        "environment": {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "GREETING")},
    }


def address_of(client: Client, name: str) -> str:
    """Address of the worker of this name."""
    workers = client.scheduler_info(n_workers=-1)["workers"]
    return next(address for address, worker in workers.items() if worker["name"] == name)


def by_name(client: Client, function: Callable[[], Any]) -> dict[str, Any]:
    """Run a function on every worker; answers by the workers' names."""
    workers = client.scheduler_info(n_workers=-1)["workers"]
    return {workers[address]["name"]: answer for address, answer in client.run(function).items()}


def test_engine_and_kernel_hold_the_containers_to_their_plan(
    cluster: PlannedCluster, client: Client, engine: docker.DockerClient
) -> None:
    """Limits, cores and priority of every thread, user, hardening, mounts and ports are the plan's."""
    del client
    plan = cluster.backend.plan
    assert_containers_match_plan(engine, plan)
    assert plan.worker_memory_bytes <= 2 * 1024**3
    assert {container.nice for container in (plan.scheduler, *plan.workers)} == {7}


OTHERWISE: list[tuple[dict[str, Any], tuple[str, ...]]] = [
    ({"cpuset_cpus": (4095,)}, ("cpuset", "the kernel's cpuset", "affinity of every thread")),
    ({"nice": 8}, ("nice value of every thread",)),
    ({"memory_bytes": 1}, ("memory limit in bytes", "and swap limit in bytes", "kernel's memory limit")),
    ({"pids_limit": 1}, ("process limit", "the kernel's process limit")),
    ({"cpu_weight": 1, "cpu_shares": 2}, ("CPU shares", "the kernel's CPU weight")),
    ({"user": "1:1"}, ("user", "user of every process", "groups of every process")),
    ({"groups": (7,)}, ("further groups", "groups of every process")),
    ({"mounts": (Mount(path="/srv", read_only=True),)}, ("mounts", "the kernel's read-only mounts")),
    ({"environment": {"GREETING": "bye"}}, ("environment",)),
    ({"image": "other", "command": ("sh",), "labels": {"a": "b"}}, ("image", "command", "labels")),
]
"""What is changed in the plan of a worker, and which differences its container then has."""


@pytest.mark.parametrize(("change", "names"), OTHERWISE, ids=lambda each: next(iter(each)))
def test_a_container_that_is_not_as_planned_is_told(
    cluster: PlannedCluster,
    client: Client,
    engine: docker.DockerClient,
    change: dict[str, Any],
    names: tuple[str, ...],
) -> None:
    """Each difference is a line of its own, with what was found and planned; and there are no others."""
    del client
    plan = cluster.backend.plan
    first, second = plan.workers
    found = plan_differences(
        engine, plan.model_copy(update={"workers": (first.model_copy(update=change), second)})
    )
    assert all(line.startswith(f"{first.name}: ") for line in found)
    assert len(found) == len(names)
    for line, name in zip(found, names, strict=True):
        assert name in line.partition(" is ")[0]


def test_containers_that_are_missing_or_too_many_are_told(
    cluster: PlannedCluster, client: Client, engine: docker.DockerClient
) -> None:
    """As is a network that is not as planned."""
    del client
    plan = cluster.backend.plan
    renamed = plan.workers[1].model_copy(update={"name": "other"})
    network = plan.network.model_copy(update={"internal": True})
    other = plan.model_copy(update={"workers": (plan.workers[0], renamed), "network": network})
    found = plan_differences(engine, other)
    assert "other: does not run" in found
    assert f"{plan.workers[1].name}: runs, and is not planned" in found
    assert "network: internal is [False], planned is [True]" in found
    # Nothing is published from an internal network.
    assert [line for line in found if "addresses of published ports is ['127.0.0.1'], planned is []" in line]
    with pytest.raises(AssertionError, match=r"differs from its plan:\n  other: does not run\n"):
        assert_containers_match_plan(engine, other)


def test_tasks_run_without_privileges(cluster: PlannedCluster, client: Client) -> None:
    """A task is not root, is in the caller's groups, and cannot write to its root."""
    for worker in cluster.backend.plan.workers:
        found = by_name(client, read_identity)[worker.dask_name]
        assert found["user"] == worker.user
        assert not worker.user.startswith("0:")
        assert set(found["groups"]) == {int(worker.user.split(":")[1]), SHARED_GROUP}
        assert not found["root_writable"]
        assert found["environment"] == {"OMP_NUM_THREADS": "1", "GREETING": "hello"}


def test_the_dashboard_answers_on_loopback(cluster: PlannedCluster, client: Client) -> None:
    """At the port that was published for it."""
    del client
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/status", cluster.dashboard_link)
    with urllib.request.urlopen(cluster.dashboard_link, timeout=30) as page:  # noqa: S310 - our own address
        assert page.status == 200


def kill_this_process() -> None:
    """End the worker process as the kernel would."""
    os.kill(os.getpid(), 9)


def test_a_killed_worker_process_comes_back_pinned_and_nice(
    cluster: PlannedCluster, client: Client, engine: docker.DockerClient
) -> None:
    """The nanny restarts the process in the same container, and the plugin is applied again."""
    before = by_name(client, os.getpid)
    victim = cluster.backend.plan.workers[0]
    client.run(kill_this_process, workers=[address_of(client, victim.dask_name)], on_error="ignore")
    eventually(lambda: len(worker_names(client)) < 2, timeout_s=10)
    assert eventually(lambda: worker_names(client) == ["worker-0", "worker-1"])
    assert by_name(client, os.getpid)[victim.dask_name] != before[victim.dask_name]
    assert_containers_match_plan(engine, cluster.backend.plan)


def square_slowly(number: int) -> int:
    """Leave time to be killed."""
    time.sleep(0.2)
    return number**2


@pytest.mark.parametrize("end", ["kill", "stop"])
def test_a_container_that_somebody_ends_is_replaced_and_no_task_is_lost(
    cluster: PlannedCluster, client: Client, engine: docker.DockerClient, end: str
) -> None:
    """Tasks of a container that vanishes run elsewhere, and the plan's number of workers is restored."""
    futures = client.map(by_value(square_slowly), range(40), pure=False)
    assert eventually(lambda: all(client.processing().values()))
    getattr(engine.api, end)(cluster.backend.plan.workers[1].name)
    assert client.gather(futures) == [number**2 for number in range(40)]
    assert eventually(lambda: worker_names(client) == ["worker-0", "worker-1"])


def test_a_replacement_that_dies_is_replaced_too(
    cluster: PlannedCluster, client: Client, engine: docker.DockerClient
) -> None:
    """A container that ends before its worker has come costs one more attempt, and not the worker."""
    name = cluster.backend.plan.workers[0].name

    def kill_unless(known: list[str]) -> bool:
        """Kill the container of this name, once there is another one than those that are known."""
        with suppress(EngineError), translate("kill the worker"):
            found = engine.api.inspect_container(name)["Id"]
            if found not in known:
                engine.api.kill(found)
                known.append(found)
                return True
        return False

    killed: list[str] = []
    for _ in range(2):
        assert eventually(lambda: kill_unless(killed))

    def third_is_there() -> bool:
        with suppress(EngineError), translate("look for the worker"):
            return engine.api.inspect_container(name)["Id"] not in killed
        return False

    assert eventually(third_is_there)
    assert eventually(lambda: worker_names(client) == ["worker-0", "worker-1"])


def test_a_container_that_is_stopped_while_it_is_created_is_gone_then(
    engine: docker.DockerClient, own_images: object
) -> None:
    """Not some time later: the one who has stopped it may end, or start it again."""
    plan = plan_of("late")
    backend = DockerBackend(engine, ClusterState(make_keys(plan.name), plan))

    def is_there() -> bool:
        # Not `engine.containers.list`: it looks at each one that it has listed, and one may be gone by then.
        return bool(engine.api.containers(all=True, filters={"label": f"{CLUSTER_LABEL}={plan.name}"}))

    try:
        for _ in range(2):
            backend.start(["scheduler"])
            assert eventually(is_there)
            backend.stop(["scheduler"])
            assert not is_there()
    finally:
        backend.close()


def test_a_name_that_is_taken_costs_its_cluster_nothing(
    cluster: PlannedCluster, client: Client, engine: docker.DockerClient
) -> None:
    """A second start under the same name is refused by the engine, and removes nothing of the first."""
    second = DockerBackend(engine, ClusterState(make_keys(cluster.name), cluster.backend.plan))
    names = ["scheduler", "worker-0", "worker-1"]
    second.start(names)
    for name in names:
        problem = eventually(lambda name=name: second.problem(name), timeout_s=30)
        assert isinstance(problem, ClusterExistsError)
        assert f"There is a cluster {cluster.name} already" in problem.message
    second.stop(names)
    second.release()
    assert worker_names(client) == ["worker-0", "worker-1"]
    assert client.submit(sum, [1, 2]).result(30) == 3


def allocate(size: int) -> int:
    """Take memory at once, faster than any nanny looks."""
    return len(bytearray(size))


def allocate_in_a_child(size: int) -> int:
    """Take memory in a process of its own, which no nanny looks at."""
    return subprocess.run([sys.executable, "-c", f"bytearray({size})"], check=False).returncode


def test_what_the_nanny_does_not_see_the_kernel_stops_at_the_cap(
    cluster: PlannedCluster, client: Client
) -> None:
    """A process that a task starts counts too; at the cap the kernel ends it, and the cap is named."""
    worker = cluster.backend.plan.workers[1]
    size = 2 * worker.memory_bytes
    future = client.submit(by_value(allocate_in_a_child), size, workers=[worker.dask_name])
    assert future.result(timeout=60) == -9
    explained = eventually(lambda: cluster.explain_death(worker.dask_name))
    assert explained is not None
    assert "the kernel killed it at its memory limit of 1 GiB" in explained
    assert "max_memory_gb" in explained


def test_a_worker_that_outgrows_its_memory_is_ended_and_explained(
    cluster: PlannedCluster, client: Client
) -> None:
    """Whoever is first, the nanny or the kernel, ends the worker; it comes back, and its limit is named."""
    victim = cluster.backend.plan.workers[0]
    future = client.submit(by_value(allocate), 2 * victim.memory_bytes, workers=[victim.dask_name])
    explained = eventually(lambda: cluster.explain_death(victim.dask_name))
    assert explained is not None
    assert "memory" in explained
    assert "max_memory_gb" in explained
    future.cancel()
    # Dask turns names into addresses at once, so the next task has to wait for the worker's new one.
    eventually(lambda: len(worker_names(client)) < 2, timeout_s=10)
    assert eventually(lambda: worker_names(client) == ["worker-0", "worker-1"])
    assert client.submit(sum, [1, 2], workers=[victim.dask_name]).result(timeout=60) == 3


def test_scaling_stays_within_the_plan(
    cluster: PlannedCluster, client: Client, engine: docker.DockerClient
) -> None:
    """Workers go and come back with their own cores; more than the plan has are refused."""
    cluster.scale(1)
    assert eventually(lambda: len(worker_names(client)) == 1)
    label = {"label": f"{CLUSTER_LABEL}={cluster.name}"}
    assert eventually(lambda: len(engine.api.containers(all=True, filters=label)) == 2)
    cluster.scale(2)
    assert eventually(lambda: worker_names(client) == ["worker-0", "worker-1"])
    with pytest.raises(
        PlanError, match=f"Cannot scale to 3 workers: the plan of cluster {cluster.name} has 2"
    ):
        cluster.scale(3)


def square_when_both_are_there(number: int) -> int:
    """Leave work to do until the second worker has come for it."""
    Event("both").wait(timeout=240)
    return number**2


def test_adapting_stays_within_the_plan(cluster: PlannedCluster, client: Client) -> None:
    """`adapt` without a maximum goes up to the plan's workers, and down when there is nothing to do."""
    adaptive = cluster.adapt(minimum=1, interval="100ms", wait_count=2)
    try:
        assert adaptive.maximum == 2
        assert eventually(lambda: len(worker_names(client)) == 1)
        futures = client.map(by_value(square_when_both_are_there), range(100, 160))
        assert eventually(lambda: len(worker_names(client)) == 2)
        Event("both", client=client).set()
        assert client.gather(futures)[-1] == 159**2
        del futures
        # Stopped while a worker retires, it would take that worker away later.
        assert eventually(lambda: len(cluster.backend.describe().containers) == 2)
    finally:
        adaptive.stop()


@pytest.mark.parametrize("role", ["scheduler", "worker"])
def test_a_container_that_dies_while_starting_is_explained_and_nothing_is_left(
    engine: docker.DockerClient, own_images: object, role: str
) -> None:
    """The error has the exit code and the last lines of output, and whatever had started is gone."""
    del own_images
    plan = plan_of(f"dying-{role}")
    script = "import sys; print('line one'); sys.exit('the reason is this')"
    broken = {"command": ("python", "-c", script)}
    if role == "scheduler":
        plan = plan.model_copy(update={"scheduler": plan.scheduler.model_copy(update=broken)})
    else:
        workers = (plan.workers[0], plan.workers[1].model_copy(update=broken))
        plan = plan.model_copy(update={"workers": workers})
    with pytest.raises(ContainerFailedError) as caught, started(plan):
        pytest.fail("the cluster was started")
    message = str(caught.value)
    assert re.search("ended (while the cluster was starting|as soon as it was started)", message)
    assert "exited with code 1" in message
    assert "the reason is this" in message
    assert "memory limit of 1 GiB: no" in message
    assert_nothing_left(plan.name, engine)


def test_a_container_too_small_to_start_is_reported_as_out_of_memory(
    engine: docker.DockerClient, own_images: object
) -> None:
    """Where the kernel kills a container at its cap during the start, the error says so, and what to do."""
    del own_images
    plan = plan_of("starved")
    greedy = ("python", "-c", "print('starting'); bytearray(500_000_000)")
    small = plan.workers[1].model_copy(update={"memory_bytes": 64 * 1024**2, "command": greedy})
    plan = plan.model_copy(update={"workers": (plan.workers[0], small)})
    with pytest.raises(ContainerFailedError) as caught, started(plan):
        pytest.fail("the cluster was started")
    message = str(caught.value)
    assert "killed by the kernel at its memory limit of 64 MiB: yes" in message
    assert "raise processing.max_memory_gb" in message
    assert_nothing_left(plan.name, engine)


def test_a_scheduler_that_never_listens_is_given_up_at_the_deadline(
    engine: docker.DockerClient, own_images: object
) -> None:
    """The error names the limit and its setting."""
    del own_images
    plan = plan_of("silent")
    silent = plan.scheduler.model_copy(update={"command": ("python", "-c", "import time; time.sleep(600)")})
    plan = plan.model_copy(update={"scheduler": silent, "start_timeout_s": 15.0})
    with (
        pytest.raises(ContainerFailedError, match=r"within 15 s \(launch.start_timeout_s\)"),
        started(plan),
    ):
        pytest.fail("the cluster was started")
    assert_nothing_left(plan.name, engine)


def test_slow_workers_do_not_cost_the_lease(engine: docker.DockerClient, own_images: object) -> None:
    """The launcher has made its first contact long before workers that take longer than it may."""
    del own_images
    plan = plan_of("slow-workers")
    limit = plan.scheduler.command.index("--connect-timeout") + 1
    command = (*plan.scheduler.command[:limit], "8", *plan.scheduler.command[limit + 1 :])
    slow = [
        worker.model_copy(update={"command": ("sh", "-c", 'sleep 12; exec "$@"', "sh", *worker.command)})
        for worker in plan.workers
    ]
    plan = plan.model_copy(
        update={"scheduler": plan.scheduler.model_copy(update={"command": command}), "workers": tuple(slow)}
    )
    with started(plan) as cluster, Client(cluster) as client:
        assert worker_names(client) == ["worker-0", "worker-1"]
    assert_nothing_left(plan.name, engine)


def test_no_container_of_the_shared_cluster_runs_anything_twice(
    engine: docker.DockerClient, cluster: PlannedCluster, client: Client
) -> None:
    """One scheduler, and one nanny for each worker, whatever happened to them above."""
    assert worker_names(client) == ["worker-0", "worker-1"]
    containers = cluster.backend.describe().containers
    assert len(containers) == 3
    for container in containers:
        module = "runtime.scheduler" if container.name == "scheduler" else "runtime.worker"
        running = engine.api.top(container.id)["Processes"]
        assert len([process for process in running if "docker-init" in process[-1]]) == 1
        assert any(module in process[-1] for process in running)


def test_an_engine_that_overlooks_an_interface_is_asked_again(
    engine: docker.DockerClient, own_images: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A start that the engine fails, because it lists interfaces while others come and go, is repeated."""
    del own_images
    plan = plan_of("overlooked")
    words = "adding interface veth1 to bridge failed: route ip+net: no such network interface"
    refused: list[str] = []

    def refuse_first_start(moment: str, request: str) -> str | None:
        if moment == "before" and request.endswith("/start") and not refused:
            refused.append(request)
            return words
        return None

    with EngineProxy(tmp_path / "engine.sock", refuse_first_start) as proxy:
        monkeypatch.setenv("DOCKER_HOST", proxy.address)
        through_proxy = connect()
        try:
            with started(plan) as cluster, Client(cluster) as client:
                assert worker_names(client) == ["worker-0", "worker-1"]
        finally:
            through_proxy.close()
    assert refused
    assert_nothing_left(plan.name, engine)


def test_events_are_followed_again_where_their_stream_breaks(
    engine: docker.DockerClient, own_images: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refused, or open and broken off: a container that ends afterwards is replaced all the same."""
    del own_images
    asked: list[str] = []

    def refuse_first(moment: str, request: str) -> str | None:
        if moment == "before" and request.startswith("GET /events"):
            asked.append(request)
            return "no events today" if len(asked) == 1 else None
        return None

    plan = plan_of("events")
    with EngineProxy(tmp_path / "engine.sock", refuse_first) as proxy:
        monkeypatch.setenv("DOCKER_HOST", proxy.address)
        with started(plan) as cluster, Client(cluster) as client:
            for container, times in zip(plan.workers, (2, 3), strict=True):
                assert eventually(lambda times=times: len(asked) == times)
                before = engine.api.inspect_container(container.name)["Id"]
                engine.api.kill(before)

                def replaced(name: str = container.name, before: str = before) -> bool:
                    with suppress(EngineError), translate("look for the worker"):
                        return engine.api.inspect_container(name)["Id"] != before
                    return False

                assert eventually(replaced)  # so the stream is open
                assert eventually(lambda: worker_names(client) == ["worker-0", "worker-1"])
                assert proxy.break_off(asked[-1]) == 1
    assert_nothing_left(plan.name, engine)


def test_an_ephemeral_cluster_is_used_by_its_name(engine: docker.DockerClient, own_images: object) -> None:
    """Another manager of this host starts nothing, and leaves it as it is."""
    del own_images
    name = f"by-name-{RUN}"
    with DaskClusterManager(SETTINGS, cluster_name=name) as owner:
        with DaskClusterManager(name=name) as manager:
            assert manager.cluster is None
            assert manager.plan.workers == owner.plan.workers
            assert manager.scheduler_address == owner.scheduler_address
            assert manager.client.submit(sum, [1, 2]).result(timeout=60) == 3
        assert worker_names(owner.client) == ["worker-0", "worker-1"]
    assert_nothing_left(name, engine)


def test_a_label_that_cannot_be_read_fails_no_start(engine: docker.DockerClient, own_images: object) -> None:
    """A user ID that is no number, on a network of others: root prunes it, and nobody else."""
    del own_images
    name = f"unread-{RUN}"
    labels = {CLUSTER_LABEL: f"odd-{RUN}", OWNER_LABEL: "?", UID_LABEL: "nobody"}
    network = engine.api.create_network(f"odd-{RUN}", labels=labels)["Id"]
    try:
        with DaskClusterManager(SETTINGS, cluster_name=name) as manager:
            assert manager.client.submit(sum, [1, 2]).result(timeout=60) == 3
        assert (engine.api.networks(ids=[network]) == []) == (os.getuid() == 0)
    finally:
        with suppress(EngineError), translate("remove the network"):
            engine.api.remove_network(network)
    assert_nothing_left(name, engine)
