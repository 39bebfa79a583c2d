"""What an image is: its name, its labels, and whether it is out of date. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from canvod.launch.plan.model import LABEL_PREFIX, Frozen
from canvod.launch.plan.naming import Role, image_name, installed_version

__all__ = [
    "LOCK_FILE",
    "ROLES",
    "ImageIdentity",
    "Role",
    "digest",
    "image_name",
    "installed_version",
    "out_of_date",
]

ROLES: tuple[Role, ...] = ("worker", "scheduler")
"""Both images, in the order in which they are built."""

LOCK_FILE = "requirements.lock"
"""The lock file that both images are installed from."""


def digest(files: Mapping[str, bytes]) -> str:
    """Hash a set of files: their names and contents, in no particular order.

    Parameters
    ----------
    files : mapping of str to bytes
        Contents by name.

    Returns
    -------
    str
        ``sha256:`` and 64 hexadecimal digits.
    """
    total = hashlib.sha256()
    for name in sorted(files):
        # Hashes have one length, so that no name can run into a content.
        total.update(hashlib.sha256(name.encode()).digest() + hashlib.sha256(files[name]).digest())
    return f"sha256:{total.hexdigest()}"


class ImageIdentity(Frozen):
    """What one image was, or would be, built from."""

    role: Role
    version: str
    """Version of canvod-launch."""
    python: str
    """Minor version of Python."""
    lock: str
    """Digest of the lock file."""
    context: str
    """Digest of what the image is built from: lock file, Dockerfiles and sources; not texts for people."""
    revision: str = "unknown"
    """Revision of the sources, for people; two revisions may have the same content."""
    base: str | None = None
    """Base image that is asked for, or None where any of the right Python will do."""

    @property
    def name(self) -> str:
        """Name and tag of the image."""
        return image_name(self.role, self.python, self.version)

    def labels(self) -> dict[str, str]:
        """Give the labels by which `out_of_date` knows the image.

        Returns
        -------
        dict of str to str
            Labels with canvod-launch's prefix.
        """
        values = {
            "role": self.role,
            "version": self.version,
            "python": self.python,
            "lock": self.lock,
            "context": self.context,
            "revision": self.revision,
            "base": self.base or "",
        }
        return {f"{LABEL_PREFIX}.{key}": value for key, value in values.items()}

    def build_args(self, base: str) -> dict[str, str]:
        """Give the arguments of the Dockerfile.

        Parameters
        ----------
        base : str
            The base image to use.

        Returns
        -------
        dict of str to str
            Values of the Dockerfile's ``ARG`` lines.
        """
        return {
            "PYTHON_IMAGE": base,
            "VERSION": self.version,
            "REVISION": self.revision,
            "PYTHON": self.python,
            "BASE": base,
            "LOCK": self.lock,
            "CONTEXT": self.context,
        }


def out_of_date(labels: Mapping[str, str], wanted: ImageIdentity) -> tuple[str, ...]:
    """Tell why an image is not what would be built now.

    Parameters
    ----------
    labels : mapping of str to str
        Labels of the image at hand.
    wanted : ImageIdentity
        What would be built.

    Returns
    -------
    tuple of str
        The reasons, in words; empty where the image is up to date.
    """
    asked = wanted.labels()
    checks = {"role": "its role", "python": "Python", "lock": "the lock file", "context": "the sources"}
    if wanted.base is not None:
        checks["base"] = "the base image"
    # A changed lock file changes the context too; saying both would suggest two reasons.
    keys = [key for key in checks if labels.get(f"{LABEL_PREFIX}.{key}") != asked[f"{LABEL_PREFIX}.{key}"]]
    if "lock" in keys and "context" in keys:
        keys.remove("context")
    return tuple(f"{checks[key]} changed" for key in keys)
