"""How a container's memory limit is shared between the nanny and the worker process that it watches."""

from __future__ import annotations

from typing import Final

from canvod.launch.units import MIB

NANNY_BYTES: Final = 160 * MIB
"""What the nanny may use of a container's memory limit: Dask's limit, which is about the worker process
alone, lies below the container's by this much. Measured: nanny and fork server have 127 MiB
resident, most of it shared with the worker (15 to 20 MiB beyond its own); the rest is for the day when
nothing is shared, and for the files that the kernel caches."""


def worker_limit_bytes(container_bytes: int) -> int:
    """Tell Dask's limit for the worker process in a container.

    Parameters
    ----------
    container_bytes : int
        The container's memory limit, in bytes.

    Returns
    -------
    int
        Dask's ``memory_limit``, in bytes.

    Examples
    --------
    >>> worker_limit_bytes(1024 * MIB) // MIB
    864
    """
    return container_bytes - NANNY_BYTES
