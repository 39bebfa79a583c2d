"""What ``docker compose build`` needs on a host behind a proxy or without a registry.

Compose reads no settings of ours: it gets a base image that the engine has, ``docker/site`` with what the
network needs, and a ``compose.override.yaml`` that names the base. Git ignores all of it.
"""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING

import yaml

from canvod.launch.errors import ImageError
from canvod.launch.host.python_version import own_python
from canvod.launch.images.base_image import choose_base
from canvod.launch.images.build_log import Progress, ignore
from canvod.launch.images.build_network import read_build_network
from canvod.launch.images.context import NETWORK_FOLDER, PACKAGES_FILE, packages_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from canvod.launch.config import Settings
    from canvod.launch.docker.engine import Client

OVERRIDE = "compose.override.yaml"
"""File that Compose reads after compose.yaml."""

HEADING = "# Written by canvod-launch build --for-compose (make compose-base), and by its next run again."


def prepare_compose(
    client: Client, settings: Settings, top: Path, *, progress: Progress = ignore
) -> tuple[str, list[Path]]:
    """Make sure of a base image, and write what ``docker compose build`` needs into a checkout.

    Parameters
    ----------
    client : docker.DockerClient
        The engine that Compose will use.
    settings : Settings
        Their section ``launch`` says which Python, which base image and what the network needs.
    top : pathlib.Path
        The checkout.
    progress : callable, optional
        Called with what is happening.

    Returns
    -------
    str
        Name of the base image.
    list of pathlib.Path
        The files that were written.

    Raises
    ------
    ImageError
        If `top` is no checkout, has an override of somebody else's, or no base image can be had.
    EngineError
        If the engine fails.
    ConfigError
        If a file of ``launch.packages`` cannot be used.
    OSError
        If a file cannot be written.
    """
    override = top / OVERRIDE
    if not (top / "compose.yaml").is_file() or not (top / NETWORK_FOLDER).is_dir():
        raise ImageError(
            f"There is no compose.yaml with {NETWORK_FOLDER}/ beside it in {top}.",
            hint="run this at the top of a checkout of canvod-launch",
        )
    if override.exists() and not override.read_text().startswith(HEADING):
        raise ImageError(
            f"{override} is there already, and not from this command.",
            hint="move it away, or write build.args.PYTHON_IMAGE into it yourself",
        )
    launch = settings.launch
    network = read_build_network(launch.build)
    base = choose_base(
        client,
        launch,
        launch.python or own_python(),
        mirror=network.debian_mirror,
        # An ingest runs in a container of the same image.
        any_python=launch.python is None,
        progress=progress,
    )
    files = {top / NETWORK_FOLDER / name: content for name, content in network.files().items()}
    files[top / PACKAGES_FILE] = packages_text(launch.packages).encode()
    files[override] = override_text(base.name, base.python, tuple(network.proxies)).encode()
    owner = top.stat()
    for path, content in files.items():
        # Credentials of an index may be among them.
        with open(path, "wb", opener=partial(os.open, mode=0o600)) as file:
            if os.geteuid() == 0:
                # Root may prepare this for somebody who will call Compose without.
                os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
            file.write(content)
    return base.name, list(files)


def override_text(base: str, python: str, proxies: Sequence[str] = ()) -> str:
    """Write the override.

    Parameters
    ----------
    base : str
        Name of the base image.
    python : str
        Its Python minor version.
    proxies : sequence of str
        Variables of the environment that hold proxies. Their values stay out of the file: Compose takes them
        from the environment when it builds.

    Returns
    -------
    str
        A Compose file with the arguments of both builds.

    Examples
    --------
    >>> print(override_text("canvod-launch-base:3.14-forky", "3.14").splitlines()[1])
    services:
    """
    arguments = {"PYTHON_IMAGE": base, "PYTHON": python} | dict.fromkeys(proxies)
    services = {role: {"build": {"args": dict(arguments)}} for role in ("scheduler", "worker")}
    return f"{HEADING}\n{yaml.safe_dump({'services': services}, sort_keys=False)}"
