"""Which worker gets which cores: disjoint slices that respect NUMA nodes and SMT siblings."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from canvod.launch.host.inventory import Cpu


@dataclass(frozen=True, slots=True)
class CoreSlices:
    """The cores of every worker."""

    slices: tuple[tuple[int, ...], ...]
    """For each worker the sorted IDs of its logical CPUs."""
    shared: bool
    """True where there are too few: then every worker has the whole list."""
    straddling: tuple[int, ...]
    """Indices of the workers whose own cores lie on more than one NUMA node."""


def slice_cores(pool: Iterable[Cpu], workers: int, per_worker: int) -> CoreSlices:
    """Give each worker cores of its own, or all of them to all where there are too few.

    In this order of importance: as many workers as possible lie on one NUMA node each; workers spread evenly
    over the nodes, for the sake of memory bandwidth; every worker has physical cores to itself, one hardware
    thread of each where a node has cores enough, whole cores with all their siblings otherwise.

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
    >>> from canvod.launch.plan.model import Cpu
    >>> cpus = [Cpu(id=n, core=(n % 2, n % 2 + 2), node=0) for n in range(4)]
    >>> slice_cores(cpus, workers=2, per_worker=2).slices
    ((0, 2), (1, 3))
    """
    cpus = sorted(pool, key=lambda cpu: cpu.id)
    if workers * per_worker > len(cpus):
        everything = tuple(cpu.id for cpu in cpus)
        # A single worker with fewer cores than it has threads shares them with nobody.
        return CoreSlices(slices=(everything,) * workers, shared=workers > 1, straddling=())

    nodes: defaultdict[int, dict[tuple[int, ...], list[int]]] = defaultdict(dict)
    for cpu in cpus:
        nodes[cpu.node].setdefault(cpu.core, []).append(cpu.id)

    slices: list[tuple[int, ...]] = []
    left: list[int] = []
    for node, seats in sorted(_seats(nodes, workers, per_worker).items()):
        taken = _slice_node(list(nodes[node].values()), seats, per_worker)
        slices += taken
        used = {cpu for ids in taken for cpu in ids}
        # Siblings side by side, so that those who straddle at least get whole cores.
        left += [cpu for core in nodes[node].values() for cpu in core if cpu not in used]
    straddling = tuple(range(len(slices), workers))
    for _ in straddling:
        slices.append(tuple(sorted(left[:per_worker])))
        del left[:per_worker]
    return CoreSlices(slices=tuple(slices), shared=False, straddling=straddling)


def _seats(
    nodes: dict[int, dict[tuple[int, ...], list[int]]], workers: int, per_worker: int
) -> dict[int, int]:
    """Tell how many workers fit on each node without straddling, spread evenly over the nodes."""
    physical = {node: len(cores) for node, cores in nodes.items()}
    logical = {node: sum(map(len, cores.values())) for node, cores in nodes.items()}
    seats = dict.fromkeys(nodes, 0)
    for _ in range(workers):
        # Whole physical cores first; hardware threads of cores that are in use already only after that.
        for room in (physical, logical):
            open_nodes = [node for node in nodes if (seats[node] + 1) * per_worker <= room[node]]
            if open_nodes:
                emptiest = min(open_nodes, key=lambda node: (seats[node] / room[node], node))
                seats[emptiest] += 1
                break
        else:
            break
    return seats


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
    """Choose the core to take next: the largest that is needed whole, else the smallest."""
    return max((size for size in sizes if size <= need), default=min(sizes))


def _suffice(sizes: Sequence[int], needs: Iterable[int]) -> bool:
    """Tell whether there are cores enough for workers with these needs to meet on none."""
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
