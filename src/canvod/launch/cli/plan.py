"""``canvod-launch plan``: show what would be started on this host, and start nothing."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from canvod.launch.cli.console import results
from canvod.launch.cli.options import (
    DEFAULT_NAME,
    ConfigOption,
    IdleTimeoutOption,
    JsonOption,
    MemoryOption,
    ReadOnlyOption,
    WorkersOption,
    WritableOption,
    read_settings,
    source_of,
)

if TYPE_CHECKING:
    from canvod.launch.config import Settings
    from canvod.launch.host.inventory import EngineInventory
    from canvod.launch.plan.model import BackendName, ClusterPlan


def plan(  # noqa: PLR0917 - typer gives them by name
    config: ConfigOption = None,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Name of the cluster; else what a start would take.")
    ] = None,
    detached: Annotated[
        bool,
        typer.Option(
            "--detached",
            help="Plan what canvod-launch up starts, instead of a cluster that ends with its program.",
        ),
    ] = False,
    workers: WorkersOption = None,
    memory: MemoryOption = None,
    read_only: ReadOnlyOption = None,
    writable: WritableOption = None,
    idle_timeout: IdleTimeoutOption = None,
    json_output: JsonOption = False,
) -> None:
    """Show what would be started on this host, and start nothing.

    Cores, memory, priority, and who owns which core. What does not fit is refused as it would be at a start.
    Values of launch.environment, which may be secrets, are hidden.

    Examples
    --------
    $ canvod-launch plan
    $ canvod-launch plan --config lab.yaml
    $ CANVOD_LAUNCH__BACKEND=process canvod-launch plan
    $ canvod-launch plan --workers 4 --memory 16
    $ canvod-launch plan --json | jq '.workers[].cpuset_cpus'
    $ canvod-launch plan --detached --name lab --read-only /data --json
    """
    from canvod.launch.cli.plan_view import plan_json
    from canvod.launch.cluster.host_paths import make_mounts, require_mounts
    from canvod.launch.cluster.preparation import StartRequest, plan_request

    settings = read_settings(config, workers=workers, memory=memory, announce=False)
    if idle_timeout is not None and not detached:
        raise typer.BadParameter(
            "only a detached cluster has it; add --detached", param_hint="--idle-timeout"
        )
    request = StartRequest(
        settings=settings,
        # Each start of a cluster that ends with its program makes up a name.
        name=name or (DEFAULT_NAME if detached else "plan"),
        detached=detached,
        idle_timeout_s=idle_timeout,
        mounts=make_mounts(read_only or (), writable or ()),
        current_folder=not detached,
    )
    if detached:
        from canvod.launch.cluster.preparation import require_containers
        from canvod.launch.docker.engine import require_engine

        require_containers(settings)
        reason = "containers that run until canvod-launch down"
        result = plan_request(request, "docker", require_engine())
    else:
        backend, reason, engine = _choose(settings)
        result = plan_request(request, backend, engine)
    if result.backend == "docker":
        require_mounts(result)
    if json_output:
        typer.echo(plan_json(result, hidden=settings.launch.environment))
    else:
        _print(settings, result, reason)


def _choose(settings: Settings) -> tuple[BackendName, str, EngineInventory | None]:
    """Choose the backend as a start would, and say why."""
    if settings.processing.scheduler_address is None and find_spec("distributed") is None:
        return "pool", "a process pool: Dask is not installed", None
    from canvod.launch.cluster.preparation import choose_backend

    choice = choose_backend(settings)
    return choice.backend, choice.reason, choice.engine


def _print(settings: Settings, plan: ClusterPlan, reason: str) -> None:
    from canvod.launch.cli.plan_view import core_drawing, plan_notes, plan_table
    from canvod.launch.host.detect import read_inventory

    console = results()
    console.print(Text(f"Settings   {source_of(settings)}"))
    console.print(Text(f"Backend    {reason}"))
    if plan.backend != "remote":
        python = f", Python {plan.python}" if plan.backend == "docker" else ""
        count = "1 worker" if len(plan.workers) == 1 else f"{len(plan.workers)} workers"
        console.print(Text(f"Workers    {count}, resource_mode {plan.resource_mode}{python}"))
        console.print()
        console.print(plan_table(plan))
        console.print()
        console.print(core_drawing(plan, read_inventory(), console.width))
    console.print()
    console.print(plan_notes(plan))
