"""``canvod-launch scale``: more and fewer workers of a detached cluster."""

from __future__ import annotations

from contextlib import closing
from typing import Annotated

import typer

from canvod.launch.cli.options import NameOption


def scale(
    workers: Annotated[int, typer.Argument(metavar="N", min=0, help="Number of workers.")],
    name: NameOption = None,
) -> None:
    """Start or stop workers of a detached cluster until there are N, at most as many as its plan has.

    Workers that ended are replaced. Results move to the workers that stay.

    Examples
    --------
    $ canvod-launch scale 2
    $ canvod-launch scale 4 --name lab
    """
    from canvod.launch.detached.scaling import scale_cluster
    from canvod.launch.docker.discovery import choose_cluster, find_clusters
    from canvod.launch.docker.engine import connect

    with closing(connect()) as client:
        cluster = choose_cluster(find_clusters(client), name)
        before, after = scale_cluster(client, cluster, workers)
    plural = "" if before == 1 else "s"
    typer.echo(f"{cluster.name}: {before} worker{plural} before, {after} now")
