"""What a site's network needs for a build: certificates, a package index, a Debian mirror.

They travel in a folder that only the builder stage copies, so that they stay in no layer of an image.
"""

from __future__ import annotations

import configparser
import netrc
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit, urlunsplit

from canvod.launch.errors import ImageError
from canvod.launch.images.debian import read_mirror

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

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


@dataclass(frozen=True)
class Site:
    """What a site's network needs; `repr` shows no secret."""

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
        if self.ca_bundle:
            files["ca-bundle.pem"] = self.ca_bundle
        return files

    @property
    def has_credentials(self) -> bool:
        """True where the build's own cache on the engine would hold a password."""
        urls = (self.index_url, self.debian_mirror)
        return self.credentials is not None or any("@" in urlsplit(url).netloc for url in urls if url)


def system_bundle() -> Path | None:
    """Find the file of the authorities that the system trusts; None where there is none to read."""
    return next((file for file in SYSTEM_BUNDLES if os.access(file, os.R_OK)), None)


def read_site(settings: BuildSettings, environ: Mapping[str, str] = os.environ) -> Site:
    """Collect what the site's network needs: from our settings, else from what pip and apt are told.

    Parameters
    ----------
    settings : BuildSettings
        Section ``launch.build``; a field that is set wins.
    environ : mapping of str to str
        Environment variables.

    Returns
    -------
    Site
        What reaches the build.

    Raises
    ------
    ImageError
        If a CA bundle is named and cannot be read, or holds no certificate.
    """
    pip = _pip_settings(_pip_files(environ))
    index = settings.index_url or _first(environ, INDEX_VARIABLES) or pip.get("index-url")
    plain, credentials = _split_credentials(index, environ) if index else (None, None)
    bundle, origin = _read_bundle(settings, environ, pip.get("cert"))
    return Site(
        ca_bundle=bundle,
        ca_origin=origin,
        index_url=plain,
        credentials=credentials,
        debian_mirror=settings.debian_mirror or read_mirror(),
        proxies={name: environ[name] for name in PROXY_VARIABLES if environ.get(name)},
    )


def _first(environ: Mapping[str, str], names: Iterable[str]) -> str | None:
    return next((environ[name] for name in names if environ.get(name)), None)


def _read_bundle(
    settings: BuildSettings, environ: Mapping[str, str], pip_cert: str | None
) -> tuple[bytes | None, str | None]:
    """Read the CA bundle, wherever it is named, else the system's, and tell the file."""
    if settings.ca_bundle is not None:
        origin, path = "launch.build.ca_bundle", str(settings.ca_bundle)
    else:
        origin = next((name for name in CA_VARIABLES if environ.get(name)), "pip's setting cert")
        path = environ.get(origin) or pip_cert or ""
    if not path:
        system = system_bundle()
        return (None, None) if system is None else (system.read_bytes(), str(system))
    hint = f"correct {origin}, or give another with --ca-bundle"
    try:
        content = Path(path).read_bytes()
    except OSError as exc:
        raise ImageError(
            f"The CA bundle {path} ({origin}) cannot be read: {exc.strerror}.", hint=hint
        ) from exc
    if (
        b"-----BEGIN CERTIFICATE-----" not in content
        and b"-----BEGIN TRUSTED CERTIFICATE-----" not in content
    ):
        raise ImageError(f"The CA bundle {path} ({origin}) holds no certificate in PEM format.", hint=hint)
    return content, path


def _pip_files(environ: Mapping[str, str]) -> list[Path]:
    """List pip's settings files, the strongest last; https://pip.pypa.io/en/stable/topics/configuration/."""
    named = environ.get("PIP_CONFIG_FILE")
    if named == os.devnull:
        return []
    home = Path(environ.get("HOME") or "/")
    user = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
    system = [
        Path(folder) / "pip/pip.conf" for folder in (environ.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(":")
    ]
    files = [*system, Path("/etc/pip.conf"), home / ".pip/pip.conf", user / "pip/pip.conf"]
    return [*files, Path(named)] if named else files


def _pip_settings(files: Iterable[Path]) -> dict[str, str]:
    """Read the settings that a build needs; ``[install]`` wins over ``[global]``."""
    parser = configparser.RawConfigParser()
    try:
        parser.read(files)
    except (configparser.Error, UnicodeDecodeError) as exc:
        raise ImageError(
            f"pip's settings cannot be read: {exc}", hint="correct the file, or set PIP_CONFIG_FILE=/dev/null"
        ) from exc
    found: dict[str, str] = {}
    for section in ("global", "install"):
        for key in ("index-url", "cert"):
            if parser.has_option(section, key) and (value := parser.get(section, key).strip()):
                found[key] = value
    return found


def _split_credentials(url: str, environ: Mapping[str, str]) -> tuple[str, str | None]:
    """Take the credentials out of an address, into a line of netrc's; look them up there if it has none."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.username is not None:
        user, password = unquote(parts.username), unquote(parts.password or "")
        if not password or any(character.isspace() for character in user + password):
            # netrc's words end at blanks and cannot be empty: such credentials fit into an address only.
            return url, None
        netloc = parts.netloc.rpartition("@")[2]
        return urlunsplit(parts._replace(netloc=netloc)), f"machine {host} login {user} password {password}"
    path = Path(environ.get("NETRC") or Path(environ.get("HOME") or "/") / ".netrc")
    try:
        found = netrc.netrc(path).authenticators(host) if path.is_file() else None
    except (netrc.NetrcParseError, OSError):
        found = None
    return url, f"machine {host} login {found[0]} password {found[2]}" if found else None
