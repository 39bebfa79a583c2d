"""The commands that look after clusters, as far as they need no engine."""

from __future__ import annotations

import io
import json
import os
import pty
import select
import signal
import socket
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from canvod.launch.cli import main
from canvod.launch.cli.connect import other_python
from canvod.launch.cli.status import draw_clusters, format_uptime
from canvod.launch.host.clusters import ClusterInfo, ContainerInfo
from canvod.launch.host.labels import CLUSTER_LABEL, LABEL_PREFIX, ROLE_LABEL
from canvod.launch.host.python_version import own_python

COMMAND = [sys.executable, "-c", "import sys; from canvod.launch.cli import main; sys.exit(main())"]


def container(cluster: str, **labels: str) -> dict[str, Any]:
    """A scheduler as the engine lists it."""
    labels = {
        CLUSTER_LABEL: cluster,
        ROLE_LABEL: "scheduler",
        f"{LABEL_PREFIX}.detached": "true",
        f"{LABEL_PREFIX}.uid": str(os.getuid()),
    } | labels
    return {"Id": cluster, "Names": [f"/{cluster}"], "Labels": labels, "State": "running", "Created": 1}


@pytest.fixture
def down(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Return a function that runs ``down`` on an engine with these objects: exit status and output."""

    def run(
        *arguments: str, containers: list[dict[str, Any]], networks: tuple[dict[str, Any], ...] = ()
    ) -> tuple[int, str]:
        class Api:
            """An engine that lists what it has."""

            def containers(self, *, filters: dict[str, Any], **_options: Any) -> list[dict[str, Any]]:
                name, _, value = "".join(filters["label"]).partition("=")
                return [one for one in containers if value in {"", one["Labels"].get(name)}]

            def networks(self, **_options: Any) -> list[dict[str, Any]]:
                return list(networks)

            def volumes(self, **_options: Any) -> dict[str, list[dict[str, Any]]]:
                return {"Volumes": []}

        class Engine:
            api = Api()

            def close(self) -> None:
                """Nothing is open."""

        # What binds the name when it is imported would keep this engine for the tests that follow.
        import_module("canvod.launch.detached.attach")
        monkeypatch.setattr("canvod.launch.docker.engine.connect", Engine)
        status = main(["down", *arguments])
        captured = capsys.readouterr()
        return status, captured.out + captured.err

    return run


def test_what_is_gone_needs_no_down(down) -> None:
    """A script may stop it twice; the names that there are tell a wrong one."""
    others = [container("b")]
    nothing = "nothing to do\n"
    assert down("lab", containers=[]) == (0, f"no cluster lab on this host; {nothing}")
    assert down("lab", containers=others) == (0, f"no cluster lab on this host (there are: b); {nothing}")
    assert down(containers=[]) == (0, f"no cluster of yours on this host; {nothing}")
    job = container("job", **{f"{LABEL_PREFIX}.detached": "false"})
    assert down(containers=[job]) == (0, f"no cluster of yours on this host (there are: job); {nothing}")
    service = container("service", **{"com.docker.compose.project": "x"})
    assert down(containers=[service])[0] == 0
    status, said = down("lab", "--json", containers=[])
    assert (status, json.loads(said)) == (0, {"name": "lab", "removed": []})


def test_what_may_not_be_stopped_is_refused(down) -> None:
    """Several that could be meant, and one of ``docker compose``."""
    status, said = down(containers=[container("a"), container("b")])
    assert status == 1
    assert "a, b" in said
    status, said = down("a", containers=[container("a", **{"com.docker.compose.project": "x"})])
    assert status == 1
    assert "docker compose down" in said


def test_what_another_user_has_left_is_not_removed(down, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a cluster that is gone a network may be left, and the owner has to remove it."""
    monkeypatch.setattr(os, "getuid", lambda: 1001)
    labels = {CLUSTER_LABEL: "lab", f"{LABEL_PREFIX}.uid": "1002"}
    network = {"Id": "1", "Name": "canvod-lab", "Labels": labels}
    status, said = down("lab", containers=[], networks=(network,))
    assert status == 1
    assert "Cluster lab belongs to the user with uid 1002" in said
    assert "sudo canvod-launch down lab" in said


def test_a_status_that_is_watched_shows_something_at_once(tmp_path: Path) -> None:
    """On a terminal, while the engine has not answered yet."""
    with socket.socket(socket.AF_UNIX) as engine:
        engine.bind(str(tmp_path / "engine"))
        engine.listen()
        pid, terminal = pty.fork()
        if pid == 0:
            os.environ |= {"DOCKER_HOST": f"unix://{tmp_path}/engine", "TERM": "xterm", "COLUMNS": "80"}
            os.execv(COMMAND[0], [*COMMAND, "status", "--watch"])  # noqa: S606 - the test's own command
        shown, deadline = b"", time.monotonic() + 60
        try:
            while b"asking" not in shown and time.monotonic() < deadline:
                if select.select([terminal], [], [], 1)[0]:
                    shown += os.read(terminal, 65536)
        except OSError:
            pass  # the command has ended
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            os.close(terminal)
    assert b"Clusters of this host" in shown
    assert b"asking the Docker engine" in shown


def test_clusters_are_drawn_with_their_limits() -> None:
    """A heading, where to reach it, its tasks and containers, and what brings workers back."""
    worker = ContainerInfo(
        "worker-0",
        "worker",
        "running",
        labels={f"{LABEL_PREFIX}.detached": "true", f"{LABEL_PREFIX}.uid": "0"},
        created_s=time.time() - 3 * 3600 - 60,
        cores="0-3",
        memory_limit_bytes=2**30,
        memory_bytes=2**28,
        peak_bytes=2**29,
        tasks=1,
    )
    cluster = ClusterInfo(
        name="lab",
        containers=(worker, ContainerInfo("worker-1", "worker")),
        scheduler_address="tls://172.17.0.2:8786",
        registered=("worker-0",),
        target=2,
        tasks={"processing": 1, "memory": 3},
        state="degraded",
    )
    out = io.StringIO()
    Console(file=out, width=100).print(draw_clusters([cluster, cluster]))
    lines = out.getvalue().splitlines()
    assert lines[:3] == [
        "lab  degraded  1 of 2 workers, canvod-launch up of root",
        "scheduler tls://172.17.0.2:8786, dashboard -",
        "tasks: 3 memory, 1 processing",
    ]
    rows = [" ".join(line.split()) for line in lines[3:]]
    assert "container state cores limit memory peak tasks uptime" in rows
    assert "worker-0 running 0-3 1 GiB 256 MiB 512 MiB 1 3 h 1 min" in rows
    assert "worker-1 gone - - - - - -" in rows
    assert lines.count("To bring the workers back: canvod-launch scale 2 --name lab") == 2
    Console(file=out).print(draw_clusters([]))
    assert out.getvalue().endswith("No cluster is on this host. Start one: canvod-launch up\n")


def test_times_are_written_for_people() -> None:
    """With their two largest units."""
    assert format_uptime(59) == "59 s"
    assert format_uptime(3600 * 25) == "1 d 1 h"


def test_a_cluster_of_another_python_is_started_again_from_here() -> None:
    """No setting helps a cluster that runs already."""
    assert other_python("lab", own_python()) is None
    assert other_python("lab", None) is None
    said = other_python("lab", "3.99")
    assert said is not None
    for words in ("a program of Python 3.99", "canvod-launch down lab && canvod-launch up --name lab"):
        assert words in said
    assert "launch.python" not in said
