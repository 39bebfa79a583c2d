"""The removal of what belongs to a cluster, by its labels: also of what no living process remembers."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_fixed

from canvod.launch.docker.engine import (
    EngineConflictError,
    EngineNotFoundError,
    EngineTimeoutError,
    translate,
)
from canvod.launch.errors import EngineError
from canvod.launch.host.labels import CLUSTER_LABEL
from canvod.launch.threads import in_threads

if TYPE_CHECKING:
    from canvod.launch.docker.engine import Client

type Kind = Literal["container", "network", "volume"]

REMOVAL_TIMEOUT_S: Final = 30.0
"""How long to go on removing what the engine says is still in use."""

_PAUSE_S = 0.05


def cluster_label(cluster: str) -> str:
    """Give the label that all objects of a cluster carry, as a filter of the engine.

    Parameters
    ----------
    cluster : str
        Name of the cluster.

    Returns
    -------
    str
        The label's name and value, with ``=`` between them.
    """
    return f"{CLUSTER_LABEL}={cluster}"


def remedy(cluster: str) -> str:
    """Tell how to remove by hand what is left of a cluster.

    Parameters
    ----------
    cluster : str
        Name of the cluster.

    Returns
    -------
    str
        Commands, for a hint.
    """
    matching = f"--filter label={cluster_label(cluster)}"
    return (
        f"when the engine answers again: canvod-launch down {cluster}; or without canvod-launch: "
        f"docker rm -fv $(docker ps -aq {matching}); docker network rm $(docker network ls -q {matching})"
    )


def remove_object(client: Client, kind: Kind, identifier: str) -> None:
    """Remove a container with its anonymous volumes, a network or a volume; what is gone counts as removed.

    Parameters
    ----------
    client : docker.DockerClient
        The engine.
    kind : {"container", "network", "volume"}
        What it is.
    identifier : str
        Its identifier or name.

    Raises
    ------
    EngineError
        If it is still there when the time is up, or the engine does not answer.
    """

    def passes(error: BaseException) -> bool:
        # "Removal already in progress", say. A network's last endpoint leaves a moment after its container.
        is_refusal = isinstance(error, EngineError) and not isinstance(error, EngineTimeoutError)
        return is_refusal if kind == "network" else isinstance(error, EngineConflictError)

    for attempt in Retrying(
        retry=retry_if_exception(passes),
        stop=stop_after_delay(REMOVAL_TIMEOUT_S),
        wait=wait_fixed(_PAUSE_S),
        reraise=True,
    ):
        with attempt, suppress(EngineNotFoundError), translate(f"remove the {kind} {identifier}"):
            if kind == "container":
                client.api.remove_container(identifier, v=True, force=True)
            elif kind == "network":
                client.api.remove_network(identifier)
            else:
                client.api.remove_volume(identifier)


@dataclass(frozen=True)
class EngineObject:
    """One object on the engine that carries labels of canvod-launch.

    Attributes
    ----------
    kind : str
        ``container``, ``network`` or ``volume``.
    id : str
        By which the engine knows it.
    name : str
        By which people know it.
    labels : dict
        All its labels.
    state : str
        Of a container, such as ``running``; else empty.
    """

    kind: Kind
    id: str
    name: str
    labels: dict[str, str]
    state: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


def list_objects(client: Client, *labels: str) -> list[EngineObject]:
    """List every container, network and volume with some labels.

    Parameters
    ----------
    client : docker.DockerClient
        The engine.
    *labels : str
        Each a label's name, or name and value with ``=`` between them; an object has to have all.

    Returns
    -------
    list of EngineObject
        Containers first, in whatever state; then networks, then volumes.

    Raises
    ------
    EngineError
        If the engine does not answer.
    """
    filters = {"label": list(labels)}
    with translate(f"list what carries the label {' and '.join(labels)}"):
        containers = client.api.containers(all=True, filters=filters)
        networks = client.api.networks(filters=filters)
        volumes = client.api.volumes(filters=filters)["Volumes"] or ()
    found = [
        EngineObject(
            "container",
            item["Id"],
            (item["Names"] or [item["Id"]])[0].lstrip("/"),
            item["Labels"],
            item["State"],
        )
        for item in containers
    ]
    found += [EngineObject("network", item["Id"], item["Name"], item["Labels"]) for item in networks]
    return found + [
        EngineObject("volume", item["Name"], item["Name"][:12], item["Labels"]) for item in volumes
    ]


def remove_objects(client: Client, cluster: str, *labels: str) -> list[str]:
    """Remove every container, network and volume that carries a cluster's label.

    Parameters
    ----------
    client : docker.DockerClient
        The engine.
    cluster : str
        Name of the cluster.
    *labels : str
        Further labels that an object has to have.

    Returns
    -------
    list of str
        What could not be removed, with the reason; empty when nothing is left.
    """
    left: list[str] = []
    wanted = (cluster_label(cluster), *labels)

    def attempt(item: EngineObject) -> None:
        try:
            remove_object(client, item.kind, item.id)
        except EngineError as error:
            left.append(f"{item}: {error.message}")

    try:
        # Anonymous volumes go with their containers, unless the engine died in between.
        for kind in ("container", "network", "volume"):
            in_threads(attempt, [item for item in list_objects(client, *wanted) if item.kind == kind])
    except EngineError as error:
        left.append(f"whatever carries the label {cluster_label(cluster)}: {error.message}")
    return left
