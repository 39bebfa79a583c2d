"""``canvod-launch config``: check settings, and print their schema."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from canvod.launch.cli.options import JsonOption

if TYPE_CHECKING:
    from rich.table import Table

    from canvod.launch.config import Settings


def check(
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE",
            help="Settings file; else ./config/processing.yaml where it is there.",
        ),
    ] = None,
    json_output: JsonOption = False,
) -> None:
    """Check settings and show every value with the place it comes from. Nothing is started.

    Examples
    --------
    $ canvod-launch config check
    $ canvod-launch config check lab.yaml
    $ CANVOD_PROCESSING__NICE_PRIORITY=10 canvod-launch config check
    $ canvod-launch config check lab.yaml --json | jq .warnings
    """
    from canvod.launch.cli.console import print_json, results
    from canvod.launch.cli.session import choose_file, say_source
    from canvod.launch.config import load_settings

    settings = load_settings(choose_file(file))
    if json_output:
        print_json(_as_json(settings))
        return
    say_source(settings)
    results().print(_table(settings))


def schema() -> None:
    """Print the JSON Schema of a settings file, for editors.

    Examples
    --------
    $ canvod-launch config schema > config/schema.json
    $ sed -i '1i # yaml-language-server: $schema=schema.json' config/processing.yaml
    """
    from canvod.launch.cli.console import print_json
    from canvod.launch.config import json_schema

    print_json(json_schema())


def _as_json(settings: Settings) -> dict[str, Any]:
    from canvod.launch.config import field_names, without_secrets

    origins = {}
    for name in field_names():
        origin = settings.origin(name)
        origins[name] = {"from": origin.kind, "place": origin.place, "file": origin.file, "line": origin.line}
    return {
        "file": settings.provenance.source,
        "warnings": list(settings.warnings),
        "settings": without_secrets(settings),
        "origins": origins,
    }


def _table(settings: Settings) -> Table:
    from operator import attrgetter

    from rich.table import Table
    from rich.text import Text

    from canvod.launch.config import field_names, shown

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("Field", no_wrap=True)
    table.add_column("Value", overflow="fold")
    table.add_column("From", overflow="fold")
    section = None
    for name in field_names():
        above, _, field = name.rpartition(".")
        if above != section:
            table.add_row(Text(f"{above}:", style="bold"))
            section = above
        origin = settings.origin(name)
        style = "dim" if origin.kind == "default" else ""
        value = shown(name, attrgetter(name)(settings))
        place = str(origin).removeprefix("environment variable ")
        table.add_row(Text(f"  {field}", style), Text(value, style), Text(place, style))
    return table
