"""A detached cluster: it outlives who started it, is found and used by others, and is removed entirely."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cloudpickle
import psutil
import pytest
from distributed import Scheduler
from distributed.core import Status, rpc

from canvod.launch.cli.plan_view import plan_json
from canvod.launch.cluster.cluster_state import ClusterState
from canvod.launch.cluster.host_paths import make_mounts, require_visible
from canvod.launch.cluster.orphans import prune_keys
from canvod.launch.cluster.tls import KeyFolder, keys_home, make_keys
from canvod.launch.config import load_settings
from canvod.launch.docker.container_memory import read_memory
from canvod.launch.docker.discovery import ClusterInfo, choose_cluster, find_clusters
from canvod.launch.errors import ClusterExistsError, ClusterNotFoundError, ConfigError, InputError
from canvod.launch.host.detect import read_inventory
from canvod.launch.host.labels import CLUSTER_LABEL, LABEL_PREFIX, OWNER_LABEL, ROLE_LABEL
from canvod.launch.host.owner import owner_mark
from canvod.launch.manager import DaskClusterManager
from canvod.launch.runtime.operations import STATUS, TARGET, StatusPlugin
from canvod.launch.testing import assert_nothing_left, find_leftovers
from engine_proxy import EngineProxy
from eventually import eventually
from leftovers import GONE_WITHIN_S, RUN, volumes
from plan_strategies import planned

if TYPE_CHECKING:
    from collections.abc import Iterator

    import docker

    from canvod.launch.plan.model import ClusterPlan

NAME = f"detached-{RUN}"

# Workers do not have the tests: what is defined here is sent by value.
cloudpickle.register_pickle_by_value(sys.modules[__name__])


def command(*words: str) -> list[str]:
    """The command line of canvod-launch, in this environment."""
    program = "import sys; from canvod.launch.cli import main; sys.exit(main())"
    return [sys.executable, "-c", program, *words]


def environment(folder: Path) -> dict[str, str]:
    """An environment with small workers."""
    settings = folder / "processing.yaml"
    if not settings.exists():
        settings.write_text(
            "processing: {resource_mode: manual, n_max_threads: 2, max_memory_gb: 2}\n"
            "launch: {backend: docker, dashboard_port: 0, log_level: warning}\n"
        )
    return {**os.environ, "COLUMNS": "200"}


def call(folder: Path, *words: str, status: int = 0) -> subprocess.CompletedProcess[str]:
    """Run one command to its end."""
    done = subprocess.run(
        command(*words),
        capture_output=True,
        text=True,
        timeout=120,
        env=environment(folder),
        cwd=folder,
        check=False,
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done


def up(folder: Path, name: str, *words: str) -> dict[str, Any]:
    """Start a cluster of two workers."""
    environment(folder)
    out = call(folder, "up", "--name", name, "--config", "processing.yaml", "--json", *words).stdout
    answer: dict[str, Any] = json.loads(out)
    return answer


def state(folder: Path, name: str = NAME) -> dict[str, Any]:
    """What status says of one cluster."""
    (found,) = json.loads(call(folder, "status", "--name", name, "--json").stdout)
    answer: dict[str, Any] = found
    return answer


@pytest.fixture(scope="module")
def folder(
    tmp_path_factory: pytest.TempPathFactory, engine: docker.DockerClient, own_images: object
) -> Iterator[Path]:
    """A detached cluster for the tests of this module, and the folder that its commands run in."""
    del own_images
    folder = tmp_path_factory.mktemp("detached")
    before = volumes(engine)
    answer = up(folder, NAME, "--read-only", str(folder))
    assert (answer["state"], answer["workers"], answer["kind"]) == ("up", 2, "detached")
    yield folder
    call(folder, "down", NAME)
    assert_nothing_left(NAME, engine)
    assert volumes(engine) <= before


@pytest.mark.docker
def test_status_tells_limits_memory_and_tasks(folder: Path) -> None:
    """For people in a table, for programs in JSON."""
    found = state(folder)
    scheduler, *workers = found["containers"]
    assert scheduler["name"] == "scheduler"
    assert [worker["name"] for worker in workers] == ["worker-0", "worker-1"]
    for worker in workers:
        assert worker["memory_limit_bytes"] == 1024**3
        assert 10 * 1024**2 < worker["memory_bytes"] <= worker["peak_bytes"] < worker["memory_limit_bytes"]
        assert worker["tasks"] == 0
        assert worker["cores"] != ""
    table = call(folder, "status", "--name", NAME).stdout
    for word in (NAME, "up", "2 of 2 workers", "worker-1", "1 GiB", found["scheduler_address"], "uptime"):
        assert word in table


@pytest.mark.docker
def test_the_plan_that_is_shown_is_the_one_that_was_started(
    folder: Path, engine: docker.DockerClient
) -> None:
    """``plan --detached`` with the options of ``up``: equal but for the process that started it.

    It names images, and containers are made by the images' IDs.
    """
    options = ["--name", NAME, "--config", "processing.yaml", "--read-only", str(folder)]
    shown = json.loads(call(folder, "plan", "--detached", "--json", *options).stdout)
    with DaskClusterManager(name=NAME) as manager:
        started = json.loads(plan_json(manager.plan))
    assert shown.pop("notes")
    assert started.pop("notes") == []  # they are for who reads a plan
    for plan in (shown, started):
        for part in (plan["scheduler"], *plan["workers"], plan["network"]):
            assert part["labels"].pop(OWNER_LABEL)
    for part in (shown["scheduler"], *shown["workers"]):
        part["image"] = engine.images.get(part["image"]).id
    assert shown == started


@pytest.mark.docker
def test_a_second_one_of_the_same_name_is_refused(folder: Path) -> None:
    """The first is as it was, and the message says what to do."""
    refused = call(folder, "up", "--name", NAME, "--config", "processing.yaml", status=1)
    assert f"There is a cluster {NAME} already" in refused.stderr
    assert "take another name" in refused.stderr
    with pytest.raises(ClusterExistsError, match=f"There is a cluster {NAME} already"):
        DaskClusterManager({"launch": {"backend": "docker"}}, cluster_name=NAME)
    assert state(folder)["state"] == "up"


@pytest.mark.docker
def test_the_lines_of_connect_connect(folder: Path) -> None:
    """As a notebook would run them, and as a shell would."""
    program = call(folder, "connect", NAME).stdout + "\nprint(client.submit(sum, [1, 2]).result())\n"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "3"
    variables = json.loads(call(folder, "connect", NAME, "--json").stdout)["environment"]
    shell = call(folder, "connect", NAME, "--shell").stdout
    assert all(f"export {name}=" in shell for name in variables)
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "from distributed import Client; print(Client().submit(sum, [2, 2]).result())",
        ],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | variables,
        check=True,
    )
    assert done.stdout.strip() == "4"
    assert keys_home().stat().st_mode & 0o077 == 0


@pytest.mark.docker
def test_a_manager_that_attaches_leaves_the_cluster_alone(folder: Path) -> None:
    """By name or by address, and closing it stops nothing."""
    with DaskClusterManager(name=NAME) as manager:
        assert manager.plan.detached
        assert manager.cluster is None
        assert manager.task_client.submit(sum, [1, 2]).result(timeout=30) == 3
        assert manager.client.submit(lambda x: x + 1, 1).result(timeout=30) == 2
        address = manager.scheduler_address
    with DaskClusterManager(scheduler_address=address) as manager:
        assert manager.task_client.submit(sum, [2, 2]).result(timeout=30) == 4
    assert state(folder)["state"] == "up"


@pytest.mark.docker
def test_keys_that_were_lost_are_fetched_again(folder: Path) -> None:
    """From the scheduler; those that are there are not pruned while it runs."""
    prune_keys()
    (keys,) = keys_home().glob(f"{NAME}.*")
    before = json.loads(call(folder, "connect", NAME, "--json").stdout)
    for file in keys.rglob("*"):
        if file.is_file():
            file.unlink()
    assert json.loads(call(folder, "connect", NAME, "--json").stdout) == before
    assert state(folder)["state"] == "up"


@pytest.mark.docker
def test_a_worker_that_ends_is_shown_and_started_again(folder: Path, engine: docker.DockerClient) -> None:
    """Nobody replaces it by himself; scale does."""
    engine.api.kill(f"canvod-launch-{NAME}-worker-1")
    found = eventually(lambda: found if (found := state(folder))["state"] != "up" else None)
    assert found is not None
    assert (found["state"], found["workers"], found["workers_wanted"]) == ("degraded", 1, 2)
    assert found["containers"][-1]["name"] == "worker-1"
    eventually(lambda: state(folder)["containers"][-1]["state"] == "gone")
    assert "canvod-launch scale 2 --name" in call(folder, "status").stdout
    call(folder, "scale", "2", "--name", NAME)
    assert state(folder)["state"] == "up"


@pytest.mark.docker
def test_scale_down_and_up_and_no_further(folder: Path) -> None:
    """Results of a worker that goes are kept, and there is no worker beyond the plan."""
    with DaskClusterManager(name=NAME) as manager:
        futures = manager.task_client.map(abs, range(-20, 0), pure=False)
        assert sum(manager.task_client.gather(futures)) == 210
        assert "2 workers before, 1 now" in call(folder, "scale", "1", "--name", NAME).stdout
        found = state(folder)
        assert (found["state"], found["workers"], found["workers_wanted"]) == ("up", 1, 1)
        assert sum(manager.task_client.gather(futures)) == 210
    assert "1 worker before, 2 now" in call(folder, "scale", "2", "--name", NAME).stdout
    assert state(folder)["state"] == "up"
    refused = call(folder, "scale", "3", "--name", NAME, status=1).stderr
    assert "has 2" in refused
    assert "from 0 to 2" in refused


@pytest.mark.docker
def test_logs_are_those_of_all_containers(folder: Path) -> None:
    """In the order of time, and followed until they end."""
    lines = call(folder, "logs", "--name", NAME).stdout.splitlines()
    assert any(line.startswith("scheduler | ") for line in lines)
    assert any(line.startswith("worker-0  | ") and "Registered to" in line for line in lines)
    assert len(call(folder, "logs", "--name", NAME, "--tail", "1").stdout.splitlines()) == 3
    following = subprocess.Popen(
        command("logs", "-f", "--tail", "1", "--name", NAME),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert following.stdout is not None
    assert " | " in following.stdout.readline()
    following.send_signal(signal.SIGINT)
    following.communicate(timeout=20)
    assert following.returncode == 130


@pytest.mark.docker
def test_what_is_not_there_is_named_with_what_is(folder: Path) -> None:
    """Every command that takes a name answers alike."""
    for words in (("connect", "nobody"), ("logs", "--name", "nobody")):
        refused = call(folder, *words, status=1).stderr
        assert "There is no cluster nobody" in refused
        assert NAME in refused
    with pytest.raises(ClusterNotFoundError, match=NAME):
        DaskClusterManager(name="nobody")
    answer = json.loads(call(folder, "connect", "nobody", "--json", status=1).stdout)
    assert answer["kind"] == "cluster_not_found"


@pytest.mark.docker
def test_a_cluster_that_is_not_there_is_stopped_already(folder: Path) -> None:
    """For a script the second time is as good as the first; the names that there are tell a wrong one."""
    said = call(folder, "down", "nobody").stdout
    assert f"no cluster nobody on this host (there are: {NAME}" in said
    assert json.loads(call(folder, "down", "nobody", "--json").stdout) == {"name": "nobody", "removed": []}


@pytest.mark.docker
def test_prune_leaves_a_detached_cluster_that_runs(folder: Path) -> None:
    """It is not among what was removed, and it is up."""
    assert NAME not in call(folder, "prune").stdout
    assert state(folder)["state"] == "up"


@pytest.mark.docker
def test_an_ingest_is_refused_where_workers_do_not_see_the_files(folder: Path, tmp_path: Path) -> None:
    """Before anything is read, with what they see."""
    (tmp_path / "data").mkdir()
    call(folder, "simulate", str(tmp_path / "data"), "--hours", "1", "--receivers", "1")
    words = ("ingest", str(tmp_path / "data"), "--store", str(tmp_path / "store"), "--group", "a/b")
    refused = call(folder, *words, "--cluster", NAME, status=1).stderr
    assert f"The workers of cluster {NAME} cannot see {tmp_path}" in refused
    assert f"{folder} (read only)" in refused


@pytest.mark.docker
def test_a_cluster_of_compose_is_shown_and_left_alone(
    engine: docker.DockerClient, folder: Path, images: dict[str, Any]
) -> None:
    """Its keys are somebody else's: what the engine knows is shown, and nothing fails."""
    composed = f"composed-{RUN}"
    labels = {CLUSTER_LABEL: composed, ROLE_LABEL: "scheduler", "com.docker.compose.project": "x"}
    workers = {**labels, ROLE_LABEL: "worker", "com.docker.compose.container-number": "7"}
    sleep = {"command": ["sleep", "600"], "detach": True, "auto_remove": True}
    image = images["worker"].name
    containers = [engine.containers.run(image, labels=marks, **sleep) for marks in (labels, workers)]
    try:
        found = state(folder, composed)
        assert (found["kind"], found["state"], found["workers"]) == ("compose", "up", 1)
        assert [container["name"] for container in found["containers"]] == ["scheduler", "worker-7"]
        assert "docker compose" in call(folder, "status").stdout
        assert "docker compose down" in call(folder, "down", composed, status=1).stderr
        assert "belongs to docker compose" in call(folder, "connect", composed, status=1).stderr
        call(folder, "scale", "1", "--name", composed, status=1)
        assert "It is not clear" in call(folder, "connect", status=1).stderr
    finally:
        for container in containers:
            container.remove(force=True)


@pytest.mark.docker
@pytest.mark.usefixtures("images")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL], ids=str)
def test_a_start_that_is_interrupted_leaves_nothing(
    engine: docker.DockerClient, tmp_path: Path, number: signal.Signals
) -> None:
    """When there are containers already, by Ctrl-C, another signal or SIGKILL."""
    name = f"interrupted-{int(number)}-{RUN}"
    variables = environment(tmp_path)
    starts: list[str] = []

    def interrupt(moment: str, request: str) -> None:
        if moment == "after" and request.split("?", maxsplit=1)[0].endswith("/start"):
            starts.append(request)
            if len(starts) == 2:
                process.send_signal(number)

    with EngineProxy(tmp_path / "engine.sock", interrupt) as proxy:
        process = subprocess.Popen(
            command("up", "--name", name, "--config", "processing.yaml"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=variables | {"DOCKER_HOST": proxy.address},
            cwd=tmp_path,
            start_new_session=True,
        )
        _, errors = process.communicate(timeout=120)
        assert len(starts) >= 2
        assert process.returncode == (-9 if number is signal.SIGKILL else 128 + number), errors
        assert_nothing_left(name, engine, within_s=GONE_WITHIN_S)


def in_session(leader: int) -> list[int]:
    """Process IDs of a session, that of its leader being given."""
    found = []
    for pid in psutil.pids():
        with suppress(ProcessLookupError):
            if os.getsid(pid) == leader:
                found.append(pid)
    return found


@pytest.mark.docker
@pytest.mark.usefixtures("images")
def test_it_outlives_its_terminal_and_is_pruned_without_containers(
    engine: docker.DockerClient, tmp_path: Path
) -> None:
    """The terminal of `up` is closed, and it is up; its containers are killed: it is pruned."""
    name = f"terminal-{RUN}"
    variables = environment(tmp_path)
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(tmp_path)
        words = command("up", "--name", name, "--config", "processing.yaml")
        os.execve(words[0], words, variables)  # noqa: S606 - the test's own command
    said = b""
    try:
        while piece := os.read(terminal, 65536):
            said += piece
    except OSError:
        pass  # the end of a terminal
    _, status = os.waitpid(pid, 0)
    os.close(terminal)
    assert status == 0, said.decode()
    assert b"canvod-launch down" in said
    assert eventually(lambda: not in_session(pid))
    assert state(tmp_path, name)["state"] == "up"
    for container in engine.api.containers(filters={"label": f"{CLUSTER_LABEL}={name}"}):
        engine.api.kill(container["Id"])
    assert eventually(lambda: not [item for item in find_leftovers(name, engine) if "container" in item])
    assert name not in call(tmp_path, "status").stdout
    assert f"network canvod-launch-{name}" in call(tmp_path, "prune").stdout
    assert_nothing_left(name, engine)


@pytest.mark.docker
@pytest.mark.usefixtures("images")
def test_without_tasks_it_ends_after_its_idle_timeout(engine: docker.DockerClient, tmp_path: Path) -> None:
    """The containers by themselves, the rest with the next start or with prune."""
    name = f"idle-{RUN}"
    up(tmp_path, name, "--idle-timeout", "10")
    assert eventually(lambda: not [item for item in find_leftovers(name, engine) if "container" in item])
    call(tmp_path, "prune")
    assert_nothing_left(name, engine)


def test_a_start_that_nobody_finishes_ends() -> None:
    """The scheduler ends by itself where its launcher and the watchdog were killed; not one with a target."""

    async def start() -> None:
        told, other = (
            Scheduler(dashboard_address=":0", plugins=[StatusPlugin(confirm_within_s=2)]) for _ in range(2)
        )
        async with told, rpc(told.address) as asked:
            await getattr(asked, TARGET)(workers=2)
            assert (await getattr(asked, STATUS)())["target"] == 2
            async with other:  # whose time is up later
                await asyncio.wait_for(other.finished(), 30)
            assert told.status == Status.running

    asyncio.run(start())


@pytest.fixture
def plan() -> ClusterPlan:
    """A plan with something to see and something to write."""
    settings = load_settings({"launch": {"environment": {"A": "b"}}})
    mounts = make_mounts(["/data", "/data/store/old"], ["/data/store"])
    return planned(settings, read_inventory(), name="kept", mounts=mounts, detached=True)


def test_what_a_scheduler_keeps_is_read_back(plan: ClusterPlan) -> None:
    """Keys and plan, without the notes, which were said already."""
    kept = ClusterState(make_keys("kept"), plan)
    back = ClusterState.from_json(json.loads(json.dumps(kept.as_json())))
    assert back.plan == plan.model_copy(update={"notes": ()})
    assert back.keys == kept.keys
    assert "PRIVATE" not in repr(kept)


def test_the_innermost_mount_decides_what_is_seen(plan: ClusterPlan) -> None:
    """Read only within writable within read only."""
    require_visible(plan, [Path("/data/a"), Path("/data/store")], [Path("/data/store/new")])
    for read, write in (([Path("/home/x")], []), ([], [Path("/data/a")]), ([], [Path("/data/store/old/a")])):
        with pytest.raises(InputError, match="The workers of cluster kept cannot"):
            require_visible(plan, read, write)


def test_keys_of_a_cluster_are_kept_as_long_as_its_process(tmp_path: Path, monkeypatch) -> None:
    """They are pruned when the scheduler has ended, and not before."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with subprocess.Popen(["sleep", "60"]) as process:
        mark = owner_mark(process.pid)
        folder = KeyFolder("kept", mark=mark)
        folder.write(make_keys("kept"))
        assert prune_keys() == []
        assert KeyFolder("kept", mark=mark).exists
        assert not KeyFolder("kept").exists
        process.kill()
    assert prune_keys() == [f"keys {folder.path}"]


def test_a_cluster_that_exists_takes_no_settings() -> None:
    """What is given besides the name is refused, with the word for a new one."""
    with pytest.raises(ConfigError, match=r"n_max_threads.*cannot be set") as caught:
        DaskClusterManager(name="x", n_workers=2)
    assert "cluster_name='x'" in str(caught.value)


@pytest.mark.parametrize(
    ("names", "wanted", "words"),
    [
        ((), None, "You have no detached cluster on this host"),
        ((), "lab", "there is none at all"),
        (("a", "b"), None, "there are 2: a, b"),
        (("a", "b"), "c", "there are: a, b"),
    ],
)
def test_a_cluster_that_is_not_meant_clearly_is_refused(names, wanted, words) -> None:
    """The message has the names that there are."""
    clusters = [ClusterInfo(name, (_container(name),)) for name in names]
    with pytest.raises(ClusterNotFoundError) as caught:
        choose_cluster(clusters, wanted)
    assert words in str(caught.value)
    if len(names) == 2:  # some commands have an option for the name, some have an argument
        assert "--name" not in str(caught.value.hint)


def test_time_without_tasks_counts_from_the_end_of_the_start() -> None:
    """However long the workers take to come."""

    async def start() -> None:
        plugin = StatusPlugin(confirm_within_s=60)
        starting = Scheduler(dashboard_address=":0", plugins=[plugin], idle_timeout=0.3)
        async with starting:
            async with Scheduler(dashboard_address=":0", idle_timeout=0.3) as other:
                await asyncio.wait_for(other.finished(), 30)
            assert starting.status == Status.running
            finished = time.monotonic()
            plugin.set_target(workers=1)
            await asyncio.wait_for(starting.finished(), 30)
            assert time.monotonic() - finished > 0.3

    asyncio.run(start())


def _container(cluster: str):
    class Api:
        """As the engine answers."""

        def containers(self, **_options: Any) -> list[dict[str, Any]]:
            labels = {
                CLUSTER_LABEL: cluster,
                ROLE_LABEL: "scheduler",
                f"{LABEL_PREFIX}.detached": "true",
                f"{LABEL_PREFIX}.uid": str(os.getuid()),
            }
            return [{"Id": "1", "Names": ["/n"], "Labels": labels, "State": "running", "Created": 1}]

    class Fake:
        api = Api()

    ((found,),) = [cluster.containers for cluster in find_clusters(Fake())]  # type: ignore[arg-type]
    return found


def test_memory_is_read_under_both_versions_of_cgroups() -> None:
    """Without files that are only cached; the peak where the engine tells it."""
    assert read_memory({"usage": 900, "max_usage": 950, "stats": {"total_inactive_file": 50}}) == (850, 950)
    assert read_memory({"usage": 900, "stats": {"inactive_file": 100}}) == (800, None)
    assert read_memory({}) == (None, None)
