"""``canvod-launch plan``: show what would be started on this host, and start nothing."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated

import typer

from canvod.launch.cli.options import (
    DEFAULT_NAME,
    ConfigOption,
    IdleTimeoutOption,
    JsonOption,
    ReadOnlyOption,
    WorkersOption,
    WritableOption,
    examples,
)

if TYPE_CHECKING:
    from canvod.launch.config import Settings
    from canvod.launch.host.inventory import EngineInventory
    from canvod.launch.plan.model import Backend, ClusterPlan

STAND_IN_NAME = "plan"
"""Name in the plan of a cluster that ends with its program: every start makes up its own."""


def register(app: typer.Typer) -> None:
    """Add the command to the application.

    Parameters
    ----------
    app : typer.Typer
        The application.
    """
    app.command(
        "plan",
        help="Show what would be started on this host: cores, memory, priority, and who owns which core. "
        "Nothing is started, and what does not fit is refused as it would be at a start.",
        epilog=examples(
            "canvod-launch plan",
            "canvod-launch plan --config lab.yaml",
            "CANVOD_LAUNCH__BACKEND=process canvod-launch plan",
            "canvod-launch plan --json | jq '.workers[].cpuset_cpus'",
            "canvod-launch plan --detached --name lab --read-only /data --json",
        ),
    )(plan)


def plan(
    config: ConfigOption = None,
    name: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Name of the cluster; else what a start would take.", show_default=False
        ),
    ] = None,
    detached: Annotated[
        bool,
        typer.Option(
            "--detached",
            help="Plan what canvod-launch up starts, instead of a cluster that ends with its program.",
            show_default=False,
        ),
    ] = False,
    workers: WorkersOption = None,
    read_only: ReadOnlyOption = None,
    writable: WritableOption = None,
    idle_timeout: IdleTimeoutOption = None,
    json_output: JsonOption = False,
) -> None:
    """Show what would be started on this host."""
    from canvod.launch.cli.plan_view import plan_json
    from canvod.launch.cli.session import choose_file, workers_fields
    from canvod.launch.cluster.host_paths import make_mounts, require_mounts
    from canvod.launch.cluster.planning import plan_here
    from canvod.launch.config import load_settings

    settings = load_settings(choose_file(config), overrides=workers_fields(workers))
    mounts = make_mounts(read_only or (), writable or ())
    if detached:
        from canvod.launch.detached.lifecycle import plan_detached

        reason = "containers that stand until canvod-launch down"
        result = plan_detached(settings, name or DEFAULT_NAME, idle_timeout_s=idle_timeout, mounts=mounts)
    elif idle_timeout is not None:
        raise typer.BadParameter(
            "it is for a cluster that stands; add --detached", param_hint="--idle-timeout"
        )
    else:
        backend, reason, engine = _choose(settings)
        result = plan_here(
            settings,
            name or STAND_IN_NAME,
            backend=backend,
            engine=engine,
            mounts=mounts,
            current_folder=True,
        )
        if backend == "docker":
            require_mounts(result)
    if json_output:
        typer.echo(plan_json(result))
    else:
        _print(settings, result, reason)


def _choose(settings: Settings) -> tuple[Backend, str, EngineInventory | None]:
    """Choose the backend as a start would, and say why."""
    if settings.processing.scheduler_address is None and find_spec("distributed") is None:
        return "pool", "a process pool: Dask is not installed", None
    from canvod.launch.cluster.choice import choose_backend

    choice = choose_backend(settings)
    return choice.backend, choice.reason, choice.engine


def _print(settings: Settings, plan: ClusterPlan, reason: str) -> None:
    from rich.console import Console
    from rich.text import Text

    from canvod.launch.cli.plan_view import core_drawing, plan_notes, plan_table
    from canvod.launch.host.detect import read_inventory

    console = Console(highlight=False)
    source = settings.provenance.source or "defaults and environment; no file"
    console.print(Text(f"Settings   {source}"))
    console.print(Text(f"Backend    {reason}"))
    if plan.backend != "remote":
        python = f", Python {plan.python}" if plan.backend == "docker" else ""
        count = "1 worker" if len(plan.workers) == 1 else f"{len(plan.workers)} workers"
        console.print(Text(f"Workers    {count}, resource_mode {plan.resource_mode}{python}"))
        console.print()
        console.print(plan_table(plan))
        console.print()
        console.print(core_drawing(plan, read_inventory()))
    console.print()
    console.print(plan_notes(plan))
