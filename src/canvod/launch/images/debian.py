"""A base image from Debian's packages, for hosts that reach no registry.

``debootstrap`` unpacks a minimal Debian with Python into a temporary folder, and the engine imports it
as an image that the Dockerfiles can use in place of the official one.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import deque
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from canvod.launch.config.redact import without_password
from canvod.launch.docker.engine import Client, translate
from canvod.launch.errors import ImageError
from canvod.launch.host.labels import LABEL_PREFIX
from canvod.launch.images.build_log import BuildEvent, Progress, find_remedy, ignore
from canvod.launch.images.build_network import DEFAULT_MIRROR

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SUITES = {"3.13": "trixie", "3.14": "forky"}
"""Debian suite that has a Python minor version; https://packages.debian.org/python3.14 and the like."""

RELEASED = frozenset({"trixie"})
"""Suites with a security archive of their own; what is still testing gets its fixes directly."""

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
"""Keys that Debian signs its archive with; Debian and Ubuntu have a package for them."""

SCRIPTS = Path("/usr/share/debootstrap/scripts")
"""debootstrap's script for each suite; one that is older than a suite has none for it."""

REPOSITORY = "canvod-launch-base"


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
    if python in SUITES:
        return SUITES[python]
    raise ImageError(
        f"Debian has no Python {python}, so no base image can be made from its packages; "
        f"it has {' and '.join(sorted(SUITES))}.",
        hint=f"make one of another Python: canvod-launch build --base --python {max(SUITES)}; or load an "
        f"image of Python {python} into the engine (docker load) and name it in launch.python_image",
    )


def base_name(python: str) -> str:
    """Name the base image for a Python version.

    Parameters
    ----------
    python : str
        Minor version, such as ``3.14``.

    Returns
    -------
    str
        Name and tag of the image.

    Raises
    ------
    ImageError
        If Debian has no such Python.

    Examples
    --------
    >>> base_name("3.14")
    'canvod-launch-base:3.14-forky'
    """
    return f"{REPOSITORY}:{python}-{suite_for(python)}"


def can_make_base(python: str) -> bool:
    """Tell whether `make_base` would go on to download something here, rather than refuse at once.

    Parameters
    ----------
    python : str
        Minor version, such as ``3.14``.

    Returns
    -------
    bool
        False where Debian has no such Python, this process is not root, or debootstrap or Debian's keys are
        missing.
    """
    try:
        suite_for(python)
        _require_tools(python)
    except ImageError:
        return False
    return True


def make_base(client: Client, python: str, *, mirror: str | None = None, progress: Progress = ignore) -> str:
    """Make the base image for a Python version from Debian's packages.

    Parameters
    ----------
    client : docker.DockerClient
        The engine that gets the image.
    python : str
        Minor version, such as ``3.14``.
    mirror : str, optional
        Debian mirror; by default Debian's own.
    progress : callable, optional
        Called with what is happening.

    Returns
    -------
    str
        Name of the image.

    Raises
    ------
    ImageError
        If Debian has no such Python, this process is not root, debootstrap or Debian's keys are missing, or
        debootstrap fails. Nothing is left behind.
    EngineError
        If the engine does not take the image.
    """
    name = base_name(python)
    _require_tools(python)
    with _temporary_root() as root:
        _bootstrap(root, python, mirror or DEFAULT_MIRROR, lambda line: progress(BuildEvent(name, line)))
        _finish(root, python)
        progress(BuildEvent(name, "importing into the engine"))
        _import(client, root, name, python)
    return name


def _require_tools(python: str) -> None:
    """Refuse with the remedy where debootstrap cannot work, before anything is downloaded."""
    missing = "No registry answers, and making a base image from Debian's packages instead"
    if os.geteuid() != 0:
        # By its path: root's PATH has no environments in it.
        program = Path(sys.executable).with_name("canvod-launch")
        raise ImageError(
            f"{missing} needs root (debootstrap makes device files and changes root).",
            hint=f"run once: sudo {program} build --base --python {python}; "
            f"or load python:{python}-slim into the engine (docker load), or name another image in "
            "launch.python_image",
        )
    if shutil.which("debootstrap") is None:
        raise ImageError(
            f"{missing} needs debootstrap, which is not installed.", hint="apt-get install debootstrap"
        )
    if not KEYRING.is_file():
        # Without keys debootstrap only warns, and takes whatever the network gives it.
        raise ImageError(
            f"{missing} needs Debian's keys in {KEYRING}, and there are none.",
            hint="apt-get install debian-archive-keyring",
        )


@contextmanager
def _temporary_root() -> Iterator[Path]:
    """Give an empty folder, and remove it with everything that is mounted or written below it."""
    # Not /tmp: it may be a small tmpfs, and debootstrap refuses file systems without device files.
    folder = Path(tempfile.mkdtemp(prefix=f"{REPOSITORY}-", dir=os.environ.get("TMPDIR") or "/var/tmp"))  # noqa: S108
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        for mount in reversed(_mounts_below(folder)):
            subprocess.run(["umount", "--lazy", mount], check=False, capture_output=True)
        if left := _mounts_below(folder):
            raise ImageError(
                f"Could not unmount {', '.join(left)} after making a base image.",
                hint=f"umount what is there, then remove {folder}",
            )
        shutil.rmtree(folder, ignore_errors=True)


def _mounts_below(folder: Path) -> list[str]:
    """List what is mounted below a folder, in the order in which it was mounted."""
    mounts = (disk.mountpoint for disk in psutil.disk_partitions(all=True))
    return [mount for mount in mounts if mount.startswith(f"{folder.resolve()}/")]


def _bootstrap(root: Path, python: str, mirror: str, tell: Callable[[str], None]) -> None:
    """Run debootstrap, and end it with all its children if this process is interrupted."""
    suite = suite_for(python)
    packages = f"python{python},python{python}-venv,ca-certificates"
    command = ["debootstrap", "--variant=minbase", f"--include={packages}", f"--keyring={KEYRING}"]
    command += ["--force-check-gpg", suite, str(root), mirror]
    if not (SCRIPTS / suite).exists() and (SCRIPTS / "sid").exists():
        # All newer suites are made in the same way; an older debootstrap does not know the suite's name yet.
        command.append(str(SCRIPTS / "sid"))
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("LC_", "PYTHON"))}
    last: deque[str] = deque(maxlen=15)
    tell(f"debootstrap {suite} from {without_password(mirror)}")
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=environment | {"LANG": "C", "DEBIAN_FRONTEND": "noninteractive"},
        start_new_session=True,
    ) as process:
        try:
            for line in process.stdout or ():
                if text := without_password(line.strip()):
                    last.append(text)
                    tell(text.removeprefix("I: "))
            process.wait()
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            # Until all its children have closed the pipe: none may write into a folder that is removed.
            process.communicate()
            raise
    if process.returncode != 0:
        with suppress(OSError):
            # Its own log, which is removed with the folder.
            last.extend((root / "debootstrap/debootstrap.log").read_text(errors="replace").splitlines()[-5:])
        raise ImageError(
            f"debootstrap could not make a base image of Debian {suite} from {without_password(mirror)} "
            f"(exit status {process.returncode}):\n  " + "\n  ".join(last),
            hint=find_remedy("\n".join(last), _REMEDIES)
            or "look at the lines above; canvod-launch build --base tries again",
        )


_REMEDIES = {
    "unknown key|invalid release signature|no_pubkey": "this host's keys are older than the suite: apt-get "
    "install --only-upgrade debian-archive-keyring",
    "failed getting release|couldn't download|unable to resolve": "name a Debian mirror that this host "
    "reaches: --debian-mirror URL, or launch.build.debian_mirror",
    "noexec or nodev": "set TMPDIR to a folder on a file system that is mounted without noexec and nodev",
    "no space left": "make room for about 1 GiB, or set TMPDIR to a folder that has it",
}
"""What to do about a failure of debootstrap, by words of its output."""


def _finish(root: Path, python: str) -> None:
    """Make the folder look like an official Python image, and drop documents that no container reads."""
    for alias in ("python", "python3"):
        target = root / "usr/local/bin" / alias
        target.unlink(missing_ok=True)
        target.symlink_to(f"/usr/bin/python{python}")
    # The mirror of this network must not stay in the image; who builds on it names the mirror anew.
    suite = suite_for(python)
    sources = f"deb {DEFAULT_MIRROR} {suite} main\n"
    if suite in RELEASED:
        sources += f"deb {DEFAULT_MIRROR}-security {suite}-security main\n"
    (root / "etc/apt/sources.list").write_text(sources)
    for path in (root / "usr/share/doc").rglob("*"):
        # Licences oblige whoever passes the image on to pass these on as well.
        if path.name != "copyright" and not path.is_dir():
            path.unlink()


_SUPERFLUOUS = (
    "usr/share/man/*",
    "usr/share/locale/*",
    "usr/share/lintian/*",
    "var/cache/apt/*",
    "var/lib/apt/lists/*",
    "var/log/*",
    "dev/*",
    "debootstrap",
    "etc/hostname",
    "etc/resolv.conf",
)
"""What no container reads, or has of its own."""


def _import(client: Client, root: Path, name: str, python: str) -> None:
    """Stream the folder into the engine as an image, without a copy on the way."""
    command = ["tar", "--create", "--numeric-owner", "--one-file-system", f"--directory={root}", "--anchored"]
    command += [*(f"--exclude=./{pattern}" for pattern in _SUPERFLUOUS), "."]
    repository, _, tag = name.partition(":")
    with (
        translate(f"import the base image {name}"),
        subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as tar,
    ):
        answer = client.api.import_image_from_data(
            tar.stdout,
            repository=repository,
            tag=tag,
            changes=[
                "ENV PATH=/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin LANG=C.UTF-8",
                'CMD ["python3"]',
                f"LABEL {LABEL_PREFIX}.role=base {LABEL_PREFIX}.python={python}",
            ],
        )
    if tar.returncode != 0 or '"error"' in str(answer):
        raise ImageError(f"Could not import the base image {name}: tar ended with {tar.returncode}; {answer}")
