"""Fixtures of tests that need an engine and real images; one build serves the whole run."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from canvod.launch.config import Settings, load_settings
from canvod.launch.engine import Client, connect
from canvod.launch.errors import ImageError
from canvod.launch.images.build import BuiltImage, build_images

if TYPE_CHECKING:
    from canvod.launch.images.events import BuildEvent

FIRST_BUILD_TIMEOUT_S = 3600
"""For a machine that starts from nothing: base image, dependencies, compiler and both images."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give time for a build to every test that may be the first one to need it."""
    for item in items:
        if "images" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.timeout(FIRST_BUILD_TIMEOUT_S))


@pytest.fixture(scope="session")
def engine() -> Iterator[Client]:
    """The Docker engine."""
    client = connect()
    yield client
    client.close()


@pytest.fixture(scope="session")
def images(engine: Client) -> dict[str, BuiltImage]:
    """Both images for the default Python, built where they are missing or out of date, by role."""
    settings = load_settings(None)
    try:
        built = build_images(engine, settings, progress=_tell)
    except ImageError as exc:
        if os.environ.get("CANVOD_REQUIRE_DOCKER", "0") in {"", "0"} and os.geteuid() != 0:
            pytest.skip(f"no images, and no right to make them: {exc.message}")
        raise
    return {image.role: image for image in built if image.role is not None}


@pytest.fixture(scope="session")
def image_settings() -> Settings:
    """The settings that the images are built with."""
    return load_settings(None)


def _tell(event: BuildEvent) -> None:
    """Leave a trace of a long build in the captured output of the test that waited for it."""
    if event.line.startswith("Step ") or event.step is None:
        sys.stderr.write(f"{event.image}: {event.line}\n")
