"""What a machine may lack: tests that need it are skipped there, or fail where it is required.

``CANVOD_REQUIRE_DOCKER=1`` requires a Docker engine, ``CANVOD_REQUIRE_ORACLES=1`` other people's readers, and
``CANVOD_REQUIRE_DATA=1`` files of real receivers.
"""

from __future__ import annotations

import os
from typing import Literal, NoReturn

import pytest

type Thing = Literal["DOCKER", "ORACLES", "DATA"]


def is_required(thing: Thing) -> bool:
    """Whether a test without it fails."""
    return os.environ.get(f"CANVOD_REQUIRE_{thing}", "0") not in {"", "0"}


def skip_without(thing: Thing, reason: str) -> NoReturn:
    """Skip the running test for a reason, or fail it where the thing is required."""
    if is_required(thing):
        pytest.fail(f"CANVOD_REQUIRE_{thing} is set. {reason}", pytrace=False)
    pytest.skip(reason)
