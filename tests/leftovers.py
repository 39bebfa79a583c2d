"""What a cluster could leave behind on this host, counted."""

from __future__ import annotations

import os
import secrets
import time
from pathlib import Path
from typing import TYPE_CHECKING

from canvod.launch.cluster.prune import prune_keys
from canvod.launch.cluster.tls import keys_home
from canvod.launch.docker.orphans import prune_engine
from canvod.launch.host.labels import LABEL_PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterator

    import docker

SEED = int(os.environ.get("CANVOD_CHAOS_SEED", "20250101"))
"""Where random moments come from, so that a failure can be had again."""

RUN = secrets.token_hex(2)
"""Part of the names of this run's clusters: a run that was cut short may have left some of the same kind."""

GRACE_S = 10.0
"""`launch.lease_grace_s`, which no test of sudden ends changes."""


def engine_leftovers(client: docker.DockerClient, cluster: str) -> list[str]:
    """Containers, networks and volumes that carry the label of a cluster."""
    filters = {"label": f"{LABEL_PREFIX}.cluster={cluster}"}
    containers = client.api.containers(all=True, filters=filters)
    networks = client.api.networks(filters=filters)
    volumes = client.api.volumes(filters=filters)["Volumes"] or []
    return [
        *(f"container {container['Names']}" for container in containers),
        *(f"network {network['Name']}" for network in networks),
        *(f"volume {volume['Name']}" for volume in volumes),
    ]


def assert_gone(engine: docker.DockerClient, name: str, within_s: float = GRACE_S + 10) -> None:
    """No container within the time; after the next sweep no network, volume or key either."""
    deadline = time.monotonic() + within_s
    while (
        left := [item for item in engine_leftovers(engine, name) if item.startswith("container")]
    ) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left == []
    # The engine may still be carrying out a request of the dead.
    time.sleep(0.5)
    deadline = time.monotonic() + 60
    while True:
        prune_engine(engine)
        prune_keys()
        left = [*engine_leftovers(engine, name), *map(str, keys_of(name))]
        if not left or time.monotonic() > deadline:
            break
        time.sleep(0.2)
    assert left == []


def volumes(client: docker.DockerClient) -> set[str]:
    """Names of all volumes of the engine."""
    return {volume["Name"] for volume in client.api.volumes()["Volumes"] or []}


def keys_of(cluster: str) -> list[Path]:
    """Folders of this user's that hold keys of a cluster of this name, of whichever process."""
    return sorted(keys_home().glob(f"{cluster}.*"))


def processes_with(text: str) -> list[str]:
    """Command lines of this host's processes that contain a text, this process left out."""
    return [line for pid, line in _command_lines() if text in line and pid != os.getpid()]


def _command_lines() -> Iterator[tuple[int, str]]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            yield int(entry.name), line
