"""What a build needs of the network it runs in: certificates, a package index, a Debian mirror, proxies.

They are put into a folder that only the builder stage copies, so that they stay in no layer of an image.
"""

from __future__ import annotations

import configparser
import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

from requests.utils import get_auth_from_url, get_netrc_auth

from canvod.launch.errors import ImageError

if TYPE_CHECKING:
    from canvod.launch.config import BuildSettings

CA_VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "PIP_CERT")
"""Environment variables that name a CA bundle; the first that is set counts."""

SYSTEM_BUNDLES = (
    Path("/etc/ssl/certs/ca-certificates.crt"),
    Path("/etc/pki/tls/certs/ca-bundle.crt"),
    Path("/etc/ssl/ca-bundle.pem"),
)
"""What the system trusts (Debian, Red Hat, SUSE): pip and uv on the host follow it, so a build does too."""

INDEX_VARIABLES = ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL")
"""Environment variables that name a package index; the first that is set counts."""

PROXY_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")
"""Arguments that every Docker build knows and keeps out of the image's history."""

DEFAULT_MIRROR = "http://deb.debian.org/debian"
"""Debian's own mirror network; plain http, since packages are signed."""


@dataclass(frozen=True)
class BuildNetwork:
    """What a build needs of its network; `repr` shows no secret."""

    ca_bundle: bytes | None = field(default=None, repr=False)
    """Certificates in PEM format."""
    ca_origin: str | None = None
    """File that they are from."""
    index_url: str | None = field(default=None, repr=False)
    """Package index, without credentials."""
    credentials: str | None = field(default=None, repr=False)
    """Credentials for the index, a line in netrc's format."""
    debian_mirror: str | None = field(default=None, repr=False)
    """Debian mirror."""
    proxies: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Proxy settings, by variable."""

    def files(self) -> dict[str, bytes]:
        """Give the files of ``docker/site``.

        Returns
        -------
        dict of str to bytes
            Contents by name.
        """
        texts = {"index-url": self.index_url, "netrc": self.credentials, "debian-mirror": self.debian_mirror}
        files = {name: f"{text}\n".encode() for name, text in texts.items() if text}
        return files | ({"ca-bundle.pem": self.ca_bundle} if self.ca_bundle else {})

    @property
    def has_credentials(self) -> bool:
        """True where the build's own cache on the engine would hold a password."""
        urls = (self.index_url, self.debian_mirror)
        return self.credentials is not None or any("@" in urlsplit(url).netloc for url in urls if url)


def read_build_network(settings: BuildSettings) -> BuildNetwork:
    """Collect what a build needs: from our settings, else from what pip and apt are told.

    Parameters
    ----------
    settings : BuildSettings
        Section ``launch.build``; a field that is set wins.

    Returns
    -------
    BuildNetwork
        What reaches the build.

    Raises
    ------
    ImageError
        If a CA bundle is named and cannot be read, or holds no certificate; or if pip's settings cannot be
        read.
    """
    pip = _pip_settings()
    indexes = (settings.index_url, *map(os.environ.get, INDEX_VARIABLES), pip.get("index-url"))
    index, credentials = _split_credentials(next(filter(None, indexes), ""))
    bundle, origin = _read_bundle(settings, pip.get("cert"))
    return BuildNetwork(
        ca_bundle=bundle,
        ca_origin=origin,
        index_url=index or None,
        credentials=credentials,
        debian_mirror=settings.debian_mirror or read_mirror(),
        proxies={name: os.environ[name] for name in PROXY_VARIABLES if os.environ.get(name)},
    )


def system_bundle() -> Path | None:
    """Find the file of the authorities that the system trusts.

    Returns
    -------
    Path or None
        The first of `SYSTEM_BUNDLES` that can be read; None where there is none.
    """
    return next((file for file in SYSTEM_BUNDLES if os.access(file, os.R_OK)), None)


def read_mirror() -> str | None:
    """Ask apt for the Debian mirror that it takes binary packages from.

    Returns
    -------
    str or None
        An address whose last part is ``debian``, so neither the security archive nor another distribution;
        None where there is none.
    """
    command = ["apt-get", "update", "--print-uris"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r"'(https?://\S+/debian)/dists/\S+/binary-", answer.stdout)
    return found[1] if found else None


def _read_bundle(settings: BuildSettings, pip_cert: str | None) -> tuple[bytes | None, str | None]:
    """Read the CA bundle, wherever it is named, else the system's, and tell the file."""
    names: dict[str, str | Path | None] = {"launch.build.ca_bundle": settings.ca_bundle}
    names |= {name: os.environ.get(name) for name in CA_VARIABLES} | {"pip's setting cert": pip_cert}
    named, path = next(((name, path) for name, path in names.items() if path), (None, system_bundle()))
    if path is None:
        return None, None
    try:
        content = Path(path).read_bytes()
    except OSError as exc:
        reason = f"cannot be read: {exc.strerror}"
    else:
        if named is None or re.search(rb"-----BEGIN (TRUSTED )?CERTIFICATE-----", content):
            return content, str(path)
        reason = "holds no certificate in PEM format"
    raise ImageError(
        f"The CA bundle {path} ({named}) {reason}.", hint=f"correct {named}, or give another with --ca-bundle"
    )


def _pip_settings() -> dict[str, str]:
    """Read ``index-url`` and ``cert`` of pip; https://pip.pypa.io/en/stable/topics/configuration/."""
    named = os.environ.get("PIP_CONFIG_FILE")
    if named == os.devnull:
        return {}
    home = Path(os.environ.get("HOME") or "/")
    user = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
    folders = [Path(name) / "pip" for name in (os.environ.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(":")]
    folders += [Path("/etc"), home / ".pip", user / "pip"]
    parser = configparser.RawConfigParser()
    try:
        # The last file that has a value wins, and in it [install] over [global].
        parser.read([*(folder / "pip.conf" for folder in folders), *([named] if named else [])])
    except (configparser.Error, UnicodeDecodeError) as exc:
        raise ImageError(
            f"pip's settings cannot be read: {exc}", hint="correct the file, or set PIP_CONFIG_FILE=/dev/null"
        ) from exc
    return {
        key: value
        for section in ("global", "install")
        for key in ("index-url", "cert")
        if (value := parser.get(section, key, fallback="").strip())
    }


def _split_credentials(url: str) -> tuple[str, str | None]:
    """Take the credentials out of an address, into a line of netrc's; look them up there if it has none."""
    parts = urlsplit(url)
    found = get_auth_from_url(url) if "@" in parts.netloc else get_netrc_auth(url)
    if not found or not all(found) or any(map(str.isspace, "".join(found))):
        # netrc's words end at blanks and cannot be empty: such credentials fit into an address only.
        return url, None
    plain = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    return plain, f"machine {parts.hostname} login {found[0]} password {found[1]}"
