"""``canvod-launch run``: a cluster for the length of one command."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from canvod.launch.cli.console import say, warn
from canvod.launch.cli.options import (
    BackendOption,
    ConfigOption,
    MemoryOption,
    ReadOnlyOption,
    WorkersOption,
    WritableOption,
    read_settings,
    require_paths,
)

if TYPE_CHECKING:
    from canvod.launch.plan.model import ClusterPlan

OLDEST_PYTHON = (3, 12)
"""Of which there can be images."""


def run(
    command: Annotated[list[str], typer.Argument(metavar="-- COMMAND…", help="Program and arguments.")],
    config: ConfigOption = None,
    backend: BackendOption = None,
    workers: WorkersOption = None,
    memory: MemoryOption = None,
    read_only: ReadOnlyOption = None,
    writable: WritableOption = None,
) -> int:
    """Start a cluster, run a command with it, and remove the cluster.

    The command has the cluster's address and keys in its environment, so that a bare distributed.Client()
    connects. The exit status is the command's; 128 + n if signal n ended it. A command that does not exist
    (127) or cannot be executed (126) is refused at once. Workers see the current folder, read only, unless it
    is, or holds, a home.

    Examples
    --------
    $ canvod-launch run -- python analysis.py --year 2025
    $ canvod-launch run --read-only /data --writable /data/stores -- python ingest.py
    $ canvod-launch run --workers 4 --memory 16 -- jupyter lab
    $ canvod-launch run --backend process -- python -c 'import distributed; distributed.Client()'
    """
    require_paths(read_only, writable)
    from canvod.launch.child import find_program, python_of, run_child
    from canvod.launch.cli.progress_bars import show_build
    from canvod.launch.manager import DaskClusterManager

    program = find_program(command[0])
    found = python_of(program)
    has_images = found is not None and tuple(map(int, found.split("."))) >= OLDEST_PYTHON
    settings = read_settings(config, workers=workers, memory=memory, fields={"launch.backend": backend})
    with show_build() as build_progress:
        manager = DaskClusterManager(
            settings,
            read_only=read_only or (),
            writable=writable or (),
            progress=say,
            build_progress=build_progress,
            before_start=lambda plan: _compare_pythons(plan, program, found),
            client_python=found if has_images else None,
        )
    with manager:
        say(f"dashboard: {manager.dashboard_link}")
        return run_child([program, *command[1:]], os.environ | manager.environment())


def _compare_pythons(plan: ClusterPlan, program: str, found: str | None) -> None:
    """Warn before the start of what would fail later without a reason."""
    from canvod.launch.host.python_version import own_python

    theirs = plan.python if plan.backend == "docker" else own_python()
    if plan.backend == "remote" or found in {None, theirs}:
        return
    remedy = "leave launch.python out" if plan.backend == "docker" else f"use {sys.executable}"
    warn(
        f"{program} is Python {found}, and the workers have {theirs}: they run functions that they can "
        f"import, and crash on those that your program defines itself. To have the same Python, {remedy}."
    )
