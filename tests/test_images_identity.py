"""Names, labels and digests of images, and the context that they are built from."""

from __future__ import annotations

import io
import re
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import canvod.launch
from canvod.launch.config import load_settings
from canvod.launch.errors import ConfigError, ImageError
from canvod.launch.images.build_network import BuildNetwork
from canvod.launch.images.context import (
    CARRIED,
    ROLES,
    TOP_FILES,
    BuildContext,
    digest,
    image_name,
    image_namer,
    read_context,
)

ROOT = Path(__file__).resolve().parent.parent
FILES = st.dictionaries(st.text(min_size=1, max_size=20), st.binary(max_size=40), max_size=6)


@pytest.fixture(scope="module")
def context() -> BuildContext:
    """The context of this checkout."""
    return read_context()


@given(files=FILES)
def test_digest_does_not_depend_on_the_order(files):
    """The same files have the same digest, in whatever order they were read."""
    assert digest(files) == digest(dict(reversed(files.items())))


@given(first=FILES, second=FILES)
def test_digest_tells_files_apart(first, second):
    """Two sets of files have the same digest only if names and contents are the same."""
    assert (digest(first) == digest(second)) == (first == second)


@given(version=st.from_regex(r"[0-9]+(\.[0-9]+){0,3}(\+[a-z0-9.]+)?", fullmatch=True))
def test_names_are_valid_for_every_version(version):
    """Every version, a local one too, gives a tag that the engine accepts."""
    name = image_name("worker", "3.14", version)
    assert re.fullmatch(r"canvod-launch-worker:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", name)


def test_the_plan_names_the_image_that_a_build_makes(context):
    """Plan and build take names from the same place: from what the image would be built from."""
    settings = load_settings({"launch": {"packages": ["numba==0.63.1"]}})
    identity = read_context(packages=["numba==0.63.1"]).identity("worker", "3.14")
    assert image_namer(settings)("worker", "3.14") == identity.name
    assert identity.name != context.identity("worker", "3.14").name


@pytest.mark.parametrize("role", ROLES)
def test_an_image_with_its_own_labels_is_up_to_date(context, role):
    """What was just built needs no build, and what lacks one label or has another value does."""
    identity = context.identity(role, "3.14")
    labels = identity.labels()
    assert identity.is_in(labels)
    assert not identity.is_in({})
    for key in ("digest", "role"):
        assert not identity.is_in({**labels, f"org.canvod.launch.{key}": "x"})


def test_all_that_decides_what_is_in_an_image_is_in_its_name(context):
    """Lock, code, packages, Python and a base image that is asked for: each gives a name of its own."""
    edited = replace(context, files={**context.files, "src/canvod/launch/errors.py": b"raise SystemExit"})
    locked = replace(context, files={**context.files, "requirements.lock": b""})
    names = [
        context.identity("worker", "3.14").name,
        context.identity("worker", "3.13").name,
        context.identity("worker", "3.14", "lab/python").name,
        replace(context, packages="numba==0.63.1\n").identity("worker", "3.14").name,
        edited.identity("worker", "3.14").name,
        locked.identity("worker", "3.14").name,
    ]
    assert len(set(names)) == len(names)


def test_what_is_in_no_container_makes_no_image_out_of_date(context):
    """Neither a commit that changes no file of the context, nor an edited README, needs a build."""
    name = context.identity("worker", "3.14").name
    assert replace(context, revision="other", checkout="other").identity("worker", "3.14").name == name
    edited = replace(context, files={**context.files, "README.md": b"new words"})
    assert edited.identity("worker", "3.14").name == name


def test_the_archive_is_deterministic(context):
    """The same files give the same bytes: no times, owners or modes of this machine."""
    assert context.tar() == read_context().tar()
    with tarfile.open(fileobj=io.BytesIO(context.tar())) as archive:
        members = archive.getmembers()
    assert [member.name for member in members] == sorted(context.files)
    assert {(m.mtime, m.uid, m.gid, m.uname, m.mode) for m in members} == {(0, 0, 0, "", 0o644)}


def test_files_of_the_network_travel_and_are_not_hashed(context):
    """What a build needs of its network is in the archive and in no digest: it makes nothing out of date."""
    network = BuildNetwork(
        ca_bundle=b"certificate", index_url="https://pypi.example/simple", credentials="machine x"
    )
    with tarfile.open(fileobj=io.BytesIO(context.tar(network.files()))) as archive:
        names = set(archive.getnames())
    assert {"docker/site/ca-bundle.pem", "docker/site/index-url", "docker/site/netrc"} <= names
    assert not any("ca-bundle" in name for name in context.files)


def test_packages_of_a_lab_are_one_file(context, tmp_path):
    """Requirements and files of them travel as one file, in whatever order they were named."""
    file = tmp_path / "lab.txt"
    digits = "0" * 64
    file.write_text(f"# ours \\\nscipy==1.17.0 \\\n    --hash=sha256:{digits}  # checked\n\nnumba>=0.60\n")
    found = read_context(packages=[str(file), "attrs==25.4.0"])
    assert found.packages == (f"attrs==25.4.0\nnumba>=0.60\nscipy==1.17.0 --hash=sha256:{digits}\n")
    with tarfile.open(fileobj=io.BytesIO(found.tar())) as archive:
        assert archive.extractfile("docker/packages/requirements.txt").read() == found.packages.encode()
    assert context.packages == ""
    assert read_context(packages=["attrs==25.4.0", str(file)]).packages == found.packages


@pytest.mark.parametrize("line", ["-r other.txt", "--index-url https://pypi.lab.example", "./wheel.whl"])
def test_a_requirements_file_that_needs_this_host_is_refused(tmp_path, line):
    """What an image build cannot see is refused with its place, before anything is built."""
    file = tmp_path / "lab.txt"
    file.write_text(f"numba\n{line}\n")
    with pytest.raises(ConfigError, match="names an option or a file") as caught:
        read_context(packages=[str(file)])
    assert f"{file}:2: {line}" in str(caught.value)
    file.write_text("lab @ https://me:secret@pypi.lab.example/lab.whl\n")
    with pytest.raises(ConfigError, match=r"https://\*\*\*@pypi\.lab\.example.* has a password") as caught:
        read_context(packages=[str(file)])
    assert "secret" not in str(caught.value)
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        read_context(packages=[str(tmp_path / "absent.txt")])


def test_nothing_that_was_made_from_sources_is_in_the_context(context):
    """Bytecode, caches and what a wheel carries stay out."""
    assert not [
        name
        for name in context.files
        if "__pycache__" in name or name.endswith(".pyc") or f"/{CARRIED}/" in name
    ]


def test_a_wheel_gives_the_same_context_as_the_checkout(context, tmp_path):
    """An installed package, with what it carries, builds the same images."""
    package = tmp_path / "site-packages/canvod/launch"
    shutil.copytree(next(iter(canvod.launch.__path__)), package)
    for name in context.files:
        if not name.startswith("src/"):
            (package / CARRIED / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, package / CARRIED / name)
    assert read_context(package).files == context.files
    assert read_context(package).revision == "unknown"


def test_the_wheel_carries_every_file_of_the_context(context):
    """pyproject.toml names each file outside the package, for the wheel to carry it."""
    settings = (ROOT / "pyproject.toml").read_text()
    outside = [name for name in context.files if not name.startswith("src/")]
    assert [name for name in outside if f'"{name}" = "canvod/launch/{CARRIED}/{name}"' not in settings] == []


def test_an_incomplete_source_is_refused(tmp_path):
    """Missing files are named, with what to do."""
    package = tmp_path / "src/canvod/launch"
    package.mkdir(parents=True)
    with pytest.raises(ImageError, match=r"requirements\.lock.* missing") as caught:
        read_context(package)
    assert "checkout" in str(caught.value)


def test_the_ignore_file_lets_the_same_files_through(context):
    """A plain docker build sees what our own builder sends: the allow-list names that and nothing more."""
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    needed = {
        name if name in TOP_FILES and "docker/" not in name else name.split("/")[0] for name in context.files
    }
    assert allowed == needed


def test_both_dockerfiles_differ_in_role_only(context):
    """Scheduler and worker share every step that makes a layer."""

    def steps(role):
        text = context.files[f"Dockerfile.{role}"].decode()
        return text[text.index("ARG PYTHON_IMAGE") : text.index("\nCMD")]

    assert steps("scheduler") == steps("worker")


def test_dockerfiles_stay_within_the_classic_builder(context):
    """No BuildKit syntax, no secret by argument, nothing but the environment from the builder stage."""
    for role in ROLES:
        text = context.files[f"Dockerfile.{role}"].decode()
        assert "--mount" not in text
        assert "<<" not in text
        final = text[text.rindex("FROM ") :]
        assert re.findall(r"^COPY .*", final, re.MULTILINE) == [
            "COPY --from=builder /opt/venv /opt/venv",
            "COPY --from=builder /opt/packages /opt/venv",
            "COPY --from=builder /opt/project /opt/venv",
        ]
        assert not re.search(
            r"index|mirror|proxy|ca-bundle",
            "".join(re.findall(r"^ARG .*", text, re.MULTILINE)),
            re.IGNORECASE,
        )
        assert f"canvod.launch.runtime.{role}" in final
