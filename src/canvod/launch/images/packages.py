"""Packages that a lab adds to the images, as requirements for pip."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from canvod.launch.config.redact import without_password
from canvod.launch.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence


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
        found.update(_read(Path(entry)) if entry.startswith("/") else [entry])
    return "".join(f"{line}\n" for line in sorted(found))


def _read(path: Path) -> list[str]:
    """Read the requirements of a file: without comments, each on one line."""
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "it is no text"
        raise ConfigError(
            f"launch.packages: the file {path} cannot be read: {reason}.",
            hint="name packages as pip takes them from an index (numba==0.63.1), or a requirements file",
        ) from exc
    found: list[str] = []
    for number, line in _lines(text):
        if without_password(line) != line:
            raise ConfigError(
                f"{path}:{number}: {without_password(line)} has a password in an address, which would stay "
                "in the cache of builds.",
                hint="name the package alone, and its index in launch.build.index_url or pip's settings",
            )
        if line.startswith(("-", ".", "/")):
            raise ConfigError(
                f"{path}:{number}: {line} names an option or a file, and an image build sees neither.",
                hint="write names of packages with their versions and hashes; an index goes into "
                "launch.build.index_url, another file of requirements into launch.packages",
            )
        found.append(line)
    return found


def _lines(text: str) -> list[tuple[int, str]]:
    """Join what a backslash continues, and leave out comments."""
    found: list[tuple[int, str]] = []
    pending, first = "", 0
    for number, line in enumerate(text.splitlines(), 1):
        first = first if pending else number
        stripped = "" if line.lstrip().startswith("#") else line.split(" #")[0].strip()
        pending = f"{pending} {stripped.removesuffix('\\')}".strip()
        if not stripped.endswith("\\"):
            if pending:
                found.append((first, " ".join(pending.split())))
            pending = ""
    if pending:
        found.append((first, " ".join(pending.split())))
    return found
