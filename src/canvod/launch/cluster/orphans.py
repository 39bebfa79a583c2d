"""What clusters and launchers that have ended left on the engine and on this host: found, and removed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from tempfile import gettempdir
from typing import TYPE_CHECKING

from canvod.launch.cluster.tls import key_folders
from canvod.launch.docker.engine import describe_engine
from canvod.launch.docker.removal import EngineObject, list_objects, remedy, remove_objects
from canvod.launch.errors import EngineError
from canvod.launch.host.labels import CLUSTER_LABEL, DETACHED_LABEL, OWNER_LABEL, ROLE_LABEL, uid_of
from canvod.launch.host.owner import (
    SCRATCH_PREFIX,
    SEMAPHORE_PREFIX,
    owner_lives,
    owner_of,
    owner_of_semaphore,
)
from canvod.launch.logs import get_logger
from canvod.launch.runtime.host_process import SHARED_MEMORY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from canvod.launch.docker.engine import Client

log = get_logger("canvod.launch")


def prune_host(spill_dir: str | os.PathLike[str] | None = None) -> list[str]:
    """Remove what ended processes of this user left on this host: keys, scratch folders, semaphores.

    Parameters
    ----------
    spill_dir : path, optional
        Where to look for scratch folders besides the temporary files (``launch.spill_dir``).

    Returns
    -------
    list of str
        What was removed.
    """
    folders = {Path(place) for place in (gettempdir(), spill_dir) if place is not None}
    scratch = [path for folder in sorted(folders) for path in sorted(folder.glob(f"{SCRATCH_PREFIX}*"))]
    semaphores = sorted(SHARED_MEMORY.glob(f"sem.{SEMAPHORE_PREFIX}*"))
    return [
        *prune_keys(),
        *_remove_orphans("scratch", {path: owner_of(path) for path in scratch}),
        *_remove_orphans(
            "semaphore", {path: owner_of_semaphore(path.name.removeprefix("sem.")) for path in semaphores}
        ),
    ]


def prune_keys() -> list[str]:
    """Remove the keys of processes that are no more.

    Returns
    -------
    list of str
        What was removed.
    """
    return _remove_orphans("keys", key_folders())


def _remove_orphans(kind: str, owners: Mapping[Path, str | None]) -> list[str]:
    """Remove this user's files and folders whose owner is no more; without a mark they are nobody's."""
    removed = []
    for path, mark in owners.items():
        try:
            if mark is None or owner_lives(mark) or path.lstat().st_uid != os.getuid():
                continue
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink()
        except OSError:  # another process prunes at the same time
            continue
        removed.append(f"{kind} {path}")
    return removed


def find_orphans(client: Client) -> dict[str, list[EngineObject]]:
    """Find what is left of clusters of this user that nobody can use any more; root finds everybody's.

    A cluster whose owner lives is left alone, whatever state it is in. Without it, an ephemeral one is
    orphaned, and a detached one is if its scheduler does not run.

    Parameters
    ----------
    client : docker.DockerClient
        The engine.

    Returns
    -------
    dict of str to list of EngineObject
        All objects of each such cluster, by its name.

    Raises
    ------
    EngineError
        If the engine does not answer.
    """
    clusters: dict[str, list[EngineObject]] = {}
    for item in list_objects(client, OWNER_LABEL):
        # Other users' processes cannot be seen everywhere (hidepid): what is theirs is left to them.
        if CLUSTER_LABEL in item.labels and os.getuid() in {0, uid_of(item.labels)}:
            clusters.setdefault(item.labels[CLUSTER_LABEL], []).append(item)
    return {name: objects for name, objects in sorted(clusters.items()) if _is_orphaned(objects)}


def _is_orphaned(objects: list[EngineObject]) -> bool:
    if any(owner_lives(item.labels.get(OWNER_LABEL, "")) for item in objects):
        return False
    detached = any(item.labels.get(DETACHED_LABEL) == "true" for item in objects)
    return not detached or not any(
        item.state == "running" and item.labels.get(ROLE_LABEL) == "scheduler" for item in objects
    )


def prune_engine(client: Client) -> list[str]:
    """Remove what orphaned clusters of this user left on the engine.

    Parameters
    ----------
    client : docker.DockerClient
        The engine.

    Returns
    -------
    list of str
        What was removed.

    Raises
    ------
    EngineError
        If the engine does not answer, or runs containers on another host, whose owners cannot be seen from
        here; or something cannot be removed, and the rest has been.
    """
    if elsewhere := describe_engine(client).elsewhere:
        raise EngineError(
            f"The Docker engine runs containers {elsewhere}: whose owners live cannot be seen from here, and "
            "nothing was removed.",
            hint="run canvod-launch prune on that host",
        )
    removed: list[str] = []
    kept: dict[str, list[str]] = {}
    for cluster, objects in find_orphans(client).items():
        names = [str(item) for item in objects]
        left: list[str] = []
        # Only what these owners have made: somebody may have started a cluster of the same name meanwhile.
        for mark in sorted({item.labels[OWNER_LABEL] for item in objects}):
            left += remove_objects(client, cluster, f"{OWNER_LABEL}={mark}")
        log.info("orphaned_cluster_removed", cluster=cluster, objects=names, left=left)
        if left:
            kept[cluster] = left
        else:
            removed += names
    if kept:
        error = EngineError(
            "What orphaned clusters left is not removed entirely: "
            + "; ".join(f"{cluster}: {'; '.join(left)}" for cluster, left in kept.items())
            + ".",
            hint=remedy(next(iter(kept))),
        )
        if removed:
            error.add_note(f"Removed: {', '.join(removed)}.")
        raise error
    return removed
