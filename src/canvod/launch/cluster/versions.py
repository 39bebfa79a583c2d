"""Versions that must be alike on both sides of a connection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

TASK_PACKAGES: Final = ("dask", "distributed", "icechunk", "zarr")
"""What the tasks of canvod-launch itself depend on: Dask's protocol, and Icechunk's forked sessions."""

CLIENT_PACKAGES: Final = (
    *TASK_PACKAGES,
    "cloudpickle",
    "msgpack",
    "numpy",
    "pandas",
    "toolz",
    "tornado",
    "xarray",
)
"""What a user's own functions and data depend on besides."""


def version_differences(answer: Mapping[str, Any], *, own_tasks_only: bool) -> list[str]:
    """Compare the versions of a client with those of a cluster.

    Dask itself only warns of differences, and does not look at what stores are read and written with.

    Parameters
    ----------
    answer : mapping
        What ``Client.get_versions(packages=CLIENT_PACKAGES)`` returned.
    own_tasks_only : bool
        Compare only what the tasks of canvod-launch need: they are importable functions with plain arguments,
        which every Python version reads. A user's function is pickled by value: it needs the same Python.

    Returns
    -------
    list of str
        One line for each package that differs; empty when both sides are alike.

    Examples
    --------
    >>> answer = {"client": {"packages": {"python": "3.13.0", "dask": "1"}},
    ...           "scheduler": {"packages": {"python": "3.14.2", "dask": "1"}}, "workers": {}}
    >>> version_differences(answer, own_tasks_only=False)
    ['python: client 3.13, scheduler 3.14']
    """
    packages = TASK_PACKAGES if own_tasks_only else ("python", *CLIENT_PACKAGES)
    client = answer["client"]["packages"]
    sides = [("scheduler", answer["scheduler"]["packages"])]
    sides += [("a worker", worker["packages"]) for worker in answer["workers"].values()]
    found = (
        f"{package}: client {_version(client, package)}, {side} {_version(versions, package)}"
        for package in packages
        for side, versions in sides
        if _version(client, package) != _version(versions, package)
    )
    return list(dict.fromkeys(found))


def _version(packages: Mapping[str, str | None], package: str) -> str:
    version = packages.get(package) or "not installed"
    return ".".join(version.split(".")[:2]) if package == "python" else version
