"""Keys of a cluster that ``docker compose`` runs: made once, one volume for each role.

The program of a container that ends before the others start:
``python -m canvod.launch.detached.key_volumes FOLDER``. It needs no root: any user may write the volumes'
folders, and only the user of all containers may read the files.
"""

from __future__ import annotations

import sys
from pathlib import Path

from canvod.launch.cluster.tls import ROLES, make_keys
from canvod.launch.errors import KeysError
from canvod.launch.runtime.keys import CA, CERTIFICATE, KEY, write_keys


def fill_volumes(top: Path, cluster: str) -> bool:
    """Make keys where there are none; files that are missing, or of two authorities, have all replaced.

    Parameters
    ----------
    top : pathlib.Path
        Holds a folder for each role.
    cluster : str
        Name of the cluster, which certificates show.

    Returns
    -------
    bool
        Whether they were made now.

    Raises
    ------
    KeysError
        If a folder is missing, has no room, or belongs to another user's cluster.
    """
    try:
        if _complete(top):
            return False
        keys = make_keys(cluster)
        for role in ROLES:
            write_keys(top / role, keys.files(role))
    except PermissionError as error:
        raise KeysError(
            f"{error.filename} is another user's: the keys were made with another CANVOD_USER.",
            hint="set CANVOD_USER in .env as it was, or remove the volumes with what they hold: "
            "docker compose down --volumes",
        ) from error
    except OSError as error:
        raise KeysError(
            f"The keys cannot be written to {error.filename or top}: {error.strerror or error}.",
            hint="make room on the engine's disk; docker compose down --volumes starts anew",
        ) from error
    return True


def _complete(top: Path) -> bool:
    """Whether every role has its files, and all the same authority."""
    files = [top / role / name for role in ROLES for name in (CA, CERTIFICATE, KEY)]
    # Read, not only looked at: what cannot be read here cannot be read by scheduler and workers either.
    texts = {path: path.read_text() if path.exists() else "" for path in files}
    return all(texts.values()) and len({texts[top / role / CA] for role in ROLES}) == 1


def main(arguments: list[str] | None = None) -> int:
    """Fill the volumes below a folder, and print whether keys were made.

    Parameters
    ----------
    arguments : list of str, optional
        The folder; the command line of this process by default.

    Returns
    -------
    int
        Exit status: 0 where all keys are there, else 1.
    """
    top = Path((sys.argv[1:] if arguments is None else arguments)[0])
    try:
        made = fill_volumes(top, "docker compose")
    except KeysError as error:
        sys.stderr.write(f"error: {error.message}\n  to do: {error.hint}\n")
        return 1
    sys.stdout.write("keys made\n" if made else "keys are there\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
