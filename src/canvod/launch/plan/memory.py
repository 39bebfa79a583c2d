"""Who gets how much memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from canvod.launch.plan.model import HostInventory

MB = 1024**2
GB = 1024**3

MIN_WORKER_BYTES = 512 * MB
"""Least cap of a worker: the nanny, and a worker process that has imported xarray, zarr, icechunk and
canvod-readers (228 MB resident, measured) and still has room for its files."""

COMFORTABLE_WORKER_BYTES = 1536 * MB
"""Auto mode starts fewer workers rather than give one less than this (1.5 GB)."""

MIN_SCHEDULER_BYTES = 256 * MB
"""Least cap of the scheduler, which imports distributed and serves the dashboard."""

MIN_RESERVE_BYTES = GB
"""Auto mode leaves the system at least this much unless the settings say otherwise."""

RESERVE_FRACTION = 0.1
"""Auto mode leaves the system this part of the memory, where that is more."""


def bytes_of_gb(gigabytes: float) -> int:
    """Convert gigabytes of 1024**3 bytes to bytes, rounded down."""
    return int(gigabytes * GB)


def floor_to_mb(size: int) -> int:
    """Round bytes down to whole megabytes of 1024**2 bytes."""
    return size // MB * MB


def format_bytes(size: int) -> str:
    """Write a size for people, in GB or MB (powers of 1024).

    Examples
    --------
    >>> format_bytes(1536 * 1024**2), format_bytes(512 * 1024**2), format_bytes(8 * 1024**3)
    ('1.5 GB', '512 MB', '8 GB')
    """
    sign, size = ("-", -size) if size < 0 else ("", size)
    if size < GB:
        return f"{sign}{size // MB} MB"
    return f"{sign}{size / GB:.1f}".removesuffix(".0") + " GB"


def ceiling_bytes(inventory: HostInventory) -> int:
    """Tell how much memory the launcher could ever have: the host's, or less by its own control group."""
    limit = inventory.memory_limit_bytes
    return inventory.memory_total_bytes if limit is None else min(limit, inventory.memory_total_bytes)


def reserve_bytes(inventory: HostInventory, reserve_memory_gb: float | None) -> int:
    """Tell how much memory auto mode leaves to the system.

    Parameters
    ----------
    inventory : HostInventory
        The host.
    reserve_memory_gb : float or None
        What the settings ask for; None leaves a tenth of what the launcher could ever have, at least 1 GB.

    Returns
    -------
    int
        Bytes.
    """
    if reserve_memory_gb is not None:
        return bytes_of_gb(reserve_memory_gb)
    return max(MIN_RESERVE_BYTES, int(ceiling_bytes(inventory) * RESERVE_FRACTION))
