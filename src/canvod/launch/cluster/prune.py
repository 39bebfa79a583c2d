"""What processes that are no more left behind on this host: found by their marks, and removed."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path
from tempfile import gettempdir
from typing import TYPE_CHECKING

from canvod.launch.cluster.tls import keys_home
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
from canvod.launch.runtime.host import SHARED_MEMORY

if TYPE_CHECKING:
    from canvod.launch.docker.engine import Client

log = get_logger("canvod.launch")


def prune_host(spill_dir: str | os.PathLike[str] | None = None) -> list[str]:
    """Remove what dead processes of this user left behind on this host: keys, scratch folders, semaphores.

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
    removed = []
    for scratch in sorted(Path(folder or gettempdir()).glob(f"{SCRATCH_PREFIX}*")):
        mark = owner_of(scratch)
        if mark is not None and scratch.lstat().st_uid == os.getuid() and not owner_lives(mark):
            shutil.rmtree(scratch, ignore_errors=True)
            removed.append(f"scratch {scratch}")
    return removed


def prune_semaphores() -> list[str]:
    """Remove the semaphores of worker processes whose launcher is no more.

    Returns
    -------
    list of str
        What was removed.
    """
    removed = []
    for path in sorted(SHARED_MEMORY.glob(f"sem.{SEMAPHORE_PREFIX}*")):
        mark = owner_of_semaphore(path.name.removeprefix("sem."))
        if mark is not None and not owner_lives(mark):
            with suppress(OSError):
                if path.lstat().st_uid == os.getuid():
                    path.unlink()
                    removed.append(f"semaphore {path}")
    return removed


def prune_keys() -> list[str]:
    """Remove the keys of processes that are no more.

    Returns
    -------
    list of str
        What was removed.
    """
    removed = []
    home = keys_home()
    for folder in sorted(home.iterdir()) if home.is_dir() else ():
        mark = owner_of(folder)
        if mark is not None and not owner_lives(mark):
            shutil.rmtree(folder, ignore_errors=True)
            removed.append(f"keys {folder}")
    return removed


def prune_quietly(client: Client) -> None:
    """Remove what dead clusters left behind, before something new is started; a failure is only logged.

    Parameters
    ----------
    client : docker.DockerClient
        The engine.
    """
    try:
        prune_host()
        prune_engine(client)
    except EngineError as error:
        log.warning("sweep_failed", reason=error.message)
