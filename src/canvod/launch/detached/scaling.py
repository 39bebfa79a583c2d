"""More and fewer workers of a detached cluster, within its plan."""

from __future__ import annotations

import time
from contextlib import closing
from typing import TYPE_CHECKING

from canvod.launch.cluster.docker_backend import DockerBackend
from canvod.launch.cluster.scheduler_connection import SchedulerConnection
from canvod.launch.cluster.started_cluster import await_workers
from canvod.launch.detached.attach import client_keys, read_state
from canvod.launch.detached.lifecycle import require_own
from canvod.launch.docker.removal import remove_object
from canvod.launch.errors import ClusterNotFoundError, PlanError
from canvod.launch.runtime.operations import TARGET
from canvod.launch.termination import shielded

if TYPE_CHECKING:
    from canvod.launch.cluster.cluster_state import ClusterState
    from canvod.launch.docker.engine import Client
    from canvod.launch.host.clusters import ClusterInfo

RETIRE_TIMEOUT_S = 60.0
"""How long workers may take to hand their results over before they are removed."""


def scale_cluster(client: Client, cluster: ClusterInfo, workers: int) -> tuple[int, int]:
    """Start or stop workers of a detached cluster until there are so many, and replace those that died.

    Workers that go hand their results over to those that stay.

    Parameters
    ----------
    client : docker.DockerClient
        The engine.
    cluster : ClusterInfo
        The cluster.
    workers : int
        How many there are to be.

    Returns
    -------
    before : int
        How many workers were registered with the scheduler before.
    after : int
        How many are now.

    Raises
    ------
    PlanError
        If the cluster's plan has fewer workers.
    ClusterNotFoundError
        If it is not a detached one, or its scheduler does not run.
    ForeignClusterError
        If it is another user's, or ``docker compose`` runs it.
    ClusterError
        If a worker does not come up: it has been removed, the others are as they were. Also if the scheduler
        does not answer.
    KeysError
        If a client's keys cannot be written.
    EngineError
        If the engine refuses a request.
    """
    require_own(cluster)
    if cluster.kind == "ephemeral":
        raise ClusterNotFoundError(
            f"Cluster {cluster.name} is scaled by the process that started it.",
            hint="use manager.cluster.scale there",
        )
    state = read_state(client, cluster)
    planned = [worker.dask_name for worker in state.plan.workers]
    if not 0 <= workers <= len(planned):
        raise PlanError(
            f"Cannot scale to {workers} workers: the plan of cluster {cluster.name} has {len(planned)}, "
            "whose cores and memory are all that it may use.",
            hint=f"from 0 to {len(planned)}; for more, raise processing.n_max_threads and "
            f"processing.max_memory_gb, then canvod-launch down {cluster.name} and canvod-launch up "
            f"--name {cluster.name}",
        )
    security = client_keys(client, cluster, state).security()
    wanted = planned[:workers]
    with closing(SchedulerConnection(cluster.scheduler_address, security)) as connection:
        before = connection.ask()["workers"]
        surplus = [name for name in before if name not in wanted]
        if surplus:
            connection.ask("retire_workers", timeout_s=RETIRE_TIMEOUT_S, names=surplus)
        # Also those that were created, or have ended, and never went.
        leaving = [each.id for each in cluster.workers if each.name not in wanted or not each.runs]
        for identifier in leaving:
            remove_object(client, "container", identifier)
        running = {each.name for each in cluster.workers if each.runs}
        _start(client, state, [name for name in wanted if name not in running], connection)
        connection.ask(TARGET, workers=workers)
        return len(before), len(connection.ask()["workers"])


def _start(client: Client, state: ClusterState, names: list[str], connection: SchedulerConnection) -> None:
    if not names:
        return
    backend = DockerBackend(client, state, joins=True)
    deadline = time.monotonic() + state.plan.start_timeout_s
    try:
        backend.start(names)
        for _ in await_workers(backend, connection, names, deadline):
            pass
    except BaseException:
        with shielded():
            backend.stop(names)
        raise
    finally:
        backend.release()
