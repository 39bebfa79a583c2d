"""What clusters left behind whose launcher died: found by labels, and removed."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from canvod.launch.docker.removal import EngineObject, list_objects, remedy, remove_objects
from canvod.launch.errors import EngineError
from canvod.launch.host.labels import CLUSTER_LABEL, DETACHED_LABEL, OWNER_LABEL, ROLE_LABEL, UID_LABEL
from canvod.launch.host.owner import owner_lives
from canvod.launch.logs import get_logger

if TYPE_CHECKING:
    from canvod.launch.docker.engine import Client

log = get_logger("canvod.launch")


@dataclass(frozen=True)
class Orphan:
    """One cluster's objects on the engine.

    Attributes
    ----------
    cluster : str
        Its name.
    objects : tuple of EngineObject
        All of them.
    """

    cluster: str
    objects: tuple[EngineObject, ...]

    @property
    def dead(self) -> bool:
        """Whether nobody can use it any more.

        A cluster whose launcher lives is left alone, whatever state it is in. Without it, one with a lease is
        dead, and a detached one is if its scheduler does not run.
        """
        if any(owner_lives(item.labels.get(OWNER_LABEL, "")) for item in self.objects):
            return False
        detached = any(item.labels.get(DETACHED_LABEL) == "true" for item in self.objects)
        return not detached or not any(
            item.state == "running" and item.labels.get(ROLE_LABEL) == "scheduler" for item in self.objects
        )


def find_orphans(client: Client) -> list[Orphan]:
    """Find the clusters of this user that are dead; root finds everybody's.

    Parameters
    ----------
    client : docker.DockerClient
        The engine.

    Returns
    -------
    list of Orphan
        In the order of their names.

    Raises
    ------
    EngineError
        If the engine does not answer.
    """
    clusters: dict[str, list[EngineObject]] = {}
    for item in list_objects(client, OWNER_LABEL):
        # Other users' processes cannot be seen everywhere (hidepid): what is theirs is left to them.
        if os.getuid() in (0, int(item.labels.get(UID_LABEL, -1))):
            clusters.setdefault(item.labels[CLUSTER_LABEL], []).append(item)
    found = [Orphan(name, tuple(objects)) for name, objects in sorted(clusters.items())]
    return [remains for remains in found if remains.dead]


def prune_engine(client: Client) -> list[str]:
    """Remove what dead clusters of this user left behind on the engine.

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
        If the engine does not answer, or something cannot be removed; the rest has been removed.
    """
    removed: list[str] = []
    kept: dict[str, list[str]] = {}
    for remains in find_orphans(client):
        names = [str(item) for item in remains.objects]
        left: list[str] = []
        # Only what the dead have made: somebody may have started a cluster of the same name meanwhile.
        for mark in sorted({item.labels[OWNER_LABEL] for item in remains.objects}):
            left += remove_objects(client, remains.cluster, f"{OWNER_LABEL}={mark}")
        log.info("dead_cluster_removed", cluster=remains.cluster, objects=names, left=left)
        if left:
            kept[remains.cluster] = left
        else:
            removed += names
    if kept:
        error = EngineError(
            "What dead clusters left behind is not gone entirely: "
            + "; ".join(f"{cluster}: {'; '.join(left)}" for cluster, left in kept.items())
            + ".",
            hint=remedy(next(iter(kept))),
        )
        if removed:
            error.add_note(f"Removed: {', '.join(removed)}.")
        raise error
    return removed
