"""How a worker container's memory cap is shared between the nanny and the worker process."""

from __future__ import annotations

from typing import Final

from canvod.launch.units import MIB

NANNY_BYTES: Final = 160 * MIB
"""What the nanny beside a worker process may use of the worker container's cap: Dask's limit, which is about
the worker process alone, lies below the cap by this much. Measured: nanny and fork server have 127 MiB
resident, most of it shared with the worker (15 to 20 MiB beyond its own); the rest is for the day when
nothing is shared, and for the files that the kernel caches."""


def worker_limit_bytes(cap_bytes: int) -> int:
    """Tell Dask's limit for the worker process in a container with some cap.

    Parameters
    ----------
    cap_bytes : int
        The cap.

    Examples
    --------
    >>> worker_limit_bytes(1024 * MIB) // MIB
    864
    """
    return cap_bytes - NANNY_BYTES


def own_limit_bytes() -> int:
    """Tell Dask's limit for a worker in this container, from the cap that the kernel shows.

    Returns
    -------
    int
        Bytes; without a cap, from the memory of the whole machine.
    """
    # Read when it is imported, from the files of cgroup v1 and v2 alike.
    from distributed.system import MEMORY_LIMIT

    return worker_limit_bytes(int(MEMORY_LIMIT))
