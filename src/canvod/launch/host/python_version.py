"""The Python that is running, and the version of canvod-launch that is installed for it."""

from __future__ import annotations

import importlib.metadata
import sys


def own_python() -> str:
    """Tell the minor version of the Python that is running: by default the images' one too.

    Returns
    -------
    str
        Such as ``3.14``.
    """
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def installed_version() -> str:
    """Tell the version of canvod-launch that is running.

    Returns
    -------
    str
        ``0`` for a source tree that was never installed.
    """
    try:
        return importlib.metadata.version("canvod-launch")
    except importlib.metadata.PackageNotFoundError:
        return "0"
