"""Command lines of the containers."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

SCHEDULER_HOST = "scheduler"
"""Name under which workers find the scheduler on the cluster's network."""
SCHEDULER_PORT = 8786
"""Port of the scheduler for workers and clients, inside the network; Dask's own."""
DASHBOARD_PORT = 8787
"""Port of the dashboard inside the scheduler's container; Dask's own."""


KEYS_PATH = "/keys"
"""Where a container has its keys."""


def scheduler_command(
    *, nice: int, lease: tuple[float, float] | None = None, idle_timeout_s: float | None = None
) -> tuple[str, ...]:
    """Give the command of the scheduler's container.

    Parameters
    ----------
    nice : int
        Nice value of every thread.
    lease : tuple of two float, optional
        Grace time and time of first contact in seconds; without it the scheduler stands until it is stopped.
    idle_timeout_s : float, optional
        End after so long without a task.
    """
    options: list[str] = []
    if lease is not None:
        options += ["--lease-grace", f"{lease[0]:g}", "--connect-timeout", f"{lease[1]:g}"]
    if idle_timeout_s is not None:
        options += ["--idle-timeout", f"{idle_timeout_s:g}"]
    return (
        "python",
        "-m",
        "canvod.launch.runtime.scheduler",
        "--port",
        str(SCHEDULER_PORT),
        "--dashboard-port",
        str(DASHBOARD_PORT),
        "--nice",
        str(nice),
        "--keys",
        KEYS_PATH,
        *options,
    )


def worker_command(
    *,
    dask_name: str,
    nthreads: int,
    memory_limit_bytes: int,
    cpu_affinity: Sequence[int],
    nice: int,
    spill_path: str,
    spill_bytes: int,
    start_timeout_s: float,
) -> tuple[str, ...]:
    """Give the command of a worker's container.

    Parameters
    ----------
    dask_name : str
        Name of the worker in Dask.
    nthreads : int
        Threads that run tasks.
    memory_limit_bytes : int
        Dask's limit for the worker process.
    cpu_affinity : sequence of int
        IDs of the logical CPUs to pin every thread to.
    nice : int
        Nice value of every thread.
    spill_path : str
        Folder to spill to, inside the container.
    spill_bytes : int
        Most that Dask may spill.
    start_timeout_s : float
        How long to wait for the scheduler.

    Returns
    -------
    tuple of str
        The arguments, the program first.
    """
    return (
        "python",
        "-m",
        "canvod.launch.runtime.worker",
        "--scheduler",
        f"tls://{SCHEDULER_HOST}:{SCHEDULER_PORT}",
        "--keys",
        KEYS_PATH,
        "--name",
        dask_name,
        "--nthreads",
        str(nthreads),
        "--memory-limit",
        str(memory_limit_bytes),
        "--cpu-affinity",
        ",".join(map(str, cpu_affinity)),
        "--nice",
        str(nice),
        "--spill-path",
        spill_path,
        "--max-spill",
        str(spill_bytes),
        "--start-timeout",
        f"{start_timeout_s:g}",
    )
