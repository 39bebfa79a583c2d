"""Options that several commands share, and the settings that come of them."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from canvod.launch.cli.console import say, warn
from canvod.launch.paths import require_present

if TYPE_CHECKING:
    from canvod.launch.config import Settings

DEFAULT_NAME: Final = "canvod"
"""Name of a detached cluster that was given none."""

DEFAULT_FILE: Final = Path("config/processing.yaml")
"""The settings file that a command takes where none is named and this one is there."""

_CONFIG_HELP: Final = f"Settings file; else ./{DEFAULT_FILE} where it is there."
_NAME_HELP: Final = "Name of the cluster; else your only one."

ConfigArgument = Annotated[Path | None, typer.Argument(metavar="FILE", help=_CONFIG_HELP)]
"""The settings file of a command."""

ConfigOption = Annotated[Path | None, typer.Option("--config", "-c", metavar="FILE", help=_CONFIG_HELP)]
"""The same, as an option."""

BackendOption = Annotated[
    str | None, typer.Option(metavar="auto|docker|process", help="Containers or processes.")
]
"""What a new cluster is made of."""

WorkersOption = Annotated[
    int | None, typer.Option(metavar="N", help="Number of workers; makes the mode manual.")
]
"""How many workers a new cluster has."""

MemoryOption = Annotated[
    float | None,
    typer.Option(
        metavar="GIB", help="Memory limit of all workers together, in GiB (processing.max_memory_gb)."
    ),
]
"""How much memory the workers of a new cluster may use."""

ReadOnlyOption = Annotated[
    list[Path] | None, typer.Option(metavar="PATH", help="Path that workers may read; may be repeated.")
]
"""What the workers of a new cluster see."""

WritableOption = Annotated[
    list[Path] | None,
    typer.Option(metavar="PATH", help="Path that workers may read and write; may be repeated."),
]
"""What the workers of a new cluster see and change."""

IdleTimeoutOption = Annotated[
    float | None,
    typer.Option(metavar="SECONDS", min=1, help="Stop after so long without a task; else never."),
]
"""How long a detached cluster may have nothing to do."""

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on standard output, also of an error.")]
"""JSON instead of text for people."""

NameOption = Annotated[str | None, typer.Option(metavar="NAME", help=_NAME_HELP)]
"""The detached cluster of a command."""

NameArgument = Annotated[str | None, typer.Argument(metavar="NAME", help=_NAME_HELP)]
"""The same, as an argument."""


def require_paths(*paths: list[Path] | None) -> None:
    """Refuse options that name what is not there, before imports that take a second.

    Parameters
    ----------
    *paths : list of Path or None
        ``--read-only`` and ``--writable``. What may not be looked at is refused with the plan.

    Raises
    ------
    InputError
        If there is none at one of them.
    """
    for path in (each for given in paths for each in given or ()):
        with suppress(OSError):
            require_present(path)


def read_settings(
    config: Path | None,
    *,
    workers: int | None = None,
    memory: float | None = None,
    fields: Mapping[str, Any] | None = None,
    announce: bool = True,
) -> Settings:
    """Load the settings of a command.

    Parameters
    ----------
    config : Path, optional
        The settings file that was named; else :data:`DEFAULT_FILE` is taken where it is there.
    workers : int, optional
        The option ``--workers``; makes the mode manual.
    memory : float, optional
        The option ``--memory``, in GiB.
    fields : Mapping of str to value, optional
        Further options by dotted field, such as ``launch.backend``; a None is not given.
    announce : bool, default: True
        Set up the log, and say on stderr where the settings come from, and what is wrong with them.

    Returns
    -------
    Settings
        The settings.

    Raises
    ------
    ConfigError
        If the settings cannot be used.
    """
    from canvod.launch.config import load_settings
    from canvod.launch.logs import configure_logging

    if config is None and DEFAULT_FILE.is_file():
        config = DEFAULT_FILE
    overrides = {
        "processing.resource_mode": None if workers is None else "manual",
        "processing.n_max_threads": workers,
        "processing.max_memory_gb": memory,
    }
    settings = load_settings(config, overrides=overrides | dict(fields or {}))
    if announce:
        configure_logging(settings.launch.log_format, settings.launch.log_level)
        say(f"settings: {source_of(settings)}")
        for warning in settings.warnings:
            warn(warning)
    return settings


def source_of(settings: Settings) -> str:
    """Name the file that settings come from.

    Parameters
    ----------
    settings : Settings
        The settings.

    Returns
    -------
    str
        The file as the caller named it; a text that says so where there was none.
    """
    return settings.provenance.source or "defaults and environment; no file"
