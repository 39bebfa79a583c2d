"""A plan for people and for programs: a table, a drawing of the cores, JSON."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from rich import box
from rich.console import Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from canvod.launch.config.redact import HIDDEN
from canvod.launch.host.cpulist import format_cpulist
from canvod.launch.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

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

NOTHING = "-"
"""What a table shows for no value."""


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
    table = Table(
        title=f"Containers {prefix}…" if containers else None,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        show_edge=False,
    )
    table.add_column("container" if containers else "process", overflow="fold")
    for heading in ("cores", "NUMA"):
        table.add_column(heading, overflow="fold")
    for heading in ("limit", "Dask limit", "threads", "nice", "weight"):
        table.add_column(heading, justify="right", no_wrap=True)
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


def core_drawing(plan: ClusterPlan, inventory: HostInventory) -> RenderableType:
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

    Returns
    -------
    rich renderable
        As wide as the console allows; it says the same without colour.
    """
    return _Drawing(plan, inventory)


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
    workers = []
    for worker in plan.workers:
        environment = {
            name: HIDDEN if name in hidden else value for name, value in worker.environment.items()
        }
        workers.append(worker.model_copy(update={"environment": environment}))
    return plan.model_copy(update={"workers": tuple(workers)}).model_dump_json(indent=2)


def plan_notes(plan: ClusterPlan) -> RenderableType:
    """Draw the notes of a plan, one paragraph each, warnings marked with ``!``."""
    grid = Table.grid(padding=(0, 1))
    grid.add_column(no_wrap=True)
    grid.add_column()
    for note in plan.notes:
        warning = note.level == "warning"
        grid.add_row(
            Text("!" if warning else "-", style="bold yellow" if warning else "dim"), Text(note.text)
        )
    return grid


class _Drawing:
    """Lays the cores out once the width is known."""

    def __init__(self, plan: ClusterPlan, inventory: HostInventory) -> None:
        self.owners = _owners(plan)
        self.shared = plan.cores_shared
        self.cpus = sorted((*inventory.cpus, *inventory.other_cpus), key=lambda cpu: cpu.id)
        self.forbidden = {cpu.id for cpu in inventory.other_cpus}
        listed = {cpu.id for cpu in self.cpus}
        # Siblings that only another core's list names exist as well, and this process may not use them.
        self.forbidden |= {sibling for cpu in self.cpus for sibling in cpu.core} - listed

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        nodes: defaultdict[int, dict[tuple[int, ...], None]] = defaultdict(dict)
        for cpu in self.cpus:
            nodes[cpu.node][cpu.core] = None
        width = options.max_width - FRAME_WIDTH
        cells = [self._mark(cpu)[0] for cores in nodes.values() for core in cores for cpu in core]
        numbers = [str(core[0]) for cores in nodes.values() for core in cores]
        cell = max(map(len, (*cells, *numbers)))
        columns = max(1, (width + GAP) // (cell + GAP))
        columns = columns // STEP * STEP or columns
        for node, cores in sorted(nodes.items()):
            rows: list[Text] = []
            for part in _parts(list(cores), columns):
                rows += [Text(), *self._rows(part, cell)] if rows else self._rows(part, cell)
            yield Panel(
                Group(*rows), title=f"NUMA node {node}", title_align="left", box=box.SQUARE, expand=False
            )
        yield self._legend()

    def _rows(self, cores: Sequence[tuple[int, ...]], cell: int) -> Iterator[Text]:
        """Draw some physical cores side by side: their numbers, then a row for each hardware thread."""
        yield _row([(str(core[0]), "dim") for core in cores], cell)
        for thread in range(max(map(len, cores))):
            yield _row([self._mark(core[thread]) if thread < len(core) else ("", "") for core in cores], cell)

    def _mark(self, cpu: int) -> tuple[str, str]:
        """Give the letters and the style of a hardware thread."""
        if cpu in self.forbidden:
            return FORBIDDEN, "dim"
        return self.owners.get(cpu, (FREE, "dim"))

    def _legend(self) -> Text:
        marks = {mark for mark, _ in self.owners.values()}
        entries = [
            ("W0, W1, … workers", bool(marks - {SCHEDULER, SHARED})),
            (f"{SHARED} all workers together", SHARED in marks),
            (f"{SCHEDULER} scheduler alone", SCHEDULER in marks),
            (f"{FREE} not used", any(self._mark(cpu.id)[0] == FREE for cpu in self.cpus)),
            (f"{FORBIDDEN} not allowed", bool(self.forbidden)),
        ]
        return Text("   ".join(text for text, shown in entries if shown), style="dim")


def _owners(plan: ClusterPlan) -> Mapping[int, tuple[str, str]]:
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


def _parts[T](items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _row(cells: Sequence[tuple[str, str]], width: int) -> Text:
    row = Text(no_wrap=True)
    for position, (text, style) in enumerate(cells):
        row.append(" " * GAP if position else "")
        row.append(text.rjust(width), style=style)
    return row
