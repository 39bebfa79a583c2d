"""Versions that must be the same on both sides of a connection: of Python, and of packages."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Final

from packaging.requirements import Requirement

from canvod.launch.errors import VersionMismatchError, install_command
from canvod.launch.images.context import LOCK_FILE, read_context

if TYPE_CHECKING:
    from collections.abc import Mapping

    from canvod.launch.config import Settings
    from canvod.launch.plan.model import ClusterPlan

OWN: Final = "canvod.launch"
"""This package, whose functions are sent by their names."""

TASK_PACKAGES: Final = (OWN, "dask", "distributed", "icechunk", "zarr")
"""What the tasks of canvod-launch itself depend on: Dask's protocol, and Icechunk's forked sessions."""

ABSENT: Final = "not installed"

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


def require_same_versions(
    plan: ClusterPlan, settings: Settings, *, python: str, own_tasks_only: bool
) -> None:
    """Refuse a cluster whose images are known not to go with who will use it, before anything is made.

    Parameters
    ----------
    plan : ClusterPlan
        What is to be started.
    settings : Settings
        They may name the images' Python.
    python : str
        Minor version of Python of who will use the cluster.
    own_tasks_only : bool
        Compare only what the tasks of canvod-launch need.

    Raises
    ------
    VersionMismatchError
        If Python or a package differs; names each, and what to do.
    ImageError
        If files that the images are built from are missing.
    """
    if plan.python != python and not own_tasks_only:
        raise VersionMismatchError(
            f"{settings.cite('launch.python')}, and whoever gets a client of this cluster has Python "
            f"{python}: workers could not run its functions. Nothing was started.",
            hint=f"leave launch.python out, use Python {plan.python} for the program too, or set "
            "launch.backend: process, which programs and run can",
        )
    locked = locked_versions(read_context().files[LOCK_FILE].decode(), plan.python)
    found = installed_differences(locked, own_tasks_only=own_tasks_only)
    if found:
        raise VersionMismatchError(
            "This environment and the images of scheduler and workers differ; nothing was started:\n"
            + "\n".join(f"    {name}: here {own}, images {theirs}" for name, own, theirs in found),
            hint=f"install the images' versions here: {install_versions({name: v for name, _, v in found})}; "
            "or set launch.backend: process",
        )


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


def locked_versions(lock: str, python: str) -> dict[str, str]:
    r"""Read a lock file.

    Parameters
    ----------
    lock : str
        Its text.
    python : str
        Minor version of the Python that it is read for.

    Returns
    -------
    dict of str to str
        Versions by name.

    Examples
    --------
    >>> locked_versions("dask==1.0 ; python_full_version < '3.13'\ndask==2.0", "3.14")
    {'dask': '2.0'}
    """
    environment = {"python_version": python, "python_full_version": f"{python}.0"}
    pins = (Requirement(line.rstrip(" \\")) for line in lock.splitlines() if line[:1].isalnum())
    used = (pin for pin in pins if pin.marker is None or pin.marker.evaluate(environment))
    return {pin.name: str(pin.specifier).removeprefix("==") for pin in used}


def installed_differences(wanted: Mapping[str, str], *, own_tasks_only: bool) -> list[tuple[str, str, str]]:
    """Compare what is installed here with a lock file.

    Parameters
    ----------
    wanted : mapping of str to str
        Versions by name.
    own_tasks_only : bool
        Compare only what the tasks of canvod-launch need.

    Returns
    -------
    list of tuple
        Name, version here, and version wanted, of each package that differs.
    """
    names = TASK_PACKAGES if own_tasks_only else CLIENT_PACKAGES
    pairs = ((name, _installed(name), wanted[name]) for name in names if name in wanted)
    return [(name, own, theirs) for name, own, theirs in pairs if own != theirs]


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ABSENT


def install_versions(versions: Mapping[str, str]) -> str:
    """Write the command that installs some versions; of this package, which may come from anywhere, its name.

    Parameters
    ----------
    versions : mapping of str to str
        Versions by name of package.

    Returns
    -------
    str
        A command for a shell.

    Examples
    --------
    >>> install_versions({"dask": "1.0", "zarr": "3.0"}).endswith(" dask==1.0 zarr==3.0")
    True
    """
    pins = (f"{'canvod-launch' if name == OWN else name}=={number}" for name, number in versions.items())
    return install_command(*pins)


def _version(packages: Mapping[str, str | None], package: str) -> str:
    version = packages.get(package) or ABSENT
    return ".".join(version.split(".")[:2]) if package == "python" else version
