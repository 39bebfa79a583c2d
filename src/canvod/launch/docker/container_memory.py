"""The memory of a container, as the engine and the kernel count it."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from canvod.launch.docker.engine import read_in_container, translate
from canvod.launch.errors import EngineError

if TYPE_CHECKING:
    from canvod.launch.docker.engine import Client

_PEAK_FILE: Final = "/sys/fs/cgroup/memory.peak"
"""The most memory that a container ever had, under cgroup v2 and Linux 5.19 or newer."""


def container_memory(client: Client, container: str, *, peak: bool = True) -> tuple[int | None, int | None]:
    """Ask for the memory of a container that runs.

    Parameters
    ----------
    client : docker.DockerClient
        The engine.
    container : str
        Its identifier or name.
    peak : bool, default: True
        Whether the peak is asked for as well: under cgroup v2 that is a command in the container.

    Returns
    -------
    tuple of two int or None
        As `read_memory`, with the peak that the kernel tells under cgroup v2.

    Raises
    ------
    EngineError
        If the engine does not answer, or the container is gone.
    """
    with translate(f"measure the container {container}"):
        answer: Any = client.api.stats(container, stream=False, one_shot=True)
    memory, peak_bytes = read_memory(answer.get("memory_stats") or {})
    if peak and peak_bytes is None:
        with suppress(EngineError, ValueError):
            peak_bytes = int(read_in_container(client, container, ["cat", _PEAK_FILE]))
    return memory, peak_bytes


def read_memory(stats: dict[str, Any]) -> tuple[int | None, int | None]:
    """Read the memory of a container out of the engine's statistics, as ``docker stats`` does.

    Parameters
    ----------
    stats : dict
        ``memory_stats`` of the engine's answer.

    Returns
    -------
    tuple of two int or None
        Memory now without inactive files, and the most that it ever had, in bytes. The engine tells the
        second under cgroup v1 only.

    Examples
    --------
    >>> read_memory({"usage": 900, "max_usage": 1000, "stats": {"total_inactive_file": 100}})
    (800, 1000)
    >>> read_memory({"usage": 900, "stats": {"inactive_file": 100}})
    (800, None)
    """
    usage = stats.get("usage")
    if usage is None:
        return None, None
    details = stats.get("stats") or {}
    inactive = details.get("total_inactive_file", details.get("inactive_file", 0))
    return max(0, int(usage) - int(inactive)), stats.get("max_usage") or None
