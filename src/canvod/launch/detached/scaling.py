"""More and fewer workers of a detached cluster, within its plan."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from canvod.launch.cluster.scheduler_rpc import ask_scheduler, wait_until, wait_until_up
from canvod.launch.detached.credentials import ClusterState, client_keys, read_state
from canvod.launch.docker.containers import ContainerSet
from canvod.launch.docker.engine import EngineNotFoundError, translate
from canvod.launch.docker.removal import remove_container
from canvod.launch.errors import ClusterNotFoundError, PlanError
from canvod.launch.runtime.operations import STATUS, TARGET
from canvod.launch.termination import shielded

if TYPE_CHECKING:
    from distributed.security import Security

    from canvod.launch.docker.discovery import ClusterInfo
    from canvod.launch.docker.engine import Client
    from canvod.launch.plan.model import ContainerPlan

RETIRE_TIMEOUT_S = 60.0
"""How long workers may take to hand their results over before they are removed."""

LEAVE_TIMEOUT_S = 10.0
"""How long a worker may take to leave once it has nothing left to do."""


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
    tuple of two int
        How many were registered before, and are now.

    Raises
    ------
    PlanError
        If the cluster's plan has fewer workers.
    ClusterNotFoundError
        If it is not one of ``canvod-launch up``.
    ClusterError
        If a worker does not come up; it has been removed, the others are as they were.
    EngineError
        If the engine refuses a request.
    """
    if not cluster.mine:
        raise ClusterNotFoundError(
            f"Cluster {cluster.name} belongs to the user with uid {cluster.uid}.", hint="ask them"
        )
    state = read_state(client, cluster)
    slots = state.plan.workers
    if not 0 <= workers <= len(slots):
        raise PlanError(
            f"Cannot scale to {workers} workers: the plan of cluster {cluster.name} has {len(slots)}, whose "
            "cores and memory are all that it may use.",
            hint=f"from 0 to {len(slots)}; for more, raise processing.n_max_threads and "
            f"processing.max_memory_gb, then canvod-launch down {cluster.name} and canvod-launch up "
            f"--name {cluster.name}",
        )
    security = client_keys(client, cluster).security()
    address = cluster.scheduler_address
    status: dict[str, Any] = ask_scheduler(address, security)
    before = len(status["workers"])
    wanted, surplus = slots[:workers], slots[workers:]
    _retire(client, cluster, [slot.dask_name for slot in surplus], address, security)
    running = {container.dask_name for container in cluster.workers if container.runs}
    missing = [slot for slot in wanted if slot.dask_name not in running]
    if missing:
        for container in cluster.workers:
            # One that was created, or has ended, and never went.
            if not container.runs:
                remove_container(client, container.id)
        _start(client, state, missing, address, security)
    ask_scheduler(address, security, TARGET, workers=workers)
    status = ask_scheduler(address, security, STATUS)
    return before, len(status["workers"])


def _retire(client: Client, cluster: ClusterInfo, names: list[str], address: str, security: Security) -> None:
    leaving = [container for container in cluster.workers if container.dask_name in names]
    if not leaving:
        return
    ask_scheduler(
        address,
        security,
        "retire_workers",
        timeout_s=RETIRE_TIMEOUT_S,
        names=[container.dask_name for container in leaving],
        close_workers=True,
    )
    gone = wait_until(
        lambda: not any(_exists(client, container.id) for container in leaving), LEAVE_TIMEOUT_S
    )
    if not gone:
        for container in leaving:
            remove_container(client, container.id)


def _exists(client: Client, identifier: str) -> bool:
    try:
        with translate(f"look at the container {identifier}"):
            client.api.inspect_container(identifier)
    except EngineNotFoundError:
        return False
    return True


def _start(
    client: Client, state: ClusterState, slots: list[ContainerPlan], address: str, security: Security
) -> None:
    fleet = ContainerSet(client, state.plan, state.keys, joins=True)
    try:
        for slot in slots:
            fleet.start(slot)
        wait_until_up(fleet, slots, security, address)
    except BaseException:
        with shielded():
            for slot in slots:
                fleet.remove(slot.dask_name)
        raise
    finally:
        fleet.release()
