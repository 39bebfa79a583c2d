"""What processes that have ended left on this host: found by their marks, and removed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from tempfile import gettempdir
from typing import TYPE_CHECKING

from canvod.launch.cluster.tls import key_folders
from canvod.launch.docker.orphans import prune_engine
from canvod.launch.errors import EngineError
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
    elsewhere = [] if spill_dir is None else prune_scratch(spill_dir)
    return [*prune_keys(), *prune_scratch(), *elsewhere, *prune_semaphores()]


def prune_scratch(folder: str | os.PathLike[str] | None = None) -> list[str]:
    """Remove the scratch folders of worker processes whose launcher is no more.

    Parameters
    ----------
    folder : path, optional
        Where to look (``launch.spill_dir``); among the temporary files by default.

    Returns
    -------
    list of str
        What was removed.
    """
    found = sorted(Path(folder or gettempdir()).glob(f"{SCRATCH_PREFIX}*"))
    return _remove_orphans("scratch", {path: owner_of(path) for path in found})


def prune_semaphores() -> list[str]:
    """Remove the semaphores of worker processes whose launcher is no more.

    Returns
    -------
    list of str
        What was removed.
    """
    found = sorted(SHARED_MEMORY.glob(f"sem.{SEMAPHORE_PREFIX}*"))
    return _remove_orphans(
        "semaphore", {path: owner_of_semaphore(path.name.removeprefix("sem.")) for path in found}
    )


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


def prune_quietly(client: Client) -> None:
    """Remove what orphaned clusters left, before something new is started; a failure is only logged.

    Parameters
    ----------
    client : docker.DockerClient
        The engine.
    """
    try:
        prune_host()
        prune_engine(client)
    except EngineError as error:
        log.warning("prune_failed", reason=error.message)
