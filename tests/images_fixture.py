"""Fixtures of tests that need an engine and real images; one build serves the whole run."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest

from canvod.launch.config import Settings, load_settings
from canvod.launch.docker.engine import Client, connect
from canvod.launch.errors import ImageError
from canvod.launch.images.debian import SUITES
from canvod.launch.images.image_builder import BuiltImage, build_images
from required import skip_without

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from canvod.launch.images.build_log import BuildEvent

OWN_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"

FIRST_BUILD_TIMEOUT_S = 3600
"""For a machine that starts from nothing: base image, dependencies, compiler and both images."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give time for a build to every test that may be the first one to need it."""
    for item in items:
        if "images_of" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.timeout(FIRST_BUILD_TIMEOUT_S))


@pytest.fixture(scope="session")
def engine() -> Iterator[Client]:
    """The Docker engine."""
    client = connect()
    yield client
    client.close()


@pytest.fixture(scope="session")
def images_of(engine: Client) -> Callable[[str], dict[str, BuiltImage]]:
    """Build both images for a Python where they are missing or out of date; they are had by role."""

    def build(python: str) -> dict[str, BuiltImage]:
        try:
            built = build_images(engine, load_settings({"launch": {"python": python}}), progress=_tell)
        except ImageError as exc:
            if os.geteuid() == 0 and python in SUITES:
                raise
            skip_without("DOCKER", f"no images of Python {python}, and no way to make them: {exc.message}")
        return {image.role: image for image in built if image.role is not None}

    return build


@pytest.fixture(scope="session")
def images(engine: Client, images_of: Callable[[str], dict[str, BuiltImage]]) -> dict[str, BuiltImage]:
    """Both images as an ingest takes them: of the tests' Python, else of the nearest."""
    if OWN_PYTHON in SUITES:
        return images_of(OWN_PYTHON)
    built = build_images(engine, load_settings(None), any_python=True, progress=_tell)
    return {image.role: image for image in built if image.role is not None}


@pytest.fixture(scope="session")
def own_images(images_of: Callable[[str], dict[str, BuiltImage]]) -> dict[str, BuiltImage]:
    """Both images for the Python of the tests, whose functions workers can only run then."""
    return images_of(OWN_PYTHON)


@pytest.fixture(scope="session")
def image_settings() -> Settings:
    """The settings that the images are built with."""
    return load_settings(None)


def _tell(event: BuildEvent) -> None:
    """Leave a trace of a long build in the captured output of the test that waited for it."""
    if event.line.startswith("Step ") or event.step is None:
        sys.stderr.write(f"{event.image}: {event.line}\n")
