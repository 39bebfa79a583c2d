"""What several commands do before their work: load the settings, connect to the engine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from canvod.launch.cli.console import say, warn

if TYPE_CHECKING:
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
        The command's own options by dotted field, such as ``launch.backend``; a None is not given.

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

    settings = load_settings(choose_file(config), overrides=overrides)
    configure_logging(settings.launch.log_format, settings.launch.log_level)
    say_source(settings)
    return settings


def source_of(settings: Settings) -> str:
    """Name the file that settings come from."""
    return settings.provenance.source or "defaults and environment; no file"


def say_source(settings: Settings) -> None:
    """Write the settings' file and warnings to stderr."""
    say(f"settings: {source_of(settings)}")
    for warning in settings.warnings:
        warn(warning)


def resource_fields(workers: int | None, memory_gb: float | None) -> dict[str, Any]:
    """Name the fields that ``--workers`` and ``--memory`` set, as `read_settings` takes them.

    Parameters
    ----------
    workers : int, optional
        Number of workers; makes the mode manual.
    memory_gb : float, optional
        Memory of all workers together in GiB.
    """
    return {
        "processing.resource_mode": None if workers is None else "manual",
        "processing.n_max_threads": workers,
        "processing.max_memory_gb": memory_gb,
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
