"""What `MemoryMonitor` tells of a cluster and of the machine."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import psutil
import pytest

from canvod.launch.host import memory_monitor
from canvod.launch.host.memory_monitor import MemoryMonitor, resident_bytes
from canvod.launch.units import GIB, MIB


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of 8 GiB with 3 GiB available."""
    memory = SimpleNamespace(total=8 * GIB, available=3 * GIB, percent=62.5)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize("budget", [None, 1.0])
def test_without_a_cluster_it_tells_of_the_machine(budget):
    """What psutil says, whatever the budget."""
    monitor = MemoryMonitor(budget)
    assert monitor.max_memory_gb == budget
    assert (monitor.available_gb(), monitor.used_gb(), monitor.used_percent()) == (3.0, 5.0, 62.5)


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize(
    ("budget", "used", "available_gb", "used_percent"),
    [
        (4.0, 3 * GIB, 1.0, 75.0),
        (4.0, 5 * GIB, 0.0, 125.0),
        (6.0, 0, 3.0, 0.0),  # the machine has less left than the budget
        (None, 2 * GIB, 3.0, 25.0),
    ],
)
def test_a_cluster_is_told_against_its_budget(budget, used, available_gb, used_percent):
    """Or against the machine, where it has none; never more is available than the machine has."""
    monitor = MemoryMonitor(max_memory_gb=budget, used_bytes=lambda: used)
    assert monitor.available_gb() == available_gb
    assert monitor.used_gb() == used / GIB
    assert monitor.used_percent() == used_percent


@pytest.mark.usefixtures("machine")
def test_both_are_logged(monkeypatch):
    """One line has the cluster's use, and the machine's; a name stands for the same on each line."""
    lines = []
    monkeypatch.setattr(
        memory_monitor, "log", SimpleNamespace(info=lambda event, **fields: lines.append((event, fields)))
    )
    MemoryMonitor(4.0, used_bytes=lambda: GIB).log_memory_stats("ingest")
    assert lines == [
        (
            "memory_stats",
            {
                "context": "ingest",
                "available_gb": 3.0,
                "used_percent": 62.5,
                "total_gb": 8.0,
                "max_memory_gb": 4.0,
                "cluster_used_gb": 1.0,
                "cluster_used_percent": 25.0,
            },
        )
    ]
    MemoryMonitor(4.0).log_memory_stats("cluster start")
    of_machine = {"available_gb": 3.0, "used_percent": 62.5, "total_gb": 8.0, "max_memory_gb": 4.0}
    assert lines[1] == ("memory_stats", {"context": "cluster start"} | of_machine)


def test_children_of_this_process_are_counted():
    """As the worker processes of a cluster are."""
    before = resident_bytes()
    program = "import sys; held = bytes(100 * 1024**2); held = bytearray(held); print(1, flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        child.stdout.readline()
        assert resident_bytes() - before > 90 * MIB
        child.communicate("end\n")


@pytest.mark.parametrize("budget", [0, -1])
def test_a_budget_of_nothing_is_refused(budget):
    """With its value and its unit."""
    with pytest.raises(ValueError, match=rf"max_memory_gb is {budget}; it must be above 0 \(GiB\)"):
        MemoryMonitor(budget)
