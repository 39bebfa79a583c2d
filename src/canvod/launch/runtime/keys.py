"""The keys of one container: read from a folder, or received on standard input and kept in memory.

A launcher hands each container its keys through the container's standard input, so that they are in no file
of the host, no environment variable, no label and no log. Where a folder holds them already (``docker
compose``), standard input is left alone.
"""

from __future__ import annotations

import json
import os
import select
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pathlib import Path

    from distributed.security import Security

CA: Final = "ca.pem"
CERTIFICATE: Final = "cert.pem"
KEY: Final = "key.pem"
STATE: Final = "state.json"
"""What else the scheduler keeps: plan and keys of its cluster."""

CONFIRM: Final = "confirm_within_s"
"""In that: the scheduler ends unless it is told within so many seconds that the start is finished."""

RECEIVE_TIMEOUT_S = 60.0
"""How long to wait for the keys on standard input."""


class KeysMissingError(Exception):
    """No keys are in the folder, and none came on standard input."""


def obtain_keys(folder: Path, timeout_s: float = RECEIVE_TIMEOUT_S) -> None:
    """Make sure that a folder holds the keys of this container.

    Parameters
    ----------
    folder : pathlib.Path
        Where they are or belong: a tmpfs that only this container has, or a volume that is filled already.
    timeout_s : float
        How long to wait for more of a line of JSON on standard input, an object with a text for each file's
        name; in seconds.

    Raises
    ------
    KeysMissingError
        If the folder does not hold them, and no whole line has come.
    OSError
        If they cannot be written.
    """
    if all((folder / name).is_file() for name in (CA, CERTIFICATE, KEY)):
        return
    line = _read_line(timeout_s)
    if not line:
        raise KeysMissingError(
            f"no keys in {folder} and none on standard input: this container is started by canvod-launch, "
            "or by docker compose up, which makes keys first"
        )
    write_keys(folder, json.loads(line))


def _read_line(timeout_s: float) -> bytes:
    """Read up to the first end of line, or what came until the other side was closed."""
    received = b""
    try:
        while not received.endswith(b"\n") and select.select([sys.stdin.fileno()], [], [], timeout_s)[0]:
            if not (piece := os.read(sys.stdin.fileno(), 65536)):
                break
            received += piece
    except (OSError, ValueError):
        return b""
    return received if received.endswith(b"\n") else b""


def write_keys(folder: Path, files: dict[str, str]) -> None:
    """Write files that nobody but their owner can read.

    Parameters
    ----------
    folder : pathlib.Path
        An existing folder.
    files : dict of str to str
        Texts by file name.

    Raises
    ------
    OSError
        If there is no such folder, no room, or no right to write.
    """
    for name, text in files.items():
        descriptor = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)


def security(folders: Path | Mapping[str, Path]) -> Security:
    """Give Dask the keys in folders; nothing unencrypted is accepted or sent.

    Parameters
    ----------
    folders : pathlib.Path or mapping of str to pathlib.Path
        Holds ``ca.pem``, ``cert.pem`` and ``key.pem``: one folder for every role that this process plays,
        since a task may be a client of its own cluster, or one for each of the roles ``scheduler``,
        ``worker`` and ``client``.

    Returns
    -------
    distributed.security.Security
        What Dask's servers and clients take; they read the files when they start or connect.
    """
    from canvod.launch.runtime.security import IndependentSecurity

    if not isinstance(folders, Mapping):
        folders = dict.fromkeys(("scheduler", "worker", "client"), folders)
    roles: dict[str, Any] = {}
    for role, folder in folders.items():
        roles |= {
            "tls_ca_file": str(folder / CA),
            f"tls_{role}_cert": str(folder / CERTIFICATE),
            f"tls_{role}_key": str(folder / KEY),
        }
    return IndependentSecurity(require_encryption=True, **roles)
