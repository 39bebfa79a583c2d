"""``canvod-launch compose``: write the plan of this host as a file for ``docker compose``."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from canvod.launch.cli.console import warn
from canvod.launch.cli.options import ConfigOption, MemoryOption, WorkersOption, read_settings


def compose(
    config: ConfigOption = None,
    name: Annotated[
        str, typer.Option(metavar="NAME", help="Name of the cluster, part of its containers' names.")
    ] = "pinned",
    workers: WorkersOption = None,
    memory: MemoryOption = None,
) -> None:
    """Print a file for docker compose (version 2) that starts the planned cluster detached.

    One service for each worker, each on cores of its own, which compose.yaml cannot give. The containers are
    those that canvod-launch itself starts. Nothing is started. The file has the values of launch.environment
    in clear: where they are secret, let nobody else read it (umask 077).

    Examples
    --------
    $ canvod-launch compose --config config/processing.yaml > compose.pinned.yaml
    $ docker compose --file compose.pinned.yaml up --detach
    """
    from canvod.launch.cluster.preparation import StartRequest, plan_request
    from canvod.launch.detached.compose_file import compose_notes, compose_text
    from canvod.launch.docker.engine import probe_engine

    settings = read_settings(config, workers=workers, memory=memory)
    request = StartRequest(settings=settings, name=name, detached=True)
    plan = plan_request(request, "docker", probe_engine())
    source = settings.provenance.source
    text = compose_text(plan, settings_file=None if source is None else os.path.abspath(source))  # noqa: PTH100
    # Warnings of the settings themselves have been written already.
    notes = [
        note.text for note in plan.notes if note.level == "warning" and note.text not in settings.warnings
    ]
    for note in (*notes, *compose_notes(plan)):
        warn(note)
    if settings.launch.environment:
        warn(
            "The file has the values of launch.environment in clear: let nobody else read it (chmod 600) "
            "where one of them is secret."
        )
    typer.echo(text, nl=False)
