"""What is delivered: the wheel, the lock files and the namespace that canvod's packages share."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from configparser import ConfigParser
from importlib.metadata import version
from importlib.util import find_spec
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from canvod.launch.images.context import read_context
from oracles import oracle

TOP = Path(__file__).resolve().parent.parent
PROJECT: dict[str, Any] = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]
LOCKS = (
    "requirements.lock",
    "requirements-build.lock",
    "requirements-dev.lock",
    "requirements-oracles.lock",
)
PIN = re.compile(
    r"^([a-z0-9-]+)==([^ ;]+)(?: ; [^\\]+)?(?: \\\n    --hash=sha256:[0-9a-f]{64})+$", re.MULTILINE
)
SECRET = "machine index.example login me password secret\n"  # noqa: S105 (of nobody)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of the checkout whose docker/site holds a site's credentials."""
    if find_spec("hatchling") is None:
        pytest.skip("hatchling is not installed: make venv-dev")
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    left_out = shutil.ignore_patterns(
        ".git", ".venv*", ".cache", "__pycache__", ".*_cache", "demo", "dist", "tests"
    )
    shutil.copytree(TOP, source, ignore=left_out)
    (source / "docker/site/netrc").write_text(SECRET)
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder / "dist")]
    subprocess.run(command, cwd=source, check=True, capture_output=True, timeout=120)
    (built,) = (folder / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for PYTHONPATH with what the wheel installs."""
    folder = tmp_path_factory.mktemp("site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def run_python(code: str, *path: Path) -> str:
    """Run code in a Python of its own that finds these folders first, and return what it prints."""
    command = [sys.executable, "-c", f"import sys; sys.path[:0] = {[str(p) for p in path]!r}\n{code}"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60, cwd="/")
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def pins(lock: str) -> dict[str, str]:
    """Read name and version of every requirement of a lock file."""
    return {match[1]: match[2] for match in PIN.finditer((TOP / lock).read_text())}


def test_wheel_builds_the_images_of_the_checkout(installed: Path) -> None:
    """Images built from an installed wheel have the same context, byte for byte, as those of a checkout."""
    from_wheel = read_context(installed / "canvod/launch")
    from_checkout = read_context(TOP / "src/canvod/launch")
    assert sorted(from_wheel.files) == sorted(from_checkout.files)
    assert from_wheel.files == from_checkout.files
    assert from_wheel.version == from_checkout.version


def test_wheel_carries_every_script_of_the_image_build(installed: Path) -> None:
    """A script that is added to docker/ is added to the wheel as well."""
    scripts = {path.name for path in (TOP / "docker").glob("*.sh")}
    carried = {path.name for path in (installed / "canvod/launch/_build/docker").glob("*.sh")}
    assert carried == scripts


def test_wheel_carries_nothing_of_the_site(wheel: Path) -> None:
    """Certificates and credentials that a site put into docker/site never get into a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        site = {Path(name).name for name in archive.namelist() if "/docker/site/" in name}
        assert site <= {".gitignore", "README.md"}
        assert all(SECRET.encode() not in archive.read(name) for name in archive.namelist())


def test_wheel_leaves_the_namespace_to_all(wheel: Path) -> None:
    """Neither the sources nor the wheel have a canvod/__init__.py; the package itself is typed."""
    assert not (TOP / "src/canvod/__init__.py").exists()
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert "canvod/__init__.py" not in names
    assert {"canvod/launch/__init__.py", "canvod/launch/py.typed"} <= names
    assert not [name for name in names if name.startswith("tests/") or "__pycache__" in name]


def test_wheel_names_the_command(installed: Path) -> None:
    """The command of the wheel is a function that exists."""
    points = ConfigParser()
    (path,) = installed.glob("*.dist-info/entry_points.txt")
    points.read(path)
    assert dict(points["console_scripts"]) == {"canvod-launch": "canvod.launch.cli:main"}
    assert run_python("from canvod.launch.cli import main; print(callable(main))", installed) == "True"


def test_wheel_shares_the_namespace_with_the_readers(installed: Path) -> None:
    """canvod.launch and canvod.readers, installed in two folders, are imported together."""
    oracle("canvod.readers")
    code = "from canvod import launch, readers\nprint(launch.__file__, readers.__file__, sep='\\n')"
    launch, readers = run_python(code, installed).splitlines()
    assert Path(launch).is_relative_to(installed)
    assert not Path(readers).is_relative_to(installed)


def test_import_stays_light() -> None:
    """The package is imported without Dask, Docker, Icechunk or an array library."""
    heavy = {"bokeh", "dask", "distributed", "docker", "icechunk", "numpy", "pandas", "xarray", "zarr"}
    code = f"import canvod.launch, sys\nprint(*sorted({heavy!r} & set(sys.modules)))"
    assert run_python(code, TOP / "src") == ""


def test_version_is_one() -> None:
    """What is installed says the version that pyproject.toml says."""
    try:
        assert version("canvod-launch") == PROJECT["version"]
    except ModuleNotFoundError:
        pytest.skip("canvod-launch itself is not installed here: make venv-dev")


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_holds_behind_any_index(lock: str) -> None:
    """Lock files hold pinned versions with hashes, and neither a URL nor an option that names an index."""
    text = (TOP / lock).read_text()
    assert "://" not in text
    assert " @ " not in text
    assert not re.search(r"^-", text, re.MULTILINE)
    requirements = re.findall(r"^[a-zA-Z].*", text, re.MULTILINE)
    assert requirements
    assert len(requirements) == len(PIN.findall(text))


def test_locks_agree() -> None:
    """A package that two lock files name has the same version in both."""
    for one, other in combinations([pins(lock) for lock in LOCKS], 2):
        assert {name: one[name] for name in one.keys() & other} == {
            name: other[name] for name in one.keys() & other
        }


def test_lock_covers_what_the_project_needs() -> None:
    """Every dependency is in the runtime lock, in a version that pyproject.toml allows."""
    locked = pins("requirements.lock")
    for text in PROJECT["dependencies"]:
        requirement = Requirement(text)
        assert requirement.specifier.contains(locked[canonicalize_name(requirement.name)]), text


def test_images_need_no_compiler() -> None:
    """What has to be compiled is locked for tests alone: neither images nor hosts need it."""
    assert {"sbf-parser", "canvod-readers"} <= pins("requirements-oracles.lock").keys()
    for lock in LOCKS[:-1]:
        assert not {"sbf-parser", "canvod-readers", "cython", "georinex"} & pins(lock).keys(), lock


def test_project_is_not_locked_by_uv() -> None:
    """No uv.lock is in the checkout: it would hold the URLs of one index."""
    assert not (TOP / "uv.lock").exists()
