"""Health checks: what they prove, and what they say when something does not work."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from distributed import Scheduler, Worker

from canvod.launch.cluster.tls import make_keys
from canvod.launch.dask_memory_limit import NANNY_BYTES
from canvod.launch.runtime import health
from canvod.launch.runtime.keys import security, write_keys
from canvod.launch.runtime.worker import own_limit_bytes

if TYPE_CHECKING:
    from pathlib import Path

KEYS = make_keys("health")


def checked(keys: Path, check: Any) -> tuple[int, str]:
    """Ask a process that answers health checks with `check`, by the command that a container runs."""

    async def run() -> tuple[int, str]:
        async with await health.serve(check, keys):
            command = [sys.executable, "-m", "canvod.launch.runtime.health", str(keys)]
            process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
            output, _ = await process.communicate()
            return process.returncode or 0, output.decode().strip()

    return asyncio.run(run())


def test_what_works_is_healthy(tmp_path):
    """The command ends with 0 and shows what the process said."""

    async def check() -> str:
        return "all is well"

    assert checked(tmp_path, check) == (0, "healthy: all is well")


@pytest.mark.parametrize(
    ("error", "text"),
    [(health.UnhealthyError("no worker"), "no worker"), (OSError(), "OSError"), (OSError("gone"), "gone")],
)
def test_what_does_not_work_is_unhealthy(tmp_path, error, text):
    """The command ends with 1 and shows why."""

    async def check() -> str:
        raise error

    assert checked(tmp_path, check) == (1, text)


def test_what_does_not_answer_is_unhealthy(tmp_path, monkeypatch):
    """A check that takes too long is given up, and says so."""
    monkeypatch.setattr(health, "ANSWER_TIMEOUT_S", 0.1)

    async def check() -> str:
        await asyncio.sleep(60)
        return "late"

    assert checked(tmp_path, check) == (1, "no answer within 0.1 s")


def test_without_a_process_nothing_is_healthy(tmp_path, capsys):
    """Where nothing runs, the command says so, and ends with 1."""
    assert health.main([str(tmp_path)]) == 1
    assert capsys.readouterr().out == "nothing answers in this container: Connection refused\n"


def test_long_paths_have_names_too(tmp_path):
    """A socket's name has room for any folder, and different folders have different ones."""
    long = tmp_path / ("x" * 200)
    assert len(health.socket_name(long)) < 100
    assert health.socket_name(long) != health.socket_name(tmp_path)


def test_the_check_is_cheap():
    """It runs every few seconds beside tasks: neither Dask nor the rest of the launcher is imported."""
    code = (
        "import sys, canvod.launch.runtime.health\n"
        "print({'distributed', 'dask', 'numpy', 'pydantic', 'structlog'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "set()"


def test_scheduler_and_worker_are_asked_over_tls(tmp_path):
    """A scheduler answers with its workers; a worker is known there and answers itself, or is not healthy."""
    write_keys(tmp_path, KEYS.files("worker"))

    async def run() -> None:
        keys = security(tmp_path)
        arguments = keys.get_connection_args("worker")
        options: dict[str, Any] = {"protocol": "tls", "security": keys, "dashboard": False}
        async with Scheduler(host="127.0.0.1", port=0, dashboard_address=":0", **options) as scheduler:
            assert "answers over TLS, 0 workers" in await health.check_scheduler(scheduler, arguments)
            nanny: Any = SimpleNamespace(worker_address=None, scheduler_addr=scheduler.address)
            with pytest.raises(health.UnhealthyError, match="no worker process"):
                await health.check_worker(nanny, arguments)
            async with Worker(
                scheduler.address, nthreads=1, host="127.0.0.1", local_directory=str(tmp_path), **options
            ) as worker:
                nanny.worker_address = worker.address
                assert "1 worker" in await health.check_scheduler(scheduler, arguments)
                assert "its process answers" in await health.check_worker(nanny, arguments)
                nanny.worker_address = "tls://127.0.0.1:1"
                with pytest.raises(
                    health.UnhealthyError, match=r"does not know the worker tls://127\.0\.0\.1:1"
                ):
                    await health.check_worker(nanny, arguments)
            nanny.worker_address = worker.address
            with pytest.raises(health.UnhealthyError, match="does not know"):
                await health.check_worker(nanny, arguments)
        with pytest.raises(OSError, match=r"refused|Timed out"):
            await health.check_scheduler(scheduler, arguments)

    asyncio.run(run())


def test_the_limit_of_a_worker_leaves_room_for_its_nanny(monkeypatch):
    """Without an option the worker's limit is the cap that the kernel shows, less what the nanny takes."""
    monkeypatch.setattr("distributed.system.MEMORY_LIMIT", 1024**3)
    assert own_limit_bytes() == 1024**3 - NANNY_BYTES


def test_a_worker_without_a_scheduler_ends_with_1(tmp_path):
    """It says whom it waited for, in one line, and asks to be started again."""
    write_keys(tmp_path, KEYS.files("worker"))
    command = [sys.executable, "-m", "canvod.launch.runtime.worker", "--scheduler", "tls://127.0.0.1:1"]
    command += ["--keys", str(tmp_path), "--nthreads", "1", "--start-timeout", "0.2"]
    command += ["--spill-path", str(tmp_path)]
    done = subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert done.returncode == 1
    assert done.stderr == "worker: nothing listens at tls://127.0.0.1:1 after 0.2 s; leaving\n"
