"""Keys: what they allow and forbid, in real connections, and where they are kept."""

from __future__ import annotations

import asyncio
import json
import os
import select
import socket
import ssl
import stat
import struct
import subprocess
import sys
import threading
from contextlib import ExitStack, asynccontextmanager
from dataclasses import asdict
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from distributed import Client, Scheduler, Worker
from distributed.comm.core import connect
from distributed.security import Security

from canvod.launch.cluster.orphans import prune_keys
from canvod.launch.cluster.tls import ROLES, ClusterKeys, KeyFolder, KeyRole, keys_home, make_keys
from canvod.launch.errors import KeysError
from canvod.launch.host.owner import owner_lives, owner_mark
from canvod.launch.runtime.keys import KeysMissingError, obtain_keys, security, write_keys

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

KEYS = make_keys("one")
OTHER = make_keys("another")


def written(cluster: str, keys: ClusterKeys, roles: tuple[KeyRole, ...] = ("client",)) -> KeyFolder:
    """Write the keys of a cluster."""
    folder = KeyFolder(cluster, roles)
    folder.write(keys)
    return folder


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A place for keys that no other test uses."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return keys_home()


def asynchronous[**P](test: Callable[P, Awaitable[None]]) -> Callable[P, None]:
    """Run a test in an event loop of its own."""

    @wraps(test)
    def run(*arguments: P.args, **options: P.kwargs) -> None:
        asyncio.run(test(*arguments, **options))

    return run


def folder_of(path: Path, files: dict[str, str]) -> Path:
    """Write a role's files."""
    path.mkdir()
    write_keys(path, files)
    return path


@asynccontextmanager
async def locked_scheduler(tmp_path: Path) -> AsyncIterator[Scheduler]:
    """A real scheduler behind the keys of cluster one."""
    keys = security(folder_of(tmp_path / "scheduler", KEYS.files("scheduler")))
    async with Scheduler(
        host="127.0.0.1", port=0, protocol="tls://", security=keys, dashboard=False, dashboard_address=":0"
    ) as scheduler:
        yield scheduler


def without_certificate(ca: str) -> ssl.SSLContext:
    """A client that knows the cluster's authority and has nothing to show."""
    context = ssl.create_default_context(cadata=ca)
    context.check_hostname = False
    return context


async def connects(address: str, keys: Security | ssl.SSLContext) -> bool:
    """Whether somebody with these keys gets an answer."""
    if isinstance(keys, Security):
        arguments = keys.get_connection_args("client")
    else:
        arguments = {"ssl_context": keys, "require_encryption": True}
    try:
        comm = await connect(address, timeout=3, **arguments)
    except OSError:
        return False
    await comm.write({"op": "identity"})
    answer = await comm.read()
    await comm.close()
    return answer["type"] == "Scheduler"


@asynchronous
async def test_a_client_of_the_cluster_gets_in_and_runs_code(tmp_path):
    """Scheduler, worker and client with the keys of one cluster work together."""
    async with locked_scheduler(tmp_path) as scheduler:
        worker_keys = security(folder_of(tmp_path / "worker", KEYS.files("worker")))
        client_keys = written("one", KEYS).security()
        async with (
            Worker(scheduler.address, security=worker_keys, host="127.0.0.1", dashboard=False),
            Client(scheduler.address, security=client_keys, asynchronous=True) as client,
        ):
            assert await client.submit(sum, [1, 2]) == 3


@pytest.mark.parametrize("certificate", ["none", "another cluster's", "self-signed", "no TLS"])
@asynchronous
async def test_who_has_no_certificate_of_the_cluster_is_refused(tmp_path, certificate):
    """Without a certificate, with another cluster's, with a self-signed one, or without TLS."""
    async with locked_scheduler(tmp_path) as scheduler:
        keys = {
            "none": without_certificate(KEYS.ca),
            "another cluster's": written("another", OTHER).security(),
            "self-signed": Security.temporary(),
            "no TLS": Security(),
        }[certificate]
        address = scheduler.address
        if certificate == "no TLS":
            address = address.replace("tls://", "tcp://")
        assert not await connects(address, keys)
        assert await connects(scheduler.address, written("one", KEYS).security())


@asynchronous
async def test_a_clients_certificate_is_no_schedulers(tmp_path):
    """Whoever has a client's key cannot set up a scheduler that others take for theirs."""
    keys = security(folder_of(tmp_path / "scheduler", KEYS.files("client")))
    async with Scheduler(
        host="127.0.0.1", port=0, protocol="tls://", security=keys, dashboard=False, dashboard_address=":0"
    ) as scheduler:
        assert not await connects(scheduler.address, written("one", KEYS).security())


@asynchronous
async def test_nothing_is_said_to_whoever_shows_no_certificate(tmp_path):
    """Neither plain words nor a handshake without a certificate bring a byte of Dask's protocol."""
    async with locked_scheduler(tmp_path) as scheduler:
        port = scheduler.port

        def plain() -> bytes:
            with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
                connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
                return connection.recv(100)

        def anonymous() -> bytes:
            context = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            with (
                socket.create_connection(("127.0.0.1", port), timeout=5) as connection,
                context.wrap_socket(connection) as tls,
            ):
                return tls.recv(100)

        answer = await asyncio.to_thread(_or_nothing, plain)
        assert answer == b"" or answer[0] in (0x15, 0x16)  # a TLS alert
        assert await asyncio.to_thread(_or_nothing, anonymous) == b""


def _or_nothing(function) -> bytes:
    try:
        return function()
    except OSError:
        return b""


def wait_readable(sock: ssl.SSLSocket) -> None:
    """Wait until something has arrived."""
    assert select.select([sock], [], [], 5)[0]


@pytest.mark.parametrize("abrupt", [True, False], ids=["reset", "closed"])
def test_a_connection_that_breaks_breaks_no_other_one(tmp_path, abrupt):
    """Two connections in one thread: one goes without a word, and the other is read as if nothing were."""
    server_keys = security(folder_of(tmp_path / "scheduler", KEYS.files("scheduler")))
    client_keys = security(folder_of(tmp_path / "client", KEYS.files("client")))
    serve = server_keys.get_listen_args("scheduler")["ssl_context"]
    call = client_keys.get_connection_args("client")["ssl_context"]

    def pair() -> tuple[ssl.SSLSocket, ssl.SSLSocket]:
        ours, theirs = socket.socketpair(socket.AF_UNIX) if not abrupt else tcp_pair()
        client = call.wrap_socket(theirs, do_handshake_on_connect=False)
        thread = threading.Thread(target=client.do_handshake)
        thread.start()
        server = serve.wrap_socket(ours, server_side=True)
        thread.join()
        server.setblocking(False)  # noqa: FBT003 - the socket's own signature
        return server, client

    (broken, leaver), (healthy, other) = pair(), pair()
    with broken, healthy, other:
        if abrupt:
            leaver.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        leaver.close()
        wait_readable(broken)
        buffer = bytearray(16)
        assert has_ended(broken)
        with pytest.raises(ssl.SSLWantReadError):
            healthy.recv_into(buffer)
        other.send(b"still here")
        wait_readable(healthy)
        assert buffer[: healthy.recv_into(buffer)] == b"still here"


def has_ended(sock: ssl.SSLSocket) -> bool:
    """Whether nothing more will come; Pythons and their OpenSSLs say so in different words."""
    try:
        return sock.recv_into(bytearray(16)) == 0
    except ssl.SSLWantReadError:
        return False
    except OSError:
        return True


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    """Two ends of a connection by TCP."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        theirs = socket.create_connection(listener.getsockname())
        ours, _ = listener.accept()
    return ours, theirs


def test_workers_stay_when_a_client_of_theirs_disconnects(tmp_path):
    """Nannies open connections and close them at once; no other connection of the process may notice."""
    from distributed import LocalCluster

    folder = written("hang-up", KEYS, ROLES)
    with LocalCluster(
        n_workers=0, host="127.0.0.1", protocol="tls://", security=folder.security(), dashboard_address=":0"
    ) as cluster:
        cluster.scale(2)
    assert not cluster.workers


def test_certificates_say_what_they_are_for():
    """One authority, three certificates of it; a client's is for clients only, and none can sign."""
    ca = x509.load_pem_x509_certificate(KEYS.ca.encode())
    for role in ROLES:
        certificate = x509.load_pem_x509_certificate(KEYS.files(role)["cert.pem"].encode())
        certificate.verify_directly_issued_by(ca)
        assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        purposes = set(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
        assert (ExtendedKeyUsageOID.SERVER_AUTH in purposes) == (role != "client")
    assert len({KEYS.files(role)["key.pem"] for role in ROLES}) == 3
    assert make_keys("one").ca != KEYS.ca


def test_no_key_is_printed():
    """Neither `repr` nor `str` of anything that holds keys shows one."""
    folder = written("one", KEYS, ROLES)
    for thing in (KEYS, KEYS.client, folder, folder.security(), folder.environment()):
        assert "PRIVATE KEY" not in repr(thing) + str(thing)


def test_files_are_their_owners_alone_and_go(home):
    """0600 in 0700, all the way up to the folder of this user's keys; removing twice is removing once."""
    folder = written("one", KEYS, ROLES)
    found = {path: stat.S_IMODE(path.stat().st_mode) for path in [home, *home.rglob("*")]}
    assert {mode for path, mode in found.items() if path.is_dir()} == {0o700}
    assert {mode for path, mode in found.items() if path.is_file()} == {0o600}
    folder.remove()
    folder.remove()
    assert list(home.iterdir()) == []


def test_keys_are_kept_in_memory_where_there_is_such_a_place(monkeypatch):
    """Without a runtime folder of the user's, shared memory comes before a disk."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/nowhere")
    assert keys_home() == Path(f"/dev/shm/canvod-launch-{os.getuid()}")


@pytest.mark.parametrize("how", ["open to all", "a link"])
def test_a_folder_that_others_could_read_is_refused(home, tmp_path, how):
    """Somebody else may have made the folder first."""
    if how == "a link":
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        home.symlink_to(tmp_path / "elsewhere")
    else:
        home.mkdir(mode=0o777)
        home.chmod(0o777)
    with pytest.raises(KeysError, match="is not a folder that only you can read"):
        written("one", KEYS)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting takes root")
def test_a_full_disk_is_one_clear_message_and_nothing_is_left(tmp_path, monkeypatch):
    """No room for the keys: the message names the folder and the reason."""
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8k,mode=0700", "tmpfs", small], check=True)
    try:
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(small))
        with pytest.raises(KeysError, match=r"Could not write the keys of cluster one to .*No space left"):
            written("one", KEYS, ROLES)
        assert not list(keys_home().glob("*one*"))
    finally:
        subprocess.run(["umount", small], check=True)


def test_keys_of_an_ended_process_are_pruned_and_others_are_not(home):
    """What belongs to a process that lives stays; what nobody can use any more goes."""
    mine = written("mine", KEYS)
    orphan = written("orphan", KEYS)
    with subprocess.Popen(["sleep", "60"]) as process:
        mark = owner_mark(process.pid)
        assert owner_lives(mark)
        process.kill()
    write_keys(orphan.path, {"launcher": mark})
    assert prune_keys() == [f"keys {orphan.path}"]
    assert list(home.iterdir()) == [mine.path]
    mine.remove()


STARTS = """
import os, sys
from canvod.launch.cluster.orphans import prune_keys
from canvod.launch.cluster.tls import ROLES, ClusterKeys, KeyFolder
from canvod.launch.host.owner import owner_mark
base, kept = eval(sys.stdin.readline())
keys, shared = ClusterKeys.from_json(kept), owner_mark(os.getppid())
for number in range(40):
    os.environ["XDG_RUNTIME_DIR"] = f"{base}/{number}"
    print("ready", flush=True)
    sys.stdin.readline()
    own = KeyFolder(f"own-{number}", ROLES)
    own.write(keys)
    attached = KeyFolder("attached", mark=shared)
    attached.write(keys)
    for path in (own.file("worker", "key.pem"), attached.file("client", "key.pem")):
        assert "PRIVATE KEY" in open(path).read()
    own.remove()
    prune_keys()
"""


def test_programs_may_start_at_the_same_time(tmp_path):
    """Four of them on 40 fresh hosts: each has keys of its own, and all have those of a cluster that runs."""
    for number in range(40):
        (tmp_path / str(number)).mkdir(mode=0o700)
    with ExitStack() as running:
        programs = [
            running.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", STARTS],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                    bufsize=1,
                )
            )
            for _ in range(4)
        ]
        for program in programs:
            program.stdin.write(f"{(str(tmp_path), asdict(KEYS))!r}\n")
        for _ in range(40):
            assert [program.stdout.readline() for program in programs] == ["ready\n"] * 4
            for program in programs:
                program.stdin.write("go\n")
    assert [program.returncode for program in programs] == [0] * 4
    for number in range(40):
        (folder,) = (tmp_path / str(number) / "canvod-launch").iterdir()
        assert folder.name.startswith("attached.")


def test_a_folder_that_is_being_made_is_never_pruned(home):
    """Whatever another process prunes between any two steps of the making."""
    states = []

    def prune(frame, event, argument):
        if frame.f_code.co_filename.endswith(("/cluster/tls.py", "/runtime/keys.py")):
            states.append(sorted(path.name for path in home.rglob("*")))
            assert prune_keys() == []
            return prune
        return None

    tracer = sys.gettrace()
    sys.settrace(prune)
    try:
        folder = written("one", KEYS, ROLES)
    finally:
        sys.settrace(tracer)
    assert ["launcher"] in [state[1:] for state in states]
    assert sorted(path.name for path in folder.path.iterdir()) == [
        "client",
        "launcher",
        "scheduler",
        "worker",
    ]


@pytest.mark.parametrize("step", ["os.mkdir", "open", "os.rename", "shutil.rmtree", "os.remove"])
def test_a_process_that_dies_while_it_makes_or_removes_keys_leaves_none(home, step):
    """A folder that is not complete belongs to the process that makes it, so that the next one prunes it."""
    program = f"""if True:
        import os, sys
        from canvod.launch.cluster.tls import ROLES, KeyFolder, make_keys

        def die(event, arguments):
            if event == {step!r} and ("canvod-launch/" in str(arguments[0]) or arguments[0] == "ca.pem"):
                os._exit(9)

        keys = make_keys("one")
        sys.addaudithook(die)
        folder = KeyFolder("one", ROLES)
        folder.write(keys)
        folder.remove()
    """
    done = subprocess.run([sys.executable, "-c", program], check=False, timeout=30)
    assert done.returncode == 9
    prune_keys()
    assert not home.exists() or list(home.iterdir()) == []


def test_a_mark_is_never_taken_for_another_process():
    """Another boot, another start or no mark at all: that launcher has ended."""
    boot, namespace, pid, ticks = owner_mark().split("/")
    assert not owner_lives(f"another-boot/{namespace}/{pid}/{ticks}")
    assert not owner_lives(f"{boot}/{namespace}/{pid}/{int(ticks) + 1}")
    assert owner_lives(f"{boot}/1/{pid}/1")  # another namespace: it cannot be seen from here
    assert not owner_lives("")


RECEIVE = (
    "import sys, pathlib; from canvod.launch.runtime.keys import obtain_keys\n"
    "obtain_keys(pathlib.Path(sys.argv[1]), 5.0)"
)


def test_keys_come_on_standard_input_once(tmp_path):
    """A container that has no keys reads one line, and stores it in files of its own."""
    subprocess.run(
        [sys.executable, "-c", RECEIVE, tmp_path],
        input=json.dumps(KEYS.files("worker") | {"state.json": '{"a": 1}'}) + "\n",
        text=True,
        check=True,
        timeout=30,
    )
    assert (tmp_path / "key.pem").read_text() == KEYS.worker.key
    assert stat.S_IMODE((tmp_path / "key.pem").stat().st_mode) == 0o600
    assert json.loads((tmp_path / "state.json").read_text()) == {"a": 1}
    # There already: standard input is left alone.
    obtain_keys(tmp_path, 0.1)


@pytest.mark.parametrize("given", [b"", b'{"ca.pem": "half'])
def test_half_a_line_of_keys_is_none(tmp_path, given):
    """A launcher that died while it was speaking leaves no half of a key."""
    done = subprocess.run(
        [sys.executable, "-c", RECEIVE, tmp_path], input=given, capture_output=True, check=False, timeout=30
    )
    assert done.returncode == 1
    assert KeysMissingError.__name__ in done.stderr.decode()
    assert list(tmp_path.iterdir()) == []
