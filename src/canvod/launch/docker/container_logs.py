"""What the containers of a cluster have written, and go on writing."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from canvod.launch.docker.engine import EngineNotFoundError, split_lines, translate
from canvod.launch.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from canvod.launch.docker.engine import Client
    from canvod.launch.host.clusters import ClusterInfo, ContainerInfo

_POLL_S = 0.2


def read_output(client: Client, cluster: ClusterInfo, tail: int | None = None) -> list[tuple[str, str]]:
    """Read what the containers of a cluster have written so far.

    Parameters
    ----------
    client : docker.DockerClient
        The engine.
    cluster : ClusterInfo
        The cluster.
    tail : int, optional
        At most so many lines of each container.

    Returns
    -------
    list of tuple of two str
        Name in Dask and line, in the order in which they were written.

    Raises
    ------
    EngineError
        If the engine does not answer.
    """
    stamped: list[tuple[str, str, str]] = []
    for container in cluster.containers:
        # One that has gone meanwhile has taken its output along.
        with suppress(EngineNotFoundError), translate(f"read the output of {container.container}"):
            output: bytes = client.api.logs(
                container.id, timestamps=True, tail="all" if tail is None else tail
            )
            for line in output.decode(errors="replace").splitlines():
                moment, _, text = line.partition(" ")
                stamped.append((moment, container.name, text))
    stamped.sort(key=lambda line: line[0])
    return [(name, text) for _, name, text in stamped]


def follow_output(
    client: Client, cluster: ClusterInfo, write: Callable[[str, str], None], tail: int | None = None
) -> None:
    """Write what the containers have written and go on writing, until all of them have ended.

    Parameters
    ----------
    client : docker.DockerClient
        The engine.
    cluster : ClusterInfo
        The cluster.
    write : callable
        Called from several threads with a name in Dask and a line, one call at a time.
    tail : int, optional
        Begin with at most so many lines of each container.

    Raises
    ------
    EngineError
        If the engine does not answer.
    BrokenPipeError
        If nobody reads what is written any more.
    """
    lock = threading.Lock()
    failures: list[BaseException] = []

    def follow(container: ContainerInfo) -> None:
        try:
            for line in _lines(client, container, tail):
                with lock:
                    write(container.name, line)
        except EngineNotFoundError:
            pass  # one that has gone meanwhile
        except (EngineError, OSError) as error:
            failures.append(error)

    threads = [
        threading.Thread(target=follow, args=(container,), daemon=True) for container in cluster.containers
    ]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads) and not failures:
        for thread in threads:
            thread.join(_POLL_S)
    if failures:
        raise failures[0]


def _lines(client: Client, container: ContainerInfo, tail: int | None) -> Iterator[str]:
    with translate(f"follow the output of {container.container}"):
        yield from split_lines(
            client.api.logs(container.id, stream=True, follow=True, tail="all" if tail is None else tail)
        )
