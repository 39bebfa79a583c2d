"""The lease: a real scheduler process, with and without its launcher."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any, Self

import pytest
from distributed import Scheduler
from distributed.comm.core import Comm, connect
from distributed.core import Status

from canvod.launch.cluster.scheduler_connection import SchedulerConnection
from canvod.launch.cluster.tls import make_keys
from canvod.launch.runtime.keys import security, write_keys
from canvod.launch.runtime.lease import HELD, OPERATION, LeasePlugin
from eventually import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KEYS = make_keys("lease")
TIMEOUT_S = 30


class SchedulerProcess:
    """A scheduler as it runs in its container; killed at the end of a `with` block."""

    def __init__(self, folder: Path, *options: str) -> None:
        (folder / "keys").mkdir(parents=True)
        write_keys(folder / "keys", KEYS.files("scheduler"))
        (folder / "client").mkdir()
        write_keys(folder / "client", KEYS.files("client"))
        self.security = security(folder / "client")
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

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    async def hold(self) -> Comm:
        """Take the lease as a launcher does."""
        comm = await connect(self.address, timeout=10, **self.security.get_connection_args("client"))
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
    """A scheduler with a lease: one second of grace, two seconds for the first connection."""
    with SchedulerProcess(tmp_path, "--lease-grace", "1", "--connect-timeout", "2") as process:
        yield process


def test_a_launcher_that_never_connects_ends_the_scheduler(scheduler):
    """Nobody took the lease within the time for the first connection."""
    assert "did not connect for 2 s" in scheduler.end()
    assert scheduler.process.returncode == 0


def test_a_launcher_that_is_gone_ends_the_scheduler_after_the_grace_time(scheduler, tmp_path):
    """While the lease is held nothing happens; once it is not, the grace time runs."""

    async def launcher() -> None:
        comm = await scheduler.hold()
        # Another scheduler waits in vain for a launcher, for as long as either time of this one.
        with SchedulerProcess(tmp_path / "other", "--lease-grace", "1", "--connect-timeout", "2") as other:
            await asyncio.to_thread(other.end)
        assert scheduler.lives()
        comm.abort()

    asyncio.run(launcher())
    left = time.monotonic()
    assert "is gone for 1 s" in scheduler.end()
    assert time.monotonic() - left > 0.5


def test_a_launcher_that_connects_again_in_time_keeps_its_cluster():
    """A connection that breaks and is made again within the grace time ends nothing."""

    async def lose_lease(scheduler: Scheduler, lease: LeasePlugin) -> None:
        comm = await connect(scheduler.address)
        await comm.write({"op": OPERATION})
        assert await comm.read() == HELD
        comm.abort()
        assert await asyncio.to_thread(eventually, lambda: not lease._holders)

    async def run() -> None:
        leases = LeasePlugin(1, TIMEOUT_S), LeasePlugin(1, TIMEOUT_S)
        kept, lost = (Scheduler(dashboard_address=":0", plugins=[lease]) for lease in leases)
        async with kept, lost:
            for _ in range(3):
                await lose_lease(kept, leases[0])
            await lose_lease(lost, leases[1])
            comm = await connect(kept.address)
            await comm.write({"op": OPERATION})
            assert await comm.read() == HELD
            # Its time began to run later than that of the other one.
            await asyncio.wait_for(lost.finished(), TIMEOUT_S)
            assert kept.status == Status.running
            comm.abort()

    asyncio.run(run())


@pytest.mark.slow
def test_a_lease_that_fails_is_taken_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the error is: the cluster lives as long as the launcher is connected, and no longer.

    Tornado raises ValueError where the other side closes a connection before TLS begins.
    """
    tried: list[str] = []
    held: list[Comm] = []

    async def connect_later(address: str, **options: Any) -> Comm:
        tried.append(address)
        if len(tried) == 1:
            raise ValueError("IOStream is not idle; cannot convert to SSL")
        held.append(await connect(address, **options))
        return held[-1]

    monkeypatch.setattr("distributed.comm.core.connect", connect_later)
    monkeypatch.setattr("canvod.launch.cluster.scheduler_connection.RECONNECT_INTERVAL_S", 0.05)
    options = "--lease-grace", "3", "--connect-timeout", "3"
    with SchedulerProcess(tmp_path, *options) as scheduler:
        connection = SchedulerConnection(scheduler.address, scheduler.security)
        with closing(connection):
            connection.hold_lease()
            assert eventually(lambda: len(held) == 1)
            connection.loop.add_callback(held[0].abort)
            assert eventually(lambda: len(held) == 2)
            # Another scheduler waits in vain for a launcher, for as long as either time of this one.
            with SchedulerProcess(tmp_path / "other", *options) as other:
                other.end()
            assert scheduler.lives()
            assert connection.ask("identity")["type"] == "Scheduler"
        assert "is gone for 3 s" in scheduler.end()


def test_other_clients_hold_no_lease(scheduler):
    """Somebody else's connection does not keep a cluster whose launcher is gone."""

    async def other_client() -> None:
        arguments = scheduler.security.get_connection_args("client")
        comm = await connect(scheduler.address, timeout=10, **arguments)
        await comm.write({"op": "identity"})
        await comm.read()
        await asyncio.to_thread(scheduler.end)
        comm.abort()

    asyncio.run(other_client())


@pytest.mark.slow
def test_without_a_lease_a_scheduler_goes_on(tmp_path):
    """A detached cluster's scheduler needs no launcher; one with a lease, started later, has ended."""
    with SchedulerProcess(tmp_path / "detached") as detached:
        with SchedulerProcess(
            tmp_path / "ephemeral", "--lease-grace", "1", "--connect-timeout", "1"
        ) as other:
            assert "did not connect" in other.end()
        assert detached.lives()


@pytest.mark.slow
def test_an_idle_scheduler_ends_where_it_was_told_to(tmp_path):
    """The idle time ends a cluster that nobody uses."""
    with SchedulerProcess(tmp_path, "--idle-timeout", "1") as idle:
        assert "idle" in idle.end().lower()
