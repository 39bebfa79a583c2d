"""``canvod-launch prune``: remove orphans of clusters and launchers that have ended."""

from __future__ import annotations

from contextlib import closing

from canvod.launch.cli.console import print_result
from canvod.launch.cli.options import JsonOption


def prune(json_output: JsonOption = False) -> None:
    """Remove what launchers that were killed, and detached clusters that have ended, left behind.

    Containers, networks, volumes, keys and spilled data of yours; nothing that is in use. Every start does
    the same.

    Examples
    --------
    $ canvod-launch prune
    $ canvod-launch prune --json
    """
    from canvod.launch.cluster.orphans import prune_engine, prune_host
    from canvod.launch.docker.engine import EngineAbsentError, connect
    from canvod.launch.errors import LaunchError

    removed = prune_host()
    try:
        with closing(connect()) as client:
            removed += prune_engine(client)
    except EngineAbsentError:
        pass  # then there are no containers either
    except LaunchError as error:
        if removed:
            error.add_note(f"Removed: {', '.join(removed)}.")
        raise
    lines = [f"removed {item}" for item in removed] or ["there was nothing to remove"]
    print_result({"removed": removed}, "\n".join(lines), as_json=json_output)
