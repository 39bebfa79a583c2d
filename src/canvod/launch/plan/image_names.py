"""Names of the images, which plan and build share."""

from __future__ import annotations

import re
from typing import Literal

type Role = Literal["scheduler", "worker"]
"""What a container is for."""

LONGEST_TAG = 128
"""Characters that a tag may have (OCI distribution specification 1.1)."""

DIGEST_LENGTH = 12
"""Digits of a digest that a tag has, as many as Docker shows of an ID."""


def image_name(role: Role, python: str, version: str, digest: str = "") -> str:
    """Name the image of a role.

    Parameters
    ----------
    role : {"scheduler", "worker"}
        What its containers do.
    python : str
        Minor version of its Python, such as ``3.14``.
    version : str
        Version of canvod-launch.
    digest : str, optional
        Digest of all that the image is built from, so that two checkouts never have one name for two images.

    Returns
    -------
    str
        Name and tag.

    Examples
    --------
    >>> image_name("worker", "3.14", "0.1.0", "sha256:8d969eef6ecad3c29a3a")
    'canvod-launch-worker:0.1.0-py3.14-8d969eef6eca'
    """
    suffix = f"-py{python}"
    if digest:
        suffix += f"-{digest.removeprefix('sha256:')[:DIGEST_LENGTH]}"
    tag = version[: LONGEST_TAG - len(suffix)] + suffix
    # A local version (1.0+lab) has a plus sign, which tags may not have.
    return f"canvod-launch-{role}:{re.sub(r'[^A-Za-z0-9_.-]', '-', tag)}"
