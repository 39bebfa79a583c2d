"""``canvod-launch run``: a cluster for the length of one command."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from canvod.launch.cli.options import (
    BackendOption,
    ConfigOption,
    ReadOnlyOption,
    WorkersOption,
    WritableOption,
    examples,
)

if TYPE_CHECKING:
    from rich.console import Console

    from canvod.launch.plan.model import ClusterPlan


OLDEST_PYTHON = (3, 12)
"""Of which there can be images."""


def register(app: typer.Typer) -> None:
    """Add the command to the application.

    Parameters
    ----------
    app : typer.Typer
        The application.
    """
    app.command(
        "run",
        help="Start a cluster, run a command with its address and keys in the environment, so that a bare "
        "distributed.Client() connects, and remove the cluster. The exit status is the command's; 128 + n if "
        "signal n killed it. What is not there (127) or cannot be executed (126) is refused at once. Workers "
        "see the current folder, read only, unless it is, or holds, a home.",
        epilog=examples(
            "canvod-launch run -- python analysis.py --year 2025",
            "canvod-launch run --read-only /data --writable /data/stores -- python ingest.py",
            "canvod-launch run --workers 4 -- jupyter lab",
            "canvod-launch run --backend process -- python -c 'import distributed; distributed.Client()'",
        ),
        context_settings={"allow_interspersed_args": False},
    )(run)


def run(
    command: Annotated[
        list[str],
        typer.Argument(metavar="-- COMMAND…", help="Program and arguments.", show_default=False),
    ],
    config: ConfigOption = None,
    backend: BackendOption = None,
    workers: WorkersOption = None,
    read_only: ReadOnlyOption = None,
    writable: WritableOption = None,
) -> int:
    """Run a command with a cluster."""
    from rich.console import Console

    from canvod.launch.child import find_program, python_of, run_child
    from canvod.launch.cli.session import read_settings, say, workers_fields
    from canvod.launch.images.build_progress import shown
    from canvod.launch.manager import DaskClusterManager

    program = find_program(command[0])
    found = python_of(program)
    settings = read_settings(config, {"launch.backend": backend} | workers_fields(workers))
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    with shown(console) as build_progress:
        manager = DaskClusterManager(
            settings,
            read_only=read_only or (),
            writable=writable or (),
            progress=lambda line: say(console, line),
            build_progress=build_progress,
            before_start=lambda plan: _compare_pythons(console, plan, program, found),
            client_python=found if found is not None and _is_supported(found) else None,
        )
    with manager:
        say(console, f"dashboard: {manager.dashboard_link}")
        return run_child([program, *command[1:]], os.environ | manager.environment())


def _is_supported(python: str) -> bool:
    """Tell whether images can have a Python."""
    return tuple(map(int, python.split("."))) >= OLDEST_PYTHON


def _compare_pythons(console: Console, plan: ClusterPlan, program: str, found: str | None) -> None:
    """Warn before the start of what would fail later, and not say why."""
    from canvod.launch.cli.session import warn
    from canvod.launch.host.python_version import own_python

    theirs = plan.python if plan.backend == "docker" else own_python()
    if plan.backend == "remote" or found in {None, theirs}:
        return
    remedy = "leave launch.python out" if plan.backend == "docker" else f"use {sys.executable}"
    warn(
        console,
        f"{program} is Python {found}, and the workers have {theirs}: they run functions that they can "
        f"import, and die of those that your program defines itself. To have the same Python, {remedy}.",
    )
