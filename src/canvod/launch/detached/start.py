"""The start of a detached cluster: whole, or not at all, whatever happens meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING

from canvod.launch.cluster.scheduler_rpc import ask_scheduler, wait_until_up
from canvod.launch.cluster.tls import KeyFolder, keys_folder, make_keys
from canvod.launch.detached.credentials import ClusterState, scheduler_mark
from canvod.launch.docker.containers import ContainerSet
from canvod.launch.docker.discovery import choose_cluster, find_clusters
from canvod.launch.docker.removal import remedy
from canvod.launch.docker.watchdog import Watchdog
from canvod.launch.host.owner import owner_mark
from canvod.launch.runtime.operations import TARGET
from canvod.launch.termination import shielded

if TYPE_CHECKING:
    from canvod.launch.docker.discovery import ClusterInfo
    from canvod.launch.docker.engine import Client
    from canvod.launch.plan.model import ClusterPlan


def start_containers(client: Client, plan: ClusterPlan) -> ClusterInfo:
    """Start a cluster that outlives this process, and wait until all its workers are there.

    Parameters
    ----------
    client : docker.DockerClient
        The engine.
    plan : ClusterPlan
        What to start.

    Returns
    -------
    ClusterInfo
        What is there now.

    Raises
    ------
    ClusterError
        If a container ends, or does not answer in time. All that was started is removed, as it is when a
        signal interrupts the start, or when this process is killed.
    EngineError
        If the engine refuses a request.
    """
    reaper = Watchdog(plan.name, keys_folder(plan.name, owner_mark()))
    fleet: ContainerSet | None = None
    folders: list[KeyFolder] = []
    try:
        keys = make_keys(plan.name)
        folders.append(KeyFolder(plan.name, keys))
        fleet = ContainerSet(client, plan, keys, state=ClusterState(keys, plan).as_json())
        fleet.begin()
        security = folders[0].security()
        address = wait_until_up(fleet, plan.workers, security)
        with shielded():
            ask_scheduler(address, security, TARGET, workers=len(plan.workers))
            found = choose_cluster(find_clusters(client), plan.name)
            # From now on the keys belong to the cluster, and no more to this process.
            folders.append(KeyFolder(plan.name, keys, mark=scheduler_mark(client, found)))
            folders[0].remove()
            reaper.dismiss()
            fleet.release()
    except BaseException as error:
        with shielded():
            left = [] if fleet is None else fleet.close()
            for folder in folders:
                folder.remove()
            if left:
                error.add_note(
                    f"Cluster {plan.name} is not gone entirely: {'; '.join(left)}.\n"
                    f"  What to do: {remedy(plan.name)}"
                )
            else:
                reaper.dismiss()
        raise
    return found
