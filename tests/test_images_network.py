"""What a build needs of its network: found where pip and apt have it, and never shown."""

from __future__ import annotations

import os
import shutil

import pytest

from canvod.launch.config import BuildSettings
from canvod.launch.errors import ImageError
from canvod.launch.images import build_network
from canvod.launch.images.build_network import read_build_network, read_mirror
from canvod.launch.images.debian import suite_for

PEM = b"-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----\n"


@pytest.fixture
def environ(tmp_path, monkeypatch):
    """The environment, with an empty home, in which nothing is set."""
    environ = {
        "HOME": str(tmp_path),
        "XDG_CONFIG_DIRS": str(tmp_path / "xdg"),
        "PIP_CONFIG_FILE": "/dev/null",
    }
    environ["PATH"] = os.environ["PATH"]
    monkeypatch.setattr(os, "environ", environ)
    return environ


def write(path, content):
    """Write a file, folders included, and return it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_variables_are_asked_in_order(environ, tmp_path):
    """SSL_CERT_FILE goes before REQUESTS_CA_BUNDLE, that before PIP_CERT, and the setting before all."""
    for name in ("PIP_CERT", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"):
        environ[name] = str(write(tmp_path / name, PEM + name.encode()))
        assert read_build_network(BuildSettings()).ca_bundle == PEM + name.encode()
    own = write(tmp_path / "own.pem", PEM)
    assert read_build_network(BuildSettings(ca_bundle=own)).ca_bundle == PEM


@pytest.mark.parametrize(
    ("content", "message"), [(None, "cannot be read: No such file"), (b"x", "no certificate")]
)
def test_a_bundle_that_cannot_be_used_is_refused(environ, tmp_path, content, message):
    """The error names the file, where its name came from, and the way out."""
    path = tmp_path / "bundle.pem"
    if content:
        write(path, content)
    environ["SSL_CERT_FILE"] = str(path)
    with pytest.raises(ImageError, match=message) as caught:
        read_build_network(BuildSettings())
    assert str(path) in str(caught.value)
    assert "SSL_CERT_FILE" in str(caught.value)
    assert "--ca-bundle" in str(caught.value)


def test_pips_settings_give_index_and_certificates(environ, tmp_path):
    """pip.conf of the user counts, and its section install before global."""
    del environ["PIP_CONFIG_FILE"]
    bundle = write(tmp_path / "lab.pem", PEM)
    write(
        tmp_path / ".config/pip/pip.conf",
        f"[global]\nindex-url = https://old.example/simple\ncert = {bundle}\n"
        "[install]\nindex-url = https://pypi.example/simple\n",
    )
    network = read_build_network(BuildSettings())
    assert network.index_url == "https://pypi.example/simple"
    assert network.ca_bundle == PEM
    environ["PIP_INDEX_URL"] = "https://variable.example/simple"
    assert read_build_network(BuildSettings()).index_url == "https://variable.example/simple"
    settings = BuildSettings(index_url="https://setting.example/simple")
    assert read_build_network(settings).index_url == "https://setting.example/simple"


def test_credentials_leave_the_address(environ):
    """A password in the index's address goes into a netrc file, and into no repr."""
    environ["PIP_INDEX_URL"] = "https://me:s%3Acret@pypi.example:8443/simple"
    network = read_build_network(BuildSettings())
    assert network.files()["index-url"] == b"https://pypi.example:8443/simple\n"
    assert network.files()["netrc"] == b"machine pypi.example login me password s:cret\n"
    assert network.has_credentials
    assert "cret" not in repr(network)


def test_credentials_come_from_netrc(environ, tmp_path):
    """Credentials that pip would find in ~/.netrc reach the build, and those of other hosts do not."""
    write(
        tmp_path / ".netrc", "machine pypi.example login me password word\nmachine other login a password b\n"
    )
    (tmp_path / ".netrc").chmod(0o600)
    environ["PIP_INDEX_URL"] = "https://pypi.example/simple"
    assert read_build_network(BuildSettings()).credentials == "machine pypi.example login me password word"


def test_nothing_set_gives_nothing(environ, monkeypatch):
    """On a machine without any setting the build takes the usual addresses."""
    monkeypatch.setattr(build_network, "read_mirror", lambda: None)
    monkeypatch.setattr(build_network, "SYSTEM_BUNDLES", ())
    network = read_build_network(BuildSettings())
    assert network.files() == {}
    assert not network.has_credentials


def test_what_the_system_trusts_is_the_last_resort(environ, tmp_path, monkeypatch):
    """An authority that only the system's store knows serves pip on the host, so it serves the build too."""
    system = write(tmp_path / "etc/ca-certificates.crt", PEM + b"system")
    monkeypatch.setattr(build_network, "SYSTEM_BUNDLES", (tmp_path / "absent", system))
    network = read_build_network(BuildSettings())
    assert (network.ca_bundle, network.ca_origin) == (PEM + b"system", str(system))
    assert network.files()["ca-bundle.pem"] == PEM + b"system"
    environ["PIP_CERT"] = str(write(tmp_path / "own.pem", PEM))
    assert read_build_network(BuildSettings()).ca_origin == environ["PIP_CERT"]


@pytest.mark.parametrize(
    ("name", "text", "mirror"),
    [
        ("debian.list", "deb http://mirror.example/debian/ trixie main\n", "http://mirror.example/debian"),
        (
            "a.list",
            "deb [arch=amd64 signed-by=/k] https://m.example/x/debian sid main\n",
            "https://m.example/x/debian",
        ),
        (
            "a.list",
            "#deb http://off.example/debian trixie main\ndeb-src http://src.example/debian a main\n",
            None,
        ),
        ("a.list", "deb http://security.example/debian-security trixie-security main\n", None),
        ("a.list", "deb http://archive.ubuntu.com/ubuntu noble main\n", None),
        (
            "a.sources",
            "Types: deb\n# old\nURIs: http://m.example/debian\nSuites: a\nComponents: main\n",
            "http://m.example/debian",
        ),
        (
            "a.sources",
            "Types: deb\nEnabled: no\nURIs: http://m.example/debian\nSuites: a\nComponents: main\n",
            None,
        ),
        ("a.sources.bak", "Types: deb\nURIs: http://m.example/debian\nSuites: a\nComponents: main\n", None),
    ],
)
def test_apts_settings_give_the_mirror(tmp_path, monkeypatch, name, text, mirror):
    """Both of apt's formats are read; other distributions, security and what is off are not taken."""
    if shutil.which("apt-get") is None:
        pytest.skip("there is no apt here")
    write(tmp_path / "apt" / name, text)
    parts = f'Dir::Etc::SourceList "/dev/null"; Dir::Etc::SourceParts "{tmp_path / "apt"}";'
    monkeypatch.setenv("APT_CONFIG", str(write(tmp_path / "apt.conf", parts)))
    assert read_mirror() == mirror


def test_a_host_without_apt_has_no_mirror(tmp_path, monkeypatch):
    """Debian's own is taken then."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert read_mirror() is None


def test_a_python_that_debian_lacks_is_refused():
    """The error names what Debian has."""
    with pytest.raises(ImageError, match=r"3\.13 and 3\.14"):
        suite_for("3.12")
