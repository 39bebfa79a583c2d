"""Versions of both sides of a connection: what differs is told, with a remedy that fits the cluster."""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from canvod.launch.cluster.client import check_versions
from canvod.launch.errors import VersionMismatchError
from canvod.launch.host.python_version import own_python
from canvod.launch.images.versions import CLIENT_PACKAGES, installed_differences, locked_versions

TOP = Path(__file__).resolve().parent.parent
HERE = {"python": ".".join(map(str, sys.version_info)), **dict.fromkeys(CLIENT_PACKAGES, "1.0")}


class Cluster:
    """A client of a cluster whose scheduler and worker have these versions."""

    def __init__(self, **theirs: str) -> None:
        self.theirs = {"packages": HERE | theirs}

    def get_versions(self, packages: list[str]) -> dict[str, Any]:
        """Answer as Dask's client does."""
        assert packages == list(CLIENT_PACKAGES)
        return {"client": {"packages": HERE}, "scheduler": self.theirs, "workers": {"a": self.theirs}}


def refusal(cluster: Any, **options: Any) -> str:
    """What is said instead of handing out a client."""
    with pytest.raises(VersionMismatchError) as caught:
        check_versions(cluster, **{"own_tasks_only": False, **options})
    return str(caught.value)


def test_alike_is_alike() -> None:
    """Patch levels of Python are no difference, nor are packages that our own tasks do not need."""
    same: Any = Cluster()
    check_versions(same, own_tasks_only=False)
    other: Any = Cluster(python="3.99.0.final.0", numpy="2.0", xarray="2.0")
    check_versions(other, own_tasks_only=True)


@pytest.mark.parametrize(
    "package", ["dask", "distributed", "numpy", "zarr", "icechunk", "xarray", "canvod.launch"]
)
def test_each_package_is_compared(package: str) -> None:
    """One message with both versions, once for scheduler and once for the workers."""
    text = refusal(Cluster(**{package: "2.0"}))
    assert f"{package}: client 1.0, scheduler 2.0" in text
    assert f"{package.replace('canvod.launch', 'canvod-launch')}==2.0" in text


def test_the_remedy_fits_the_cluster() -> None:
    """A detached one is started again; for others Compose's images are made again, or one goes along."""
    cluster = Cluster(python="3.99.1.final.0", dask="2.0")
    own = own_python()
    detached = refusal(cluster, detached="lab")
    assert f"python: client {own}, scheduler 3.99" in detached
    assert "canvod-launch down lab && canvod-launch up --name lab" in detached
    assert "docker compose" not in detached
    remote = refusal(cluster)
    assert f"CANVOD_PYTHON={own} in .env, docker compose build, docker compose up --detach" in remote
    assert "canvod-launch down" not in remote
    assert "use Python 3.99 here" in remote
    assert "dask==2.0" in remote
    assert "launch.python" not in remote


def test_the_lock_file_is_known_before_anything_is_started() -> None:
    """What is installed from it does not differ from it, for any Python."""
    for python in ("3.12", "3.13", "3.14"):
        locked = locked_versions((TOP / "requirements.lock").read_text(), python)
        assert set(CLIENT_PACKAGES) - {"canvod.launch"} <= locked.keys()
        assert locked["dask"] == version("dask")
        assert installed_differences(locked, own_tasks_only=False) == []
    assert installed_differences({"zarr": "1.0"}, own_tasks_only=True) == [("zarr", version("zarr"), "1.0")]
