"""What a cluster could leave behind on this host, counted."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from canvod.launch.plan.model import LABEL_PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterator

    import docker


def engine_leftovers(client: docker.DockerClient, cluster: str) -> list[str]:
    """Containers, networks and volumes that carry the label of a cluster."""
    filters = {"label": f"{LABEL_PREFIX}.cluster={cluster}"}
    containers = client.api.containers(all=True, filters=filters)
    networks = client.api.networks(filters=filters)
    return [f"container {c['Names']}" for c in containers] + [f"network {n['Name']}" for n in networks]


def volumes(client: docker.DockerClient) -> set[str]:
    """Names of all volumes of the engine."""
    return {volume["Name"] for volume in client.api.volumes()["Volumes"] or []}


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
