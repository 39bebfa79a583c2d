"""What an image is: its name and its labels. Pure."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from canvod.launch.host.inventory import Frozen
from canvod.launch.host.labels import LABEL_PREFIX
from canvod.launch.plan.container_plans import image_name
from canvod.launch.plan.model import Role

if TYPE_CHECKING:
    from collections.abc import Mapping

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
    packages: str = ""
    """Digest of ``launch.packages``; empty where there are none."""
    revision: str = "unknown"
    """Revision of the sources, for people; two revisions may have the same content."""
    checkout: str = ""
    """Digest of the path of the sources: whose older images a newer one replaces."""
    base: str | None = None
    """Base image that is asked for, or None where any of the right Python will do."""

    @property
    def digest(self) -> str:
        """Digest of all that decides what is in the image."""
        parts = (self.context, self.packages, self.python, self.base or "")
        return f"sha256:{hashlib.sha256(' '.join(parts).encode()).hexdigest()}"

    @property
    def name(self) -> str:
        """Name and tag of the image."""
        return image_name(self.role, self.python, self.version, self.digest)

    def labels(self) -> dict[str, str]:
        """Give the labels of the image, except that of its base.

        Returns
        -------
        dict of str to str
            Labels with canvod-launch's prefix.
        """
        return {f"{LABEL_PREFIX}.{key}": value for key, value in self._values().items()}

    def is_in(self, labels: Mapping[str, str]) -> bool:
        """Tell by its labels whether an image is this one.

        Parameters
        ----------
        labels : mapping of str to str
            Labels of an image.

        Returns
        -------
        bool
            True where it was built from the same.
        """
        own = self.labels()
        return all(labels.get(key) == own[key] for key in (f"{LABEL_PREFIX}.role", f"{LABEL_PREFIX}.digest"))

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
        arguments = {key.upper(): value for key, value in self._values().items() if key != "role"}
        return arguments | {"PYTHON_IMAGE": base, "BASE": base}

    def _values(self) -> dict[str, str]:
        keys = ("role", "version", "python", "lock", "packages", "digest", "revision", "checkout")
        return {key: getattr(self, key) for key in keys}
