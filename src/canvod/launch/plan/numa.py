"""Which NUMA nodes containers may take their memory from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from canvod.launch.plan.cores import nodes_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from canvod.launch.host.inventory import HostInventory


def oversubscribed_nodes(
    inventory: HostInventory, slices: Iterable[tuple[int, ...]], worker_bytes: int
) -> frozenset[int]:
    """Tell which NUMA nodes have less memory than the caps of the workers on them.

    A worker that is bound to such a node is killed when the node is full, long before its cap.

    Parameters
    ----------
    inventory : HostInventory
        The host.
    slices : iterable of tuple of int
        The logical CPUs of each worker.
    worker_bytes : int
        Cap of each worker; that of a worker on several nodes counts for each in equal parts.

    Returns
    -------
    frozenset of int
        Node numbers; empty where the host does not tell its nodes' memory, or has a single node.
    """
    memory = inventory.node_memory_bytes
    if len(memory) <= 1:
        return frozenset()
    demand: dict[int, float] = {}
    for ids in slices:
        nodes = nodes_of(inventory.cpus, ids)
        for node in nodes:
            demand[node] = demand.get(node, 0) + worker_bytes / len(nodes)
    return frozenset(node for node, needed in demand.items() if node in memory and needed > memory[node])


def memory_nodes(inventory: HostInventory, cpus: Iterable[int], crowded: frozenset[int]) -> tuple[int, ...]:
    """Tell which NUMA nodes a container may take memory from.

    Parameters
    ----------
    inventory : HostInventory
        The host.
    cpus : iterable of int
        The container's logical CPUs.
    crowded : frozenset of int
        Nodes that containers must not be bound to, from `oversubscribed_nodes`.

    Returns
    -------
    tuple of int
        The nodes of its CPUs. Empty, which leaves all nodes open, if one of them is crowded or has no memory:
        the kernel refuses a cpuset with a node that has none.
    """
    nodes = nodes_of(inventory.cpus, cpus)
    unusable = crowded | {node for node, size in inventory.node_memory_bytes.items() if size == 0}
    return () if unusable.intersection(nodes) else nodes
