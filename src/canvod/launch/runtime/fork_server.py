"""A fork server that shares what this process has imported.

The nanny and the worker that it watches import the same packages, which is most of the time that the start of
a worker takes, on the one core that it may have. `multiprocessing` starts its fork server as a fresh
interpreter. Here it is a fork of this process, made after the imports and before there is any thread or event
loop, which is when a fork is safe; every worker process is then a fork of that one.
"""

from __future__ import annotations

import os
import socket
from multiprocessing import connection, forkserver, resource_tracker
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

AUTHKEY_BYTES = 32
"""Length of the key that clients of the server show it."""


def share_imports(folder: Path | None = None) -> bool:
    """Make a fork of this process the server that `multiprocessing` forks new processes from.

    To be called once, before any thread is started. `multiprocessing` has no interface for it: where its
    inner workings are not the known ones (Python 3.12 to 3.14), it is left to start a server of its own.

    Parameters
    ----------
    folder : pathlib.Path, optional
        Where the server's socket is to be, a folder of this user's alone; by default among the temporary
        files.

    Returns
    -------
    bool
        Whether the server shares the imports of this process.

    Raises
    ------
    OSError
        If the folder cannot be opened, or the socket cannot be made in it.
    """
    server = getattr(forkserver, "_forkserver", None)
    known = ("_forkserver_address", "_forkserver_alive_fd", "_forkserver_pid")
    if server is None or not all(hasattr(server, name) for name in known):
        return False
    resource_tracker.ensure_running()
    address = (
        connection.arbitrary_address("AF_UNIX")  # type: ignore[attr-defined]
        if folder is None
        # By an open folder and not by its name: the address of a socket holds 107 bytes.
        else f"/proc/self/fd/{os.open(folder, os.O_RDONLY | os.O_DIRECTORY)}/fork-{os.getpid()}"
    )
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    os.chmod(address, 0o600)  # noqa: PTH101 - an address is no Path
    listener.listen()
    state: dict[str, object] = {"_forkserver_address": address}
    options: dict[str, Any] = {}
    if hasattr(server, "_forkserver_authkey"):  # since Python 3.14
        key = os.urandom(AUTHKEY_BYTES)
        options["authkey_r"], authkey_w = os.pipe()
        os.write(authkey_w, key)
        os.close(authkey_w)
        state["_forkserver_authkey"] = key
    # The server ends when nobody holds the other end of this pipe any more.
    alive_r, alive_w = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(alive_w)
        try:
            forkserver.main(listener.fileno(), alive_r, [], **options)
        finally:
            os._exit(0)
    for descriptor in (alive_r, *options.values()):
        os.close(descriptor)
    listener.close()
    vars(server).update(state, _forkserver_alive_fd=alive_w, _forkserver_pid=pid)
    return True
