"""The control groups that a process lives in, and what they allow it: cgroup v1, v2 and both mixed."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final, Literal

from canvod.launch.host.cpulist import parse_cpulist

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NO_LIMIT = 1 << 62
"""Memory limits of cgroup v1 from here on mean "no limit": the kernel shows the largest number of whole pages
that fits a signed 64-bit integer."""


_MEMORY_FILES: Final = {
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    2: ("memory.max", "memory.current", "inactive_file"),
}
"""By version: the files of the limit and of what is used, and which line of memory.stat is cache."""

_QUOTA_FILES: Final = {1: ("cpu.cfs_quota_us", "cpu.cfs_period_us"), 2: ("cpu.max",)}
"""By version: the files that hold quota and period, one after the other."""


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
    groups = groups_of(root / "proc/self/cgroup")

    def folders(controller: str) -> list[tuple[Literal[1, 2], Path]]:
        """Give version and folder of a controller's groups, from the process's own up to the top."""
        for mount in mounts:
            if controller in mount.controllers:
                return [(1, folder) for folder in _chain(root, mount, groups.get(controller, "/"))]
        unified = [mount for mount in mounts if not mount.controllers][:1]
        return [(2, folder) for mount in unified for folder in _chain(root, mount, groups.get("", "/"))]

    memory = [found for version, folder in folders("memory") if (found := _memory(folder, version))]
    quotas = [quota for version, folder in folders("cpu") if (quota := _quota(folder, version))]
    sets = [cpus for _, folder in folders("cpuset") if (cpus := _cpus(folder))]
    version_1 = any(mount.controllers & {"memory", "cpu", "cpuset"} for mount in mounts)
    return CgroupLimits(
        version=1 if version_1 or not mounts else 2,
        cpus=frozenset.intersection(*sets) if sets else None,
        cpu_quota=min(quotas, default=None),
        memory_limit_bytes=min((limit for limit, _ in memory), default=None),
        memory_left_bytes=min((max(0, limit - used) for limit, used in memory), default=None),
    )


def _mounts(root: Path) -> Iterator[Mounted]:
    """Find the mounted hierarchies; proc(5) describes the fields of mountinfo."""
    for line in read_text(root / "proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        fields, details = before.split(), after.split()
        if len(fields) < 5 or len(details) < 3 or details[0] not in {"cgroup", "cgroup2"}:
            continue
        controllers = details[2].split(",") if details[0] == "cgroup" else ()
        top, point = (PurePosixPath(unescape(field)) for field in fields[3:5])
        yield Mounted(point, top, frozenset(controllers))


def groups_of(path: Path) -> dict[str, str]:
    """Read the groups of a process.

    Parameters
    ----------
    path : Path
        Its file ``cgroup`` in ``/proc``.

    Returns
    -------
    dict of str to str
        Group by controller; that of v2 has no controller, hence the key ``""``.
    """
    groups: dict[str, str] = {}
    for line in read_text(path).splitlines():
        _, _, entry = line.partition(":")
        controllers, _, group = entry.partition(":")
        groups.update(dict.fromkeys(controllers.split(","), group))
    return groups


def _chain(root: Path, mount: Mounted, group: str) -> list[Path]:
    """Give the folders of a group and of all its ancestors that the mount shows."""
    path, below = PurePosixPath(group), PurePosixPath()
    if path.is_relative_to(mount.root) and ".." not in path.parts:
        below = path.relative_to(mount.root)
    folder = root / mount.point.relative_to("/") / below
    return [folder, *folder.parents][: len(below.parts) + 1]


def _memory(folder: Path, version: Literal[1, 2]) -> tuple[int, int] | None:
    """Read a group's memory limit, and what it uses without cache that can be dropped."""
    limit_file, usage_file, cache = _MEMORY_FILES[version]
    limit = _number(read_text(folder / limit_file))
    if limit is None or limit >= NO_LIMIT:
        return None
    found = re.search(rf"^{cache} (\d+)$", read_text(folder / "memory.stat"), re.MULTILINE)
    used = (_number(read_text(folder / usage_file)) or 0) - int(found[1] if found else 0)
    return limit, max(0, used)


def _quota(folder: Path, version: Literal[1, 2]) -> float | None:
    words = " ".join(read_text(folder / name) for name in _QUOTA_FILES[version]).split()
    # Without a quota, version 1 shows -1, and version 2 "max".
    quota, period = (_number(word) for word in (*words, "", "")[:2])
    return quota / period if quota and period and quota > 0 else None


def _cpus(folder: Path) -> frozenset[int]:
    """Read a cpuset; the effective one where it is told, since an empty v2 cpuset means the parent's."""
    for name in ("cpuset.cpus.effective", "cpuset.effective_cpus", "cpuset.cpus"):
        with suppress(ValueError):
            if cpus := parse_cpulist(read_text(folder / name)):
                return frozenset(cpus)
    return frozenset()


def _number(text: str) -> int | None:
    try:
        return int(text)
    except ValueError:
        return None


def read_text(path: Path) -> str:
    """Read a small file; one that is missing or forbidden tells nothing.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    str
        Its text, what is no UTF-8 replaced; empty where it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def unescape(path: str) -> str:
    """Undo the octal escapes that mountinfo has for white space and backslashes.

    Parameters
    ----------
    path : str
        A path as mountinfo has it.

    Returns
    -------
    str
        The path itself.
    """
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), path)
