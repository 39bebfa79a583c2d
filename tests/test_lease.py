"""The lease: a real scheduler process, with and without its launcher."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from distributed.comm.core import Comm, connect

from canvod.launch.cluster.tls import make_keys
from canvod.launch.runtime.keys import security, write_keys
from canvod.launch.runtime.lease import HELD, OPERATION

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KEYS = make_keys("lease")
TIMEOUT_S = 30


class SchedulerProcess:
    """A scheduler as it runs in its container, with a grace time of one second."""

    def __init__(self, folder: Path, *options: str) -> None:
        (folder / "keys").mkdir()
        write_keys(folder / "keys", KEYS.files("scheduler"))
        (folder / "client").mkdir()
        write_keys(folder / "client", KEYS.files("client"))
        self._keys = security(folder / "client")
        command = [sys.executable, "-m", "canvod.launch.runtime.scheduler", "--keys", str(folder / "keys")]
        self.process = subprocess.Popen(
            [*command, "--port", "0", "--dashboard-port", "0", *options],
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stderr is not None
        self.lines: list[str] = []
        for line in self.process.stderr:
            self.lines.append(line)
            if match := re.search(r"Scheduler at:\s+(tls://\S+)", line):
                self.address = match[1].replace("0.0.0.0", "127.0.0.1")  # noqa: S104 - it listens on all
                break

    async def hold(self) -> Comm:
        """Take the lease as a launcher does."""
        comm = await connect(self.address, timeout=10, **self._keys.get_connection_args("client"))
        await comm.write({"op": OPERATION})
        assert await comm.read() == HELD
        return comm

    def lives(self) -> bool:
        """Whether it runs."""
        return self.process.poll() is None

    def end(self) -> str:
        """Wait for its end, and return what it said."""
        _, rest = self.process.communicate(timeout=TIMEOUT_S)
        return "".join(self.lines) + rest


@pytest.fixture
def scheduler(tmp_path: Path) -> Iterator[SchedulerProcess]:
    """A scheduler with a lease: one second of grace, two seconds for the first contact."""
    process = SchedulerProcess(tmp_path, "--lease-grace", "1", "--connect-timeout", "2")
    yield process
    process.process.kill()
    process.process.communicate()


def test_a_launcher_that_never_comes_ends_the_scheduler(scheduler):
    """Nobody took the lease within the time of first contact."""
    assert "did not connect for 2 s" in scheduler.end()
    assert scheduler.process.returncode == 0


def test_a_launcher_that_is_gone_ends_the_scheduler_after_the_grace_time(scheduler):
    """While the lease is held nothing happens; once it is not, the grace time runs."""

    async def launcher() -> None:
        comm = await scheduler.hold()
        await asyncio.sleep(3)  # longer than both times
        assert scheduler.lives()
        comm.abort()

    asyncio.run(launcher())
    left = time.monotonic()
    assert "is gone for 1 s" in scheduler.end()
    assert time.monotonic() - left > 0.5


@pytest.mark.slow
def test_a_launcher_that_comes_back_in_time_keeps_its_cluster(tmp_path):
    """A connection that breaks and is made again within the grace time ends nothing."""
    scheduler = SchedulerProcess(tmp_path, "--lease-grace", "5", "--connect-timeout", "30")

    async def launcher() -> None:
        for _ in range(3):
            comm = await scheduler.hold()
            await asyncio.sleep(0.2)
            comm.abort()
            await asyncio.sleep(0.5)
        comm = await scheduler.hold()
        await asyncio.sleep(7)
        assert scheduler.lives()
        comm.abort()

    try:
        asyncio.run(launcher())
    finally:
        scheduler.process.kill()
        scheduler.process.communicate()


def test_other_clients_hold_no_lease(scheduler):
    """Somebody else's connection does not keep a cluster whose launcher is gone."""

    async def stranger() -> None:
        arguments = scheduler._keys.get_connection_args("client")
        comm = await connect(scheduler.address, timeout=10, **arguments)
        await comm.write({"op": "identity"})
        await comm.read()
        await asyncio.to_thread(scheduler.end)
        comm.abort()

    asyncio.run(stranger())


@pytest.mark.slow
def test_without_a_lease_a_scheduler_stands(tmp_path):
    """A detached cluster's scheduler needs no launcher."""
    detached = SchedulerProcess(tmp_path)
    try:
        time.sleep(4)
        assert detached.lives()
    finally:
        detached.process.kill()
        detached.process.communicate()


@pytest.mark.slow
def test_an_idle_scheduler_ends_where_it_was_told_to(tmp_path):
    """The idle time ends a cluster that nobody uses."""
    idle = SchedulerProcess(tmp_path, "--idle-timeout", "1")
    assert "idle" in idle.end().lower()
