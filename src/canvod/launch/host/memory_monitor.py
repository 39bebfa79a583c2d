"""How much memory there is, and how much of it is in use."""

from __future__ import annotations

import psutil

from canvod.launch.host.detect import read_inventory
from canvod.launch.logs import get_logger
from canvod.launch.units import GIB

log = get_logger("canvod.launch")


class MemoryMonitor:
    """Watch this process, with its children, against a limit.

    Parameters
    ----------
    max_memory_gb : float, optional
        Limit in GiB. By default the memory that this process may use: the machine's, or the
        limit of its own cgroup.

    Raises
    ------
    ValueError
        If the limit is not above 0.

    Examples
    --------
    >>> monitor = MemoryMonitor(max_memory_gb=4)
    >>> 0 <= monitor.available_gb() <= 4
    True
    """

    def __init__(self, max_memory_gb: float | None = None) -> None:
        if max_memory_gb is not None and max_memory_gb <= 0:
            raise ValueError(f"max_memory_gb is {max_memory_gb}; it must be above 0 (GiB)")
        self.max_memory_gb = max_memory_gb

    def available_gb(self) -> float:
        """Return how much memory may still be taken, in GiB.

        Never more than the host, or the cgroup of this process, has left.
        """
        available = read_inventory().memory_available_bytes / GIB
        if self.max_memory_gb is not None:
            available = min(available, self.max_memory_gb - self.used_gb())
        return max(0.0, available)

    def used_gb(self) -> float:
        """Return the resident memory of this process and its children, in GiB."""
        process = psutil.Process()
        used = 0
        for each in (process, *process.children(recursive=True)):
            try:
                used += each.memory_info().rss
            except psutil.NoSuchProcess:
                continue
        return used / GIB

    def used_percent(self) -> float:
        """Return how much of the limit is in use, in percent.

        With ``max_memory_gb``: resident memory of this process and its children against it. Without: all
        that is in use on the host, or in the cgroup of this process, against what that has.
        """
        if self.max_memory_gb is not None:
            return 100.0 * self.used_gb() / self.max_memory_gb
        inventory = read_inventory()
        limit = min(
            inventory.memory_total_bytes, inventory.memory_limit_bytes or inventory.memory_total_bytes
        )
        return 100.0 * (1.0 - inventory.memory_available_bytes / limit)

    def log_memory_stats(self, context: str = "") -> None:
        """Log the event ``memory_stats``.

        Parameters
        ----------
        context : str
            What is being done, to find the line by.
        """
        log.info(
            "memory_stats",
            context=context,
            available_gb=round(self.available_gb(), 2),
            used_gb=round(self.used_gb(), 2),
            used_percent=round(self.used_percent(), 1),
            max_memory_gb=self.max_memory_gb,
        )
