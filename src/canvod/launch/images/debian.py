"""Debian as a source of Python: which suite has which version, and which mirror this host uses."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from canvod.launch.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

SUITES = {"3.13": "trixie", "3.14": "forky"}
"""Debian suite that has a Python minor version; https://packages.debian.org/python3.14 and the like."""

RELEASED = frozenset({"trixie"})
"""Suites with a security archive of their own; what is still testing gets its fixes directly."""

DEFAULT_MIRROR = "http://deb.debian.org/debian"
"""Debian's own mirror network; plain http, since packages are signed."""

APT_SOURCES = (Path("/etc/apt/sources.list"), Path("/etc/apt/sources.list.d"))
"""Where apt keeps its settings."""


def suite_for(python: str) -> str:
    """Tell which Debian suite has a Python version.

    Parameters
    ----------
    python : str
        Minor version, such as ``3.14``.

    Returns
    -------
    str
        Code name of the suite.

    Raises
    ------
    ImageError
        If no suite has it.

    Examples
    --------
    >>> suite_for("3.13")
    'trixie'
    """
    try:
        return SUITES[python]
    except KeyError:
        raise ImageError(
            f"Debian has no Python {python}, so no base image can be made from its packages; "
            f"it has {' and '.join(sorted(SUITES))}.",
            hint=f"make one of another Python: canvod-launch build --base --python {max(SUITES)}; or load an "
            f"image of Python {python} into the engine (docker load) and name it in launch.python_image",
        ) from None


def read_mirror(sources: Iterable[Path] = APT_SOURCES) -> str | None:
    """Read the Debian mirror from apt's settings.

    Parameters
    ----------
    sources : iterable of pathlib.Path
        Files, and folders of files, in the order in which apt reads them.

    Returns
    -------
    str or None
        The first address whose last part is ``debian``, so neither the security archive nor another
        distribution; None where there is none.
    """
    for path in sources:
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        for file in files:
            if file.suffix not in {".list", ".sources"} or not file.is_file():
                continue
            for address in _addresses(file.read_text(errors="replace"), deb822=file.suffix == ".sources"):
                parts = urlsplit(address)
                if (
                    parts.scheme in {"http", "https"}
                    and parts.path.rstrip("/").rpartition("/")[2] == "debian"
                ):
                    return address.rstrip("/")
    return None


def _addresses(text: str, *, deb822: bool) -> Iterator[str]:
    """Yield the addresses of binary packages from one of apt's two formats."""
    if not deb822:
        for line in text.splitlines():
            kind, _, rest = line.strip().partition(" ")
            if kind == "deb":
                yield from (word for word in rest.split() if "://" in word)
        return
    for stanza in text.split("\n\n"):
        lines = [line for line in stanza.splitlines() if not line.startswith("#")]
        fields = {key.strip().lower(): value for key, _, value in (line.partition(":") for line in lines)}
        if fields.get("enabled", "yes").strip().lower() not in {"no", "false"}:
            yield from fields.get("uris", "").split()
