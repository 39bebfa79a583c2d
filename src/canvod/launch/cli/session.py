"""What a command does before its work: load the settings, say where they come from, set up the log."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from canvod.launch.config import Settings
    from canvod.launch.docker.engine import Client

DEFAULT_FILE = Path("config/processing.yaml")
"""The file that a command takes where none is named and this one is there."""


def choose_file(config: Path | None) -> Path | None:
    """Choose the settings file of a command.

    Parameters
    ----------
    config : Path, optional
        The file that was named.

    Returns
    -------
    Path or None
        That file, else :data:`DEFAULT_FILE` where it is there, else None.
    """
    if config is not None:
        return config
    return DEFAULT_FILE if DEFAULT_FILE.is_file() else None


def read_settings(config: Path | None, overrides: Mapping[str, Any] | None = None) -> Settings:
    """Load the settings of a command, say on stderr where they come from, and set up the log.

    Parameters
    ----------
    config : Path, optional
        The file of ``--config``.
    overrides : Mapping of str to value, optional
        The command's own options by dotted field, such as ``launch.backend``; None stands for "not given".

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

    file = choose_file(config)
    settings = load_settings(file, overrides=overrides)
    configure_logging(settings.launch.log_format, settings.launch.log_level)
    say_where_from(settings)
    return settings


def workers_fields(workers: int | None) -> dict[str, Any]:
    """Name the fields that ``--workers`` sets, as `read_settings` takes them.

    Parameters
    ----------
    workers : int, optional
        Number of workers.
    """
    return {
        "processing.resource_mode": None if workers is None else "manual",
        "processing.n_max_threads": workers,
    }


@contextmanager
def engine() -> Iterator[Client]:
    """Connect to the Docker engine for the length of a command.

    Yields
    ------
    docker.DockerClient
        The engine.

    Raises
    ------
    EngineError
        If none answers.
    """
    from canvod.launch.docker.engine import connect

    client = connect()
    try:
        yield client
    finally:
        client.close()


def say_where_from(settings: Settings) -> None:
    """Write the settings' file and warnings to stderr.

    Parameters
    ----------
    settings : Settings
        Settings that were loaded.
    """
    from rich.console import Console

    console = Console(stderr=True, soft_wrap=True, highlight=False)
    source = settings.provenance.source
    text = f"Settings: {source}" if source is not None else "Settings: defaults and environment; no file"
    say(console, text)
    for warning in settings.warnings:
        warn(console, warning)


def say(console: Console, text: str) -> None:
    """Write a step of the work, in the background of what matters.

    Parameters
    ----------
    console : rich.console.Console
        Where to.
    text : str
        A line; its first letter becomes a capital.
    """
    from rich.text import Text

    console.print(Text(text[:1].upper() + text[1:], style="dim"))


def warn(console: Console, text: str) -> None:
    """Write a warning.

    Parameters
    ----------
    console : rich.console.Console
        Where to.
    text : str
        The warning.
    """
    from rich.text import Text

    console.print(Text.assemble(("warning: ", "bold yellow"), text))
