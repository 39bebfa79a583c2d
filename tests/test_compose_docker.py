"""``docker compose up`` on a real engine: what runs then, who can connect, and what a crash changes."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from distributed import Client

from canvod.launch.config import load_settings
from canvod.launch.detached.compose_file import compose_text
from canvod.launch.docker.create_request import create_request
from canvod.launch.docker.engine import probe_engine
from canvod.launch.errors import ImageError
from canvod.launch.host.detect import read_inventory
from canvod.launch.host.ports import choose_dashboard_port
from canvod.launch.host.python_version import installed_version, own_python
from canvod.launch.images.compose_build import prepare_compose
from canvod.launch.ingest.read import open_group
from canvod.launch.plan.model import Mount
from canvod.launch.plan.planner import make_plan
from canvod.launch.runtime.keys import security
from eventually import eventually
from ingest_files import write_window
from leftovers import RUN
from readme import example
from required import skip_without

if TYPE_CHECKING:
    from collections.abc import Iterator

    import docker

TOP = Path(__file__).resolve().parent.parent
PROJECT = "canvod-compose-test"
IMAGES = {role: f"canvod-launch-{role}:compose" for role in ("scheduler", "worker")}
BUILD_TIMEOUT_S = 3600
TIMEOUT_S = 120

pytestmark = [pytest.mark.docker, pytest.mark.timeout(BUILD_TIMEOUT_S + 600)]


class Project:
    """A checkout, and ``docker compose`` in it."""

    def __init__(self, folder: Path, engine: docker.DockerClient, config: str) -> None:
        self.folder, self.engine = folder, engine
        self.ports = {"CANVOD_SCHEDULER_PORT": str(take_port()), "CANVOD_DASHBOARD_PORT": str(take_port())}
        self.environ = {
            **{name: value for name, value in os.environ.items() if name != "CANVOD_USER"},
            "DOCKER_CONFIG": config,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}:{config}/bin",
            "COMPOSE_PROJECT_NAME": PROJECT,
            "CANVOD_WORKER_MEMORY": "768m",
            "CANVOD_NICE": "5",
            **self.ports,
        }

    def call(
        self, *words: str, timeout: float = TIMEOUT_S, **environ: str
    ) -> subprocess.CompletedProcess[str]:
        """Run ``docker compose``."""
        return subprocess.run(
            ["docker", "compose", *words],
            check=False,
            capture_output=True,
            text=True,
            cwd=self.folder,
            env=self.environ | environ,
            timeout=timeout,
        )

    def run(self, *words: str, timeout: float = TIMEOUT_S) -> str:
        """Run ``docker compose``, which must succeed."""
        done = self.call(*words, timeout=timeout)
        assert done.returncode == 0, f"{words}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
        return done.stdout

    def follow(self, *commands: str) -> str:
        """Run commands of the README in the checkout, in one shell that ends with the first that fails."""
        done = subprocess.run(
            ["bash", "-ec", "\n".join(commands)],
            check=False,
            capture_output=True,
            text=True,
            cwd=self.folder,
            env=self.environ,
            timeout=BUILD_TIMEOUT_S,
        )
        assert done.returncode == 0, f"{commands}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
        return done.stdout

    @property
    def uid(self) -> int:
        """User of the containers."""
        (user,) = re.findall(r"(?m)^CANVOD_USER=(\d+):", (self.folder / ".env").read_text())
        return int(user)

    def containers(self) -> dict[str, dict[str, Any]]:
        """What the engine says of each container, by name."""
        listed = self.engine.api.containers(
            all=True, filters={"label": f"com.docker.compose.project={PROJECT}"}
        )
        found = [self.engine.api.inspect_container(item["Id"]) for item in listed]
        return {state["Name"].removeprefix(f"/{PROJECT}-"): state for state in found}

    def of(self, service: str) -> list[dict[str, Any]]:
        """What the engine says of the containers of one service."""
        return [state for name, state in sorted(self.containers().items()) if name.startswith(f"{service}-")]

    def wait_healthy(self, restarts: int = 0) -> None:
        """Wait until scheduler and workers are healthy, workers having been started again so often."""

        def healthy() -> bool:
            workers = self.of("worker")
            states = [each["State"] for each in (*self.of("scheduler"), *workers)]
            health = {state.get("Health", {}).get("Status") for state in states}
            return health == {"healthy"} and all(each["RestartCount"] >= restarts for each in workers)

        assert eventually(healthy, timeout_s=TIMEOUT_S), (
            f"not healthy after {TIMEOUT_S} s: {self.run('ps', '--all')}\n{self.run('logs', '--tail', '20')}"
        )

    def keys(self, folder: Path) -> Path:
        """Copy the client's keys to the host, as the README says."""
        self.run("cp", "keys:/keys/client", str(folder))
        return folder

    def client(self, keys: Path) -> Client:
        """A client on the host."""
        return Client(f"tls://127.0.0.1:{self.ports['CANVOD_SCHEDULER_PORT']}", security=security(keys))


KILL_SCHEDULER = """
import os, sys
from pathlib import Path
from distributed import Client
from canvod.launch.runtime.keys import security
client = Client(sys.argv[1], security=security(Path(sys.argv[2])))
try:
    client.run_on_scheduler(os._exit, 7)
finally:
    os._exit(0)
"""


def take_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = int(server.getsockname()[1])
    assert choose_dashboard_port(port) == port
    return port


@pytest.fixture(scope="module")
def cli_config() -> str:
    """A folder for DOCKER_CONFIG with which ``docker compose`` works, fetched where it does not."""
    done = subprocess.run(
        [str(TOP / "scripts/compose-plugin")], check=False, capture_output=True, text=True, timeout=600
    )
    if done.returncode != 0:
        skip_without("DOCKER", done.stderr)
    return done.stdout.strip()


@pytest.fixture(scope="module")
def project(
    engine: docker.DockerClient, cli_config: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Project]:
    """A cluster that is up, made from a copy of the checkout by the commands of the README."""
    folder = tmp_path_factory.mktemp("clone") / "canvod-launch"
    left_out = shutil.ignore_patterns(
        ".git", ".venv*", ".cache", "__pycache__", ".*_cache", "demo", "dist", "tests",
        "compose.override.yaml", "compose.pinned.yaml", "client-keys", "data", "stores", ".hypothesis",
    )  # fmt: skip
    shutil.copytree(TOP, folder, ignore=left_out)
    made = Project(folder, engine, cli_config)
    try:
        prepare_compose(engine, load_settings(None), folder)
    except ImageError as exc:
        if os.geteuid() == 0:
            raise
        skip_without("DOCKER", f"no base image, and no right to make one: {exc.message}")
    made.run("down", "--volumes", "--remove-orphans")
    try:
        made.follow(*example("docker compose build").commands)
        made.wait_healthy()
        yield made
    finally:
        made.call("--profile", "ingest", "down", "--volumes", "--remove-orphans")


@pytest.fixture(scope="module")
def keys(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The client's keys."""
    return project.keys(tmp_path_factory.mktemp("keys") / "client")


def test_everything_is_healthy_and_reachable_from_here_only(project: Project) -> None:
    """What ``docker compose ps`` shows: scheduler and workers healthy, two ports on 127.0.0.1."""
    lines = [json.loads(line) for line in project.run("ps", "--format", "json").splitlines()]
    assert {(line["Service"], line["Health"]) for line in lines} == {
        ("scheduler", "healthy"),
        ("worker", "healthy"),
    }
    assert len(lines) == 3
    published = [port for line in lines for port in line["Publishers"] or () if port["PublishedPort"]]
    assert {port["URL"] for port in published} == {"127.0.0.1"}
    assert {str(port["PublishedPort"]) for port in published} == set(project.ports.values())
    (made,) = project.of("keys")
    assert made["State"]["Status"] == "exited"
    assert made["State"]["ExitCode"] == 0


def test_every_container_is_contained(project: Project) -> None:
    """Hardening and limits of every container, those that end before the scheduler starts too."""
    assert len(project.containers()) >= 5
    for name, found in project.containers().items():
        host = found["HostConfig"]
        assert host["ReadonlyRootfs"] is True, name
        assert host["CapDrop"] == ["ALL"], name
        assert host["CapAdd"] in (None, []), name
        assert host["SecurityOpt"] == ["no-new-privileges"], name
        assert host["Privileged"] is False, name
        assert host["Init"] is True, name
        assert host["PidsLimit"] == 512, name
        assert host["OomScoreAdj"] == 500, name
        assert host["MemorySwap"] == host["Memory"] > 0, name
        assert host["LogConfig"] == {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "2"}}, (
            name
        )
        assert host["Tmpfs"] == {"/tmp": "rw,nosuid,nodev,noexec,mode=1777,size=64m"}, name
        assert found["Config"]["User"].startswith(f"{project.uid}:"), name
        assert not [mount for mount in found["Mounts"] if mount.get("Source", "").endswith(".sock")], name
        expected = "on-failure" if name.startswith(("scheduler", "worker")) else "no"
        assert host["RestartPolicy"]["Name"] in (expected, ""), name
    for worker in project.of("worker"):
        assert worker["HostConfig"]["Memory"] == 768 * 1024**2


def test_no_key_is_where_it_does_not_belong(project: Project, keys: Path) -> None:
    """Not in what the engine tells of containers and images, and not in their logs."""
    texts = [str(project.containers()), project.run("logs"), project.run("config")]
    for image in IMAGES.values():
        texts += [str(project.engine.api.history(image)), str(project.engine.api.inspect_image(image))]
    secret = (keys / "key.pem").read_text().splitlines()[1]
    for text in texts:
        assert "PRIVATE KEY" not in text
        assert secret not in text


def test_nothing_of_the_site_stays_in_an_image(project: Project) -> None:
    """Neither files of docker/site nor an index, a mirror or a bundle in the history or the environment."""
    for image in IMAGES.values():
        files = project.engine.containers.run(
            image, ["find", "/", "-xdev", "(", "-path", "*docker/site*", "-o", "-name", "ca-bundle.pem", ")"],
            remove=True, network_mode="none", user="0",
        )  # fmt: skip
        assert files.decode().strip() == ""
        history = str(project.engine.api.history(image))
        for name in ("SSL_CERT_FILE", "PIP_INDEX_URL", "UV_DEFAULT_INDEX", "PROXY="):
            assert name not in history
            assert name not in str(project.engine.api.inspect_image(image)["Config"])


def test_a_client_with_the_keys_works(project: Project, keys: Path) -> None:
    """From the host, over TLS: tasks run, with the nice value, and Dask's limit is below the memory limit."""
    with project.client(keys) as client:
        assert client.submit(sum, [1, 2], pure=False).result(timeout=60) == 3
        workers = client.scheduler_info()["workers"]
        assert len(workers) == 2
        assert {worker["memory_limit"] for worker in workers.values()} == {(768 - 160) * 1024**2}
        assert set(client.run(os.nice, 0).values()) == {5}
        hostnames = {state["Config"]["Hostname"] for state in project.of("worker")}
        assert {worker["name"] for worker in workers.values()} == hostnames


def test_a_worker_has_its_own_key_and_no_other(project: Project, keys: Path) -> None:
    """The client's and the scheduler's are in volumes that no worker has."""
    with project.client(keys) as client:
        (seen,) = {tuple(sorted(names)) for names in client.run(os.listdir, "/keys").values()}
        assert seen == ("ca.pem", "cert.pem", "key.pem")
        texts = set(client.run(Path.read_text, Path("/keys/key.pem")).values())
        assert len(texts) == 1
        assert (keys / "key.pem").read_text() not in texts
    for state in project.of("worker"):
        names = {mount.get("Name", "") for mount in state["Mounts"] if mount["Type"] == "volume"}
        assert names == {f"{PROJECT}_keys-worker", f"{PROJECT}_spill"}
        assert not [m for m in state["Mounts"] if m["Destination"] == "/keys" and m["RW"]]


def test_without_a_certificate_nothing_is_answered(project: Project) -> None:
    """Without a certificate of this cluster nobody gets a byte from the scheduler, encrypted or not."""
    address = ("127.0.0.1", int(project.ports["CANVOD_SCHEDULER_PORT"]))
    with socket.create_connection(address, timeout=5) as connection:
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert connection.recv(1000)[:1] in (b"", b"\x15")
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with (
            socket.create_connection(address, timeout=5) as connection,
            context.wrap_socket(connection) as tls,
        ):
            answer = tls.recv(1000)
    except TimeoutError:
        raise
    except OSError:
        answer = b""
    assert answer == b""


def test_the_dashboard_answers_here(project: Project) -> None:
    """Plain HTTP on 127.0.0.1."""
    with socket.create_connection(
        ("127.0.0.1", int(project.ports["CANVOD_DASHBOARD_PORT"])), timeout=30
    ) as page:
        page.sendall(b"GET /health HTTP/1.0\r\n\r\n")
        assert page.recv(100).startswith(b"HTTP/1.")


def test_an_ingest_stores_what_the_host_can_read(project: Project) -> None:
    """``docker compose run --rm ingest``: the store is the user's, and holds what was in the inputs."""
    for number in range(4):
        write_window(project.folder / f"data/site/f{number}.25o", number * 10)
    (project.folder / "data/site").chmod(0o755)
    output = project.run(
        "run", "--rm", "ingest", "data/site", "--store", "stores/one", "--group", "site/ref_01", "--json"
    )
    report = json.loads(output[output.index("{") : output.rindex("}") + 1])
    assert report["counts"] == {"stored": 4, "known": 0, "partly": 0, "failed": 0}
    store = project.folder / "stores/one"
    assert {path.stat().st_uid for path in [store, *store.rglob("*")]} == {project.uid}
    with open_group(store, "site/ref_01") as found:
        assert found.dropna("epoch", how="all").sizes["epoch"] == 40


def test_a_scheduler_that_dies_comes_back_with_its_workers(project: Project, keys: Path) -> None:
    """Nobody has to do anything: the engine starts the scheduler again, and the workers, which lost it."""
    before = (keys / "key.pem").read_text()
    # In a process of its own, since no end is tidy for a client whose scheduler is gone.
    address = f"tls://127.0.0.1:{project.ports['CANVOD_SCHEDULER_PORT']}"
    subprocess.run(
        [sys.executable, "-c", KILL_SCHEDULER, address, str(keys)],
        check=False,
        timeout=120,
        capture_output=True,
    )
    project.wait_healthy(restarts=1)
    with project.client(keys) as client:
        assert client.submit(sum, [2, 3], pure=False).result(timeout=60) == 5
        assert len(client.scheduler_info()["workers"]) == 2
    assert (project.keys(keys.parent / "again") / "key.pem").read_text() == before


def test_a_worker_process_that_dies_is_replaced(project: Project, keys: Path) -> None:
    """Its nanny does that, within the container."""
    with project.client(keys) as client:
        name = min(client.scheduler_info()["workers"])
        restarts = [state["RestartCount"] for state in project.of("worker")]
        with suppress(Exception):
            client.run(os._exit, 9, workers=[name])

        def replaced() -> bool:
            now = client.scheduler_info()["workers"]
            return name not in now and len(now) == 2

        assert eventually(replaced, timeout_s=TIMEOUT_S)
        assert client.submit(sum, [1, 1], pure=False).result(timeout=60) == 2
    project.wait_healthy()
    assert [state["RestartCount"] for state in project.of("worker")] == restarts


def test_a_worker_that_is_told_to_stop_ends_with_0(project: Project) -> None:
    """It stays down until it is started, and the scheduler goes on."""
    one = project.of("worker")[0]
    name = one["Name"].lstrip("/")
    project.engine.api.stop(name, timeout=60)
    stopped = project.engine.api.inspect_container(name)["State"]
    assert (stopped["Status"], stopped["ExitCode"]) == ("exited", 0)
    project.engine.api.start(name)
    project.wait_healthy()


def test_a_worker_process_that_hangs_is_not_healthy(project: Project, keys: Path) -> None:
    """The check that Compose makes asks the process itself, not only whether the container runs."""
    with project.client(keys) as client:
        pids = client.run(os.getpid)
        names = {address: worker["name"] for address, worker in client.scheduler_info()["workers"].items()}
    (container,) = [
        state["Id"] for state in project.of("worker") if state["Config"]["Hostname"] == names[min(names)]
    ]
    found = project.engine.containers.get(container)
    send = "import os, signal, sys; os.kill(int(sys.argv[1]), getattr(signal, sys.argv[2]))"
    check = ["python", "-m", "canvod.launch.runtime.health"]
    assert (
        found.exec_run(check).output
        == b"healthy: registered with tls://scheduler:8786, and its process answers\n"
    )
    found.exec_run(["python", "-c", send, str(pids[min(names)]), "SIGSTOP"])
    try:
        answer = found.exec_run(check)
        assert (answer.exit_code, answer.output) == (1, b"no answer within 5 s\n")
    finally:
        found.exec_run(["python", "-c", send, str(pids[min(names)]), "SIGCONT"])
    project.wait_healthy()


def test_another_user_is_told_about_the_keys(project: Project) -> None:
    """Who changes CANVOD_USER on keys that are there reads why nothing starts, in the background too."""
    environ = {"CANVOD_USER": "12345:12345", "COMPOSE_PROJECT_NAME": f"{PROJECT}-other"}
    try:
        made = project.call("run", "--rm", "keys", COMPOSE_PROJECT_NAME=environ["COMPOSE_PROJECT_NAME"])
        assert made.returncode == 0, made.stderr
        done = project.call("up", "--detach", **environ)
        assert done.returncode == 1
        assert 'service "CANVOD_USER-owns-the-keys" didn\'t complete successfully' in done.stderr
        logs = project.call("logs", **environ).stdout
        assert "docker compose down --volumes" in logs
    finally:
        project.call("down", "--volumes", **environ)


def test_root_is_refused_on_the_screen(project: Project) -> None:
    """``up`` shows why nothing starts, in the background too, and ends with 1."""
    environ = {"CANVOD_USER": "0:0", "COMPOSE_PROJECT_NAME": f"{PROJECT}-root"}
    try:
        done = project.call("up", **environ)
        assert done.returncode == 1
        assert "CANVOD_USER is root; containers never run as root." in done.stdout + done.stderr
        assert "make compose-user" in done.stdout + done.stderr
        done = project.call("up", "--detach", **environ)
        assert done.returncode == 1
        assert 'service "CANVOD_USER-is-not-root" didn\'t complete successfully' in done.stderr
    finally:
        project.call("down", "--volumes", **environ)


def test_scaling_adds_workers(project: Project, keys: Path) -> None:
    """As many as are asked for, each with a name of its own."""
    project.run("up", "--detach", "--wait", "--scale", "worker=3", "--no-recreate")
    with project.client(keys) as client:
        assert len({worker["name"] for worker in client.scheduler_info()["workers"].values()}) == 3
    project.run("up", "--detach", "--wait", "--scale", "worker=2", "--no-recreate")


def test_a_client_can_end_the_cluster(project: Project, keys: Path) -> None:
    """Who shuts it down on purpose does not have it come back, until somebody brings it up."""
    # Not in a with block: Dask would never again compute without a client in this process.
    project.client(keys).shutdown()

    def states() -> list[dict[str, Any]]:
        return [
            container["State"] for service in ("scheduler", "worker") for container in project.of(service)
        ]

    ended = eventually(lambda: all(each["Status"] == "exited" for each in states()), timeout_s=TIMEOUT_S)
    assert ended, project.run("ps", "--all")
    assert {state["ExitCode"] for state in states()} == {0}
    project.run("up", "--detach", "--wait")
    with project.client(keys) as client:
        assert client.submit(sum, [3, 4], pure=False).result(timeout=60) == 7


def test_a_written_plan_makes_the_launchers_containers(project: Project) -> None:
    """It comes up healthy, of containers that are the launcher's to the engine, field by field."""
    settings = load_settings(
        {
            "processing": {
                "resource_mode": "manual",
                "n_max_threads": 2,
                "max_memory_gb": 2,
                "nice_priority": 10,
            },
            "launch": {"environment": {"PRICE": "5$"}, "dashboard_port": take_port()},
        }
    )
    plan = make_plan(
        settings,
        read_inventory(),
        backend="docker",
        name=f"pinned-{RUN}",
        python=own_python(),
        version=installed_version(),
        engine=probe_engine(),
        mounts=[Mount(path=str(project.folder / "stores"), read_only=False)],
        image_for=lambda role, _python: IMAGES[role],
        detached=True,
    )
    file = project.folder / "compose.pinned.yaml"
    file.write_text(compose_text(plan).replace("published: '8786'", f"published: '{take_port()}'"))
    environ = {"COMPOSE_PROJECT_NAME": f"canvod-pinned-{RUN}"}
    words = ("--file", str(file))
    assert yaml.safe_load(project.call(*words, "config", **environ).stdout)["services"]
    api = project.engine.api
    try:
        up = project.call(*words, "up", "--detach", "--wait", **environ)
        assert up.returncode == 0, up.stderr
        for planned in (plan.scheduler, *plan.workers):
            port = plan.dashboard_port if planned.role == "scheduler" else None
            body = create_request(planned, plan, dashboard_port=port)
            mine = api.create_container_from_config(body, f"canvod-pinned-mine-{RUN}")["Id"]
            try:
                differ = differences(api.inspect_container(mine), api.inspect_container(planned.name))
            finally:
                api.remove_container(mine, v=True, force=True)
            assert differ == {}, planned.name
    finally:
        project.call(*words, "down", "--volumes", **environ)


def test_what_the_readme_does_with_a_cluster_works(project: Project, images: object) -> None:
    """Ingest as oneself, connect with the client's keys, and give each worker cores of its own.

    The last of all: it takes the shared cluster down.
    """
    for number in range(2):
        write_window(project.folder / f"data/01_reference/f{number}.25o", number * 10)
    (project.folder / "data/01_reference").chmod(0o755)
    assert "rosalia/reference_01" in project.follow(*example("docker compose run --rm ingest").commands)
    scheduler = f"tls://127.0.0.1:{project.ports['CANVOD_SCHEDULER_PORT']}"
    use = f"from distributed import Client; print(Client('{scheduler}').submit(sum, [1, 2]).result())"
    keys = example("docker compose cp keys:/keys/client").commands
    assert project.follow(*keys, f'python -c "{use}"').splitlines()[-1] == "3"
    project.run("down", "--volumes")
    build, write, up = example("canvod-launch compose --config").commands
    project.follow(build, write)
    # Ports of the tests' own, as in the shared cluster.
    file = project.folder / "compose.pinned.yaml"
    for port in ("8786", "8787"):
        file.write_text(file.read_text().replace(f"published: '{port}'", f"published: '{take_port()}'"))
    try:
        assert "published: '878" not in file.read_text()
        project.follow(f"{up} --wait")
    finally:
        project.call("--file", str(file), "down", "--volumes")


DIFFERENT_ON_PURPOSE = {"AutoRemove", "RestartPolicy", "CpusetMems", "ContainerIDFile"}
SAME_IN_OTHER_WORDS = {"Binds", "Mounts", "PortBindings", "Tmpfs", "Links", "ExtraHosts"}


def differences(mine: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
    """Compare two containers as the engine tells of them, but for what differs on purpose."""

    def host(state: dict[str, Any]) -> dict[str, Any]:
        every = state["HostConfig"]
        kept = {k: v or None for k, v in every.items() if k not in DIFFERENT_ON_PURPOSE | SAME_IN_OTHER_WORDS}
        kept["Tmpfs"] = {path: text for path, text in every["Tmpfs"].items() if path != "/keys"}
        ports = every["PortBindings"] or {}
        kept["PortBindings"] = ports.get("8787/tcp")
        return kept

    def config(state: dict[str, Any]) -> dict[str, Any]:
        every = state["Config"]
        kept = {name: every[name] for name in ("Image", "Cmd", "User", "WorkingDir", "Entrypoint", "Tty")}
        kept["Env"] = sorted(every["Env"])
        kept["Labels"] = {k: v for k, v in every["Labels"].items() if not k.startswith("com.docker.compose")}
        kept["Mounts"] = sorted(
            (mount["Type"], mount["Destination"], mount["RW"], mount["Source"] * (mount["Type"] == "bind"))
            for mount in state["Mounts"]
            if mount["Destination"] != "/keys"
        )
        return kept

    ours, others = {**host(mine), **config(mine)}, {**host(theirs), **config(theirs)}
    keys = ours.keys() | others.keys()
    return {key: (ours.get(key), others.get(key)) for key in keys if ours.get(key) != others.get(key)}
