"""Which cores each worker gets, and memory of which NUMA nodes: disjoint slices that respect SMT siblings."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from canvod.launch.host.inventory import Cpu, HostInventory


@dataclass(frozen=True, slots=True)
class CoreSlices:
    """The cores of every worker."""

    slices: tuple[tuple[int, ...], ...]
    """For each worker the sorted IDs of its logical CPUs."""
    shared: bool
    """True where there are too few: then every worker has all of them."""
    spanning: tuple[int, ...]
    """Indices of the workers whose own cores span several NUMA nodes."""


def slice_cores(pool: Iterable[Cpu], workers: int, per_worker: int) -> CoreSlices:
    """Give each worker cores of its own, or all of them to all where there are too few.

    In this order of importance: as many workers as possible lie on one NUMA node each; workers spread evenly
    over the nodes, for the sake of memory bandwidth; every worker has physical cores to itself, one hardware
    thread of each where a node has cores enough, complete cores with all their siblings otherwise.

    Parameters
    ----------
    pool : iterable of Cpu
        Logical CPUs to take from, in any order.
    workers : int
        Number of workers, at least 1.
    per_worker : int
        Logical CPUs for each worker, at least 1.

    Returns
    -------
    CoreSlices
        Slices sorted within and in the order of nodes, so that neighbours lie near each other.

    Examples
    --------
    >>> from canvod.launch.host.inventory import Cpu
    >>> cpus = [Cpu(id=n, core=(n % 2, n % 2 + 2), node=0) for n in range(4)]
    >>> slice_cores(cpus, workers=2, per_worker=2).slices
    ((0, 2), (1, 3))
    """
    cpus = sorted(pool, key=lambda cpu: cpu.id)
    if workers * per_worker > len(cpus):
        everything = tuple(cpu.id for cpu in cpus)
        # A single worker with fewer cores than it has threads shares them with nobody.
        return CoreSlices(slices=(everything,) * workers, shared=workers > 1, spanning=())

    nodes: defaultdict[int, dict[tuple[int, ...], list[int]]] = defaultdict(dict)
    for cpu in cpus:
        nodes[cpu.node].setdefault(cpu.core, []).append(cpu.id)

    slices: list[tuple[int, ...]] = []
    left: list[int] = []
    for node, capacity in sorted(_node_capacities(nodes, workers, per_worker).items()):
        taken = _slice_node(list(nodes[node].values()), capacity, per_worker)
        slices += taken
        used = {cpu for ids in taken for cpu in ids}
        # Siblings side by side, so that workers that span nodes at least get complete cores.
        left += [cpu for core in nodes[node].values() for cpu in core if cpu not in used]
    spanning = tuple(range(len(slices), workers))
    for number in range(len(spanning)):
        slices.append(tuple(sorted(left[number * per_worker : (number + 1) * per_worker])))
    return CoreSlices(slices=tuple(slices), shared=False, spanning=spanning)


def _node_capacities(
    nodes: dict[int, dict[tuple[int, ...], list[int]]], workers: int, per_worker: int
) -> dict[int, int]:
    """Tell how many workers fit on each node alone, spread evenly over the nodes."""
    physical = {node: len(cores) for node, cores in nodes.items()}
    logical = {node: sum(map(len, cores.values())) for node, cores in nodes.items()}
    fitting = dict.fromkeys(nodes, 0)
    for _ in range(workers):
        # Unused physical cores first; hardware threads of cores that are in use already only after that.
        for available in (physical, logical):
            open_nodes = [node for node in nodes if (fitting[node] + 1) * per_worker <= available[node]]
            if open_nodes:
                emptiest = min(open_nodes, key=lambda node: (fitting[node] / available[node], node))
                fitting[emptiest] += 1
                break
        else:
            break
    return fitting


def _slice_node(cores: Sequence[Sequence[int]], workers: int, per_worker: int) -> list[tuple[int, ...]]:
    """Slice one node's cores; each core is given as the IDs of its hardware threads in the pool."""
    if workers * per_worker <= len(cores):
        cores = [core[:1] for core in cores]
    untouched = [list(core) for core in cores]
    opened: list[int] = []
    slices: list[tuple[int, ...]] = []
    for later in reversed(range(workers)):
        own: list[int] = []
        while (need := per_worker - len(own)) > 0:
            sizes = [len(core) for core in untouched]
            # Of a core that is more than this worker needs another one gets the rest, where cores are short.
            partly = all(size > need for size in sizes)
            if partly and opened and not _suffice(sizes, [need, *[per_worker] * later]):
                own.append(opened.pop(0))
                continue
            core = untouched.pop(sizes.index(_best_size(sizes, need)))
            own += core[:need]
            opened += core[need:]
        slices.append(tuple(sorted(own)))
    return slices


def _best_size(sizes: Sequence[int], need: int) -> int:
    """Choose the core to take next: the largest that is needed completely, else the smallest."""
    return max((size for size in sizes if size <= need), default=min(sizes))


def _suffice(sizes: Sequence[int], needs: Iterable[int]) -> bool:
    """Tell whether there are enough cores for workers with these needs to share none."""
    free = list(sizes)
    for need in needs:
        missing = need
        while missing > 0:
            if not free:
                return False
            size = _best_size(free, missing)
            free.remove(size)
            missing -= size
    return True


def nodes_of(cpus: Iterable[Cpu], ids: Iterable[int]) -> tuple[int, ...]:
    """Tell on which NUMA nodes some logical CPUs lie.

    Parameters
    ----------
    cpus : iterable of Cpu
        CPUs to look among.
    ids : iterable of int
        IDs of the CPUs in question.

    Returns
    -------
    tuple of int
        Node numbers, sorted, each once.
    """
    wanted = set(ids)
    return tuple(sorted({cpu.node for cpu in cpus if cpu.id in wanted}))


def oversubscribed_nodes(
    inventory: HostInventory, slices: Iterable[tuple[int, ...]], worker_bytes: int
) -> frozenset[int]:
    """Tell which NUMA nodes have less memory than the memory limits of the workers on them.

    A worker that is bound to such a node is killed when the node is full, long before its own limit.

    Parameters
    ----------
    inventory : HostInventory
        The host.
    slices : iterable of tuple of int
        The logical CPUs of each worker.
    worker_bytes : int
        Memory limit of each worker; that of one on several nodes counts for each in equal parts.

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


def memory_nodes(
    inventory: HostInventory, cpus: Iterable[int], oversubscribed: frozenset[int]
) -> tuple[int, ...]:
    """Tell which NUMA nodes a container may take memory from.

    Parameters
    ----------
    inventory : HostInventory
        The host.
    cpus : iterable of int
        The container's logical CPUs.
    oversubscribed : frozenset of int
        Nodes that containers must not be bound to, from `oversubscribed_nodes`.

    Returns
    -------
    tuple of int
        The nodes of its CPUs. Empty, which leaves all nodes open, if one of them is oversubscribed or has no
        memory: the kernel refuses a cpuset with a node that has none.
    """
    nodes = nodes_of(inventory.cpus, cpus)
    unusable = oversubscribed | {node for node, size in inventory.node_memory_bytes.items() if size == 0}
    return () if unusable.intersection(nodes) else nodes
