"""Whether a cluster runs anything, by what its scheduler says of the workers; else what is wrong with it.

Workers that have paused, since their memory is full, end what they run and take no other task. Dask leaves
those that such a worker has got already where they are.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from canvod.launch.errors import ClusterError
from canvod.launch.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    Worker = Mapping[str, Any]

SILENT_S = 10.0
"""A worker that has not been heard of for so long is busy: a reader may keep it from answering."""


def is_busy(worker: Worker, ours: Collection[object]) -> bool:
    """Whether a worker is worth waiting for.

    Parameters
    ----------
    worker : mapping
        What the scheduler says of it, as in ``Client.scheduler_info``.
    ours : collection of object
        Tasks of this client that it has got.

    Returns
    -------
    bool
        True where it runs a task or fetches data; one that has paused has to have tasks of this client, since
        it may run a task of somebody else for long.
    """
    return _executes(worker) and (_is_running(worker) or bool(ours))


def stuck_keys(
    workers: Mapping[str, Worker], on_workers: Mapping[str, Collection[object]]
) -> frozenset[object]:
    """Tasks of workers that have paused and run nothing.

    Parameters
    ----------
    workers : mapping of str to mapping
        What the scheduler says of each worker, by address.
    on_workers : mapping of str to collection of object
        Tasks that each worker has got, as in ``Client.processing``.

    Returns
    -------
    frozenset of object
        Their keys; none where no other worker takes tasks.
    """
    if not any(map(_is_running, workers.values())):
        return frozenset()
    idle = [at for at, worker in workers.items() if not _is_running(worker) and not _executes(worker)]
    return frozenset(key for at in idle for key in on_workers.get(at, ()))


def stalled(workers: Sequence[Worker], seconds: float) -> ClusterError:
    """What is wrong with a cluster that runs nothing.

    Parameters
    ----------
    workers : sequence of mapping
        What the scheduler says of each worker.
    seconds : float
        How long it has run nothing.

    Returns
    -------
    ClusterError
        Says which workers have paused, what they hold, and what to raise.
    """
    if not workers:
        return ClusterError(
            f"the cluster has had no workers for {seconds:g} s: they died and did not come back",
            hint="see the logs of the workers; the same command goes on",
        )
    paused = [worker for worker in workers if not _is_running(worker)]
    if not paused:
        return ClusterError(
            f"the cluster has run nothing for {seconds:g} s, though its workers take tasks",
            hint="the logs of scheduler and workers may show the cause; the same command goes on",
        )
    some = "all" if len(paused) == len(workers) else f"{len(paused)} of"
    held = "; ".join(map(_memory_of, paused[:3]))
    return ClusterError(
        f"the cluster has run nothing for {seconds:g} s: {some} {len(workers)} workers have paused, since "
        f"their memory is full ({held})",
        hint="raise processing.max_memory_gb, or launch.spill_gb where that much is spilled, make room on "
        "the disk that they spill to, or use fewer workers; the same command goes on",
    )


def _is_running(worker: Worker) -> bool:
    return bool(worker.get("status", "running") == "running")


def _executes(worker: Worker) -> bool:
    metrics = worker.get("metrics", {})
    fetches = metrics.get("transfer", {}).get("incoming_count")
    silent = time.time() - worker.get("last_seen", 0.0) > SILENT_S
    return bool(metrics.get("task_counts", {}).get("executing") or fetches or silent)


def _memory_of(worker: Worker) -> str:
    metrics = worker.get("metrics", {})
    used, limit = format_bytes(metrics.get("memory", 0)), format_bytes(worker["memory_limit"])
    spilled = format_bytes(metrics.get("spilled_bytes", {}).get("disk", 0))
    return f"{worker['name']}: {used} of {limit}, {spilled} spilled"
