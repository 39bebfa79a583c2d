"""``canvod-launch prune``: remove orphans of clusters and launchers that have ended."""

from __future__ import annotations

import typer

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
    from canvod.launch.cli.console import print_json
    from canvod.launch.cli.session import engine
    from canvod.launch.cluster.prune import prune_host
    from canvod.launch.docker.engine import EngineAbsentError
    from canvod.launch.docker.orphans import prune_engine
    from canvod.launch.errors import LaunchError

    removed = prune_host()
    try:
        with engine() as client:
            removed += prune_engine(client)
    except EngineAbsentError:
        pass  # then there are no containers either
    except LaunchError as error:
        if removed:
            error.add_note(f"Removed: {', '.join(removed)}.")
        raise
    if json_output:
        print_json({"removed": removed})
        return
    for item in removed:
        typer.echo(f"removed {item}")
    if not removed:
        typer.echo("there was nothing to remove")
