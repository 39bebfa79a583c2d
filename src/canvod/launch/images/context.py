"""The build context: the same files, in the same places, from a checkout and from an installed wheel.

What an image is built from decides its name and labels, so the names for a plan come from here, too.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import subprocess
import tarfile
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import canvod.launch
from canvod.launch.config.redact import without_password
from canvod.launch.errors import ConfigError, ImageError
from canvod.launch.host.inventory import Frozen
from canvod.launch.host.labels import LABEL_PREFIX
from canvod.launch.plan.container_plans import image_name
from canvod.launch.plan.model import Role

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from canvod.launch.config import Settings

ROLES: tuple[Role, ...] = ("worker", "scheduler")
"""Both images, in the order in which they are built."""

LOCK_FILE = "requirements.lock"
"""The lock file that both images are installed from."""


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

NETWORK_FOLDER = "docker/site"
"""Where what the build's network needs goes; what a checkout has there is neither read nor hashed."""

PACKAGES_FILE = "docker/packages/requirements.txt"
"""Where `launch.packages` goes; what a checkout has there is neither read nor hashed."""

CARRIED = "_build"
"""Folder inside an installed package that holds what a checkout has at its top."""


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


_ARGUMENTS = ("version", "python", "lock", "packages", "digest", "revision", "checkout")
"""What of an identity is a label of the image and an argument of its Dockerfile."""


class ImageIdentity(Frozen):
    """What one image was, or would be, built from."""

    role: Role
    """What its containers do."""
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
        return {f"{LABEL_PREFIX}.{key}": getattr(self, key) for key in (*_ARGUMENTS, "role")}

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
        return {key.upper(): getattr(self, key) for key in _ARGUMENTS} | {"PYTHON_IMAGE": base, "BASE": base}


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

    def tar(self, network: Mapping[str, bytes] | None = None) -> bytes:
        """Pack the context, the same bytes for the same files.

        Parameters
        ----------
        network : mapping of str to bytes, optional
            Files for ``docker/site``, by name.

        Returns
        -------
        bytes
            An uncompressed tar archive.
        """
        extra = {f"{NETWORK_FOLDER}/{name}": content for name, content in (network or {}).items()}
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
        If files that the images need are missing.
    ConfigError
        If a file of `packages` cannot be used.
    """
    package = package or Path(next(iter(canvod.launch.__path__)))
    carried = package / CARRIED
    top = carried if carried.is_dir() else package.parents[2]
    missing = [name for name in TOP_FILES if not (top / name).is_file()]
    if missing:
        raise ImageError(
            f"The images cannot be built from {top}: {', '.join(missing)} missing.",
            hint="install canvod-launch anew from its wheel, or run it from a complete checkout",
        )
    paths = {name: top / name for name in TOP_FILES}
    paths |= {f"docker/{path.name}": path for path in (top / "docker").glob("*.sh")}
    for path in package.rglob("*"):
        relative = path.relative_to(package)
        if path.is_file() and _is_source(relative):
            paths[f"src/canvod/launch/{relative.as_posix()}"] = path
    files = {name: path.read_bytes() for name, path in sorted(paths.items())}
    return BuildContext(
        files=files,
        version=str(tomllib.loads(files["pyproject.toml"].decode())["project"]["version"]),
        revision=_revision(top),
        checkout=digest({"path": os.fsencode(top.resolve())}),
        packages=packages_text(packages),
    )


def _is_source(relative: Path) -> bool:
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


def image_namer(settings: Settings) -> Callable[[Role, str], str]:
    """Give the names of the images that the settings ask for.

    Parameters
    ----------
    settings : Settings
        Their section ``launch`` counts.

    Returns
    -------
    callable
        As `canvod.launch.plan.planner.make_plan` takes it: a name for a role and a Python.

    Raises
    ------
    ImageError
        If files are missing that the images are built from.
    ConfigError
        If a file of ``launch.packages`` cannot be used.
    """
    context = read_context(packages=settings.launch.packages)
    base = settings.launch.python_image
    return lambda role, python: context.identity(role, python, base).name


def packages_text(packages: Sequence[str]) -> str:
    r"""Write `launch.packages` as one file of requirements.

    Parameters
    ----------
    packages : sequence of str
        Requirements of pip, and absolute paths of files of requirements.

    Returns
    -------
    str
        A line for each requirement, sorted; empty where there is none.

    Raises
    ------
    ConfigError
        If a file cannot be read, or has a line that holds on this host only.

    Examples
    --------
    >>> packages_text(["pandas==3.1.1", "numba>=0.60"])
    'numba>=0.60\npandas==3.1.1\n'
    """
    found: set[str] = set()
    for entry in packages:
        found.update(_requirements(Path(entry)) if entry.startswith("/") else [entry])
    return "".join(f"{line}\n" for line in sorted(found))


_LOGICAL_LINE = re.compile(r"(?:(?![ \t]*#)[^\n]*\\\n)*[^\n]*")
_COMMENT = re.compile(r"(^|\s)#[^\n]*")


def _requirements(path: Path) -> list[str]:
    """Read the requirements of a file as pip does: without comments, lines joined that a backslash ends."""
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "it is no text"
        raise ConfigError(
            f"launch.packages: the file {path} cannot be read: {reason}.",
            hint="name packages as pip takes them from an index (numba==0.63.1), or a requirements file",
        ) from exc
    found: list[str] = []
    for match in _LOGICAL_LINE.finditer(text):
        line = " ".join(_COMMENT.sub("", match[0].replace("\\\n", " ")).split())
        place = f"{path}:{text.count('\n', 0, match.start()) + 1}"
        if without_password(line) != line:
            raise ConfigError(
                f"{place}: {without_password(line)} has a password in an address, which would stay "
                "in the cache of builds.",
                hint="name the package alone, and its index in launch.build.index_url or pip's settings",
            )
        if line.startswith(("-", ".", "/")):
            raise ConfigError(
                f"{place}: {line} names an option or a file, and an image build sees neither.",
                hint="write names of packages with their versions and hashes; an index goes into "
                "launch.build.index_url, another file of requirements into launch.packages",
            )
        found += [line] if line else []
    return found
