"""``canvod-launch prune``: remove what launchers left behind that are dead."""

from __future__ import annotations

import json

import typer

from canvod.launch.cli.options import JsonOption, examples


def register(app: typer.Typer) -> None:
    """Add the command to the application.

    Parameters
    ----------
    app : typer.Typer
        The application.
    """
    app.command(
        "prune",
        help="Remove what dead launchers, and detached clusters that have ended, left behind: containers, "
        "networks, volumes, keys and spilled data of yours. Every start does the same. What is in use is "
        "left alone.",
        epilog=examples("canvod-launch prune", "canvod-launch prune --json"),
    )(prune)


def prune(json_output: JsonOption = False) -> None:
    """Remove what is left of dead clusters."""
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
        pass  # then containers have left nothing behind
    except LaunchError as error:
        if removed:
            error.add_note(f"Removed: {', '.join(removed)}.")
        raise
    if json_output:
        typer.echo(json.dumps({"removed": removed}, indent=2))
        return
    for item in removed:
        typer.echo(f"removed {item}")
    if not removed:
        typer.echo("nothing was left behind")
