"""Fixtures that several test modules share."""

from __future__ import annotations

import os
import signal
import tempfile
from functools import cache
from pathlib import Path

import pytest

import hypothesis_profiles  # noqa: F401 - loads the profile for every test
from canvod.launch.docker.engine import connect
from canvod.launch.errors import EngineError
from required import skip_without

pytest_plugins = ("bare_python", "images_fixture")
"""The engine and the images, for every test of containers."""


def pytest_configure() -> None:
    """Let programs that tests start take signals as usual, also where the tests run in the background.

    A shell starts a background job with SIGINT ignored, nohup with SIGHUP ignored, and children inherit that.
    A handler is back to the default in a new program. And their output is buffered, as it is for most users.
    """
    os.environ.pop("PYTHONUNBUFFERED", None)
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        if signal.getsignal(number) is signal.SIG_IGN:
            handler = signal.default_int_handler if number == signal.SIGINT else lambda _number, _frame: None
            signal.signal(number, handler)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test of containers where no engine answers, or fail it where CANVOD_REQUIRE_DOCKER=1."""
    if item.get_closest_marker("docker") is None or (problem := _engine_problem()) is None:
        return
    skip_without("DOCKER", problem)


@cache
def _engine_problem() -> str | None:
    """Why no Docker engine can be used, asked once; None where one answers."""
    try:
        connect(timeout_s=10).close()
    except EngineError as exc:
        return exc.message
    return None


def _data_folder(name: str) -> Path:
    """Return a folder of the real data, or skip the test where they are not at hand."""
    root = Path(__file__).resolve().parent.parent
    data = Path(os.environ.get("CANVOD_TEST_DATA", root.parent / "shared" / "data"))
    folder = data / name
    if not folder.is_dir():
        skip_without(
            "DATA",
            f"no real data: {folder} is not there; set CANVOD_TEST_DATA to the folder that holds {name}/",
        )
    return folder


@pytest.fixture
def own_runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys and temporary files in folders of this test: every start on this host prunes the common ones."""
    for name in ("XDG_RUNTIME_DIR", "TMPDIR"):
        folder = tmp_path / name.lower()
        folder.mkdir(mode=0o700)
        monkeypatch.setenv(name, str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)


@pytest.fixture(scope="session")
def rosalia() -> Path:
    """Real files of two receivers, 24 each."""
    return _data_folder("rosalia")


@pytest.fixture(scope="session")
def invalid() -> Path:
    """Damaged files, named after the damage."""
    return _data_folder("invalid")


@pytest.fixture(scope="session")
def faults() -> Path:
    """Small files that are easily read wrongly."""
    return _data_folder("faults")
