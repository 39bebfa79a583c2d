"""``canvod-launch version``: the versions that matter when something does not fit together."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of
from typing import Any

import typer

from canvod.launch.cli.options import JsonOption

PACKAGES = ("dask", "distributed", "icechunk", "zarr", "xarray", "docker", "canvod-readers")
"""Distributions whose versions are shown; ``docker`` is the SDK."""

_ABSENT = "not installed"


def version(json_output: JsonOption = False) -> None:
    """Show the versions of canvod-launch, of the packages that it uses, and of the Docker engine.

    Examples
    --------
    $ canvod-launch version
    $ canvod-launch version --json | jq -r .distributed
    """
    from canvod.launch.cli.console import print_json

    versions: dict[str, Any] = {
        "canvod-launch": launch_version(),
        "python": platform.python_version(),
        **{name: _installed(name) for name in PACKAGES},
        "engine": _engine(),
    }
    if json_output:
        print_json(versions)
        return
    for name, value in versions.items():
        shown = value if name != "engine" else _engine_text(value)
        typer.echo(f"{name:<15} {_ABSENT if shown is None else shown}")


def launch_version() -> str:
    """Version of canvod-launch itself.

    Returns
    -------
    str
        The version, or a text that it runs from source that was never installed.
    """
    return _installed("canvod-launch") or "unknown (runs from source, not installed)"


def _installed(distribution: str) -> str | None:
    try:
        return version_of(distribution)
    except PackageNotFoundError:
        return None


def _engine() -> dict[str, Any] | None:
    if _installed("docker") is None:
        return None
    from canvod.launch.docker.engine import probe_engine

    inventory = probe_engine()
    return None if inventory is None else inventory.model_dump()


def _engine_text(engine: dict[str, Any] | None) -> str:
    if engine is None:
        return "no Docker engine answers"
    return (
        f"{engine['server_version']} (API {engine['api_version']}, cgroup v{engine['cgroup_version']}, "
        f"{engine['cgroup_driver']}, {engine['storage_driver']})"
    )
