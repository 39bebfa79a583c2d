"""What people and programs see of a plan: table, drawing, notes, JSON, and the command."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from rich.console import Console
from rich.text import Text

from canvod.launch.cli import main
from canvod.launch.cli.plan_view import core_drawing, plan_json, plan_notes, plan_table
from canvod.launch.plan.model import ClusterPlan
from plan_strategies import fitting_cases, make_engine, make_host, make_settings, planned

if TYPE_CHECKING:
    from rich.console import RenderableType

    from canvod.launch.host.inventory import HostInventory

MANUAL = {"resource_mode": "manual", "n_max_threads": 2, "max_memory_gb": 8}


def plan_for(host: HostInventory, processing: dict[str, Any] | None = None, **arguments: Any) -> ClusterPlan:
    """Plan containers, unless told otherwise."""
    settings = make_settings(processing=processing or {})
    return planned(settings, host, **{"engine": make_engine(), **arguments})


def drawn(renderable: RenderableType, *, width: int = 80, colour: bool = False) -> str:
    """Render as a terminal would show it."""
    file = io.StringIO()
    system: Any = "truecolor" if colour else None
    console = Console(
        file=file, width=width, force_terminal=colour, color_system=system, legacy_windows=False
    )
    console.print(renderable)
    return file.getvalue()


def read_drawing(text: str) -> dict[tuple[int, int], str]:
    """Read a drawing back: the letters by number of the core and of the hardware thread within."""
    found: dict[tuple[int, int], str] = {}
    numbers: list[int] = []
    thread = 0
    for line in text.splitlines():
        if not line.startswith("│"):
            numbers = []
            continue
        cells = line.strip("│ ").split()
        if not cells:
            numbers = []
        elif not numbers:
            numbers, thread = [int(cell) for cell in cells], 0
        else:
            assert len(cells) == len(numbers)
            found |= {(core, thread): cell for core, cell in zip(numbers, cells, strict=True)}
            thread += 1
    return found


@given(case=fitting_cases())
def test_the_drawing_is_the_plan(case):
    """The owner of every hardware thread can be read from the drawing, without colour and in 80 columns."""
    settings, host = case
    plan = planned(settings, host)
    text = drawn(core_drawing(plan, host, 80))
    assert all(len(line) <= 80 for line in text.splitlines())
    marks = read_drawing(text)
    allowed = {cpu.id for cpu in host.cpus}
    owner = dict.fromkeys(plan.scheduler.cpuset_cpus, "S")
    for index, worker in enumerate(plan.workers):
        owner |= dict.fromkeys(worker.cpuset_cpus, "W" if plan.cores_shared else f"W{index}")
    expected = {
        (cpu.core[0], cpu.core.index(cpu.id)): owner.get(cpu.id, "·") if cpu.id in allowed else "x"
        for cpu in (*host.cpus, *host.other_cpus)
    }
    assert marks == expected


def test_a_small_drawing():
    """Two nodes, SMT, cores that are not allowed: as a reader sees it."""
    host = make_host(2, 4, 2, allowed={1, 2, 3, 4, 5, 6, 9, 10, 11, 12, 13, 14})
    plan = plan_for(host, MANUAL | {"threads_per_worker": 2, "cpu_affinity": [1, 2, 3, 4, 5]})
    assert drawn(core_drawing(plan, host, 80)) == (
        "┌─ NUMA node 0 ─┐\n"
        "│  0  1  2  3   │\n"
        "│  x W0 W0  S   │\n"
        "│  x  ·  ·  ·   │\n"
        "└───────────────┘\n"
        "┌─ NUMA node 1 ─┐\n"
        "│  4  5  6  7   │\n"
        "│ W1 W1  ·  x   │\n"
        "│  ·  ·  ·  x   │\n"
        "└───────────────┘\n"
        "W0, W1, … workers   S scheduler alone   · not used   x not allowed\n"
    )


@pytest.mark.parametrize(("nodes", "cores", "smt"), [(1, 2, 1), (2, 8, 1), (2, 64, 2)])
def test_drawings_fit_80_columns(nodes, cores, smt):
    """2, 16 and 256 hardware threads: at most 80 columns, and the last core is there."""
    host = make_host(nodes, cores, smt, memory_gb=512)
    text = drawn(core_drawing(plan_for(host), host, 80))
    assert max(map(len, text.splitlines())) <= 80
    assert len(read_drawing(text)) == nodes * cores * smt


def test_colour_adds_nothing():
    """With colour the same characters are shown."""
    host = make_host(2, 8)
    plan = plan_for(host, MANUAL)
    for renderable in (plan_table(plan), core_drawing(plan, host, 80), plan_notes(plan)):
        plain, coloured = drawn(renderable), drawn(renderable, colour=True)
        assert "\x1b[" in coloured
        assert Text.from_ansi(coloured).plain.strip() == plain.strip()


def test_the_table_of_a_plan():
    """One line for each container, in 80 columns, with everything that the plan limits."""
    host = make_host(2, 8)
    plan = plan_for(host, MANUAL | {"threads_per_worker": 2, "nice_priority": 10})
    lines = drawn(plan_table(plan)).splitlines()
    assert lines[0].strip() == "Containers canvod-launch-test-…"
    assert lines[1].split("  ")[0] == "container"
    cells = [line.split() for line in lines[3:]]
    assert cells == [
        ["scheduler", "0,1,8,9", "0,1", "1", "GiB", "-", "1", "10", "11"],
        ["worker-0", "0,1", "0", "4", "GiB", "3.8", "GiB", "2", "10", "11"],
        ["worker-1", "8,9", "1", "4", "GiB", "3.8", "GiB", "2", "10", "11"],
    ]
    assert max(map(len, lines)) <= 80


def test_processes_show_no_limits_that_nobody_enforces():
    """Memory limits of the kernel, NUMA nodes and weights are left out where nothing enforces them."""
    text = drawn(plan_table(plan_for(make_host(), MANUAL | {"nice_priority": 10}, backend="process")))
    assert text.splitlines()[2].split() == ["worker-0", "0", "any", "-", "4", "GiB", "1", "10", "-"]
    assert "scheduler" not in text


def test_notes_are_marked():
    """Warnings with an exclamation mark, the rest with a dash."""
    text = drawn(plan_notes(plan_for(make_host(), {"nice_priority": 10})))
    assert text.startswith("! The CPU weight protects")
    assert "\n- Workers and scheduler" in text


def test_json_is_the_plan():
    """The JSON holds every field of the plan, and makes the same plan again."""
    plan = plan_for(make_host(), MANUAL)
    assert json.loads(plan_json(plan)) == plan.model_dump(mode="json")
    assert ClusterPlan.model_validate_json(plan_json(plan)) == plan


@pytest.fixture
def processes(monkeypatch):
    """Settings of one worker process, from the environment alone."""
    monkeypatch.setenv("CANVOD_LAUNCH__BACKEND", "process")
    monkeypatch.setenv("CANVOD_PROCESSING__RESOURCE_MODE", "manual")
    monkeypatch.setenv("CANVOD_PROCESSING__N_MAX_THREADS", "1")
    monkeypatch.setenv("CANVOD_PROCESSING__MAX_MEMORY_GB", "0.5")
    monkeypatch.setenv("CANVOD_LAUNCH__SCHEDULER_MEMORY_GB", "0.25")
    monkeypatch.setenv("COLUMNS", "80")


@pytest.mark.usefixtures("processes")
def test_the_command_prints_table_drawing_and_notes(capsys, tmp_path, monkeypatch):
    """``canvod-launch plan`` shows all three on standard output, and ends with 0."""
    monkeypatch.chdir(tmp_path)
    assert main(["plan"]) == 0
    out = capsys.readouterr().out
    for text in (
        "resource_mode manual",
        "worker-0",
        "512 MiB",
        "NUMA node 0",
        "W0",
        "! Memory limits are not",
    ):
        assert text in out


@pytest.mark.usefixtures("processes")
def test_the_command_prints_json(capsys, tmp_path, monkeypatch):
    """``canvod-launch plan --json`` prints a plan and nothing else."""
    monkeypatch.chdir(tmp_path)
    assert main(["plan", "--json", "--name", "mine"]) == 0
    plan = ClusterPlan.model_validate_json(capsys.readouterr().out)
    assert (plan.name, plan.backend, len(plan.workers)) == ("mine", "process", 1)


@pytest.mark.usefixtures("processes")
def test_values_of_the_environment_that_may_be_secrets_are_hidden(capsys, tmp_path, monkeypatch):
    """Those of ``launch.environment``, as ``config check`` hides them; what we set ourselves is shown."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lab.yaml").write_text("launch: {environment: {TOKEN: hush, OMP_NUM_THREADS: '7'}}\n")
    assert main(["plan", "--json", "--config", "lab.yaml"]) == 0
    out = capsys.readouterr().out
    assert "hush" not in out
    environment = json.loads(out)["workers"][0]["environment"]
    assert (environment["TOKEN"], environment["OMP_NUM_THREADS"]) == ("***", "***")
    assert environment["MKL_NUM_THREADS"] == "1"


@pytest.mark.usefixtures("processes")
@pytest.mark.parametrize(
    ("options", "status", "said"),
    [
        (["--idle-timeout", "60"], 2, "add --detached"),
        (["--detached"], 1, "a detached cluster runs in containers"),
        (["--workers", "0"], 1, "processing.n_max_threads"),
    ],
)
def test_options_that_do_not_go_together_are_refused(capsys, tmp_path, monkeypatch, options, status, said):
    """As the command that would start it refuses them."""
    monkeypatch.chdir(tmp_path)
    assert main(["plan", *options]) == status
    captured = capsys.readouterr()
    assert captured.out == ""
    assert said in captured.err


@pytest.mark.usefixtures("processes")
def test_the_command_refuses(capsys, tmp_path, monkeypatch):
    """What does not fit ends with 1 and one block on stderr: the place, the value and the remedy."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CANVOD_PROCESSING__CPU_AFFINITY", "[4095]")
    assert main(["plan"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "CANVOD_PROCESSING__CPU_AFFINITY" in captured.err
    assert "core 4095 is not among the cores that this process may use" in captured.err
    assert "choose from" in captured.err
