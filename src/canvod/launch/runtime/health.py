"""Whether what runs in this container does its work: ``python -m canvod.launch.runtime.health [KEYS]``.

The check asks the process that runs already, through a socket that only this container has, instead of
importing Dask once more: it is made every few seconds, on the cores that tasks run on.
"""

from __future__ import annotations

import asyncio
import socket
import sys
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from distributed import Nanny, Scheduler

KEYS_FOLDER: Final = Path("/keys")
"""Where a container has its keys."""

ANSWER_TIMEOUT_S: Final = 5.0
"""How long Dask may take to answer; the limit of a container's health check is longer."""

HEALTHY: Final = "healthy"


class UnhealthyError(Exception):
    """What does not work, in one line."""


def socket_name(keys: Path) -> str:
    """Name the socket of the process with these keys: in no folder, and in this container's network alone.

    Parameters
    ----------
    keys : pathlib.Path
        Folder of its keys; on a host, where a network is shared, it tells processes apart.

    Returns
    -------
    str
        An abstract address of a Unix socket, which starts with a NUL.
    """
    return f"\0canvod-launch-health-{zlib.crc32(bytes(keys.absolute())):08x}"


async def serve(check: Callable[[], Awaitable[str]], keys: Path) -> asyncio.Server:
    """Answer health checks for as long as this process runs.

    Parameters
    ----------
    check : callable
        Coroutine function without arguments that returns a few words on what works, or raises where
        something does not.
    keys : pathlib.Path
        Folder of this process's keys.

    Returns
    -------
    asyncio.Server
        What listens; the caller closes it.

    Raises
    ------
    OSError
        If another process answers for the same keys already.
    """

    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                text = f"{HEALTHY}: {await check()}"
        except TimeoutError:
            text = f"no answer within {ANSWER_TIMEOUT_S:g} s"
        except Exception as error:  # noqa: BLE001 - whatever it is, it is why this is not healthy
            text = str(error) or type(error).__name__
        writer.write(text.encode())
        writer.close()

    return await asyncio.start_unix_server(answer, socket_name(keys))


def ask(keys: Path = KEYS_FOLDER) -> str:
    """Ask the process that runs in this container.

    Parameters
    ----------
    keys : pathlib.Path
        Folder of its keys.

    Returns
    -------
    str
        Its answer, which begins with ``healthy`` where all is well.

    Raises
    ------
    OSError
        If nothing listens, or no answer comes in time.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(2 * ANSWER_TIMEOUT_S)
        connection.connect(socket_name(keys))
        pieces = iter(lambda: connection.recv(4096), b"")
        return b"".join(pieces).decode(errors="replace")


async def check_scheduler(scheduler: Scheduler, connection_args: dict[str, Any]) -> str:
    """Ask a scheduler as a client would, over TLS and with a certificate.

    Parameters
    ----------
    scheduler : distributed.Scheduler
        The scheduler of this process.
    connection_args : dict
        Keys to connect with, as Dask's `Security` gives them.

    Returns
    -------
    str
        How many workers it has.

    Raises
    ------
    OSError
        If it does not answer.
    """
    answer = await _identity(scheduler.address, connection_args)
    count = len(answer["workers"])
    return f"the scheduler answers over TLS, {count} worker{'' if count == 1 else 's'}"


async def check_worker(nanny: Nanny, connection_args: dict[str, Any]) -> str:
    """Ask the scheduler whether it has a worker, and the worker process whether it is there.

    Parameters
    ----------
    nanny : distributed.Nanny
        The worker's nanny, in this process.
    connection_args : dict
        Keys to connect with, as Dask's `Security` gives them.

    Returns
    -------
    str
        With which scheduler it is registered.

    Raises
    ------
    UnhealthyError
        If there is no worker process, or the scheduler does not know it.
    OSError
        If the scheduler or the worker process does not answer.
    """
    address = nanny.worker_address
    if address is None:
        raise UnhealthyError("there is no worker process; its nanny starts one")
    if address not in (await _identity(nanny.scheduler_addr, connection_args))["workers"]:
        raise UnhealthyError(f"the scheduler {nanny.scheduler_addr} does not know the worker {address}")
    await _identity(address, connection_args)
    return f"registered with {nanny.scheduler_addr}, and its process answers"


async def _identity(address: str, connection_args: dict[str, Any]) -> dict[str, Any]:
    """Make one call with a connection of its own: one that is open already proves nothing."""
    from distributed.comm.core import connect

    comm = await connect(address, timeout=ANSWER_TIMEOUT_S, **connection_args)
    try:
        await comm.write({"op": "identity", "reply": True})
        answer: dict[str, Any] = await comm.read()
    finally:
        comm.abort()
    return answer


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what the process of this container answers.

    Parameters
    ----------
    arguments : sequence of str, optional
        The folder of its keys, `KEYS_FOLDER` if empty; the command line of this process by default.

    Returns
    -------
    int
        Exit status: 0 where it is healthy, 1 where it is not, or does not answer.
    """
    given = sys.argv[1:] if arguments is None else arguments
    try:
        text = ask(Path(given[0]) if given else KEYS_FOLDER)
    except OSError as error:
        text = f"nothing answers in this container: {error.strerror or error}"
    sys.stdout.write(f"{text}\n")
    return 0 if text.startswith(HEALTHY) else 1


if __name__ == "__main__":
    sys.exit(main())
