"""Affinity and nice value of all threads of a process, and the plugin that sets them in workers."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from typing import TYPE_CHECKING, Any
from unittest.mock import MagicMock

import pytest

from canvod.launch.runtime.plugin import ResourceInitPlugin

if TYPE_CHECKING:
    from collections.abc import Callable

THREADS = """
import json, os, threading
from canvod.launch.runtime.plugin import ResourceInitPlugin
from canvod.launch.runtime.thread_resources import thread_resources

end = threading.Event()
for _ in range(3):
    threading.Thread(target=end.wait).start()
cpu = min(os.sched_getaffinity(0))
problems = ResourceInitPlugin(ARGUMENTS).apply()
threads = thread_resources()
end.set()
print(json.dumps([problems, len(threads), sorted({(t.cpu_affinity == (cpu,), t.nice) for t in threads})]))
"""


def applied(arguments: str) -> Any:
    """Apply the plugin to a process of several threads: problems, number of threads, what they have."""
    done = subprocess.run(
        [sys.executable, "-c", THREADS.replace("ARGUMENTS", arguments)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return json.loads(done.stdout)


class Calls:
    """Records the calls of a function of `os`, which the process of the tests must not really make."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str, error: Exception | None = None) -> None:
        self.made: list[tuple[Any, ...]] = []
        self.error = error
        monkeypatch.setattr(os, name, self)

    def __call__(self, *arguments: Any) -> None:
        self.made.append(arguments)
        if self.error is not None:
            raise self.error


def test_every_thread_gets_affinity_and_nice() -> None:
    """Not only the one that the plugin runs in."""
    problems, threads, states = applied("[cpu], 7")
    assert (problems, states) == ([], [[True, 7]])
    assert threads >= 4


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [("[4095], 3", "affinity [4095] refused"), ("[cpu, 4095], 3", "are what the kernel has set")],
)
def test_what_is_refused_is_told_and_the_rest_applies(arguments: str, problem: str) -> None:
    """Cores that are not there, also where the kernel takes the others without a word."""
    (told, *_), _, states = applied(arguments)
    assert problem in told
    assert {nice for _, nice in states} == {3}


@pytest.mark.parametrize("cores", [[0, 1], [1, 0, 1], None])
def test_the_plugin_keeps_the_list_that_it_was_given(cores: list[int] | None) -> None:
    """A caller finds it again, as canVODpy's does."""
    assert ResourceInitPlugin(cores).cpu_affinity is cores
    assert ResourceInitPlugin(cores).nice_value == 0


@pytest.fixture
def setpriority(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """What sets the nice value."""
    return Calls(monkeypatch, "setpriority")


@pytest.fixture
def sched_setaffinity(monkeypatch: pytest.MonkeyPatch, setpriority: Calls) -> Calls:
    """What sets the affinity."""
    return Calls(monkeypatch, "sched_setaffinity")


def test_a_plugin_with_defaults_asks_nothing_of_the_system(
    setpriority: Calls, sched_setaffinity: Calls
) -> None:
    """Affinity and priority stay as they are."""
    ResourceInitPlugin().setup(MagicMock())
    assert setpriority.made == sched_setaffinity.made == []


def test_nice_alone_sets_no_affinity(setpriority: Calls, sched_setaffinity: Calls) -> None:
    """And the other way round."""
    ResourceInitPlugin(nice_value=5).setup(MagicMock())
    assert setpriority.made == [(os.PRIO_PROCESS, 0, 5)]
    assert sched_setaffinity.made == []
    ResourceInitPlugin([0, 1]).setup(MagicMock())
    assert sched_setaffinity.made == [(0, [0, 1])]
    assert len(setpriority.made) == 1


def test_no_priority_is_raised(setpriority: Calls) -> None:
    """As in canVODpy; the log says so."""
    plugin = ResourceInitPlugin(nice_value=-5)
    plugin.setup(MagicMock())
    assert setpriority.made == []
    assert plugin.apply() == ["nice -5 is not applied: a worker's priority is never raised"]


@pytest.mark.parametrize("error", [PermissionError("denied"), OSError("no")])
def test_a_refused_priority_keeps_no_worker_from_starting(setpriority: Calls, error: Exception) -> None:
    """It is a warning in the worker's log."""
    setpriority.error = error
    ResourceInitPlugin(nice_value=10).setup(MagicMock())
    assert setpriority.made == [(os.PRIO_PROCESS, 0, 10)]


@pytest.mark.parametrize(
    "remove",
    [
        lambda patch: patch.setattr(platform, "system", lambda: "Darwin"),
        lambda patch: patch.setattr(os, "sched_setaffinity", None),
    ],
    ids=["no Linux", "no function"],
)
def test_a_system_without_affinity_is_no_error(
    monkeypatch: pytest.MonkeyPatch,
    setpriority: Calls,
    sched_setaffinity: Calls,
    remove: Callable[[Any], None],
) -> None:
    """The priority is set all the same."""
    remove(monkeypatch)
    ResourceInitPlugin([0], 5).setup(MagicMock())
    assert sched_setaffinity.made == []
    assert setpriority.made == [(os.PRIO_PROCESS, 0, 5)]
