"""``canvod-launch version``: the versions that matter when something does not fit together."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of

from canvod.launch.cli.console import print_result
from canvod.launch.cli.options import JsonOption

PACKAGES = ("dask", "distributed", "icechunk", "zarr", "xarray", "docker", "canvod-readers")
"""Distributions whose versions are shown; ``docker`` is the SDK."""


def version(json_output: JsonOption = False) -> None:
    """Show the versions of canvod-launch, of the packages that it uses, and of the Docker engine.

    Examples
    --------
    $ canvod-launch version
    $ canvod-launch version --json | jq -r .distributed
    """
    versions: dict[str, str | None] = {
        "canvod-launch": launch_version(),
        "python": platform.python_version(),
        **{name: _installed(name) for name in PACKAGES},
    }
    engine = None
    if versions["docker"] is not None:
        from canvod.launch.docker.engine import probe_engine

        engine = probe_engine()
    shown = {name: value or "not installed" for name, value in versions.items()}
    shown["engine"] = "no Docker engine answers"
    if engine is not None:
        shown["engine"] = (
            f"{engine.server_version} (API {engine.api_version}, cgroup v{engine.cgroup_version}, "
            f"{engine.cgroup_driver}, {engine.storage_driver})"
        )
    text = "\n".join(f"{name:<15} {value}" for name, value in shown.items())
    values = {**versions, "engine": None if engine is None else engine.model_dump()}
    print_result(values, text, as_json=json_output)


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
