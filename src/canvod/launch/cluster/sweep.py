"""What clusters left behind whose launcher died: found by labels, and removed."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from canvod.launch.cluster.host_sweep import sweep_host
from canvod.launch.cluster.launcher import (
    LAUNCHER_LABEL,
    STANDING_LABEL,
    UID_LABEL,
    launcher_lives,
)
from canvod.launch.cluster.removal import Labelled, list_labelled, remedy, remove_objects
from canvod.launch.errors import EngineError
from canvod.launch.logs import get_logger
from canvod.launch.plan.model import CLUSTER_LABEL, ROLE_LABEL

if TYPE_CHECKING:
    from canvod.launch.engine import Client

log = get_logger("canvod.launch")


@dataclass(frozen=True)
class Remains:
    """One cluster's objects on the engine.

    Attributes
    ----------
    cluster : str
        Its name.
    objects : tuple of Labelled
        All of them.
    """

    cluster: str
    objects: tuple[Labelled, ...]

    @property
    def dead(self) -> bool:
        """Whether nobody can use it any more.

        A cluster whose launcher lives is left alone, whatever state it is in. Without it, one with a lease is
        dead, and a standing one is if its scheduler does not run.
        """
        if any(launcher_lives(item.labels.get(LAUNCHER_LABEL, "")) for item in self.objects):
            return False
        standing = any(item.labels.get(STANDING_LABEL) == "true" for item in self.objects)
        return not standing or not any(
            item.state == "running" and item.labels.get(ROLE_LABEL) == "scheduler" for item in self.objects
        )


def find_dead(client: Client) -> list[Remains]:
    """Find the clusters of this user that are dead; root finds everybody's.

    Parameters
    ----------
    client : docker.DockerClient
        The engine.

    Returns
    -------
    list of Remains
        In the order of their names.

    Raises
    ------
    EngineError
        If the engine does not answer.
    """
    clusters: dict[str, list[Labelled]] = {}
    for item in list_labelled(client, LAUNCHER_LABEL):
        # Other users' processes cannot be seen everywhere (hidepid): what is theirs is left to them.
        if os.getuid() in (0, int(item.labels.get(UID_LABEL, -1))):
            clusters.setdefault(item.labels[CLUSTER_LABEL], []).append(item)
    found = [Remains(name, tuple(objects)) for name, objects in sorted(clusters.items())]
    return [remains for remains in found if remains.dead]


def sweep_engine(client: Client) -> list[str]:
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
    for remains in find_dead(client):
        names = [str(item) for item in remains.objects]
        left: list[str] = []
        # Only what the dead have made: somebody may have started a cluster of the same name meanwhile.
        for mark in sorted({item.labels[LAUNCHER_LABEL] for item in remains.objects}):
            left += remove_objects(client, remains.cluster, f"{LAUNCHER_LABEL}={mark}")
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


def sweep_quietly(client: Client) -> None:
    """Remove what dead clusters left behind, before something new is started; a failure is only logged.

    Parameters
    ----------
    client : docker.DockerClient
        The engine.
    """
    try:
        sweep_host()
        sweep_engine(client)
    except EngineError as error:
        log.warning("sweep_failed", reason=error.message)
