"""What processes that are no more left behind on this host: found by their marks, and removed."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path
from tempfile import gettempdir

from canvod.launch.cluster.keys import keys_home
from canvod.launch.cluster.launcher import (
    SCRATCH_PREFIX,
    SEMAPHORE_PREFIX,
    launcher_lives,
    launcher_of,
    launcher_of_semaphore,
)
from canvod.launch.runtime.host import SHARED_MEMORY


def sweep_host(spill_dir: str | os.PathLike[str] | None = None) -> list[str]:
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
    elsewhere = [] if spill_dir is None else sweep_scratch(spill_dir)
    return [*sweep_keys(), *sweep_scratch(), *elsewhere, *sweep_semaphores()]


def sweep_scratch(folder: str | os.PathLike[str] | None = None) -> list[str]:
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
        mark = launcher_of(scratch)
        if mark is not None and scratch.lstat().st_uid == os.getuid() and not launcher_lives(mark):
            shutil.rmtree(scratch, ignore_errors=True)
            removed.append(f"scratch {scratch}")
    return removed


def sweep_semaphores() -> list[str]:
    """Remove the semaphores of worker processes whose launcher is no more.

    Returns
    -------
    list of str
        What was removed.
    """
    removed = []
    for path in sorted(SHARED_MEMORY.glob(f"sem.{SEMAPHORE_PREFIX}*")):
        mark = launcher_of_semaphore(path.name.removeprefix("sem."))
        if mark is not None and not launcher_lives(mark):
            with suppress(OSError):
                if path.lstat().st_uid == os.getuid():
                    path.unlink()
                    removed.append(f"semaphore {path}")
    return removed


def sweep_keys() -> list[str]:
    """Remove the keys of processes that are no more.

    Returns
    -------
    list of str
        What was removed.
    """
    removed = []
    home = keys_home()
    for folder in sorted(home.iterdir()) if home.is_dir() else ():
        mark = launcher_of(folder)
        if mark is not None and not launcher_lives(mark):
            shutil.rmtree(folder, ignore_errors=True)
            removed.append(f"keys {folder}")
    return removed
