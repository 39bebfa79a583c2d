"""What workers see of the host: named by a caller, there before a start, and enough for a job."""

from __future__ import annotations

import os
import pwd
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from canvod.launch.errors import ConfigError, InputError
from canvod.launch.paths import absolute, exists, granted
from canvod.launch.plan.host_access import can_be_seen, is_system
from canvod.launch.plan.model import Mount

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from canvod.launch.plan.model import ClusterPlan


def make_mounts(read_only: Sequence[str | Path], writable: Sequence[str | Path]) -> tuple[Mount, ...]:
    """Name what containers see of the host: each path as it was named, and what a link in it leads to.

    In the plan writable wins where a path is asked for both ways.

    Parameters
    ----------
    read_only, writable : sequence of str or Path
        Files and folders.

    Returns
    -------
    tuple of Mount
        One for each name.
    """
    return tuple(
        Mount(path=name, read_only=mode)
        for paths, mode in ((read_only, True), (writable, False))
        for path in paths
        for name in _names(path)
    )


def _names(path: str | Path) -> list[str]:
    name = str(absolute(path))
    target = os.path.realpath(name)
    return [name] if target == name or not can_be_seen(target) else [name, target]


def show_current_folder(
    mounts: Iterable[Mount], uid: int, groups: Collection[int], environ: Mapping[str, str]
) -> tuple[tuple[Mount, ...], str]:
    """Show workers the current folder, read only, unless that would show them a whole home.

    Parameters
    ----------
    mounts : iterable of Mount
        What they see anyway.
    uid : int
        The user as which they run.
    groups : collection of int
        Their groups.
    environ : mapping
        Environment of the caller, whose shell may know the folder by a name with links in it (``PWD``).

    Returns
    -------
    mounts : tuple of Mount
        The mounts to add.
    reason : str
        Why there are none, as a sentence; empty where there are some, or they see the folder anyway.
    """
    try:
        folder = Path.cwd()
    except OSError:
        return (), "There is no current folder any more."
    named = Path(environ.get("PWD") or folder)
    if not named.is_absolute() or os.path.realpath(named) != str(folder):
        named = folder
    if any(path.is_relative_to(mount.path) for mount in mounts for path in (named, folder)):
        return (), ""
    if any(home.is_relative_to(folder) for home in _homes(environ)):
        reason = "it is, or holds, a home"
    elif not can_be_seen(str(folder)) or is_system(str(folder)) or is_system(str(named)):
        reason = "containers have one of their own"
    elif uid != os.getuid() and granted(folder.stat(), uid, groups) & 0o5 != 0o5:
        # It would even close what is mounted below it.
        reason = f"uid {uid}, as which workers run, may not look into it"
    else:
        shown = make_mounts([named], [])
        return tuple(mount.model_copy(update={"optional": True}) for mount in shown), ""
    return (), f"The current folder {named} is not shown: {reason}. What workers are to read has to be named."


def _homes(environ: Mapping[str, str]) -> Iterator[Path]:
    """Yield the homes of the caller, and of who called sudo."""
    if "HOME" in environ:
        yield Path(os.path.realpath(environ["HOME"]))
    for uid in (os.getuid(), environ.get("SUDO_UID", "")):
        with suppress(KeyError, ValueError):
            yield Path(os.path.realpath(pwd.getpwuid(int(uid)).pw_dir))


def describe_mounts(plan: ClusterPlan) -> str:
    """Describe what workers see of the host.

    Parameters
    ----------
    plan : ClusterPlan
        A plan with workers.

    Returns
    -------
    str
        Such as ``/data (read only), /stores (writable)``.
    """
    mounts = plan.workers[0].mounts
    told = (f"{mount.path} ({'read only' if mount.read_only else 'writable'})" for mount in mounts)
    return ", ".join(told) or "nothing of this host"


def require_mounts(plan: ClusterPlan) -> None:
    """Refuse a plan whose containers are to see what is not there.

    Parameters
    ----------
    plan : ClusterPlan
        The plan.

    Raises
    ------
    ConfigError
        If a path does not exist, or this user may not look at it.
    """
    missing, hidden = [], []
    for path in sorted({mount.path for worker in plan.workers for mount in worker.mounts}):
        try:
            Path(path).stat()
        except PermissionError:
            hidden.append(path)
        except OSError:
            missing.append(path)
    if missing:
        raise ConfigError(
            f"Workers cannot see what is not there: {', '.join(missing)}.",
            hint="create the path, or correct launch.read_only, launch.writable and launch.spill_dir",
        )
    if hidden:
        raise ConfigError(
            f"uid {os.getuid()} may not look at what its workers are to see: {', '.join(hidden)}.",
            hint="let that user into the folders above, or correct launch.read_only, launch.writable and "
            "launch.spill_dir",
        )


def require_visible(plan: ClusterPlan, read: Iterable[Path], write: Iterable[Path]) -> None:
    """Refuse a job whose files the workers of a cluster that is up already do not see.

    Parameters
    ----------
    plan : ClusterPlan
        The cluster's plan.
    read, write : iterable of Path
        What the job reads and writes, absolute.

    Raises
    ------
    InputError
        If something is not shown to the workers, or only for reading where it is to be written.
    """
    mounts = plan.workers[0].mounts

    def sees(path: Path, *, writes: bool) -> bool:
        holding = [mount for mount in mounts if path.is_relative_to(mount.path)]
        # The innermost one decides.
        mount = max(holding, key=lambda mount: len(mount.path), default=None)
        return mount is not None and not (writes and mount.read_only)

    for path, writes in [*((path, False) for path in read), *((path, True) for path in write)]:
        if sees(path, writes=writes):
            continue
        shown = path if exists(path) else path.parent
        real = Path(os.path.realpath(path))
        other = f"name it {real}, as they see it; or " if sees(real, writes=writes) else ""
        option = "writable" if writes else "read_only"
        remedy = f'start it with DaskClusterManager({option}=["{shown}"])'
        if plan.detached:
            remedy = (
                f"start it with it: canvod-launch down {plan.name}, then canvod-launch up --name {plan.name} "
                f"--{option.replace('_', '-')} {shown}; or leave --cluster out"
            )
        raise InputError(
            f"The workers of cluster {plan.name} cannot {'write' if writes else 'see'} {path}; "
            f"they see {describe_mounts(plan)}.",
            hint=other + remedy,
        )
