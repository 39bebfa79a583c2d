"""Fixtures that several test modules share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def _data_folder(name: str) -> Path:
    """Return a folder of the real data, or skip the test where they are not at hand."""
    root = Path(__file__).resolve().parent.parent
    data = Path(os.environ.get("CANVOD_TEST_DATA", root.parent / "shared" / "data"))
    folder = data / name
    if not folder.is_dir():
        pytest.skip(
            f"no real data: {folder} is not there; set CANVOD_TEST_DATA to the folder that holds {name}/"
        )
    return folder


@pytest.fixture(scope="session")
def rosalia() -> Path:
    """Real files of two receivers, 24 each."""
    return _data_folder("rosalia")


@pytest.fixture(scope="session")
def invalid() -> Path:
    """Damaged files, named after the damage."""
    return _data_folder("invalid")
