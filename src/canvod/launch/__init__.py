"""Start a pinned and contained Dask cluster with memory limits on one host, and ingest GNSS files with it.

Names are imported when they are first used: ``import canvod.launch`` is quick, and works without Dask.

Examples
--------
>>> from canvod.launch import MemoryMonitor
>>> MemoryMonitor().available_gb() > 0
True
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from canvod.launch.config import Settings, load_settings
    from canvod.launch.errors import LaunchError
    from canvod.launch.host.memory_monitor import MemoryMonitor
    from canvod.launch.ingest.job import IngestJob, ingest_files
    from canvod.launch.ingest.read import open_group, open_store
    from canvod.launch.manager import DaskClusterManager
    from canvod.launch.runtime.plugin import ResourceInitPlugin

_HOMES = {
    "DaskClusterManager": "manager",
    "IngestJob": "ingest.job",
    "LaunchError": "errors",
    "MemoryMonitor": "host.memory_monitor",
    "ResourceInitPlugin": "runtime.plugin",
    "Settings": "config",
    "ingest_files": "ingest.job",
    "load_settings": "config",
    "open_group": "ingest.read",
    "open_store": "ingest.read",
}

__all__ = [
    "DaskClusterManager",
    "IngestJob",
    "LaunchError",
    "MemoryMonitor",
    "ResourceInitPlugin",
    "Settings",
    "ingest_files",
    "load_settings",
    "open_group",
    "open_store",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("canvod-launch")
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__, "__version__"])
