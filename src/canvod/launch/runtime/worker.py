"""Entry point of a worker container: one nanny, and the worker process that it watches."""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import sys
from importlib import import_module
from typing import TYPE_CHECKING

from canvod.launch.runtime.fork_server import share_imports

if TYPE_CHECKING:
    from collections.abc import Sequence

PRELOADED = ("distributed", "canvod.launch.runtime.plugin")
"""What the nanny and the worker both import."""

CONNECT_INTERVAL_S = 0.02
"""Workers start together with their scheduler, so they look for it often."""


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line of a worker container.

    Parameters
    ----------
    arguments : sequence of str, optional
        The arguments without the program's name; those of this process by default.
    """
    parser = argparse.ArgumentParser(prog="canvod.launch.runtime.worker", description=__doc__)
    parser.add_argument(
        "--scheduler", required=True, help="address of the scheduler, such as tcp://scheduler:8786"
    )
    parser.add_argument("--name", required=True, help="name of the worker in Dask")
    parser.add_argument("--nthreads", type=int, required=True, help="threads that run tasks")
    parser.add_argument(
        "--memory-limit", type=int, required=True, help="Dask's limit for the worker process in bytes"
    )
    parser.add_argument("--cpu-affinity", default="", help="core IDs, separated by commas; empty leaves it")
    parser.add_argument("--nice", type=int, default=0, help="nice value, 0 to 19")
    parser.add_argument("--spill-path", default="/tmp", help="folder for spilled data")  # noqa: S108
    parser.add_argument("--max-spill", type=int, default=0, help="most bytes to spill; 0 for no limit")
    parser.add_argument("--start-timeout", type=float, default=60.0, help="seconds to wait for the scheduler")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a worker until its scheduler goes, and return the exit status."""
    options = parse_arguments(arguments)
    # First of all, so that whatever this process starts inherits both.
    affinity = [int(core) for core in options.cpu_affinity.split(",") if core]
    _lower_priority(affinity, options.nice)
    # Files are unpacked where there is room for them: /tmp is memory, and counts against the cap.
    os.environ["TMPDIR"] = options.spill_path
    for module in PRELOADED:
        import_module(module)
    if share_imports():
        # Dask would now import pandas and others here, for a server that it starts itself.
        sys.modules["distributed.utils"]._forkserver_preload_set = True  # type: ignore[attr-defined]  # noqa: SLF001
    return asyncio.run(_run(options, affinity))


def _lower_priority(affinity: Sequence[int], nice: int) -> None:
    try:
        if affinity:
            os.sched_setaffinity(0, affinity)
        if nice:
            os.setpriority(os.PRIO_PROCESS, 0, nice)
    except OSError as error:  # The plugin says the same with more detail once the worker is up.
        sys.stderr.write(f"affinity or nice refused: {error}\n")


async def _run(options: argparse.Namespace, affinity: list[int]) -> int:
    import dask.config
    from distributed import Nanny
    from distributed.core import Status

    from canvod.launch.runtime.plugin import ResourceInitPlugin

    dask.config.set(
        {
            # A task that computes a Dask collection must not start a second set of threads on its cores.
            "scheduler": "synchronous",
            "distributed.worker.multiprocessing-method": "forkserver",
            "distributed.worker.memory.max-spill": options.max_spill or False,
            "temporary-directory": options.spill_path,
        }
    )
    await _wait_for_listener(options.scheduler, options.start_timeout)
    nanny = Nanny(
        options.scheduler,
        name=options.name,
        nthreads=options.nthreads,
        memory_limit=options.memory_limit,
        local_directory=options.spill_path,
        host=socket.gethostbyname(socket.gethostname()),
        dashboard=False,
        plugins=[ResourceInitPlugin(affinity or None, options.nice)],
    )
    await nanny
    await nanny.finished()
    return 0 if nanny.status == Status.closed else 1


async def _wait_for_listener(address: str, timeout_s: float) -> None:
    """Wait until something listens at the scheduler's address; its name may not resolve yet.

    Dask would wait as well, but with pauses that double up to seconds.
    """
    host, _, port = address.partition("://")[2].rpartition(":")
    async with asyncio.timeout(timeout_s):
        while True:
            try:
                _, writer = await asyncio.open_connection(host, int(port))
            except OSError:
                await asyncio.sleep(CONNECT_INTERVAL_S)
            else:
                writer.close()
                return


if __name__ == "__main__":
    sys.exit(main())
