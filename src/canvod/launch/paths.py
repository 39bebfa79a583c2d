"""Questions about paths that have an answer for every user: what may not be looked at is not there.

Before Python 3.14 `pathlib` raises `PermissionError` for what lies in a folder that the user may not enter.
"""

from __future__ import annotations

import os
from pathlib import Path


def exists(path: str | os.PathLike[str]) -> bool:
    """Whether there is something at a path, as far as this user may see."""
    try:
        Path(path).stat()
    except OSError:
        return False
    return True


def is_folder(path: str | os.PathLike[str]) -> bool:
    """Whether there is a folder at a path, as far as this user may see."""
    return exists(path) and Path(path).is_dir()
