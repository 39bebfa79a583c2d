"""What a build needs of the network it runs in: certificates, a package index, a Debian mirror, proxies.

They are put into a folder that only the builder stage copies, so that they stay in no layer of an image. Only
the standard library is imported here: a script asks for the mirror before there is an environment.
"""

from __future__ import annotations

import configparser
import netrc
import os
import re
from dataclasses import dataclass, field
from email import message_from_string
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit, urlunsplit

from canvod.launch.errors import ImageError

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

DEFAULT_MIRROR = "http://deb.debian.org/debian"
"""Debian's own mirror network; plain http, since packages are signed."""

APT_SOURCES = (Path("/etc/apt/sources.list"), Path("/etc/apt/sources.list.d"))
"""Where apt keeps its settings."""


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


def read_build_network(settings: BuildSettings, environ: Mapping[str, str] = os.environ) -> BuildNetwork:
    """Collect what a build needs: from our settings, else from what pip and apt are told.

    Parameters
    ----------
    settings : BuildSettings
        Section ``launch.build``; a field that is set wins.
    environ : mapping of str to str
        Environment variables.

    Returns
    -------
    BuildNetwork
        What reaches the build.

    Raises
    ------
    ImageError
        If a CA bundle is named and cannot be read, or holds no certificate.
    """
    pip = _pip_settings(environ)
    index = settings.index_url or _first(environ, INDEX_VARIABLES)[1] or pip.get("index-url")
    plain, credentials = _split_credentials(index, environ) if index else (None, None)
    bundle, origin = _read_bundle(settings, environ, pip.get("cert"))
    return BuildNetwork(
        ca_bundle=bundle,
        ca_origin=origin,
        index_url=plain,
        credentials=credentials,
        debian_mirror=settings.debian_mirror or read_mirror(),
        proxies={name: environ[name] for name in PROXY_VARIABLES if environ.get(name)},
    )


def system_bundle() -> Path | None:
    """Find the file of the authorities that the system trusts; None where there is none to read."""
    return next((file for file in SYSTEM_BUNDLES if os.access(file, os.R_OK)), None)


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
        for file in sorted(path.iterdir()) if path.is_dir() else [path]:
            for address in _apt_addresses(file):
                if re.fullmatch(r"https?://.+/debian/?", address):
                    return address.rstrip("/")
    return None


def _apt_addresses(file: Path) -> list[str]:
    """List the addresses of binary packages in a file of one of apt's two formats."""
    if file.suffix not in {".list", ".sources"} or not file.is_file():
        return []
    text = re.sub(r"(?m)^\s*#.*\n?", "", file.read_text(errors="replace"))
    if file.suffix == ".list":
        return re.findall(r"(?m)^\s*deb\s.*?(\w+://\S+)", text)
    # Fields as those of an e-mail, in stanzas with a blank line between them.
    stanzas = [message_from_string(stanza) for stanza in re.split(r"\n\s*\n", text.strip())]
    used = (stanza for stanza in stanzas if str(stanza.get("Enabled")).strip().lower() not in {"no", "false"})
    return [address for stanza in used for address in str(stanza.get("URIs", "")).split()]


def _first(environ: Mapping[str, str], names: Iterable[str]) -> tuple[str | None, str | None]:
    """Find the first variable that is set, and its value."""
    return next(((name, environ[name]) for name in names if environ.get(name)), (None, None))


def _read_bundle(
    settings: BuildSettings, environ: Mapping[str, str], pip_cert: str | None
) -> tuple[bytes | None, str | None]:
    """Read the CA bundle, wherever it is named, else the system's, and tell the file."""
    named, path = _first(environ, CA_VARIABLES)
    if settings.ca_bundle is not None:
        named, path = "launch.build.ca_bundle", str(settings.ca_bundle)
    named, path = named or "pip's setting cert", path or pip_cert
    if not path:
        system = system_bundle()
        return (None, None) if system is None else (system.read_bytes(), str(system))
    hint = f"correct {named}, or give another with --ca-bundle"
    try:
        content = Path(path).read_bytes()
    except OSError as exc:
        raise ImageError(
            f"The CA bundle {path} ({named}) cannot be read: {exc.strerror}.", hint=hint
        ) from exc
    if not re.search(rb"-----BEGIN (TRUSTED )?CERTIFICATE-----", content):
        raise ImageError(f"The CA bundle {path} ({named}) holds no certificate in PEM format.", hint=hint)
    return content, path


def _pip_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """Read ``index-url`` and ``cert`` of pip; https://pip.pypa.io/en/stable/topics/configuration/."""
    named = environ.get("PIP_CONFIG_FILE")
    if named == os.devnull:
        return {}
    home = Path(environ.get("HOME") or "/")
    user = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
    folders = [Path(name) / "pip" for name in (environ.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(":")]
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
