"""How much memory of the machine is in use, and how much of its budget a cluster uses."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import psutil

from canvod.launch.logs import get_logger
from canvod.launch.units import GIB

if TYPE_CHECKING:
    from collections.abc import Callable

log = get_logger("canvod.launch")


class MemoryMonitor:
    """Tell how much memory a cluster uses of its budget, or how much of the machine's is in use.

    Parameters
    ----------
    max_memory_gb : float, optional
        Budget of the cluster in GiB. It limits nothing here; the cluster's own limits do.
    used_bytes : callable, optional
        Gives what the cluster uses now, in bytes. Without it the machine alone is watched.

    Raises
    ------
    ValueError
        If the budget is not above 0.

    Examples
    --------
    >>> monitor = MemoryMonitor(max_memory_gb=4, used_bytes=lambda: 3 * GIB)
    >>> monitor.used_percent()
    75.0
    >>> MemoryMonitor().available_gb() > 0
    True
    """

    def __init__(
        self, max_memory_gb: float | None = None, *, used_bytes: Callable[[], int] | None = None
    ) -> None:
        if max_memory_gb is not None and max_memory_gb <= 0:
            raise ValueError(f"max_memory_gb is {max_memory_gb}; it must be above 0 (GiB)")
        self.max_memory_gb = max_memory_gb
        self.used_bytes = used_bytes

    def available_gb(self) -> float:
        """Measure how much memory may still be taken.

        Returns
        -------
        float
            GiB that the machine has available without swapping; no more than the cluster has left of its
            budget, where both are known.
        """
        return self._measure()[0]

    def used_gb(self) -> float:
        """Measure how much memory is used.

        Returns
        -------
        float
            GiB that the cluster uses; without a cluster, all that is in use on the machine.
        """
        return self._measure()[1]

    def used_percent(self) -> float:
        """Measure how much memory is used, in percent.

        Returns
        -------
        float
            What the cluster uses of its budget, or of the machine's memory where it has none; without a
            cluster, what is in use of the machine's memory.
        """
        return self._measure()[2]

    def _measure(self) -> tuple[float, float, float]:
        """Measure once what is available and in use, in GiB, and in percent."""
        machine = psutil.virtual_memory()
        available_gb = machine.available / GIB
        if self.used_bytes is None:
            return available_gb, (machine.total - machine.available) / GIB, float(machine.percent)
        used_gb = self.used_bytes() / GIB
        if self.max_memory_gb is not None:
            available_gb = max(0.0, min(available_gb, self.max_memory_gb - used_gb))
        return available_gb, used_gb, 100.0 * used_gb / (self.max_memory_gb or machine.total / GIB)

    def log_memory_stats(self, context: str = "") -> None:
        """Log the event ``memory_stats``: of the machine as in canVODpy, and of the cluster if there is one.

        Parameters
        ----------
        context : str
            What is being done, to find the line by.
        """
        machine = psutil.virtual_memory()
        cluster = {}
        if self.used_bytes is not None:
            _, used_gb, used_percent = self._measure()
            cluster = {
                "cluster_used_gb": round(used_gb, 2),
                "cluster_used_percent": round(used_percent, 1),
            }
        log.info(
            "memory_stats",
            context=context,
            available_gb=round(machine.available / GIB, 2),
            used_percent=round(machine.percent, 1),
            total_gb=round(machine.total / GIB, 2),
            max_memory_gb=self.max_memory_gb,
            **cluster,
        )


def resident_bytes(pid: int | None = None) -> int:
    """Tell the resident memory of a process and its children, in bytes.

    Parameters
    ----------
    pid : int, optional
        The process; this one by default. One that has ended uses nothing.

    Returns
    -------
    int
        What they share is counted for each.
    """
    used = 0
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        for each in (process, *process.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                used += each.memory_info().rss
    return used
