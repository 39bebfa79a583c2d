"""Other people's packages, with which ours is compared: canvod-readers, canvod-store and georinex."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING

from required import skip_without

if TYPE_CHECKING:
    from types import ModuleType


def oracle(module: str) -> ModuleType:
    """Import one, or skip the test where it is not installed; with CANVOD_REQUIRE_ORACLES=1 fail it instead.

    canVODpy needs Python 3.14 and its readers a C compiler, so that a fresh machine may well have none.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as exc:
        reason = f"{exc.name} is not installed for Python {sys.version_info.major}.{sys.version_info.minor}"
        skip_without("ORACLES", reason)
