"""What a scheduler or worker does for itself as a process of the host: in a container the kernel does it.

It leaves nothing behind, however its launcher ends: it notices that, ends all processes of its group, and
removes its folder and its semaphores.
"""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import shutil
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NoReturn

SHARED_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - where the kernel has semaphores, not a folder of ours

LAUNCHER_POLL_S: Final = 1.0
"""How often to look whether the launcher is there: whatever else would tell, its forks may hold open."""


def name_semaphores(prefix: str) -> None:
    """Let the semaphores of this process, and of those that it starts, begin with a name.

    `multiprocessing` removes them at its end; what a kill leaves can be told from others' by the name.

    Parameters
    ----------
    prefix : str
        The name.
    """
    settings: Any = vars(multiprocessing.current_process()).get("_config")
    if isinstance(settings, dict):
        settings["semprefix"] = f"/{prefix}"


def remove_semaphores(prefix: str) -> list[str]:
    """Remove the semaphores of this user that begin with a name.

    Parameters
    ----------
    prefix : str
        As `name_semaphores` has it.

    Returns
    -------
    list of str
        What was removed.
    """
    removed = []
    for path in SHARED_MEMORY.glob(f"sem.{prefix}-*"):
        with suppress(OSError):
            if path.lstat().st_uid == os.getuid():
                path.unlink()
                removed.append(str(path))
    return removed


def be_quiet(level: int = logging.WARNING) -> None:
    """Let Dask say only what matters: its output is its launcher's.

    Parameters
    ----------
    level : int
        The lowest level of its log lines that are written, as in `logging`.
    """
    logging.getLogger("distributed").setLevel(level)


async def launcher_gone(launcher: int) -> None:
    """Return when this process is not the launcher's child any more.

    Parameters
    ----------
    launcher : int
        Process ID of the launcher.
    """
    while os.getppid() == launcher:  # noqa: ASYNC110 - a parent that ends sets no event
        await asyncio.sleep(LAUNCHER_POLL_S)


def end_group(folder: str, semaphores: str, *, status: int) -> NoReturn:
    """Remove what is this worker's own, and end it with all processes that it has started.

    Parameters
    ----------
    folder : str
        Its folder of spilled data and temporary files.
    semaphores : str
        Name of its semaphores.
    status : int
        Its exit status.
    """
    own = os.getpid()
    if os.getpgrp() == own:
        for entry in Path("/proc").iterdir():
            with suppress(ValueError, ProcessLookupError):  # no process, or one that has ended meanwhile
                pid = int(entry.name)
                if pid != own and os.getpgid(pid) == own:
                    os.kill(pid, signal.SIGKILL)
    shutil.rmtree(folder, ignore_errors=True)
    remove_semaphores(semaphores)
    os._exit(status)
