"""Entry point of a scheduler, in a container or a process of the host."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import warnings
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tornado.web import Application, RequestHandler

from canvod.launch.runtime import health
from canvod.launch.runtime.host_process import be_quiet, launcher_gone
from canvod.launch.runtime.keys import CONFIRM, STATE, KeysMissingError, obtain_keys, security
from canvod.launch.runtime.thread_resources import apply_resources

if TYPE_CHECKING:
    from collections.abc import Sequence

    from distributed import Scheduler

DASHBOARD_DELAY_S = 5.0
"""When the dashboard is added, in seconds after the start, unless a page is asked for before."""

SHORT_LOGS: Final = {"distributed.admin.low-level-log-length": 100}
"""Setting of Dask, which else keeps the last 1,000 messages of each connection, with arguments of tasks."""


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line of a scheduler.

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
    parser = argparse.ArgumentParser(prog="canvod.launch.runtime.scheduler", description=__doc__)
    parser.add_argument("--host", default="", help="address to listen on; all of the container's without it")
    parser.add_argument("--port", type=int, default=8786, help="port for clients and workers; 0 for any")
    parser.add_argument(
        "--dashboard-port", type=int, default=8787, help="port of the dashboard and the metrics"
    )
    parser.add_argument("--nice", type=int, default=0, help="nice value, 0 to 19")
    parser.add_argument("--keys", type=Path, required=True, help="folder of the keys, or for them")
    parser.add_argument(
        "--lease-grace", type=float, help="end when the launcher is gone for so many seconds; else never"
    )
    parser.add_argument(
        "--connect-timeout",
        type=float,
        default=60.0,
        help="with --lease-grace: seconds for it to come at all",
    )
    parser.add_argument("--idle-timeout", type=float, help="end after so many seconds without a task")
    parser.add_argument("--local-directory", help="folder for temporary files; the system's without it")
    parser.add_argument("--scheduler-file", help="file to write the address to, as Dask does")
    parser.add_argument(
        "--launcher", type=int, help="on a host: the process ID of the parent, without which this one ends"
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the scheduler until it is told to stop.

    On a host (``--launcher``) this ends the process and does not return.

    Parameters
    ----------
    arguments : sequence of str, optional
        As for `parse_arguments`.

    Returns
    -------
    int
        Exit status: 0 if it was told to stop, 1 if it has no keys.

    Raises
    ------
    SystemExit
        If the arguments are wrong.
    """
    options = parse_arguments(arguments)
    if options.launcher is not None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Before anything else, so that every thread inherits it. Nobody may be less nice than its launcher.
    for problem in apply_resources(None, options.nice):
        sys.stderr.write(f"scheduler: {problem}\n")
    try:
        obtain_keys(options.keys)
    except (KeysMissingError, OSError) as error:
        sys.stderr.write(f"scheduler: {error}\n")
        return 1
    asyncio.run(_run(options))
    return 0


async def _run(options: argparse.Namespace) -> None:
    import dask
    from distributed import Scheduler

    from canvod.launch.runtime.lease import LeasePlugin
    from canvod.launch.runtime.operations import StatusPlugin

    if options.launcher is not None:
        be_quiet()
        warnings.filterwarnings("ignore", message="Port .* is already in use")
    dask.config.set(SHORT_LOGS)
    lease = LeasePlugin(options.lease_grace, options.connect_timeout) if options.lease_grace else None
    keys = security(options.keys)
    scheduler = Scheduler(
        host=f"tls://{options.host}",
        port=options.port,
        scheduler_file=options.scheduler_file,
        local_directory=options.local_directory,
        protocol="tls",
        security=keys,
        dashboard=False,
        dashboard_address=f"{options.host}:{options.dashboard_port}",
        idle_timeout=options.idle_timeout,
        plugins=[StatusPlugin(_confirm_within_s(options.keys)), *([] if lease is None else [lease])],
    )
    await scheduler
    connection_args = keys.get_connection_args("client")
    checks = await health.serve(lambda: health.check_scheduler(scheduler, connection_args), options.keys)
    dashboard = asyncio.create_task(_attach_dashboard(scheduler))
    ended = [asyncio.create_task(scheduler.finished())]
    if options.launcher is not None:
        ended.append(asyncio.create_task(launcher_gone(options.launcher)))
    await asyncio.wait(ended, return_when=asyncio.FIRST_COMPLETED)
    checks.close()
    dashboard.cancel()
    if options.launcher is not None:
        # At once: nobody is left to hear what closing says.
        os._exit(0)


def _confirm_within_s(keys: Path) -> float | None:
    """Read how long the start of a detached cluster may take; None where none was told."""
    try:
        kept = json.loads((keys / STATE).read_text())
    except FileNotFoundError:
        return None
    limit: float | None = kept[CONFIRM]
    return limit


async def _attach_dashboard(scheduler: Scheduler) -> None:
    """Add the dashboard a while after the start, or when a page of it is asked for.

    Its import takes as long as all the rest of a scheduler's start, on the cores that the workers start on.
    """
    wanted = asyncio.Event()

    class Waiting(RequestHandler):
        async def get(self) -> None:
            wanted.set()
            await attached.wait()
            self.redirect(self.request.uri or "/")

    attached = asyncio.Event()
    placeholder = Application([(r"/", Waiting), (r"/status", Waiting)])
    scheduler.http_application.add_application(placeholder)
    with suppress(TimeoutError):
        await asyncio.wait_for(wanted.wait(), DASHBOARD_DELAY_S)
    dashboard = await asyncio.to_thread(import_module, "distributed.dashboard.scheduler")
    dashboard.connect(scheduler.http_application, scheduler.http_server, scheduler)
    scheduler.http_application.applications.remove(placeholder)
    attached.set()


if __name__ == "__main__":
    sys.exit(main())
