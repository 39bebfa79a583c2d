"""``canvod-launch config``: check settings, and print their schema."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from canvod.launch.cli.console import print_json, print_result
from canvod.launch.cli.options import ConfigArgument, JsonOption, read_settings

if TYPE_CHECKING:
    from canvod.launch.config import Settings


def check(file: ConfigArgument = None, json_output: JsonOption = False) -> None:
    """Check settings and show every value with the place it comes from. Nothing is started.

    Examples
    --------
    $ canvod-launch config check
    $ canvod-launch config check lab.yaml
    $ CANVOD_PROCESSING__NICE_PRIORITY=10 canvod-launch config check
    $ canvod-launch config check lab.yaml --json | jq .warnings
    """
    settings = read_settings(file, announce=not json_output)
    print_result(_as_json(settings), _table(settings), as_json=json_output)


def schema() -> None:
    """Print the JSON Schema of a settings file, for editors.

    Examples
    --------
    $ canvod-launch config schema > config/schema.json
    $ sed -i '1i # yaml-language-server: $schema=schema.json' config/processing.yaml
    """
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
    from canvod.launch.config import field_names, shown

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("Field", no_wrap=True)
    for heading in ("Value", "From"):
        table.add_column(heading, overflow="fold")
    section = None
    for name in field_names():
        above, _, field = name.rpartition(".")
        if above != section:
            table.add_row(Text(f"{above}:", style="bold"))
            section = above
        origin = settings.origin(name)
        style = "dim" if origin.kind == "default" else ""
        place = str(origin).removeprefix("environment variable ")
        cells = (f"  {field}", shown(name, attrgetter(name)(settings)), place)
        table.add_row(*(Text(cell, style) for cell in cells))
    return table
