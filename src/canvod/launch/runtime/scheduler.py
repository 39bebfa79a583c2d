"""Entry point of the scheduler container."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line of a scheduler container.

    Parameters
    ----------
    arguments : sequence of str, optional
        The arguments without the program's name; those of this process by default.
    """
    parser = argparse.ArgumentParser(prog="canvod.launch.runtime.scheduler", description=__doc__)
    parser.add_argument("--port", type=int, default=8786, help="port for clients and workers")
    parser.add_argument(
        "--dashboard-port", type=int, default=8787, help="port of the dashboard and the metrics"
    )
    parser.add_argument("--nice", type=int, default=0, help="nice value, 0 to 19")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the scheduler until it is told to stop, and return the exit status."""
    options = parse_arguments(arguments)
    if options.nice:
        # Before anything else, so that every thread inherits it. Lowering one's own priority needs no right.
        os.setpriority(os.PRIO_PROCESS, 0, options.nice)
    asyncio.run(_run(options))
    return 0


async def _run(options: argparse.Namespace) -> None:
    from distributed import Scheduler

    scheduler = Scheduler(
        host="",
        port=options.port,
        dashboard=True,
        dashboard_address=f":{options.dashboard_port}",
    )
    await scheduler
    await scheduler.finished()


if __name__ == "__main__":
    sys.exit(main())
