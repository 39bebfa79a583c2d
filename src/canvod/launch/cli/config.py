"""``canvod-launch config``: check settings, and print their schema."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from canvod.launch.cli.options import JsonOption, examples

if TYPE_CHECKING:
    from canvod.launch.config import Settings


def register(app: typer.Typer) -> None:
    """Add the commands to the application.

    Parameters
    ----------
    app : typer.Typer
        The application.
    """
    group = typer.Typer(no_args_is_help=True, rich_markup_mode="rich")
    group.command(
        "check",
        help="Check settings and show every value with the place it comes from. Nothing is started.",
        epilog=examples(
            "canvod-launch config check",
            "canvod-launch config check lab.yaml",
            "CANVOD_PROCESSING__NICE_PRIORITY=10 canvod-launch config check",
            "canvod-launch config check lab.yaml --json | jq .warnings",
        ),
    )(check)
    group.command(
        "schema",
        help="Print the JSON Schema of a settings file, for editors.",
        epilog=examples(
            "canvod-launch config schema > config/schema.json",
            "sed -i '1i # yaml-language-server: $schema=schema.json' config/processing.yaml",
        ),
    )(schema)
    app.add_typer(group, name="config", help="Check settings, and print their schema.")


def check(
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE",
            help="Settings file; else ./config/processing.yaml where it is there.",
            show_default=False,
        ),
    ] = None,
    json_output: JsonOption = False,
) -> None:
    """Check settings and show every value with the place it comes from."""
    from canvod.launch.cli.session import choose_file, say_where_from
    from canvod.launch.config import load_settings

    settings = load_settings(choose_file(file))
    if json_output:
        typer.echo(json.dumps(_as_json(settings), indent=2))
        return
    say_where_from(settings)
    _print_table(settings)


def schema() -> None:
    """Print the JSON Schema of a settings file."""
    from canvod.launch.config import json_schema

    typer.echo(json.dumps(json_schema(), indent=2))


def _values(settings: Settings) -> dict[str, Any]:
    from canvod.launch.config import field_names

    values = {}
    for name in field_names():
        value: Any = settings
        for part in name.split("."):
            value = getattr(value, part)
        values[name] = value
    return values


def _as_json(settings: Settings) -> dict[str, Any]:
    from canvod.launch.config import without_secrets

    fields = {}
    for name in _values(settings):
        origin = settings.origin(name)
        fields[name] = {"from": origin.kind, "place": origin.place, "file": origin.file, "line": origin.line}
    return {
        "file": settings.provenance.source,
        "warnings": list(settings.warnings),
        "settings": without_secrets(settings),
        "origins": fields,
    }


def _print_table(settings: Settings) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from canvod.launch.config import shown

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("Field", no_wrap=True)
    table.add_column("Value", overflow="fold")
    table.add_column("From", overflow="fold")
    section = None
    for name, value in _values(settings).items():
        above, _, field = name.rpartition(".")
        if above != section:
            table.add_row(Text(f"{above}:", style="bold"))
            section = above
        origin = settings.origin(name)
        style = "dim" if origin.kind == "default" else ""
        place = str(origin).removeprefix("environment variable ")
        table.add_row(Text(f"  {field}", style), Text(shown(name, value), style), Text(place, style))
    Console().print(table)
