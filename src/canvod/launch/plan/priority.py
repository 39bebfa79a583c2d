"""From a nice value to the CPU weight of a container, on the kernel's own curve.

Nice weighs threads only within one control group (sched(7), "The nice value and group scheduling"), so that
a container's nice value means nothing outside it. The same priority has to be set once more, as the weight of
the container's group.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

SCHED_PRIO_TO_WEIGHT = (
    1024, 820, 655, 526, 423,
    335, 272, 215, 172, 137,
    110, 87, 70, 56, 45,
    36, 29, 23, 18, 15,
)  # fmt: skip
"""Weight of nice 0 to 19: second half of ``sched_prio_to_weight`` in the kernel's ``kernel/sched/core.c``."""

NORMAL_SHARES = 1024
"""``cpu.shares`` of a group that nobody changed (cgroup v1)."""
NORMAL_WEIGHT = 100
"""``cpu.weight`` of a group that nobody changed (cgroup v2)."""
MIN_SHARES, MAX_SHARES = 2, 262_144
"""The kernel's range of ``cpu.shares``."""
MIN_WEIGHT, MAX_WEIGHT = 1, 10_000
"""The kernel's range of ``cpu.weight``."""

QUADRATIC_SINCE = {"runc": (1, 3, 2), "crun": (1, 23, 0)}
"""First versions that convert shares with the quadratic curve (runc pull request 4785 and its changelog of
1.3.2 and 1.4.0-rc.1; crun pull request 1767)."""


@dataclass(frozen=True, slots=True)
class CpuPriority:
    """CPU weight of a container."""

    shares: int | None
    """What to ask of Docker (``cpu_shares``), or None to leave its default."""
    weight: int
    """What the kernel then shows: ``cpu.shares`` under v1, ``cpu.weight`` under v2."""


def normal_weight(cgroup_version: Literal[1, 2]) -> int:
    """Tell the weight of a group that nobody changed.

    Parameters
    ----------
    cgroup_version : {1, 2}
        Version of the control groups.

    Returns
    -------
    int
        ``cpu.shares`` under v1, ``cpu.weight`` under v2.
    """
    return NORMAL_SHARES if cgroup_version == 1 else NORMAL_WEIGHT


def linear_weight(shares: int) -> int:
    """Convert shares to a v2 weight as runc did before 1.3.2 (KEP-2254): 2..262144 to 1..10000, linearly.

    Parameters
    ----------
    shares : int
        Docker's ``cpu_shares``, 2 to 262144.

    Returns
    -------
    int
        ``cpu.weight``, 1 to 10000.
    """
    return 1 + ((shares - 2) * 9999) // 262142


def quadratic_weight(shares: int) -> int:
    """Convert shares to a v2 weight as runc does since 1.3.2 and crun since 1.23.

    A parabola between the logarithms, through (2, 1), (1024, 100) and (262144, 10000); it is
    ``ConvertCPUSharesToCgroupV2Value`` of opencontainers/cgroups 0.0.3 and later.

    Parameters
    ----------
    shares : int
        Docker's ``cpu_shares``; what is outside of 2 to 262144 counts as the nearer end.

    Returns
    -------
    int
        ``cpu.weight``, 1 to 10000.
    """
    if shares <= MIN_SHARES:
        return MIN_WEIGHT
    if shares >= MAX_SHARES:
        return MAX_WEIGHT
    log = math.log2(shares)
    return math.ceil(10 ** ((log * log + 125 * log) / 612 - 7 / 34))


def conversion(runtime_version: str) -> Callable[[int], int]:
    """Tell how a container runtime converts shares to a v2 weight.

    Parameters
    ----------
    runtime_version : str
        Version of runc (``1.1.5``), or ``crun 1.23``. An unknown one counts as old: what distributions ship
        with Docker was linear until the end of 2025.

    Returns
    -------
    callable
        `linear_weight` or `quadratic_weight`.
    """
    runtime = "crun" if "crun" in runtime_version else "runc"
    found = re.search(r"(\d+)\.(\d+)(?:\.(\d+))?", runtime_version)
    version = tuple(int(part or 0) for part in found.groups()) if found else (0, 0, 0)
    return quadratic_weight if version >= QUADRATIC_SINCE[runtime] else linear_weight


def shares_for_weight(weight: int, convert: Callable[[int], int]) -> int:
    """Choose the shares that a runtime converts to a given v2 weight.

    Parameters
    ----------
    weight : int
        Wanted ``cpu.weight``, 1 to 10000.
    convert : callable
        The runtime's conversion; both that exist rise with the shares and reach every weight.

    Returns
    -------
    int
        The middle of all shares with this weight, so that a rounding error in the runtime changes nothing.

    Examples
    --------
    >>> linear_weight(shares_for_weight(11, linear_weight))
    11
    """
    every = range(MIN_SHARES, MAX_SHARES + 1)
    first = bisect_left(every, weight, key=convert)
    last = bisect_right(every, weight, key=convert) - 1
    return every[(first + last) // 2]


def cpu_priority(
    nice: int, cpu_weight: int | None, *, cgroup_version: Literal[1, 2], runtime_version: str
) -> CpuPriority:
    """Choose the CPU weight of a container.

    Parameters
    ----------
    nice : int
        Nice value, 0 to 19.
    cpu_weight : int or None
        Weight in v2 terms (1 to 10000, 100 is normal) that replaces the one of the nice value.
    cgroup_version : {1, 2}
        Version of the engine's control groups.
    runtime_version : str
        Version of runc, which converts shares to weights under v2.

    Returns
    -------
    CpuPriority
        What to ask of Docker and what the kernel will show.

    Examples
    --------
    >>> cpu_priority(19, None, cgroup_version=1, runtime_version="1.1.5")
    CpuPriority(shares=15, weight=15)
    """
    if cpu_weight is None and nice == 0:
        return CpuPriority(shares=None, weight=normal_weight(cgroup_version))
    kernel = SCHED_PRIO_TO_WEIGHT[nice]
    if cgroup_version == 1:
        wanted = kernel if cpu_weight is None else round(cpu_weight * NORMAL_SHARES / NORMAL_WEIGHT)
        shares = min(max(wanted, MIN_SHARES), MAX_SHARES)
        return CpuPriority(shares=shares, weight=shares)
    wanted = round(NORMAL_WEIGHT * kernel / NORMAL_SHARES) if cpu_weight is None else cpu_weight
    weight = min(max(wanted, MIN_WEIGHT), MAX_WEIGHT)
    return CpuPriority(shares=shares_for_weight(weight, conversion(runtime_version)), weight=weight)
