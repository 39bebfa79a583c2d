"""The build context: the same files, in the same places, from a checkout and from an installed wheel."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import canvod.launch
from canvod.launch.errors import ImageError
from canvod.launch.images.identity import LOCK_FILE, ImageIdentity, digest
from canvod.launch.images.packages import packages_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from canvod.launch.plan.model import Role

TOP_FILES = (
    ".dockerignore",
    "Dockerfile.scheduler",
    "Dockerfile.worker",
    "LICENSE",
    "README.md",
    "config/processing.yaml",
    "docker/packages/.gitignore",
    "docker/packages/README.md",
    "docker/site/.gitignore",
    "docker/site/README.md",
    "pyproject.toml",
    LOCK_FILE,
    "requirements-build.lock",
)
"""Files of the context beside the scripts in ``docker/`` and the package itself."""

UNHASHED = frozenset(
    {
        "LICENSE",
        "README.md",
        "config/processing.yaml",
        "docker/packages/README.md",
        "docker/site/README.md",
    }
)
"""Files that what runs in a container never reads: an edit of them makes no image out of date."""

SITE_FOLDER = "docker/site"
"""Where what a site's network needs goes; what a checkout has there is neither read nor hashed."""

PACKAGES_FILE = "docker/packages/requirements.txt"
"""Where `launch.packages` goes; what a checkout has there is neither read nor hashed."""

CARRIED = "_build"
"""Folder inside an installed package that holds what a checkout has at its top."""


@dataclass(frozen=True)
class BuildContext:
    """Everything that the images are built from."""

    files: Mapping[str, bytes]
    """Contents by path, with forward slashes."""
    version: str
    """Version of canvod-launch, as its ``pyproject.toml`` has it."""
    revision: str
    """Revision of the sources, or ``unknown``."""
    checkout: str = ""
    """Digest of the folder that they are in."""
    packages: str = ""
    """Requirements of what is installed besides the lock file."""

    def identity(self, role: Role, python: str, base: str | None = None) -> ImageIdentity:
        """Tell what an image that is built from here would be.

        Parameters
        ----------
        role : {"scheduler", "worker"}
            Which image.
        python : str
            Minor version of its Python.
        base : str, optional
            Base image that is asked for.

        Returns
        -------
        ImageIdentity
            Its name, digests and labels.
        """
        return ImageIdentity(
            role=role,
            version=self.version,
            python=python,
            lock=digest({LOCK_FILE: self.files[LOCK_FILE]}),
            context=digest({name: held for name, held in self.files.items() if name not in UNHASHED}),
            packages=digest({PACKAGES_FILE: self.packages.encode()}) if self.packages else "",
            revision=self.revision,
            checkout=self.checkout,
            base=base,
        )

    def tar(self, site: Mapping[str, bytes] | None = None) -> bytes:
        """Pack the context, the same bytes for the same files.

        Parameters
        ----------
        site : mapping of str to bytes, optional
            Files for ``docker/site``, by name.

        Returns
        -------
        bytes
            An uncompressed tar archive.
        """
        extra = {f"{SITE_FOLDER}/{name}": content for name, content in (site or {}).items()}
        if self.packages:
            extra[PACKAGES_FILE] = self.packages.encode()
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
            for name, content in sorted({**self.files, **extra}.items()):
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                entry.mode = 0o644
                archive.addfile(entry, io.BytesIO(content))
        return buffer.getvalue()


def read_context(package: Path | None = None, *, packages: Sequence[str] = ()) -> BuildContext:
    """Read the build context of the canvod-launch that is running.

    Parameters
    ----------
    package : pathlib.Path, optional
        Folder of the package ``canvod.launch``; by default the running one.
    packages : sequence of str, optional
        As ``launch.packages``.

    Returns
    -------
    BuildContext
        Its files, in memory.

    Raises
    ------
    ImageError
        If files that the images need are missing, or a file of `packages` cannot be used.
    """
    package = package or Path(next(iter(canvod.launch.__path__)))
    carried = package / CARRIED
    top = carried if carried.is_dir() else package.parents[2]
    files: dict[str, bytes] = {}
    missing = [name for name in TOP_FILES if not (top / name).is_file()]
    if missing:
        raise ImageError(
            f"The images cannot be built from {top}: {', '.join(missing)} missing.",
            hint="install canvod-launch anew from its wheel, or run it from a complete checkout",
        )
    for name in TOP_FILES:
        files[name] = (top / name).read_bytes()
    for path in sorted((top / "docker").glob("*.sh")):
        files[f"docker/{path.name}"] = path.read_bytes()
    for path in sorted(package.rglob("*")):
        relative = path.relative_to(package)
        if path.is_file() and _belongs(relative):
            files[f"src/canvod/launch/{relative.as_posix()}"] = path.read_bytes()
    version = str(tomllib.loads(files["pyproject.toml"].decode())["project"]["version"])
    checkout = digest({"path": os.fsencode(top.resolve())})
    return BuildContext(
        files=files,
        version=version,
        revision=_revision(top),
        checkout=checkout,
        packages=packages_text(packages),
    )


def _belongs(relative: Path) -> bool:
    """Tell whether a file of the package is a source, and not something that was made from one."""
    return relative.parts[0] != CARRIED and "__pycache__" not in relative.parts and relative.suffix != ".pyc"


def _revision(top: Path) -> str:
    """Ask git for the revision of a checkout."""
    if not (top / ".git").exists():
        return "unknown"
    command = ["git", "-C", str(top), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return answer.stdout.strip() or "unknown"
