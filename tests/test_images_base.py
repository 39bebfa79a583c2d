"""The base image from Debian's packages: refusals, failures and interruptions leave nothing behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from canvod.launch.images.debian import KEYRING, base_name

CODE = """
import sys
from canvod.launch.errors import ImageError
from canvod.launch.images.debian import make_base
try:
    make_base(None, "3.14", mirror=sys.argv[1], progress=lambda event: print(event.line, flush=True))
except ImageError as exc:
    sys.exit(str(exc))
"""
NOWHERE = "http://127.0.0.1:9/debian"

needs_debootstrap = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("debootstrap") is None or not KEYRING.is_file(),
    reason="needs root, debootstrap and Debian's keys",
)
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


def start(folder, mirror=NOWHERE, **options):
    """Start making a base image in a process of its own, with a folder of its own for what is temporary."""
    environ = {"TMPDIR": str(folder), "PATH": os.environ["PATH"], **options.pop("env", {})}
    return subprocess.Popen(
        [sys.executable, "-c", CODE, mirror],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environ,
        **options,
    )


def test_the_name_tells_python_and_suite():
    """One base image for each Python version, named after the Debian suite that it comes from."""
    assert base_name("3.13") == "canvod-launch-base:3.13-trixie"


@needs_root
def test_without_root_the_remedy_is_named(tmp_path):
    """A user without the right to run debootstrap reads the command that an administrator runs once."""
    folders = Path(sys.executable).resolve().parents
    if not all(folder.stat().st_mode & 0o001 for folder in folders):
        pytest.skip(f"another user cannot run {Path(sys.executable).resolve()}")
    tmp_path.chmod(0o777)
    process = start(tmp_path, user=65534, group=65534, extra_groups=[], cwd="/")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "needs root" in errors
    assert "build --base --python 3.14" in errors


@needs_root
def test_without_debootstrap_the_remedy_is_named(tmp_path):
    """A missing debootstrap is found before anything is downloaded."""
    process = start(tmp_path, env={"PATH": str(tmp_path)})
    _, errors = process.communicate(timeout=60)
    assert "needs debootstrap" in errors
    assert "apt-get install debootstrap" in errors


@needs_debootstrap
def test_a_mirror_that_does_not_answer(tmp_path):
    """The error shows debootstrap's own words and how to name another mirror; the folder is gone."""
    process = start(tmp_path)
    _, errors = process.communicate(timeout=120)
    assert "debootstrap could not make a base image of Debian forky from http://127.0.0.1:9/debian" in errors
    assert "--debian-mirror URL" in errors
    assert list(tmp_path.iterdir()) == []


@needs_debootstrap
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_leaves_nothing(tmp_path, number, stalling_mirror):
    """Ctrl-C ends debootstrap and removes its folder; a handler that raises on SIGTERM does the same."""
    code = "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))\n"
    environ = {"TMPDIR": str(tmp_path), "PATH": os.environ["PATH"]}
    with subprocess.Popen(
        [sys.executable, "-c", code + CODE, stalling_mirror],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environ,
    ) as process:
        for line in process.stdout:
            if "Retrieving" in line:
                break
        assert list(tmp_path.iterdir()) != []
        process.send_signal(number)
        process.communicate(timeout=30)
    assert process.returncode not in {0, None}
    assert list(tmp_path.iterdir()) == []
    assert str(tmp_path) not in Path("/proc/mounts").read_text()
    assert not [
        folder for folder in Path("/proc").glob("[0-9]*") if str(tmp_path).encode() in command_line(folder)
    ]


def command_line(folder):
    """Command line of a process, empty where it is gone."""
    try:
        return (folder / "cmdline").read_bytes()
    except OSError:
        return b""


@pytest.fixture
def stalling_mirror():
    """A mirror that takes connections and never answers."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/debian"
