"""The engine's events, whatever becomes of their stream."""

from __future__ import annotations

import socketserver
import threading
from typing import TYPE_CHECKING, ClassVar

import docker
import pytest

from canvod.launch.cluster.cluster_state import ClusterState
from canvod.launch.cluster.docker_backend import DockerBackend
from canvod.launch.cluster.tls import make_keys
from eventually import eventually
from plan_strategies import make_host, make_settings, planned

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class HalfAnEvent(socketserver.StreamRequestHandler):
    """An engine whose every answer ends in the middle of an event."""

    asked: ClassVar[list[str]] = []

    def handle(self) -> None:
        """Answer one request."""
        self.asked.append(self.rfile.readline().decode().split()[1])
        self.wfile.write(b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"Act\r\n0\r\n\r\n')


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[docker.DockerClient]:
    """A client of such an engine."""
    HalfAnEvent.asked.clear()
    address = tmp_path / "engine.sock"
    with socketserver.ThreadingUnixStreamServer(str(address), HalfAnEvent) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        client = docker.DockerClient(f"unix://{address}", version="1.41", timeout=5)
        yield client
        client.close()
        server.shutdown()


def test_a_stream_that_ends_within_an_event_is_opened_again(engine: docker.DockerClient) -> None:
    """The SDK's error for that is none of its own family; the thread goes on all the same."""
    plan = planned(make_settings(), make_host(), backend="docker")
    backend = DockerBackend(engine, ClusterState(make_keys(plan.name), plan), joins=True)
    backend.start([plan.workers[0].dask_name])
    assert eventually(lambda: sum("/events" in path for path in HalfAnEvent.asked) >= 2)
    backend.release()
