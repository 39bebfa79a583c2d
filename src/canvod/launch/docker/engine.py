"""The Docker engine: the only module that imports the Docker SDK.

Everything else sees the SDK's client through `Client` and the errors of this module, so that a caller never
has to know which of the SDK's, requests' or the operating system's exceptions a failure arrives as.
"""

from __future__ import annotations

import errno
import os
import platform
import socket
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import urlsplit

import docker
import docker.errors
import requests.exceptions
import urllib3.exceptions
from docker.context import ContextAPI
from docker.utils import kwargs_from_env, parse_host

from canvod.launch.errors import EngineError
from canvod.launch.host.inventory import EngineInventory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

type Client = docker.DockerClient
"""A client of one Docker engine, as `connect` returns it."""

DEFAULT_ADDRESS = "unix:///var/run/docker.sock"
"""Where an engine listens unless it is set up otherwise."""

DEFAULT_TIMEOUT_S = 60.0
"""How long one request may take; the engine answers slowly while it writes layers."""

PROBE_TIMEOUT_S = 5.0
"""How long a probe may take; a socket that is missing or refuses is seen at once."""


_LIMITS: Final[dict[Literal["memory", "swap", "cpuset", "pids"], str]] = {
    "memory": "MemoryLimit",
    "swap": "SwapLimit",
    "cpuset": "CPUSet",
    "pids": "PidsLimit",
}
"""Fields of ``/info`` that say whether a limit can be set."""


class EngineNotFoundError(EngineError):
    """The object that a request names does not exist on the engine; when removing, that means done."""


class EngineConflictError(EngineError):
    """The engine is in a state that forbids the request: a name is taken, a container is being removed."""


class EngineAbsentError(EngineError):
    """There is no engine: nothing is where it would listen."""


class EngineTimeoutError(EngineError):
    """The engine did not answer in time."""


class EngineNetworkError(EngineError):
    """The engine did not find one of its network interfaces for a moment; asking again helps."""


_UNREACHABLE: Final = (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN)

NETWORK_ATTEMPTS: Final = 3
"""How often to ask before the request has failed."""

_LOST_INTERFACE: Final = "no such network interface"


def lost_interface(message: str) -> bool:
    """Tell whether the engine failed because it did not find an interface that is there.

    It lists all interfaces of the host to find one, and the list can be incomplete while other containers'
    interfaces come and go.

    Parameters
    ----------
    message : str
        The engine's own words.

    Returns
    -------
    bool
        True where asking again may help.
    """
    return _LOST_INTERFACE in message


def engine_address() -> str:
    """Tell where the engine is: ``DOCKER_HOST``, else the Docker CLI's current context, else its default.

    Returns
    -------
    str
        An address such as ``unix:///var/run/docker.sock``.

    Raises
    ------
    EngineError
        If ``DOCKER_CONTEXT`` names a context that does not exist.
    """
    if host := os.environ.get("DOCKER_HOST"):
        return host
    name = os.environ.get("DOCKER_CONTEXT") or None
    try:
        # None, whatever the stubs say, where the context does not exist.
        context = ContextAPI.get_context(name)
    except Exception:  # noqa: BLE001 - a damaged file of the Docker CLI must not hide an engine that answers
        context = None
    if context is None and name not in {None, "default"}:
        raise EngineError(
            f"Could not reach the Docker engine: there is no Docker context {name!r} (DOCKER_CONTEXT).",
            hint="unset DOCKER_CONTEXT, or name one of those that 'docker context ls' shows",
        )
    return (getattr(context, "Host", None) or DEFAULT_ADDRESS).removeprefix("http+")


def _require_address(address: str) -> None:
    """Refuse what is no address of an engine, in words that say where it comes from."""
    source = "DOCKER_HOST" if os.environ.get("DOCKER_HOST") else "the Docker context"
    if address.startswith("ssh://"):
        raise EngineError(
            f"Could not reach the Docker engine: {address}, from {source}, is on another host: "
            "this one can reach neither addresses nor paths of containers there.",
            hint="unset DOCKER_HOST and DOCKER_CONTEXT to use this host's own engine (docker context use "
            "default), or set launch.backend: process",
        )
    try:
        parse_host(address)
    except (docker.errors.DockerException, ValueError) as exc:
        raise EngineError(
            f"Could not reach the Docker engine: {address!r}, from {source}, is no address of one.",
            hint=f"unset DOCKER_HOST, or write {DEFAULT_ADDRESS} or tcp://127.0.0.1:2376",
        ) from exc


def connect(*, timeout_s: float = DEFAULT_TIMEOUT_S) -> Client:
    """Connect to the Docker engine and make sure that it answers.

    Parameters
    ----------
    timeout_s : float, default: 60
        How long one request of the client may take, in seconds.

    Returns
    -------
    docker.DockerClient
        The client; the caller closes it.

    Raises
    ------
    EngineError
        If there is no socket, permission is denied, or nothing answers there; the hint says what to do.

    Examples
    --------
    >>> with translate("list the containers"):
    ...     client = connect()
    ...     containers = client.containers.list()
    """
    address = engine_address()
    _require_address(address)
    options: dict[str, Any] = {"base_url": address, "timeout": timeout_s}
    client: Client | None = None
    try:
        with translate("reach the Docker engine"):
            if os.environ.get("DOCKER_HOST"):
                options = kwargs_from_env() | options
            client = docker.DockerClient(version="auto", **options)
            # Attaching to a container's input is the SDK's one request that would wait for ever.
            vars(client.api)["request"] = partial(client.api.request, timeout=timeout_s)
            client.ping()
    except EngineError:
        if client is not None:
            client.close()
        raise
    return client


def probe_engine() -> EngineInventory | None:
    """Ask the Docker engine what it is.

    Returns
    -------
    EngineInventory or None
        What the engine says of itself, or None where none answers.
    """
    try:
        return require_engine(timeout_s=PROBE_TIMEOUT_S)
    except EngineError:
        return None


def require_engine(*, timeout_s: float = DEFAULT_TIMEOUT_S) -> EngineInventory:
    """Ask the Docker engine what it is, where there has to be one.

    Parameters
    ----------
    timeout_s : float, default: 60
        How long one request may take, in seconds.

    Returns
    -------
    EngineInventory
        What the engine says of itself.

    Raises
    ------
    EngineError
        If none answers; the hint says what to do.
    """
    with closing(connect(timeout_s=timeout_s)) as client:
        return describe_engine(client)


def describe_engine(client: Client) -> EngineInventory:
    """Ask the engine of a client what it is.

    Parameters
    ----------
    client : docker.DockerClient
        The client.

    Returns
    -------
    EngineInventory
        What the engine says of itself.

    Raises
    ------
    EngineError
        If it does not answer.
    """
    with translate("ask the Docker engine what it is"):
        info: dict[str, Any] = client.info()
        version: dict[str, Any] = client.version()
    return read_engine(
        info, version, address=engine_address(), kernel=platform.release(), socket_gid=_socket_gid()
    )


def _socket_gid() -> int | None:
    """Return the group of the engine's socket, whose members may use the engine."""
    try:
        return Path(engine_address().removeprefix("unix://")).stat().st_gid
    except OSError:
        return None


def _elsewhere(info: dict[str, Any], address: str, kernel: str | None) -> str:
    """Tell where an engine runs containers, if not on this host's own kernel."""
    if not _is_own(address):
        return f"on another host, {urlsplit(address).hostname}"
    if "Docker Desktop" in str(info.get("OperatingSystem")):
        return "in the virtual machine of Docker Desktop"
    # Other virtual machines, and sockets that are forwarded: containers have the kernel of their host.
    theirs = info.get("KernelVersion")
    if kernel is not None and theirs not in {None, kernel}:
        return f"on another kernel ({theirs}, here {kernel}), so in a virtual machine or on another host"
    return ""


def _is_own(address: str) -> bool:
    """Tell whether an address is one of this host: a socket can be bound to no other."""
    parts = urlsplit(address)
    if parts.scheme == "unix":
        return True
    with suppress(socket.gaierror):
        for family, kind, protocol, _, found in socket.getaddrinfo(
            parts.hostname, 0, type=socket.SOCK_STREAM
        ):
            with suppress(OSError), socket.socket(family, kind, protocol) as probe:
                probe.bind(found)
                return True
    return False


def read_engine(
    info: dict[str, Any],
    version: dict[str, Any],
    *,
    address: str = DEFAULT_ADDRESS,
    kernel: str | None = None,
    socket_gid: int | None = None,
) -> EngineInventory:
    """Turn the engine's answers to ``/info`` and ``/version`` into an inventory.

    Parameters
    ----------
    info, version : dict
        The answers, decoded.
    address : str, optional
        Where it listens.
    kernel : str, optional
        Release of this host's kernel; None where containers' kernel is not to be compared with it.
    socket_gid : int, optional
        Group of the socket that it listens on.

    Returns
    -------
    EngineInventory
        What the plan needs of them.
    """
    components = {c.get("Name", ""): c.get("Version", "") for c in version.get("Components") or ()}
    cgroup_version: Literal[1, 2] = 2 if str(info.get("CgroupVersion", "1")) == "2" else 1
    return EngineInventory(
        server_version=str(info.get("ServerVersion", "")),
        api_version=str(version.get("ApiVersion", "")),
        cgroup_version=cgroup_version,
        cgroup_driver=str(info.get("CgroupDriver", "")),
        runtime_version=str(components.get("runc", "")).split("+")[0].split("~")[0],
        storage_driver=str(info.get("Driver", "")),
        rootless=any("name=rootless" in str(option) for option in info.get("SecurityOptions") or ()),
        elsewhere=_elsewhere(info, address, kernel),
        socket_gid=socket_gid,
        missing_limits=tuple(limit for limit, field in _LIMITS.items() if info.get(field) is False),
    )


@contextmanager
def translate(action: str) -> Iterator[None]:
    """Raise the SDK's exceptions as errors of canvod-launch, the cause kept.

    Parameters
    ----------
    action : str
        What is being done, to follow "Could not": ``"create the network cv-1"``.

    Yields
    ------
    None
        To the block whose exceptions are translated.

    Raises
    ------
    EngineNotFoundError
        If the object does not exist (404).
    EngineConflictError
        If the engine's state forbids the request (409).
    EngineTimeoutError
        If no answer came in time.
    EngineNetworkError
        If the engine did not see one of its own network interfaces.
    EngineError
        For anything else that the SDK, requests or the connection raise.
    """
    try:
        yield
    except docker.errors.NotFound as exc:
        raise EngineNotFoundError(f"Could not {action}: {exc.explanation or exc}.") from exc
    except docker.errors.APIError as exc:
        message = (
            f"Could not {action}: the Docker engine answered {exc.status_code}: {exc.explanation or exc}."
        )
        kind = EngineConflictError if exc.status_code == 409 else EngineError
        raise (EngineNetworkError if lost_interface(message) else kind)(message) from exc
    except (
        docker.errors.DockerException,
        requests.exceptions.RequestException,
        urllib3.exceptions.HTTPError,
        ConnectionError,
        TimeoutError,
    ) as exc:
        raise _connection_error(action, exc) from exc


def inspect_image(client: Client, name: str) -> dict[str, Any] | None:
    """Ask the engine what it knows of an image.

    Parameters
    ----------
    client : docker.DockerClient
        The engine.
    name : str
        Name and tag, or ID.

    Returns
    -------
    dict or None
        The engine's answer, or None where it has no such image.

    Raises
    ------
    EngineError
        If the engine does not answer.
    """
    try:
        with translate(f"inspect the image {name}"):
            answer: dict[str, Any] = client.api.inspect_image(name)
    except EngineNotFoundError:
        return None
    return answer


def attach_output(client: Client, container: str) -> Iterator[str]:
    """Attach to a container's output at once, and yield its lines until the container ends.

    Attached before the start, not even the first line of a short life is missed.

    Parameters
    ----------
    client : docker.DockerClient
        The engine.
    container : str
        Identifier or name of the container, which need not run yet.

    Returns
    -------
    iterator of str
        Lines of both output streams, in the order of their arrival.

    Raises
    ------
    EngineError
        If the engine refuses, or the connection ends before the container does.
    """
    with translate(f"attach to the container {container}"):
        stream = client.api.attach(container, stream=True, logs=True, stdout=True, stderr=True)

    def lines() -> Iterator[str]:
        try:
            with translate(f"follow the output of {container}"):
                yield from split_lines(stream)
        finally:
            # The SDK leaves the response open, which the interpreter complains about when it exits.
            response: Any = vars(stream)["_response"]
            response.raw.close()

    return lines()


def split_lines(stream: Iterable[bytes]) -> Iterator[str]:
    """Yield the lines of a container's output, of which the engine sends pieces.

    Parameters
    ----------
    stream : iterable of bytes
        The pieces.

    Yields
    ------
    str
        Each line without its end; bytes that are no UTF-8 are replaced.
    """
    rest = b""
    for piece in stream:
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            yield line.decode(errors="replace").rstrip("\r")
    if rest:
        yield rest.decode(errors="replace")


@contextmanager
def attach_input(client: Client, container: str) -> Iterator[Callable[[bytes], None]]:
    """Attach to a container's standard input, which is closed at the end of the block.

    Parameters
    ----------
    client : docker.DockerClient
        The engine.
    container : str
        Identifier or name of a container that was created with an open standard input and does not run yet.

    Yields
    ------
    callable
        Sends bytes, once the container runs.

    Raises
    ------
    EngineError
        If the engine refuses, or the container ends before it has read them.
    """
    action = f"send to the standard input of {container}"
    with translate(action):
        stream: Any = client.api.attach_socket(container, params={"stdin": 1, "stream": 1})
    # What the SDK returns for plain HTTP can only be read.
    connection = getattr(stream, "_sock", stream)

    def send(content: bytes) -> None:
        with translate(action):
            connection.sendall(content)

    try:
        yield send
    finally:
        # From the outside in: the interpreter complains of what it finds open around a closed socket.
        response = getattr(stream, "_response", None)
        if response is not None:
            response.raw.close()
        stream.close()
        connection.close()


def read_in_container(client: Client, container: str, command: Sequence[str]) -> bytes:
    """Run a command in a container that runs, as the container's own user, and return what it writes.

    Parameters
    ----------
    client : docker.DockerClient
        The engine.
    container : str
        Identifier or name of the container.
    command : sequence of str
        Program and arguments.

    Returns
    -------
    bytes
        Its standard output.

    Raises
    ------
    EngineError
        If the engine refuses, or the command fails; what it wrote to standard error is not repeated.
    """
    action = f"run {command[0]} in the container {container}"
    with translate(action):
        identifier = client.api.exec_create(container, list(command))["Id"]
        output, _ = client.api.exec_start(identifier, demux=True)
        status = client.api.exec_inspect(identifier)["ExitCode"]
    if status != 0:
        raise EngineError(f"Could not {action}: it ended with exit status {status}.")
    return output or b""


def _connection_error(action: str, exc: BaseException) -> EngineError:
    """Say why the engine could not be reached, and what to do about it."""
    address = engine_address()
    causes = list(_causes(exc))
    codes = {cause.errno for cause in causes if isinstance(cause, OSError)}
    timeouts = (requests.exceptions.Timeout, urllib3.exceptions.TimeoutError, TimeoutError)
    start = "start it: sudo systemctl start docker"
    elsewhere = "see that the engine runs and listens there, or unset DOCKER_HOST to use this host's own"
    process = "or set launch.backend: process"
    kind = EngineError
    if codes & {errno.EACCES, errno.EPERM}:
        reason = f"permission denied at {address}"
        hint = "join the group that owns the socket (sudo usermod -aG docker $USER, then log in again), "
        hint += process
    elif errno.ENOENT in codes:
        kind, reason = EngineAbsentError, f"there is no socket at {address}"
        hint = f"install Docker and {start}; set DOCKER_HOST where it listens elsewhere; {process}"
    elif errno.ECONNREFUSED in codes:
        reason = f"nothing answers at {address} (connection refused)"
        hint = f"{start if address.startswith('unix://') else elsewhere}; {process}"
    elif unreachable := next(filter(_is_unreachable, causes), None):
        reason = f"there is no way to {address} ({getattr(unreachable, 'strerror', None) or unreachable})"
        hint = f"{elsewhere}; {process}"
    elif any(isinstance(cause, timeouts) for cause in causes):
        kind, reason = EngineTimeoutError, f"the Docker engine at {address} did not answer in time"
        hint = f"look at its log (journalctl -u docker), restart it, {process}"
    else:
        reason = f"the Docker engine at {address} cannot be used: {exc}"
        hint = "check DOCKER_HOST, DOCKER_CONTEXT and DOCKER_CERT_PATH, and that 'docker version' works"
    return kind(f"Could not {action}: {reason}.", hint=hint)


def _is_unreachable(cause: BaseException) -> bool:
    return isinstance(cause, socket.gaierror) or getattr(cause, "errno", None) in _UNREACHABLE


def _causes(exc: BaseException) -> Iterator[BaseException]:
    """Yield an exception and all that it wraps: requests and urllib3 hide the cause among the arguments."""
    pending, seen = [exc], set[int]()
    while pending:
        current = pending.pop()
        if id(current) not in seen:
            seen.add(id(current))
            yield current
            linked = (current.__cause__, current.__context__, getattr(current, "reason", None), *current.args)
            pending += [other for other in linked if isinstance(other, BaseException)]
