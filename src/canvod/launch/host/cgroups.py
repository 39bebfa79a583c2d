"""The control groups that a process lives in, and what they allow it: cgroup v1, v2 and both mixed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Literal

from canvod.launch.host.cpulist import parse_cpulist

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NO_LIMIT = 1 << 62
"""Memory limits of cgroup v1 from here on mean "no limit": the kernel shows the largest number of whole pages
that fits a signed 64-bit integer."""


@dataclass(frozen=True, slots=True)
class Mounted:
    """Where one cgroup hierarchy is mounted."""

    point: PurePosixPath
    """Folder of the mount."""
    root: PurePosixPath
    """Group that is the top of what the mount shows; not ``/`` in a container without a cgroup namespace."""
    controllers: frozenset[str]
    """Controllers of a v1 hierarchy; empty for v2."""


@dataclass(frozen=True, slots=True)
class CgroupLimits:
    """What the groups of this process allow it, all ancestors included."""

    version: Literal[1, 2]
    """Version of the hierarchy that has the memory controller; 1 in a mixed set-up."""
    cpus: frozenset[int] | None
    """CPUs of the cpuset, or None without one."""
    cpu_quota: float | None
    """CPUs' worth of time, or None."""
    memory_limit_bytes: int | None
    """Smallest limit, or None."""
    memory_left_bytes: int | None
    """What the fullest of the limited groups has left, cache that can be dropped counted as free; or None."""


def read_cgroups(root: Path) -> CgroupLimits:
    """Read what the control groups of this process allow it.

    Parameters
    ----------
    root : Path
        Where ``/proc`` and ``/sys`` are.

    Returns
    -------
    CgroupLimits
        Everything that no file tells is None.
    """
    mounts = list(_mounts(root))
    groups = _own_groups(root)
    unified = next((mount for mount in mounts if not mount.controllers), None)

    def folders(controller: str) -> tuple[int, list[Path]]:
        """Give the version and the folders of a controller, from the process's own group up to the top."""
        for mount in mounts:
            if controller in mount.controllers:
                return 1, _chain(root, mount, groups.get(controller, "/"))
        return 2, [] if unified is None else _chain(root, unified, groups.get("", "/"))

    memory_version, memory = folders("memory")
    cpu_version, cpu = folders("cpu")
    _, cpuset = folders("cpuset")
    read_memory = _memory_v1 if memory_version == 1 else _memory_v2
    read_quota = _quota_v1 if cpu_version == 1 else _quota_v2

    limits = [limit for limit in map(read_memory, memory) if limit is not None]
    quotas = [quota for quota in map(read_quota, cpu) if quota is not None]
    sets = [cpus for cpus in map(_cpus, cpuset) if cpus]
    version_1 = any(mount.controllers & {"memory", "cpu", "cpuset"} for mount in mounts)
    return CgroupLimits(
        version=1 if version_1 or not mounts else 2,
        cpus=frozenset.intersection(*sets) if sets else None,
        cpu_quota=min(quotas, default=None),
        memory_limit_bytes=min((limit for limit, _ in limits), default=None),
        memory_left_bytes=min((max(0, limit - used) for limit, used in limits), default=None),
    )


def _mounts(root: Path) -> Iterator[Mounted]:
    """Find the mounted hierarchies; proc(5) describes the fields of mountinfo."""
    for line in _text(root / "proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        fields, details = before.split(), after.split()
        if len(fields) < 5 or len(details) < 3:
            continue
        point, top = PurePosixPath(_unescape(fields[4])), PurePosixPath(_unescape(fields[3]))
        if details[0] == "cgroup2":
            yield Mounted(point, top, frozenset())
        elif details[0] == "cgroup":
            yield Mounted(point, top, frozenset(details[2].split(",")))


def _own_groups(root: Path) -> dict[str, str]:
    """Give the group of this process by controller; that of v2 has no controller, hence the key ``""``."""
    groups: dict[str, str] = {}
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, _, entry = line.partition(":")
        controllers, _, path = entry.partition(":")
        groups.update(dict.fromkeys(controllers.split(","), path))
    return groups


def _chain(root: Path, mount: Mounted, group: str) -> list[Path]:
    """Give the folders of a group and of all its ancestors that the mount shows."""
    path = PurePosixPath(group)
    try:
        below = path.relative_to(mount.root)
    except ValueError:
        below = PurePosixPath()
    if ".." in below.parts:
        below = PurePosixPath()
    top = root / mount.point.relative_to("/")
    folders = [top]
    for part in below.parts:
        folders.append(folders[-1] / part)
    return folders[::-1]


def _memory_v1(folder: Path) -> tuple[int, int] | None:
    limit = _number(folder / "memory.limit_in_bytes")
    if limit is None or limit >= NO_LIMIT:
        return None
    used = _number(folder / "memory.usage_in_bytes") or 0
    return limit, max(0, used - _statistic(folder, "total_inactive_file"))


def _memory_v2(folder: Path) -> tuple[int, int] | None:
    limit = _number(folder / "memory.max")
    if limit is None:
        return None
    used = _number(folder / "memory.current") or 0
    return limit, max(0, used - _statistic(folder, "inactive_file"))


def _statistic(folder: Path, name: str) -> int:
    found = re.search(rf"^{name} (\d+)$", _text(folder / "memory.stat"), re.MULTILINE)
    return int(found[1]) if found else 0


def _quota_v1(folder: Path) -> float | None:
    quota, period = _number(folder / "cpu.cfs_quota_us"), _number(folder / "cpu.cfs_period_us")
    return quota / period if quota and period and quota > 0 else None


def _quota_v2(folder: Path) -> float | None:
    quota, _, period = _text(folder / "cpu.max").strip().partition(" ")
    return int(quota) / int(period) if quota.isdecimal() and period.isdecimal() and int(period) else None


def _cpus(folder: Path) -> frozenset[int]:
    """Read a cpuset; the effective one where it is told, since an empty v2 cpuset means the parent's."""
    for name in ("cpuset.cpus.effective", "cpuset.effective_cpus", "cpuset.cpus"):
        try:
            if cpus := parse_cpulist(_text(folder / name)):
                return frozenset(cpus)
        except ValueError:
            continue
    return frozenset()


def _number(path: Path) -> int | None:
    text = _text(path).strip()
    try:
        return int(text)
    except ValueError:
        return None


def _text(path: Path) -> str:
    """Read a small file; one that is missing or forbidden tells nothing."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _unescape(path: str) -> str:
    """Undo mountinfo's octal escapes of white space and backslashes."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), path)
