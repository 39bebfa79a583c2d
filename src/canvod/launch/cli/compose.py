"""``canvod-launch compose``: write the plan of this host as a file for ``docker compose``."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from canvod.launch.cli.options import ConfigOption, examples

NAME = "pinned"
"""Name of the cluster, unless another is given: it keeps clear of what compose.yaml starts."""


def register(app: typer.Typer) -> None:
    """Add the command to the application.

    Parameters
    ----------
    app : typer.Typer
        The application.
    """
    app.command(
        "compose",
        help="Print a file for docker compose (version 2) that starts the planned cluster and leaves it "
        "detached: one service a worker, each on cores of its own, which compose.yaml cannot give. The "
        "containers are those that canvod-launch itself starts. Nothing is started.",
        epilog=examples(
            "canvod-launch compose --config config/processing.yaml > compose.pinned.yaml",
            "docker compose --file compose.pinned.yaml up --detach",
        ),
    )(compose)


def compose(
    config: ConfigOption = None,
    name: Annotated[
        str, typer.Option(metavar="NAME", help="Name of the cluster, part of its containers' names.")
    ] = NAME,
) -> None:
    """Write the plan of this host as a file for docker compose."""
    from rich.console import Console

    from canvod.launch.cli.session import read_settings, warn
    from canvod.launch.cluster.host_paths import make_mounts
    from canvod.launch.detached.compose_file import compose_notes, compose_text
    from canvod.launch.docker.engine import probe_engine
    from canvod.launch.host.detect import read_inventory
    from canvod.launch.host.python_version import installed_version, own_python
    from canvod.launch.images.selection import image_namer
    from canvod.launch.plan.planner import make_plan

    settings = read_settings(config)
    plan = make_plan(
        settings,
        read_inventory(),
        backend="docker",
        name=name,
        python=own_python(),
        version=installed_version(),
        engine=probe_engine(),
        mounts=make_mounts(settings.launch.read_only, settings.launch.writable),
        image_for=image_namer(settings),
        environ=os.environ,
        detached=True,
    )
    source = settings.provenance.source
    text = compose_text(plan, settings_file=None if source is None else os.path.abspath(source))  # noqa: PTH100
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    # Warnings of the settings themselves have been said.
    notes = [
        note.text for note in plan.notes if note.level == "warning" and note.text not in settings.warnings
    ]
    for note in (*notes, *compose_notes(plan)):
        warn(console, note)
    typer.echo(text, nl=False)
