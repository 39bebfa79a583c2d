"""Real images: what is in them, what is not, and that any user can run them."""

from __future__ import annotations

import io
import json
import re
import socket
import time
from dataclasses import replace
from importlib.metadata import version

import pytest

from canvod.launch.config import LaunchSettings, load_settings
from canvod.launch.docker.engine import NETWORK_ATTEMPTS, EngineError, inspect_image, translate
from canvod.launch.errors import ImageError
from canvod.launch.images import base_image
from canvod.launch.images.base_image import choose_base, pull
from canvod.launch.images.build_network import BuildNetwork, read_build_network
from canvod.launch.images.cleanup import STAGE_LABEL
from canvod.launch.images.context import ROLES, BuildContext, read_context
from canvod.launch.images.image_builder import ImageBuilder, build_images
from images_fixture import OWN_PYTHON
from leftovers import volumes

pytestmark = pytest.mark.docker

LARGEST_BYTES = 700_000_000
PEM = re.compile(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)


def run(engine, image, code, **options):
    """Run Python in a container like those of a cluster: any user, nothing writable, no network."""
    return engine.containers.run(
        image.name,
        ["python", "-c", code],
        remove=True,
        **{"user": "4321:8765", "read_only": True, "network_mode": "none", "cap_drop": ["ALL"], **options},
    ).decode()


@pytest.mark.parametrize("role", ROLES)
def test_labels_tell_what_the_image_was_built_from(engine, images, image_settings, role):
    """Version, lock file, Python, revision and role can be read back, and make the image up to date."""
    config = inspect_image(engine, images[role].name)["Config"]
    identity = read_context().identity(role, OWN_PYTHON)
    assert identity.is_in(config["Labels"])
    assert config["Labels"]["org.canvod.launch.version"] == identity.version
    assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?|unknown", config["Labels"]["org.canvod.launch.revision"])
    assert config["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert config["Labels"]["org.canvod.launch.base"]


@pytest.mark.parametrize("role", ROLES)
def test_the_image_is_not_roots_and_not_large(engine, images, role):
    """The user is a number other than 0, and the size within what a lab's disk and network take."""
    config = inspect_image(engine, images[role].name)["Config"]
    assert config["User"] == "10001:10001"
    assert config["Cmd"][:3] == ["python", "-m", f"canvod.launch.runtime.{role}"]
    assert 0 < images[role].size_bytes <= LARGEST_BYTES


def test_both_images_share_their_layers(engine, images):
    """Scheduler and worker cannot differ in a version, and the second one takes no room."""
    layers = [inspect_image(engine, images[role].name)["RootFS"]["Layers"] for role in ROLES]
    assert layers[0] == layers[1]


@pytest.mark.parametrize("role", ROLES)
def test_any_user_can_run_it_with_nothing_writable(engine, images, role):
    """Dask, the store and the readers import as an arbitrary uid on a read-only root without network."""
    code = (
        "import os, sys, distributed, icechunk, xarray, zarr, hatanaka\n"
        "import canvod.launch.readers\n"
        "print(os.getuid(), '%d.%d' % sys.version_info[:2], sys.prefix, sys.path[0] != '')"
    )
    output = run(engine, images[role], code, tmpfs={"/tmp": "size=64m"})
    assert output.split() == ["4321", images[role].python, "/opt/venv", "True"]


def test_everything_is_compiled(engine, images):
    """No module is compiled at start: standard library, dependencies and our own package have bytecode."""
    code = (
        "import sys, os, asyncio, distributed.worker, xarray, canvod.launch.errors\n"
        "files = [m.__spec__.cached for m in sys.modules.values() if getattr(m, '__spec__', None)"
        " and (m.__spec__.origin or '').endswith('.py') and m.__name__ != '__main__']\n"
        "print(len(files), [f for f in files if f and not os.path.exists(f)])"
    )
    count, missing = run(engine, images["worker"], code).split(" ", 1)
    assert int(count) > 500
    assert missing.strip() == "[]"


def test_nothing_of_the_build_is_left(engine, images):
    """No compiler, no package manager's cache, no installer and no source of the build is in the image."""
    code = (
        "import shutil, os, glob, importlib.util\n"
        "print([t for t in ('gcc', 'cc', 'g++', 'ld', 'uv') if shutil.which(t)],"
        " [p for p in ('/build', '/opt/build', '/root/.cache', '/tmp/site.list') if os.path.exists(p)],"
        " os.listdir('/opt'), "
        " glob.glob('/var/lib/apt/lists/*_*') + glob.glob('/var/cache/apt/archives/*.deb'),"
        " importlib.util.find_spec('pip'),"
        " glob.glob('/opt/venv/lib/python3*/site-packages/canvod/launch/_build'), sep='\\n')"
    )
    lines = run(engine, images["worker"], code, user="0:0").splitlines()
    assert lines == ["[]", "[]", "['venv']", "[]", "None", "[]"]


def test_spill_is_open_to_any_user(engine, images):
    """A volume on /spill takes the mode of the folder, so that any uid can write to it."""
    code = "import os; open('/spill/x', 'w').close(); print(oct(os.stat('/spill').st_mode & 0o7777))"
    volume = engine.volumes.create()
    try:
        assert run(engine, images["worker"], code, volumes=[f"{volume.name}:/spill"]).strip() == "0o1777"
    finally:
        volume.remove()


def test_files_belong_to_root(engine, images):
    """No file of the environment can be changed by the user that runs it."""
    code = (
        "import os\n"
        "print([p for d, _, fs in os.walk('/opt') for p in (os.path.join(d, f) for f in fs)"
        " if (s := os.lstat(p)).st_uid or (s.st_mode & 0o022 and not os.path.islink(p))][:5])"
    )
    assert run(engine, images["worker"], code).strip() == "[]"


def save_and_search(engine, name, secrets):
    """Search everything that the engine would hand out of an image: config, history and each layer."""
    longest = max(map(len, secrets))
    tail = b""
    found = set()
    with translate(f"save {name}"):
        for chunk in engine.images.get(name).save():
            data = tail + chunk
            found |= {secret for secret in secrets if secret in data}
            tail = data[-longest:]
    return found


def test_no_certificate_of_the_network_is_in_any_layer(engine, images, image_settings):
    """Not one certificate that only the build's CA bundle has is in the image; nor are addresses with it."""
    bundle = read_build_network(image_settings.launch.build).ca_bundle
    if bundle is None:
        pytest.skip("this machine has no CA bundle of its own")
    public = run(
        engine,
        images["worker"],
        "import certifi, pathlib, sys\n"
        "for p in (certifi.where(), '/etc/ssl/certs/ca-certificates.crt'):\n"
        "    sys.stdout.buffer.write(pathlib.Path(p).read_bytes())",
    ).encode()
    secrets = set(PEM.findall(bundle)) - set(PEM.findall(public))
    if not secrets:
        pytest.skip("the CA bundle of this machine holds public certificates only")
    assert save_and_search(engine, images["worker"].name, secrets) == set()


def test_no_secret_of_the_network_stays(engine, images, image_settings):
    """The real Dockerfile, built with secrets and with installers that use them, keeps none of them."""
    del images  # the base image is there once they are
    context = read_context()
    files = dict(context.files) | {
        "docker/install-dependencies.sh": b". /build/docker/site.sh; env; mkdir /opt/venv\n"
        b"touch /opt/venv/x; cat /build/docker/site/* > /tmp/all",
        "docker/install-project.sh": b"mkdir /opt/project; touch /opt/project/y",
    }
    network = BuildNetwork(
        ca_bundle=b"-----BEGIN CERTIFICATE-----\nTHEBUNDLE\n-----END CERTIFICATE-----\n",
        index_url="https://THEINDEX.example/simple",
        credentials="machine THEINDEX.example login me password THEPASSWORD",
        debian_mirror="http://THEMIRROR.example/debian",
        proxies={"https_proxy": "http://THEPROXY.example:3128"},
    )
    stubbed = BuildContext(files=files, version="0.secret", revision="unknown")
    identity = stubbed.identity("worker", OWN_PYTHON)
    base = inspect_image(engine, read_context().identity("worker", OWN_PYTHON).name)
    base_name = base["Config"]["Labels"]["org.canvod.launch.base"]
    try:
        with ImageBuilder(engine, stubbed, network) as builder:
            image = builder.build(identity, base_name)
            assert builder.caches
        secrets = {b"THEBUNDLE", b"THEINDEX", b"THEPASSWORD", b"THEMIRROR", b"THEPROXY"}
        assert save_and_search(engine, image.name, secrets) == set()
        history = json.dumps(engine.api.history(image.name)).encode()
        assert not [secret for secret in secrets if secret in history]
        # With credentials in it, not even the cache of the builder stage stays on the engine.
        for cached in engine.api.images(filters={"dangling": True, "label": STAGE_LABEL}):
            assert not [s for s in secrets if s in json.dumps(engine.api.history(cached["Id"])).encode()]
    finally:
        engine.images.remove(identity.name, force=True)


def test_up_to_date_images_cost_nothing(engine, images, image_settings):
    """A command that needs images asks the engine and goes on."""
    again = build_images(engine, image_settings)
    assert {image.id for image in again} == {image.id for image in images.values()}
    assert not any(image.built for image in again)


def test_a_failed_build_shows_step_and_output(engine, images, image_settings):
    """The error names the failing step and ends with its last lines, and no container is left."""
    del images
    context = read_context()
    files = dict(context.files) | {
        "docker/install-dependencies.sh": b"echo THE LAST WORDS; echo UnknownIssuer; exit 7"
    }
    broken = BuildContext(files=files, version="0.broken", revision="unknown")
    identity = broken.identity("worker", OWN_PYTHON)
    current = inspect_image(engine, context.identity("worker", OWN_PYTHON).name)
    base_name = current["Config"]["Labels"]["org.canvod.launch.base"]
    before = {container["Id"] for container in engine.api.containers(all=True)}
    with pytest.raises(ImageError) as caught:
        ImageBuilder(engine, broken, BuildNetwork()).build(identity, base_name)
    text = str(caught.value)
    assert "RUN sh /build/docker/install-dependencies.sh" in text
    assert "THE LAST WORDS" in text
    assert "returned a non-zero code: 7" in text
    assert "--ca-bundle" in text
    label = {"label": STAGE_LABEL}
    assert not [c for c in engine.api.containers(all=True, filters=label) if c["Id"] not in before]


def test_a_lost_network_interface_is_looked_for_again(engine, images, image_settings):
    """An engine that overlooks an interface while others come and go is asked again, and then believed."""
    del images
    context = read_context()
    files = dict(context.files)
    # The engine quotes the command that failed.
    files["Dockerfile.worker"] = (
        b"ARG PYTHON_IMAGE\nFROM $PYTHON_IMAGE\nRUN false no such network interface\n"
    )
    broken = BuildContext(files=files, version="0.broken", revision="unknown")
    identity = broken.identity("worker", OWN_PYTHON)
    current = inspect_image(engine, context.identity("worker", OWN_PYTHON).name)
    base_name = current["Config"]["Labels"]["org.canvod.launch.base"]
    lines = []
    with pytest.raises(ImageError, match="RUN false"):
        ImageBuilder(engine, broken, BuildNetwork(), lambda event: lines.append(event.line)).build(
            identity, base_name
        )
    assert sum("did not find its network" in line for line in lines) == NETWORK_ATTEMPTS - 1


def test_a_base_image_of_another_python_is_refused(engine, images):
    """The label of an image never names a Python that it does not have."""
    launch = LaunchSettings(python_image=images["worker"].name)
    with pytest.raises(ImageError, match=rf"has Python {OWN_PYTHON}, and Python 3\.99 is needed"):
        choose_base(engine, launch, "3.99")
    assert choose_base(engine, launch, "3.99", any_python=True).python == OWN_PYTHON


def test_the_nearest_python_is_for_those_who_do_not_mind(engine, images, monkeypatch):
    """Where no base image of a Python can be had, our own tasks get the nearest; a client is refused."""
    del images
    monkeypatch.setattr(base_image, "pull", refuse_pull)
    with pytest.raises(ImageError, match=r"No base image of Python 3\.12 can be had: no registry") as caught:
        choose_base(engine, LaunchSettings(), "3.12")
    for way in ("use Python 3.13 or 3.14", "launch.python_image", "launch.backend: process"):
        assert way in str(caught.value)
    with pytest.raises(ImageError, match=r"no registry") as caught:
        choose_base(engine, LaunchSettings(python="3.12"), "3.12")
    assert ("leave launch.python out" in str(caught.value)) == (OWN_PYTHON != "3.12")
    found = choose_base(engine, LaunchSettings(), "3.12", any_python=True)
    assert found.python == next(
        python
        for python in base_image.nearest_pythons("3.12")
        if base_image._present_base(engine, python) is not None
    )


def test_an_ingest_of_another_python_takes_images_that_are_there(engine, images, monkeypatch):
    """It asks no registry each time."""
    if OWN_PYTHON != "3.13":
        pytest.skip("the nearest to 3.12 is 3.13")
    monkeypatch.setattr(base_image, "pull", None)
    found = build_images(engine, load_settings(None), python="3.12", any_python=True)
    assert {image.id for image in found} == {image.id for image in images.values()}


def refuse_pull(name, **_options):
    """Be a host without a registry."""
    del name
    raise ImageError("no registry.")


@pytest.fixture
def with_packages(engine, own_images):
    """Build the worker's image with packages, and remove it in the end."""
    del own_images
    made = []

    def build(*packages):
        settings = load_settings({"launch": {"packages": packages}})
        (image,) = build_images(engine, settings, ["worker"])
        made.append(image)
        return image

    yield build
    for image in made:
        engine.images.remove(image.name)


def test_packages_of_a_lab_are_in_the_image(engine, with_packages, own_images):
    """What is named is there, compiled, in an image of its own name; the locked versions are as they were."""
    image = with_packages("colorcet==3.1.0")
    assert image.name != own_images["worker"].name
    code = (
        "import colorcet, dask, os; print(colorcet.__version__, dask.__version__,"
        " os.path.exists(colorcet.__spec__.cached))"
    )
    assert run(engine, image, code).split() == ["3.1.0", version("dask"), "True"]


@pytest.mark.parametrize(
    ("package", "words"),
    [
        ("no-such-package-of-canvod==1.0", "no-such-package-of-canvod was not found"),
        ("zarr==2.18.0", "zarr==2.18.0"),
        (f"colorcet==3.1.0 --hash=sha256:{'0' * 64}", "hash"),
    ],
    ids=["unknown", "against the lock", "another hash"],
)
def test_packages_that_cannot_be_installed_are_told_with_the_installers_words(with_packages, package, words):
    """One message: what was to be installed, and why it is not."""
    with pytest.raises(ImageError, match=r"launch\.packages cannot be installed") as caught:
        with_packages(package)
    assert words.lower() in str(caught.value).lower()
    assert "install-packages.sh" not in str(caught.value)


def test_older_images_of_the_same_checkout_go(engine, own_images):
    """A newer one of the same kind replaces them; those of another checkout, or with packages, stay."""
    context = read_context()
    base = inspect_image(engine, own_images["worker"].name)["Config"]["Labels"]["org.canvod.launch.base"]
    files = {
        "Dockerfile.worker": b"""
ARG PYTHON_IMAGE
FROM $PYTHON_IMAGE
ARG CHECKOUT= PYTHON= PACKAGES= DIGEST=
LABEL org.canvod.launch.stage=runtime org.canvod.launch.role=worker org.canvod.launch.checkout=$CHECKOUT \\
    org.canvod.launch.python=$PYTHON org.canvod.launch.packages=$PACKAGES org.canvod.launch.digest=$DIGEST
"""
    }

    def build(checkout, packages="", code=b""):
        made = replace(context, files={**files, "requirements.lock": b"", "x": code}, checkout=checkout,
                       packages=packages, version="0.test")  # fmt: skip
        identity = made.identity("worker", OWN_PYTHON)
        ImageBuilder(engine, made, BuildNetwork()).build(identity, base)
        return identity.name

    names = [
        build("a", code=b"1"),
        build("b", code=b"2"),
        build("a", "x==1\n", code=b"3"),
        build("a", code=b"4"),
    ]
    try:
        assert [inspect_image(engine, name) is not None for name in names] == [False, True, True, True]
        assert inspect_image(engine, own_images["worker"].name) is not None
    finally:
        for name in names[1:]:
            engine.images.remove(name)


def test_a_base_image_is_looked_at_without_a_trace(engine, images):
    """Neither the container nor a volume that somebody's image declares is left."""
    name = images["worker"].name
    tag = "canvod-launch-test:volume"
    dockerfile = f'FROM {name}\nVOLUME /somewhere\nENTRYPOINT ["false"]\n'
    engine.images.build(fileobj=io.BytesIO(dockerfile.encode()), tag=tag, rm=True)
    before = volumes(engine)
    try:
        assert base_image._python_of(engine, tag) == OWN_PYTHON
        assert not engine.api.containers(all=True, filters={"ancestor": tag})
    finally:
        engine.images.remove(tag)
    assert volumes(engine) <= before


def test_a_registry_that_hangs_is_given_up(engine):
    """A registry that takes the connection and never answers costs seconds, not minutes."""
    del engine
    with socket.create_server(("127.0.0.1", 0)) as server:
        started = time.monotonic()
        with pytest.raises(ImageError, match="the registry sent nothing for 2 s"):
            pull(f"127.0.0.1:{server.getsockname()[1]}/python:3.14-slim", answer_timeout_s=2)
        assert time.monotonic() - started < 60


def test_a_registry_that_refuses_is_given_up_at_once(engine):
    """Nothing listens: the engine says so, and the error passes it on."""
    del engine
    with pytest.raises(ImageError, match="Could not pull"):
        pull("127.0.0.1:9/python:3.14-slim")


def test_an_engines_refusal_is_translated(engine):
    """The SDK's exceptions never get out."""
    with pytest.raises(EngineError, match="Could not start nothing"), translate("start nothing"):
        engine.api.start("no-such-container")
