"""Names, labels and digests of images, and the context that they are built from."""

from __future__ import annotations

import io
import re
import shutil
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import canvod.launch
from canvod.launch.errors import ImageError
from canvod.launch.images.context import CARRIED, TOP_FILES, BuildContext, read_context
from canvod.launch.images.identity import ROLES, digest, image_name, out_of_date
from canvod.launch.images.site import Site

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


def test_default_version_is_the_contexts(context):
    """The plan names the image that a build makes: both take the version from the same place."""
    assert image_name("worker", "3.14") in {
        context.identity("worker", "3.14").name,
        image_name("worker", "3.14", "0"),
    }


@pytest.mark.parametrize("role", ROLES)
def test_an_image_with_its_own_labels_is_up_to_date(context, role):
    """What was just built needs no build, and what lacks one label or has another value does."""
    identity = context.identity(role, "3.14")
    labels = identity.labels()
    assert out_of_date(labels, identity) == ()
    assert out_of_date({}, identity)
    for key, reason in (("context", "the sources"), ("lock", "the lock file"), ("python", "Python")):
        assert out_of_date({**labels, f"org.canvod.launch.{key}": "x"}, identity) == (f"{reason} changed",)


def test_only_a_base_image_that_is_asked_for_counts(context):
    """Without a base image in the settings any will do; with one, an image from another is out of date."""
    labels = {**context.identity("worker", "3.14").labels(), "org.canvod.launch.base": "python:3.14-slim"}
    assert out_of_date(labels, context.identity("worker", "3.14")) == ()
    assert out_of_date(labels, context.identity("worker", "3.14", "python:3.14-slim")) == ()
    assert out_of_date(labels, context.identity("worker", "3.14", "lab/python")) == (
        "the base image changed",
    )


def test_the_revision_alone_makes_no_image_out_of_date(context):
    """A commit that changes no file of the context needs no build."""
    identity = context.identity("worker", "3.14")
    assert out_of_date({**identity.labels(), "org.canvod.launch.revision": "other"}, identity) == ()


def test_the_archive_is_deterministic(context):
    """The same files give the same bytes: no times, owners or modes of this machine."""
    assert context.tar() == read_context().tar()
    with tarfile.open(fileobj=io.BytesIO(context.tar())) as archive:
        members = archive.getmembers()
    assert [member.name for member in members] == sorted(context.files)
    assert {(m.mtime, m.uid, m.gid, m.uname, m.mode) for m in members} == {(0, 0, 0, "", 0o644)}


def test_site_files_travel_and_are_not_hashed(context):
    """What a site's network needs is in the archive and in no digest: it makes nothing out of date."""
    site = Site(ca_bundle=b"certificate", index_url="https://pypi.example/simple", credentials="machine x")
    with tarfile.open(fileobj=io.BytesIO(context.tar(site.files()))) as archive:
        names = set(archive.getnames())
    assert {"docker/site/ca-bundle.pem", "docker/site/index-url", "docker/site/netrc"} <= names
    assert not any("ca-bundle" in name for name in context.files)


def test_nothing_that_was_made_from_sources_is_in_the_context(context):
    """Bytecode, caches and what a wheel carries stay out."""
    assert not [
        name for name in context.files if "__pycache__" in name or name.endswith(".pyc") or CARRIED in name
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
            "COPY --from=builder /opt/project /opt/venv",
        ]
        assert not re.search(
            r"index|mirror|proxy|ca-bundle",
            "".join(re.findall(r"^ARG .*", text, re.MULTILINE)),
            re.IGNORECASE,
        )
        assert f"canvod.launch.runtime.{role}" in final
