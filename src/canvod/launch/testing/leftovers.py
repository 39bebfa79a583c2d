"""What a cluster has left on the engine and on this host; found without removing any of it."""

from __future__ import annotations

import os
import re
from pathlib import Path
from tempfile import gettempdir
from typing import TYPE_CHECKING, Final

from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from canvod.launch.cluster.tls import keys_home
from canvod.launch.docker import watchdog
from canvod.launch.docker.engine import translate
from canvod.launch.host.labels import CLUSTER_LABEL
from canvod.launch.host.owner import SCRATCH_PREFIX, SEMAPHORE_PREFIX
from canvod.launch.readers.observations import one_line
from canvod.launch.runtime.host_process import SHARED_MEMORY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from canvod.launch.docker.engine import Client

_POLL_S: Final = 0.1


@translate("look for what a cluster has left")
def find_leftovers(
    cluster: str, client: Client | None = None, *, spill_dir: str | os.PathLike[str] | None = None
) -> list[str]:
    """Find what belongs to a cluster: objects of the engine, files and processes of this host.

    Nothing is changed. Files and processes are this user's; root finds everybody's processes.

    Parameters
    ----------
    cluster : str
        Name of the cluster.
    client : docker.DockerClient, optional
        The engine; without it only this host is searched.
    spill_dir : path, optional
        Where scratch folders may be besides the temporary files (``launch.spill_dir``).

    Returns
    -------
    list of str
        One line for each container (in whatever state), network, volume, folder of keys, scratch folder,
        semaphore and process; empty where nothing is left.

    Raises
    ------
    EngineError
        If the engine does not answer.

    Examples
    --------
    >>> find_leftovers("no-such-cluster")
    []
    """
    found = [] if client is None else list(_engine_objects(client, cluster))
    name = re.escape(cluster)
    scratch = re.compile(rf"{re.escape(SCRATCH_PREFIX)}{name}-[a-z0-9_]{{8}}(?![\w.-])")
    found += _entries("keys", keys_home(), re.compile(rf"\.?{name}\.[0-9a-f]+"))
    for folder in dict.fromkeys(Path(place) for place in (gettempdir(), spill_dir) if place is not None):
        found += _entries("scratch folder", folder, scratch)
    semaphore = re.compile(rf"sem\.{re.escape(SEMAPHORE_PREFIX)}\d+\.\d+\.\d+\.{name}\.[^.]+")
    found += _entries("semaphore", SHARED_MEMORY, semaphore)
    return found + list(_processes(cluster, scratch))


def assert_nothing_left(
    cluster: str,
    client: Client | None = None,
    *,
    within_s: float = 0.0,
    spill_dir: str | os.PathLike[str] | None = None,
) -> None:
    """Assert that nothing of a cluster is left on the engine and on this host.

    Parameters
    ----------
    cluster : str
        Name of a cluster that has ended.
    client : docker.DockerClient, optional
        The engine; without it only this host is searched.
    within_s : float
        How long it may take until everything is gone, in seconds.
    spill_dir : path, optional
        Where scratch folders may be besides the temporary files (``launch.spill_dir``).

    Raises
    ------
    AssertionError
        If something is left when the time is up; the message names each thing.
    EngineError
        If the engine does not answer.

    Examples
    --------
    >>> assert_nothing_left("no-such-cluster")
    """
    look = Retrying(
        retry=retry_if_result(bool),
        stop=stop_after_delay(within_s),
        wait=wait_fixed(_POLL_S),
        retry_error_callback=lambda state: state.outcome and state.outcome.result(),
    )
    left = look(find_leftovers, cluster, client, spill_dir=spill_dir)
    if left:
        when = f" after {within_s:g} s" if within_s else ""
        raise AssertionError("\n  ".join([f"cluster {cluster} has left behind{when}:", *left]))


def _engine_objects(client: Client, cluster: str) -> Iterator[str]:
    filters = {"label": f"{CLUSTER_LABEL}={cluster}"}
    for container in client.api.containers(all=True, filters=filters):
        name = (container["Names"] or [container["Id"]])[0].lstrip("/")
        yield f"container {name} ({container['State']})"
    for network in client.api.networks(filters=filters):
        yield f"network {network['Name']}"
    for volume in client.api.volumes(filters=filters)["Volumes"] or ():
        yield f"volume {volume['Name']}"


def _entries(what: str, folder: Path, name: re.Pattern[str]) -> list[str]:
    try:
        return sorted(f"{what} {entry}" for entry in folder.iterdir() if name.fullmatch(entry.name))
    except FileNotFoundError:
        return []


def _processes(cluster: str, scratch: re.Pattern[str]) -> Iterator[str]:
    """Find the watchdog of a cluster, its worker processes, and what their tasks have started.

    Workers are told their scratch folder, and what they start has it in its environment (TMPDIR).
    """
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        words = _strings(entry / "cmdline")
        watches = watchdog.__name__ in words and cluster in words
        if watches or any(map(scratch.search, (*words, *_strings(entry / "environ")))):
            yield f"process {entry.name}: {one_line(' '.join(words))}"


def _strings(path: Path) -> list[str]:
    """Read a file of /proc; that of a process that has ended, or is somebody else's, is empty."""
    try:
        return path.read_text(errors="replace").split("\0")[:-1]
    except OSError:
        return []
