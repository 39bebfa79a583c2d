"""Hardening, read back from running containers, tried from inside tasks, and attacked from outside."""

from __future__ import annotations

import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cloudpickle
import pytest
from distributed import Client

from canvod.launch.cluster.planned_cluster import PlannedCluster
from canvod.launch.cluster.started_cluster import StartedCluster
from canvod.launch.config import load_settings
from canvod.launch.docker.engine import connect, probe_engine
from canvod.launch.host.detect import read_inventory
from canvod.launch.host.python_version import installed_version
from canvod.launch.images.context import image_namer
from canvod.launch.plan.model import Mount
from canvod.launch.plan.planner import make_plan
from canvod.launch.testing import assert_containers_match_plan, assert_nothing_left
from eventually import eventually
from images_fixture import OWN_PYTHON
from leftovers import RUN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import docker

    from canvod.launch.cluster.tls import ClusterKeys, KeyFolder

pytestmark = pytest.mark.docker

# Workers do not have the tests: what is defined here is sent by value.
cloudpickle.register_pickle_by_value(sys.modules[__name__])


class Running:
    """A cluster that runs, with everything that a test may want to look at."""

    def __init__(self, engine: docker.DockerClient, name: str, folder: Path, **launch: Any) -> None:
        self.readable, self.writable = folder / "in", folder / "out"
        for path in (self.readable, self.writable):
            path.mkdir()
            path.chmod(0o777)
        settings = load_settings(
            {
                "processing": {"resource_mode": "manual", "n_max_threads": 1, "max_memory_gb": 1},
                "launch": {"backend": "docker", "dashboard_port": 0, "python": OWN_PYTHON, **launch},
            }
        )
        self.plan = make_plan(
            settings,
            read_inventory(),
            backend="docker",
            name=name,
            python=OWN_PYTHON,
            version=installed_version(),
            engine=probe_engine(),
            image_for=image_namer(settings),
            mounts=[
                Mount(path=str(self.readable), read_only=True),
                Mount(path=str(self.writable), read_only=False),
            ],
        )
        self.engine = engine
        self.started = StartedCluster(self.plan, connect())
        with self.started.stopped_on_error():
            for _ in self.started.start():
                pass
        self.keys: ClusterKeys = self.started.state.keys
        self.folder = self.started.keys
        self.cluster = PlannedCluster(self.started)
        self.client = Client(self.cluster)

    def ask[R](self, function: Callable[..., R], *arguments: Any) -> R:
        """Run a function in a task, and return its result."""
        # A lambda, which Dask cannot send by its name.
        return self.client.submit(lambda: function(*arguments), pure=False).result(timeout=60)

    def containers(self) -> list[dict[str, Any]]:
        """What the engine says of each container."""
        return [self.engine.api.inspect_container(c.id) for c in self.cluster.backend.describe().containers]

    def close(self) -> None:
        """Remove it."""
        self.client.close()
        self.cluster.close()


@pytest.fixture(scope="module")
def running(
    engine: docker.DockerClient, own_images: object, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    """A cluster of one worker on an ordinary network."""
    del own_images
    cluster = Running(engine, f"hardening-{RUN}", tmp_path_factory.mktemp("hardening"))
    yield cluster
    cluster.close()
    assert_nothing_left(cluster.plan.name, engine)


@pytest.fixture(scope="module")
def isolated(
    engine: docker.DockerClient, own_images: object, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    """A cluster of one worker on an internal network."""
    del own_images
    cluster = Running(engine, f"isolated-{RUN}", tmp_path_factory.mktemp("isolated"), network="internal")
    yield cluster
    cluster.close()
    assert_nothing_left(cluster.plan.name, engine)


def test_engine_and_kernel_hold_the_containers_to_their_plan(running: Running, isolated: Running) -> None:
    """With folders to read and to write, and on a network without a way out."""
    for cluster in (running, isolated):
        assert_containers_match_plan(cluster.engine, cluster.plan)
        for container in (cluster.plan.scheduler, *cluster.plan.workers):
            assert container.user.split(":")[0] not in ("", "0", "root")


def read_status() -> dict[str, str]:
    """What the kernel says of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


def test_what_the_kernel_enforces_on_a_task(running: Running) -> None:
    """No capability in any set, no new privileges, a seccomp filter, and not root."""
    status = running.ask(read_status)
    assert {int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"
    assert "0" not in status["Uid"].split()


def try_to_write(folders: list[str]) -> dict[str, bool]:
    """Which of these folders a file can be made in."""
    found = {}
    for folder in folders:
        path = Path(folder, "written")
        try:
            path.write_text("x")
            path.unlink()
            found[folder] = True
        except OSError:
            found[folder] = False
    return found


def test_a_task_cannot_write_outside_its_mounts(running: Running) -> None:
    """Its own memory, its spill folder and what was given for writing; nothing else, inputs least of all."""
    allowed = [str(running.writable), "/tmp", "/spill"]
    forbidden = [
        "/",
        "/etc",
        "/opt/venv",
        "/usr/bin",
        "/var",
        "/root",
        str(running.readable),
        "/sys",
        "/proc",
    ]
    found = running.ask(try_to_write, [*allowed, *forbidden])
    assert [folder for folder, written in found.items() if written] == allowed
    (running.readable / "file").write_text("seen")
    assert running.ask(Path.read_text, running.readable / "file") == "seen"


def list_everything(top: str) -> list[str]:
    """All files below a folder that can be seen."""
    return [str(path) for path in Path(top).rglob("*")]


def test_a_task_sees_its_own_keys_and_no_others(running: Running, isolated: Running) -> None:
    """A worker has a worker's key; not the scheduler's, not a client's, not another cluster's."""
    assert sorted(running.ask(list_everything, "/keys")) == [
        "/keys/ca.pem",
        "/keys/cert.pem",
        "/keys/key.pem",
    ]
    assert running.ask(Path.read_text, Path("/keys/key.pem")) == running.keys.worker.key
    assert isolated.ask(Path.read_text, Path("/keys/key.pem")) == isolated.keys.worker.key
    for place in (running.folder.path, isolated.folder.path):
        assert running.ask(list_everything, str(place)) == []
    for place in ("/dev/shm", "/tmp", "/run", "/spill"):
        assert [path for path in running.ask(list_everything, place) if path.endswith(".pem")] == []


def connect_to(address: str, port: int) -> str:
    """Try to connect; the answer is ``connected``, or the error's name."""
    try:
        socket.create_connection((address, port), timeout=5).close()
    except OSError as error:
        return type(error).__name__
    return "connected"


def default_gateway() -> str:
    """Address of the host on this container's network, from the routes; empty without any."""
    for line in Path("/proc/net/route").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[1] == "00000000":
            return socket.inet_ntoa(bytes.fromhex(fields[2])[::-1])
    return ""


def test_a_task_cannot_reach_the_hosts_loopback(running: Running, isolated: Running) -> None:
    """A service on the host's 127.0.0.1 is not there for a task, by any address of the host."""
    with socket.create_server(("127.0.0.1", 0)) as service:
        port = service.getsockname()[1]
        for cluster in (running, isolated):
            gateway = cluster.ask(default_gateway)
            for address in filter(None, ("127.0.0.1", gateway)):
                assert cluster.ask(connect_to, address, port) != "connected"


@pytest.fixture
def outside() -> Iterator[str]:
    """Address of a machine that this host forwards to: a network namespace with a service on port 8080."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("making a network namespace takes root and iproute2")
    name, host, address = "canvod-outside", "198.51.100.1", "198.51.100.2"  # a test network (RFC 5737)
    commands = [
        f"ip netns add {name}",
        f"ip link add {name[:11]}-a type veth peer name {name[:11]}-b netns {name}",
        f"ip addr add {host}/30 dev {name[:11]}-a",
        f"ip link set {name[:11]}-a up",
        f"ip -n {name} addr add {address}/30 dev {name[:11]}-b",
        f"ip -n {name} link set {name[:11]}-b up",
        f"ip -n {name} route add default via {host}",
    ]
    subprocess.run(["ip", "netns", "del", name], check=False, stderr=subprocess.DEVNULL)
    try:
        for command in commands:
            subprocess.run(command.split(), check=True)
        server = ["ip", "netns", "exec", name, sys.executable, "-m", "http.server", "8080"]
        with subprocess.Popen(server, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            assert eventually(lambda: connect_to(address, 8080) == "connected")
            yield address
            process.kill()
    finally:
        subprocess.run(["ip", "netns", "del", name], check=False)


def test_an_internal_network_leads_nowhere(running: Running, isolated: Running, outside: str) -> None:
    """No way out, where an ordinary network has one; the host reaches scheduler and dashboard."""
    assert running.ask(connect_to, outside, 8080) == "connected"
    assert isolated.ask(connect_to, outside, 8080) != "connected"
    other = running.cluster.scheduler_address.rpartition("/")[2].partition(":")[0]
    assert isolated.ask(connect_to, other, 8786) != "connected"
    link = isolated.cluster.dashboard_link
    host, port = re.fullmatch(r"http://([\d.]+):(\d+)/status", link).groups()
    assert connect_to(host, int(port)) == "connected"


def listening_ports() -> list[int]:
    """Ports on which some process of this container accepts connections from elsewhere."""
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            local, state = line.split()[1], line.split()[3]
            address, port = local.split(":")
            if state == "0A" and not address.endswith("0100007F"):
                found.add(int(port, 16))
    return sorted(found)


def answers(address: str, port: int, keys: KeyFolder | None, kind: str) -> bytes:
    """What can be read at a port, without keys or with those of a client of another cluster."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if keys is not None:
        context.load_cert_chain(keys.file("client", "cert.pem"), keys.file("client", "key.pem"))
    try:
        with socket.create_connection((address, port), timeout=5) as connection:
            if kind == "plain":
                connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
                return connection.recv(1000)
            with context.wrap_socket(connection) as tls:
                return tls.recv(1000)
    except OSError:
        return b""


def test_without_keys_no_open_port_gives_anything_but_plain_pages(
    running: Running, isolated: Running
) -> None:
    """Every port of every container: only plain HTTP pages answer somebody without the cluster's keys."""
    tried = 0
    scheduler = running.client.run_on_scheduler(lambda: listening_ports())  # noqa: PLW0108 - by value
    worker = running.ask(listening_ports)
    names = (running.plan.scheduler.name, running.plan.workers[0].name)
    for name, ports in zip(names, (scheduler, worker), strict=True):
        state = running.engine.api.inspect_container(name)
        address = state["NetworkSettings"]["Networks"][running.plan.network.name]["IPAddress"]
        for port in ports:
            plain = answers(address, port, None, "plain")
            assert plain[:1] in (b"", b"\x15") or plain.startswith(b"HTTP/1."), (name, port, plain)
            if not plain.startswith(b"HTTP/1."):
                assert answers(address, port, None, "tls") == b""
                assert answers(address, port, isolated.folder, "tls") == b""
                tried += 1
    assert tried >= 3  # scheduler, nanny and worker


def test_no_key_is_anywhere_but_in_the_containers_memory(running: Running) -> None:
    """Not in what the engine tells of containers and images, not in logs, not in the process list."""
    texts = [str(found) for found in running.containers()]
    texts += [
        running.engine.api.logs(c.id).decode(errors="replace")
        for c in running.cluster.backend.describe().containers
    ]
    for plan in (running.plan.scheduler, *running.plan.workers):
        texts += [
            str(running.engine.api.history(plan.image)),
            str(running.engine.api.inspect_image(plan.image)),
        ]
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                texts.append((entry / "cmdline").read_text(errors="replace"))
                if entry.name != str(os.getpid()):
                    texts.append((entry / "environ").read_text(errors="replace"))
            except OSError:
                continue
    secrets = [
        line
        for role in ("scheduler", "worker", "client")
        for line in running.keys.files(role)["key.pem"].splitlines()[1:-1]
    ]
    assert len(secrets) >= 6
    for text in texts:
        assert "PRIVATE KEY" not in text
        assert not [secret for secret in secrets if secret in text]


def count_forks(wanted: int) -> int:
    """Start threads until the kernel refuses."""
    stop = threading.Event()
    threads: list[threading.Thread] = []
    try:
        for _ in range(wanted):
            thread = threading.Thread(target=stop.wait)
            thread.start()
            threads.append(thread)
    except RuntimeError:
        pass
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    return len(threads)


def test_a_fork_bomb_ends_at_the_limit(running: Running) -> None:
    """The kernel refuses threads and processes beyond pids_limit, and the worker goes on."""
    limit = running.plan.workers[0].pids_limit
    assert running.ask(count_forks, 2 * limit) < limit
    assert running.ask(sum, [1, 2]) == 3
