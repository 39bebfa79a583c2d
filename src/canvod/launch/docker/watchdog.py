"""A process that outlives its launcher by a moment, and removes what the launcher could not.

The lease ends the containers that run. It cannot end one that was created and not started yet, nor remove a
network. So every launcher has a watchdog in a session of its own, which waits for the end of a pipe: the
kernel closes it whatever ends the launcher, also SIGKILL. Processes that the launcher has forked may hold it
open, and the lease's connection too; so the watchdog also looks whether it is still the launcher's child.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
import time
from contextlib import closing
from importlib import import_module
from pathlib import Path
from typing import Final

DONE: Final = b"done"
"""What a launcher says that has removed everything itself."""

QUIET_S: Final = 2.0
"""How long nothing may have been there to remove: the engine may be carrying out a last request."""

GIVE_UP_S: Final = 120.0
"""How long to try."""

LAUNCHER_POLL_S: Final = 1.0
"""How often to look whether the launcher is still there."""

IMPORT_AFTER_S: Final = 10.0
"""When to import what the removal needs, so that it begins at once: not while the cluster is starting."""

DISMISSAL_TIMEOUT_S: Final = 5.0


class Watchdog:
    """The watchdog of a cluster, from its launcher's side.

    Parameters
    ----------
    cluster : str
        Name of the cluster.
    keys : pathlib.Path
        Folder of its keys.
    """

    def __init__(self, cluster: str, keys: Path) -> None:
        from canvod.launch.host.owner import owner_mark

        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", __name__, cluster, str(keys), owner_mark()],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def dismiss(self) -> None:
        """End the watchdog: nothing is left to remove. Calling it again does nothing."""
        try:
            self._process.communicate(DONE, timeout=DISMISSAL_TIMEOUT_S)
        except (OSError, ValueError):
            return
        except subprocess.TimeoutExpired:
            self._process.kill()


def main(arguments: list[str]) -> int:
    """Wait for the launcher's end, and remove its cluster unless the launcher has.

    Parameters
    ----------
    arguments : list of str
        Name of the cluster, folder of its keys, and the launcher's mark
        (`canvod.launch.host.owner.owner_mark`).

    Returns
    -------
    int
        Exit status: 0 where nothing is left, 1 where that could not be reached in time.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    cluster, keys, mark = arguments
    os.chdir("/")  # nobody's file system is kept from being unmounted
    if _await_end(int(mark.split("/")[2])) == DONE:
        return 0
    from canvod.launch.host.labels import OWNER_LABEL
    from canvod.launch.host.owner import owner_of

    # Somebody else may have a cluster of the same name meanwhile.
    if owner_of(Path(keys)) == mark:
        shutil.rmtree(keys, ignore_errors=True)
    return _remove(cluster, f"{OWNER_LABEL}={mark}")


def _await_end(launcher: int) -> bytes:
    """Wait for the end of the launcher, or until it says that it is done; return what it has said."""
    said, pipe, started = b"", sys.stdin.fileno(), time.monotonic()
    while said != DONE and os.getppid() == launcher:
        if select.select([pipe], [], [], LAUNCHER_POLL_S)[0]:
            piece = os.read(pipe, len(DONE))
            if not piece:
                break
            said += piece
        elif time.monotonic() - started > IMPORT_AFTER_S:
            import_module("canvod.launch.docker.removal")
    return said


def _remove(cluster: str, launcher: str) -> int:
    from canvod.launch.docker.engine import connect
    from canvod.launch.docker.removal import cluster_label, list_objects, remove_objects
    from canvod.launch.errors import EngineError

    last_seen = started = time.monotonic()
    while time.monotonic() - last_seen < QUIET_S:
        if time.monotonic() - started > GIVE_UP_S:
            return 1
        try:
            with closing(connect()) as client:
                if list_objects(client, cluster_label(cluster), launcher):
                    last_seen = time.monotonic()
                    remove_objects(client, cluster, launcher)
        except EngineError:
            last_seen = time.monotonic()
        time.sleep(0.2)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
