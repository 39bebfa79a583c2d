"""Who gets how much memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from canvod.launch.units import GIB, MIB, bytes_of_gib

if TYPE_CHECKING:
    from canvod.launch.host.inventory import HostInventory

MIN_WORKER_BYTES = 512 * MIB
"""Least cap of a worker: the nanny, and a worker process that has imported xarray, zarr, icechunk and
canvod-readers (228 MiB resident, measured) and still has room for its files."""

COMFORTABLE_WORKER_BYTES = 1536 * MIB
"""Auto mode starts fewer workers rather than give one less than this (1.5 GiB)."""

MIN_SCHEDULER_BYTES = 256 * MIB
"""Least cap of the scheduler, which imports distributed and serves the dashboard."""

MIN_RESERVE_BYTES = GIB
"""Auto mode leaves the system at least this much unless the settings say otherwise."""

RESERVE_FRACTION = 0.1
"""Auto mode leaves the system this part of the memory, where that is more."""


def floor_to_mib(size: int) -> int:
    """Round bytes down to whole MiB."""
    return size // MIB * MIB


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
        What the settings ask for; None leaves a tenth of what the launcher could ever have, at least 1 GiB.

    Returns
    -------
    int
        Bytes.
    """
    if reserve_memory_gb is not None:
        return bytes_of_gib(reserve_memory_gb)
    return max(MIN_RESERVE_BYTES, int(ceiling_bytes(inventory) * RESERVE_FRACTION))
