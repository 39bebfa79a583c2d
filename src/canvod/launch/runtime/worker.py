"""Entry point of a worker, in a container or a process of the host: a nanny, and what it watches."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import shutil
import signal
import socket
import sys
import time
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from canvod.launch.dask_memory_limit import worker_limit_bytes
from canvod.launch.runtime import health
from canvod.launch.runtime.fork_server import share_imports
from canvod.launch.runtime.host_process import be_quiet, end_group, launcher_gone, name_semaphores
from canvod.launch.runtime.keys import KeysMissingError, obtain_keys, security
from canvod.launch.runtime.thread_resources import apply_resources

if TYPE_CHECKING:
    import ssl
    from collections.abc import Sequence

PRELOADED = ("distributed", "canvod.launch.runtime.plugin")
"""What the nanny and the worker both import."""

CONNECT_INTERVAL_S = 0.02
"""Workers start together with their scheduler, so they look for it often."""

ORPHANED_AFTER_S = 2.0
"""A scheduler whose connection broke and that cannot be reached again for so long is gone."""

SILENT_AFTER_S = 30.0
"""One that takes no connection for so long, and does not refuse any, is gone, too."""

STOP_TIMEOUT_S = 4.0
"""How long a worker that is told to stop may take; ``docker stop`` kills after 10 s."""

SCHEDULER_LOST = frozenset(
    {"worker-handle-scheduler-connection-broken", "worker-heartbeat-missing", "worker-heartbeat-error"}
)
"""Dask's reasons of a worker that leaves without having been told to."""

FONT_LIST = Path(sys.prefix, "share", "matplotlib")
"""matplotlib's list of fonts, made with the image. It uses one in a folder that it can write to only."""


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line of a worker.

    Parameters
    ----------
    arguments : sequence of str, optional
        The arguments without the program's name; those of this process by default.

    Returns
    -------
    argparse.Namespace
        The options by name, as ``--help`` describes them.

    Raises
    ------
    SystemExit
        If they are wrong, or ask for help.
    """
    parser = argparse.ArgumentParser(prog="canvod.launch.runtime.worker", description=__doc__)
    scheduler = parser.add_mutually_exclusive_group(required=True)
    scheduler.add_argument("--scheduler", help="address of the scheduler, such as tls://scheduler:8786")
    scheduler.add_argument("--scheduler-file", type=Path, help="file that Dask's scheduler writes it to")
    parser.add_argument("--keys", type=Path, required=True, help="folder of the keys, or for them")
    parser.add_argument("--name", help="name of the worker in Dask; the container's own without it")
    parser.add_argument("--nthreads", type=int, required=True, help="threads that run tasks")
    parser.add_argument(
        "--memory-limit",
        type=int,
        help="Dask's limit for the worker process in bytes; what the container's allows without it",
    )
    parser.add_argument("--cpu-affinity", default="", help="core IDs, separated by commas; empty leaves it")
    parser.add_argument("--nice", type=int, default=0, help="nice value, 0 to 19")
    parser.add_argument("--spill-path", default="/tmp", help="folder for spilled data")  # noqa: S108
    parser.add_argument("--max-spill", type=int, default=0, help="most bytes to spill; 0 for no limit")
    parser.add_argument("--start-timeout", type=float, default=60.0, help="seconds to wait for the scheduler")
    parser.add_argument("--host", help="own address; the container's without it")
    parser.add_argument(
        "--launcher", type=int, help="on a host: the process ID of the parent, without which this one ends"
    )
    parser.add_argument("--semaphores", default="", help="with --launcher: what semaphores are called")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a worker until it is told to end or its scheduler is lost.

    Most ways of ending end the process and do not return.

    Parameters
    ----------
    arguments : sequence of str, optional
        As for `parse_arguments`.

    Returns
    -------
    int
        Exit status: 0 if it was told to end, by a signal or by the scheduler. 1 if it lost the scheduler, or
        never found it: started again, it may find one. 1 also if it has no keys.

    Raises
    ------
    SystemExit
        If the arguments are wrong.
    """
    options = parse_arguments(arguments)
    # First of all, so that whatever this process starts inherits both.
    affinity = [int(core) for core in options.cpu_affinity.split(",") if core]
    if options.launcher is not None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        name_semaphores(options.semaphores)
    for problem in apply_resources(affinity or None, options.nice):
        # The plugin says the same with more detail once the worker is up.
        sys.stderr.write(f"worker: {problem}\n")
    try:
        obtain_keys(options.keys)
    except (KeysMissingError, OSError) as error:
        sys.stderr.write(f"worker: {error}\n")
        return 1
    # Files are unpacked where there is room for them: /tmp is memory, and counts against the limit.
    os.environ["TMPDIR"] = options.spill_path
    _copy_font_list(Path(options.spill_path, "matplotlib"))
    _ignore_settings_files()
    for module in PRELOADED:
        import_module(module)
    if options.launcher is not None:
        be_quiet()
    if share_imports(None if options.launcher is None else options.keys):
        # Dask would now import pandas and others here, for a server that it starts itself.
        sys.modules["distributed.utils"]._forkserver_preload_set = True  # type: ignore[attr-defined]  # noqa: SLF001
    return asyncio.run(_run(options, affinity))


def _ignore_settings_files() -> None:
    """Take Dask's defaults and this process's environment: a user's own files are for other clusters.

    The nanny and its worker read the files again at every start, from where this list says.
    """
    import dask.config

    dask.config.paths.clear()
    dask.config.refresh()


def _copy_font_list(folder: Path) -> None:
    if "MPLCONFIGDIR" not in os.environ and FONT_LIST.is_dir():
        shutil.copytree(FONT_LIST, folder, dirs_exist_ok=True)
        os.environ["MPLCONFIGDIR"] = str(folder)


async def _run(options: argparse.Namespace, affinity: list[int]) -> int:
    import dask.config
    from distributed import Nanny
    from distributed.core import Status

    from canvod.launch.runtime.plugin import QuietEndPlugin, ResourceInitPlugin
    from canvod.launch.runtime.scheduler import SHORT_LOGS

    dask.config.set(
        {
            # A task that computes a Dask collection must not start a second set of threads on its cores.
            "scheduler": "synchronous",
            "distributed.worker.multiprocessing-method": "forkserver",
            "distributed.worker.memory.max-spill": options.max_spill or False,
            "temporary-directory": options.spill_path,
            **SHORT_LOGS,
        }
    )
    keys = security(options.keys)
    connection_args = keys.get_connection_args("worker")
    on_host = options.launcher is not None
    if options.scheduler_file is not None:
        options.scheduler = await _read_address(options)
    tls = connection_args["ssl_context"]
    if not on_host and not await listens(options.scheduler, tls, options.start_timeout):
        sys.stderr.write(
            f"worker: nothing listens at {options.scheduler} after {options.start_timeout:g} s; leaving\n"
        )
        return 1

    plugins: list[Any] = [ResourceInitPlugin(affinity or None, options.nice)]
    plugins += [QuietEndPlugin()] if on_host else []

    class RecordingNanny(Nanny):
        """A nanny that records why its worker closes."""

        reason = ""

        def close_gracefully(self, reason: str = "") -> None:
            self.reason = reason
            super().close_gracefully(reason=reason)

    nanny = RecordingNanny(
        options.scheduler,
        name=options.name or socket.gethostname(),
        security=keys,
        protocol="tls://",
        nthreads=options.nthreads,
        memory_limit=own_limit_bytes() if options.memory_limit is None else options.memory_limit,
        local_directory=options.spill_path,
        host=options.host or socket.gethostbyname(socket.gethostname()),
        dashboard=False,
        silence_logs=logging.WARNING if on_host else None,
        plugins=plugins,
    )
    if on_host:
        await _run_on_host(options, nanny)
    checks = await health.serve(lambda: health.check_worker(nanny, connection_args), options.keys)
    await nanny
    terminated = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, terminated.set)
    told = asyncio.create_task(terminated.wait())
    ended = asyncio.create_task(nanny.finished())
    orphaned = asyncio.create_task(_orphaned(options.scheduler, connection_args))
    await asyncio.wait((told, ended, orphaned), return_when=asyncio.FIRST_COMPLETED)
    checks.close()
    if told.done():
        with suppress(TimeoutError):
            await asyncio.wait_for(nanny.close(timeout=STOP_TIMEOUT_S), 2 * STOP_TIMEOUT_S)
        _leave(0)
    lost = nanny.reason in SCHEDULER_LOST
    if not ended.done():
        sys.stderr.write("worker: the scheduler is gone; leaving\n")
        # Unless it told its workers to close, and this one has not finished.
        _leave(1 if lost or not nanny.reason else 0)
    return 0 if nanny.status == Status.closed and not lost else 1


async def _run_on_host(options: argparse.Namespace, nanny: Any) -> NoReturn:
    terminated = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, terminated.set)
    started = asyncio.ensure_future(nanny)
    told = asyncio.create_task(terminated.wait())
    gone = asyncio.create_task(launcher_gone(options.launcher))
    await asyncio.wait((started, told, gone), return_when=asyncio.FIRST_COMPLETED)
    problem = started.exception() if started.done() else None
    if problem is not None:
        sys.stderr.write(f"{options.name}: {type(problem).__name__}: {problem}\n")
    elif started.done():
        ended = asyncio.create_task(nanny.finished())
        await asyncio.wait((ended, told, gone), return_when=asyncio.FIRST_COMPLETED)
    be_quiet(logging.CRITICAL + 1)
    if told.done() and started.done():
        with suppress(Exception):
            await asyncio.wait_for(nanny.close(timeout=STOP_TIMEOUT_S), 2 * STOP_TIMEOUT_S)
    failed = problem is not None or (nanny.reason in SCHEDULER_LOST and not told.done())
    end_group(options.spill_path, options.semaphores, status=int(failed))


def own_limit_bytes() -> int:
    """Return Dask's limit for a worker in this container, from the memory limit that the kernel shows.

    Returns
    -------
    int
        Bytes; without a limit, from the memory of the machine.
    """
    # Read when it is imported, from the files of cgroup v1 and v2 alike.
    from distributed.system import MEMORY_LIMIT

    return worker_limit_bytes(int(MEMORY_LIMIT))


def _leave(status: int) -> NoReturn:
    """End at once: a task that never ends must not keep the container.

    With its first process the kernel ends the rest.
    """
    sys.stderr.flush()
    os._exit(status)


async def _orphaned(address: str, connection_args: dict[str, Any]) -> None:
    """Return when the scheduler is gone.

    A worker process notices that by itself, unless a task keeps it from noticing. A scheduler that refuses is
    gone; one that does not answer may be busy.
    """
    from distributed.comm.core import connect

    answered = time.monotonic()
    while True:
        try:
            comm = await connect(address, timeout=ORPHANED_AFTER_S, **connection_args)
        except OSError as error:
            is_silent = isinstance(error.__cause__, TimeoutError)
            if not is_silent or time.monotonic() - answered > SILENT_AFTER_S:
                return
            continue
        with suppress(OSError):
            await comm.read()  # nothing ever comes: it ends when the connection does
        answered = time.monotonic()


async def _read_address(options: argparse.Namespace) -> str:
    """Wait for the file of a scheduler that starts at the same time, and return its address.

    Without its launcher this process ends: there will be no such file.
    """
    async with asyncio.timeout(options.start_timeout):
        while True:
            if options.launcher not in {None, os.getppid()}:
                end_group(options.spill_path, options.semaphores, status=1)
            with suppress(FileNotFoundError, ValueError):  # not there yet, or being written
                return str(json.loads(options.scheduler_file.read_text())["address"])
            await asyncio.sleep(CONNECT_INTERVAL_S)


async def listens(address: str, tls: ssl.SSLContext, timeout_s: float) -> bool:
    """Wait until something listens at the scheduler's address; its name may not resolve yet.

    Dask would wait as well, but with pauses that double up to seconds.

    Parameters
    ----------
    address : str
        Address of the scheduler, such as ``tls://scheduler:8786``.
    tls : ssl.SSLContext
        Keys to connect with.
    timeout_s : float
        How long to wait, in seconds.

    Returns
    -------
    bool
        Whether something listens there.
    """
    host, _, port = address.partition("://")[2].rpartition(":")
    with suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            while True:
                try:
                    _, writer = await asyncio.open_connection(host, int(port), ssl=tls)
                except OSError:
                    await asyncio.sleep(CONNECT_INTERVAL_S)
                else:
                    writer.close()
                    return True
    return False


if __name__ == "__main__":
    # Not by the interpreter's own end: before Python 3.14 it waits for the resource tracker, which lives as
    # long as the server of forks, and that as long as this process.
    _leave(main())
