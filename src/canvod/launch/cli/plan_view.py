"""A plan for people and for programs: a table, a drawing of the cores, JSON."""

from __future__ import annotations

import json
from itertools import batched
from typing import TYPE_CHECKING

from rich import box
from rich.console import Group
from rich.panel import Panel
from rich.table import Column, Table
from rich.text import Text

from canvod.launch.cli.console import NOTHING, make_table
from canvod.launch.config.redact import HIDDEN
from canvod.launch.host.cpulist import format_cpulist
from canvod.launch.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from rich.console import RenderableType

    from canvod.launch.host.inventory import HostInventory
    from canvod.launch.plan.model import ClusterPlan, ContainerPlan

FREE = "·"
"""A hardware thread that the cluster leaves alone."""
FORBIDDEN = "x"
"""A hardware thread that this process may not use."""
SCHEDULER = "S"
"""A hardware thread of the cluster that no worker has of its own."""
SHARED = "W"
"""A hardware thread that all workers share."""

STYLES = ("cyan", "green", "yellow", "magenta", "blue", "red")
"""Colours of the workers, in turn; a worker's name is there as well, so that colour is never needed."""

FRAME_WIDTH = 4
"""Columns that the frame of a NUMA node takes: an edge and a blank on either side."""
GAP = 1
"""Blanks between two cores."""
STEP = 4
"""Lines that are full hold a multiple of this many cores, so that their numbers are easy to find."""


def plan_table(plan: ClusterPlan) -> Table:
    """Draw the containers of a plan as a table.

    Parameters
    ----------
    plan : ClusterPlan
        The plan.

    Returns
    -------
    rich.table.Table
        Container, cores, NUMA nodes, memory limit, Dask's own, threads, nice and CPU weight. Containers are
        named by the last part of their names; the title has the first. For processes, limits that nothing
        enforces are left out, and so is the scheduler, which is part of this process then.
    """
    containers = plan.backend == "docker"
    prefix = plan.scheduler.name.removesuffix(plan.scheduler.dask_name)
    table = make_table(
        ("container" if containers else "process", "cores", "NUMA"),
        ("limit", "Dask limit", "threads", "nice", "weight"),
        title=f"Containers {prefix}…" if containers else None,
    )
    for container in ((plan.scheduler,) if containers else ()) + plan.workers:
        limit = container.dask_memory_limit_bytes
        table.add_row(
            container.dask_name,
            format_cpulist(container.cpuset_cpus),
            (format_cpulist(container.cpuset_mems) if containers else "") or "any",
            format_bytes(container.memory_bytes) if containers else NOTHING,
            NOTHING if limit is None or plan.backend == "pool" else format_bytes(limit),
            str(container.nthreads),
            str(container.nice),
            str(container.cpu_weight) if containers else NOTHING,
            style=_worker_style(container),
        )
    return table


def core_drawing(plan: ClusterPlan, inventory: HostInventory, width: int) -> RenderableType:
    """Draw which cores belong to whom.

    A box is a NUMA node, a column in it a physical core: on top the number of its first hardware thread,
    below the owner of each of its hardware threads. ``W0`` is a worker, ``S`` the scheduler alone, ``W`` all
    workers together, ``·`` nobody, ``x`` not allowed.

    Parameters
    ----------
    plan : ClusterPlan
        The plan.
    inventory : HostInventory
        The host that it was made for.
    width : int
        Columns of the terminal.

    Returns
    -------
    rich renderable
        It says the same without colour.
    """
    cpus = sorted((*inventory.cpus, *inventory.other_cpus), key=lambda cpu: cpu.id)
    # Siblings that only another core's list names exist as well, and this process may not use them.
    siblings = {sibling for cpu in cpus for sibling in cpu.core} - {cpu.id for cpu in cpus}
    marks = dict.fromkeys((cpu.id for cpu in inventory.cpus), (FREE, "dim")) | _owners(plan)
    marks |= dict.fromkeys((*(cpu.id for cpu in inventory.other_cpus), *siblings), (FORBIDDEN, "dim"))
    nodes: dict[int, dict[tuple[int, ...], None]] = {}
    for cpu in cpus:
        nodes.setdefault(cpu.node, {})[cpu.core] = None
    texts = [str(cpu.core[0]) for cpu in cpus] + [mark for mark, _ in marks.values()]
    cell = max(map(len, texts))
    columns = max(1, (width - FRAME_WIDTH + GAP) // (cell + GAP))
    columns = columns // STEP * STEP or columns
    panels = [
        Panel(
            _core_grid(list(nodes[node]), marks, columns, cell),
            title=f"NUMA node {node}",
            title_align="left",
            box=box.SQUARE,
            expand=False,
        )
        for node in sorted(nodes)
    ]
    seen = {mark for mark, _ in marks.values()}
    legend = {
        "W0, W1, … workers": seen - {FREE, FORBIDDEN, SCHEDULER, SHARED},
        f"{SHARED} all workers together": seen & {SHARED},
        f"{SCHEDULER} scheduler alone": seen & {SCHEDULER},
        f"{FREE} not used": seen & {FREE},
        f"{FORBIDDEN} not allowed": seen & {FORBIDDEN},
    }
    return Group(*panels, Text("   ".join(text for text, shown in legend.items() if shown), style="dim"))


def _core_grid(
    cores: Sequence[tuple[int, ...]], marks: dict[int, tuple[str, str]], columns: int, cell: int
) -> Table:
    """Draw physical cores in lines of so many: their numbers, and below these their hardware threads."""
    headers = [Column(justify="right", no_wrap=True, min_width=cell) for _ in cores[:columns]]
    grid = Table.grid(*headers, padding=(0, GAP, 0, 0))
    for number, line in enumerate(batched(cores, columns)):
        if number:
            grid.add_row()
        grid.add_row(
            *(
                Text("\n").join([Text(str(core[0]), "dim"), *(Text(*marks[cpu]) for cpu in core)])
                for core in line
            )
        )
    return grid


def plan_json(plan: ClusterPlan, *, hidden: Collection[str] = ()) -> str:
    """Write a plan as JSON: exactly what would be started.

    Parameters
    ----------
    plan : ClusterPlan
        The plan.
    hidden : collection of str
        Environment variables whose values may be secrets: those of ``launch.environment``.

    Returns
    -------
    str
        All fields of the plan, with ``***`` for hidden values.

    Examples
    --------
    >>> from canvod.launch.config import Settings
    >>> from canvod.launch.host.detect import read_inventory
    >>> from canvod.launch.plan.model import ClusterPlan
    >>> from canvod.launch.plan.planner import make_plan
    >>> plan = make_plan(
    ...     Settings(), read_inventory(), backend="process", name="example", python="3.14", version="0.1.0"
    ... )
    >>> ClusterPlan.model_validate_json(plan_json(plan)) == plan
    True
    """
    shown = plan.model_dump(mode="json")
    for worker in shown["workers"]:
        names = worker["environment"].keys() & set(hidden)
        worker["environment"] |= dict.fromkeys(names, HIDDEN)
    return json.dumps(shown, indent=2)


def plan_notes(plan: ClusterPlan) -> RenderableType:
    """Draw the notes of a plan, one paragraph each, warnings marked with ``!``.

    Parameters
    ----------
    plan : ClusterPlan
        The plan.

    Returns
    -------
    rich renderable
        The notes, in the order of the plan.
    """
    grid = Table.grid(padding=(0, 1))
    grid.add_column(no_wrap=True)
    grid.add_column()
    for note in plan.notes:
        warning = note.level == "warning"
        grid.add_row(
            Text("!" if warning else "-", style="bold yellow" if warning else "dim"), Text(note.text)
        )
    return grid


def _owners(plan: ClusterPlan) -> dict[int, tuple[str, str]]:
    """Give the letters and the style of each hardware thread of the cluster."""
    owners: dict[int, tuple[str, str]] = {}
    if plan.backend == "docker":
        owners |= dict.fromkeys(plan.scheduler.cpuset_cpus, (SCHEDULER, "bold"))
    for index, worker in enumerate(plan.workers):
        mark = SHARED if plan.cores_shared else f"W{index}"
        style = "bold yellow" if plan.cores_shared else _worker_style(worker)
        owners.update(dict.fromkeys(worker.cpuset_cpus, (mark, style)))
    return owners


def _worker_style(container: ContainerPlan) -> str:
    number = container.dask_name.rpartition("-")[2]
    return STYLES[int(number) % len(STYLES)] if number.isdecimal() else "bold"
