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
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from canvod.launch.config.redact import without_password
from canvod.launch.docker.engine import Client, translate
from canvod.launch.errors import ImageError
from canvod.launch.host.labels import LABEL_PREFIX
from canvod.launch.images.build_events import BuildEvent, Progress, ignore
from canvod.launch.images.debian import DEFAULT_MIRROR, RELEASED, suite_for
from canvod.launch.units import MIB

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
"""Keys that Debian signs its archive with; Debian and Ubuntu have a package for them."""

SCRIPTS = Path("/usr/share/debootstrap/scripts")
"""debootstrap's script for each suite; one that is older than a suite has none for it."""

REPOSITORY = "canvod-launch-base"

_MOUNTS = Path("/proc/mounts")
_CHUNK_BYTES = MIB


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
    """Tell whether `make_base` would be refused here before anything is downloaded."""
    try:
        base_name(python)
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
    suite = suite_for(python)
    name = base_name(python)
    _require_tools(python)
    with _temporary_root() as root:
        _bootstrap(
            root, python, suite, mirror or DEFAULT_MIRROR, lambda line: progress(BuildEvent(name, line))
        )
        _finish(root, python, suite)
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
    prefix = f"{folder.resolve()}/"
    targets = (line.split()[1] for line in _MOUNTS.read_text().splitlines())
    # The kernel writes blanks in paths as octal escapes.
    return [
        target
        for target in (t.encode().decode("unicode_escape") for t in targets)
        if target.startswith(prefix)
    ]


def _bootstrap(root: Path, python: str, suite: str, mirror: str, tell: Callable[[str], None]) -> None:
    """Run debootstrap, and end it with all its children if this process is interrupted."""
    packages = f"python{python},python{python}-venv,ca-certificates"
    command = ["debootstrap", "--variant=minbase", f"--include={packages}", f"--keyring={KEYRING}"]
    command += ["--force-check-gpg", suite, str(root), mirror]
    if not (SCRIPTS / suite).exists() and (SCRIPTS / "sid").exists():
        # All newer suites are made in the same way; an older debootstrap does not know the suite's name yet.
        command.append(str(SCRIPTS / "sid"))
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("LC_", "PYTHON"))}
    environment |= {"LANG": "C", "DEBIAN_FRONTEND": "noninteractive"}
    last: deque[str] = deque(maxlen=15)
    tell(f"debootstrap {suite} from {without_password(mirror)}")
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=environment,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None  # noqa: S101 - for the type checker
        with process.stdout as output:
            for line in output:
                if text := without_password(line.strip()):
                    last.append(text)
                    tell(text.removeprefix("I: "))
        status = process.wait()
    except BaseException:
        _end(process)
        raise
    if status != 0:
        _save_log(root, last)
        raise ImageError(
            f"debootstrap could not make a base image of Debian {suite} from {without_password(mirror)} "
            f"(exit status {status}):\n  " + "\n  ".join(last),
            hint=_remedy("\n".join(last)),
        )


def _end(process: subprocess.Popen[str]) -> None:
    """End a process and its children, so that none of them still writes into the folder."""
    for number, patience_s in ((signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0)):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(patience_s)
            return


def _save_log(root: Path, last: deque[str]) -> None:
    """Add the end of debootstrap's own log, which goes with the folder."""
    with suppress(OSError):
        last.extend((root / "debootstrap/debootstrap.log").read_text(errors="replace").splitlines()[-5:])


def _remedy(output: str) -> str:
    """Say what to do about a failure of debootstrap."""
    if "unknown key" in output or "Invalid Release signature" in output or "NO_PUBKEY" in output:
        return (
            "this host's keys are older than the suite: apt-get install --only-upgrade debian-archive-keyring"
        )
    if "Failed getting release" in output or "Couldn't download" in output or "unable to resolve" in output:
        return (
            "name a Debian mirror that this host reaches: --debian-mirror URL, or launch.build.debian_mirror"
        )
    if "noexec or nodev" in output:
        return "set TMPDIR to a folder on a file system that is mounted without noexec and nodev"
    if "No space left" in output:
        return "make room for about 1 GiB, or set TMPDIR to a folder that has it"
    return "look at the lines above; canvod-launch build --base tries again"


def _finish(root: Path, python: str, suite: str) -> None:
    """Make the folder look like an official Python image, and drop what no container reads."""
    for alias in ("python", "python3"):
        target = root / "usr/local/bin" / alias
        target.unlink(missing_ok=True)
        target.symlink_to(f"/usr/bin/python{python}")
    # The site's mirror must not stay in the image; who builds on it names the mirror anew.
    sources = [f"deb {DEFAULT_MIRROR} {suite} main"]
    if suite in RELEASED:
        sources.append(f"deb {DEFAULT_MIRROR}-security {suite}-security main")
    (root / "etc/apt/sources.list").write_text("\n".join(sources) + "\n")
    for pattern in _SUPERFLUOUS:
        for path in root.glob(pattern):
            _remove(path)
    for path in sorted((root / "usr/share/doc").rglob("*"), reverse=True):
        # Licences oblige whoever passes the image on to pass these on as well.
        if path.name != "copyright" and not (path.is_dir() and any(path.iterdir())):
            _remove(path)


_SUPERFLUOUS = (
    "usr/share/man/*",
    "usr/share/locale/*",
    "usr/share/info/*",
    "usr/share/lintian/*",
    "var/cache/apt/*",
    "var/cache/debconf/*-old",
    "var/lib/apt/lists/*",
    "var/log/*",
    "var/tmp/*",
    "tmp/*",
    "dev/*",
    "debootstrap",
    "etc/hostname",
    "etc/resolv.conf",
)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _import(client: Client, root: Path, name: str, python: str) -> None:
    """Stream the folder into the engine as an image, without a copy on the way."""
    command = ["tar", "--create", "--numeric-owner", "--one-file-system", f"--directory={root}", "."]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
    repository, _, tag = name.partition(":")
    try:
        assert process.stdout is not None  # noqa: S101 - for the type checker
        chunks = iter(partial(process.stdout.read, _CHUNK_BYTES), b"")
        with translate(f"import the base image {name}"):
            answer = client.api.import_image_from_data(
                chunks,
                repository=repository,
                tag=tag,
                changes=[
                    "ENV PATH=/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin LANG=C.UTF-8",
                    'CMD ["python3"]',
                    f"LABEL {LABEL_PREFIX}.role=base {LABEL_PREFIX}.python={python}",
                ],
            )
        status = process.wait()
    finally:
        process.kill()
        process.communicate()
    if status != 0 or '"error"' in str(answer):
        raise ImageError(f"Could not import the base image {name}: tar ended with {status}; {answer}")
