"""What an engine says of itself, and what is made of it."""

from __future__ import annotations

import errno
import os
import re
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests
import urllib3

from canvod.launch.cluster.orphans import find_orphans, prune_engine
from canvod.launch.cluster.preparation import choose_backend
from canvod.launch.config import load_settings
from canvod.launch.docker.engine import (
    EngineAbsentError,
    connect,
    engine_address,
    read_engine,
    require_engine,
    translate,
)
from canvod.launch.docker.removal import EngineObject
from canvod.launch.errors import EngineError, LaunchError
from canvod.launch.host.labels import CLUSTER_LABEL, OWNER_LABEL, UID_LABEL
from canvod.launch.manager import DaskClusterManager
from engine_proxy import EngineProxy
from plan_strategies import make_engine

VERSION = {
    "ApiVersion": "1.41",
    "Components": [{"Name": "Engine", "Version": "20.10.24+dfsg1"}, {"Name": "runc", "Version": "1.1.5+ds1"}],
}

INFO: dict[str, Any] = {
    "ServerVersion": "20.10.24+dfsg1",
    "CgroupDriver": "systemd",
    "CgroupVersion": "2",
    "Driver": "overlay2",
    "SecurityOptions": ["name=seccomp,profile=default", "name=cgroupns"],
    "MemoryLimit": True,
    "SwapLimit": True,
    "CPUSet": True,
    "PidsLimit": True,
}
"""What Docker 20.10 of Debian 12 answers, as far as it matters."""


def test_an_engine_that_can_do_everything():
    """Versions without what a distribution adds; nothing is missing."""
    found = read_engine(INFO, VERSION, socket_gid=998)
    assert (found.runtime_version, found.cgroup_version, found.cgroup_driver) == ("1.1.5", 2, "systemd")
    assert (found.rootless, found.socket_gid, found.missing_limits) == (False, 998, ())


@pytest.mark.parametrize(
    ("fields", "missing"),
    [
        ({"SwapLimit": False}, ("swap",)),
        ({"CgroupVersion": "1", "MemoryLimit": False, "SwapLimit": False}, ("memory", "swap")),
        ({"CPUSet": False, "PidsLimit": False}, ("cpuset", "pids")),
    ],
)
def test_limits_that_an_engine_cannot_set_are_found(fields, missing):
    """It accepts them all the same, and says so in a warning that nobody reads."""
    assert read_engine(INFO | fields, VERSION).missing_limits == missing


@pytest.mark.docker
def test_the_engine_of_this_host_answers_in_these_words():
    """Every field is there, so that one that is missing would be noticed."""
    found = require_engine()
    assert all((found.server_version, found.api_version, found.cgroup_driver, found.storage_driver))
    address = engine_address()
    if address.startswith("unix://"):
        assert found.socket_gid == Path(address.removeprefix("unix://")).stat().st_gid


def test_a_rootless_engine_is_not_taken(monkeypatch):
    """Left to choose, a start takes processes and says why."""
    info = INFO | {"SecurityOptions": ["name=seccomp,profile=default", "name=rootless"]}
    assert read_engine(info, VERSION).rootless
    monkeypatch.setattr(
        "canvod.launch.cluster.preparation.require_engine", lambda **_: make_engine(rootless=True)
    )
    choice = choose_backend(load_settings({"launch": {"backend": "auto"}}))
    assert choice.backend == "process"
    assert "rootless" in choice.reason


@pytest.mark.parametrize(
    ("address", "fields", "words"),
    [
        ("unix:///var/run/docker.sock", {}, ""),
        ("tcp://127.0.0.1:2375", {}, ""),
        ("tcp://localhost:2375", {}, ""),
        ("tcp://[::1]:2375", {}, ""),
        ("tcp://192.0.2.7:2376", {}, "on another host, 192.0.2.7"),
        ("https://192.0.2.7:2376", {}, "on another host, 192.0.2.7"),
        (
            "unix:///home/me/.docker/desktop/docker.sock",
            {"OperatingSystem": "Docker Desktop"},
            "Docker Desktop",
        ),
        # A virtual machine, or ssh -L.
        ("unix:///home/me/.colima/docker.sock", {"KernelVersion": "6.8.0-50-generic"}, "another kernel"),
        ("tcp://127.0.0.1:2375", {"KernelVersion": "6.8.0-50-generic"}, "another kernel"),
    ],
)
def test_where_an_engine_runs_containers_is_found(address, fields, words):
    """By its address, by its own words, and by a kernel that this host does not have."""
    info = INFO | {"KernelVersion": "6.1.0-29-amd64"} | fields
    found = read_engine(info, VERSION, address=address, kernel="6.1.0-29-amd64").elsewhere
    assert words in found
    assert bool(found) == bool(words)


@pytest.mark.docker
@pytest.mark.parametrize(
    ("request_", "fields", "words"),
    [
        ("GET /info", {"OperatingSystem": "Docker Desktop"}, "in the virtual machine of Docker Desktop"),
        ("GET /info", {"KernelVersion": "5.15.0-elsewhere"}, r"another kernel \(5.15.0-elsewhere"),
        ("GET /version", {"ApiVersion": "1.40"}, r"\(API 1.40\) is too old: .* needs 20.10 \(API 1.41\)"),
    ],
    ids=["desktop", "tunnel", "old"],
)
def test_an_engine_that_cannot_run_clusters_of_this_host_is_not_taken(
    monkeypatch, engine, request_, fields, words
):
    """Left to choose, a start takes processes and says why; where containers are wanted, nothing is made."""
    answer = (engine.info() if request_ == "GET /info" else engine.version()) | fields

    with EngineProxy(
        None, lambda moment, seen: answer if (moment, seen) == ("before", request_) else None
    ) as proxy:
        monkeypatch.setenv("DOCKER_HOST", proxy.address)
        choice = choose_backend(load_settings({"launch": {"backend": "auto"}}))
        assert choice.backend == "process"
        assert re.search(words, choice.reason)
        with pytest.raises(LaunchError, match=words) as caught:
            DaskClusterManager({"launch": {"backend": "docker"}})
        assert "launch.backend: process" in str(caught.value.hint)
        assert {request.partition(" ")[0] for request in proxy.requests} == {"GET"}


@pytest.mark.docker
def test_nothing_is_pruned_on_another_host(monkeypatch, engine):
    """Owners there have another boot, as ended processes have here: what they use is not removed."""
    answer = engine.info() | {"KernelVersion": "5.15.0-elsewhere"}
    labels = {CLUSTER_LABEL: "afar", OWNER_LABEL: "another-boot/1/1/1", UID_LABEL: str(os.getuid())}
    network = engine.networks.create(f"canvod-launch-afar-{os.getpid()}", labels=labels)
    try:
        with EngineProxy(
            None, lambda moment, seen: answer if (moment, seen) == ("before", "GET /info") else None
        ) as proxy:
            monkeypatch.setenv("DOCKER_HOST", proxy.address)
            with closing(connect()) as client, pytest.raises(EngineError, match="nothing was removed"):
                prune_engine(client)
        network.reload()
    finally:
        network.remove()


@pytest.mark.docker
def test_an_engine_of_this_host_is_taken_by_tcp_too(monkeypatch):
    """An address of this host is no other host."""
    with EngineProxy(None, lambda *_: None) as proxy:
        monkeypatch.setenv("DOCKER_HOST", proxy.address)
        assert choose_backend(load_settings({"launch": {"backend": "auto"}})).backend == "docker"


def test_an_object_without_a_clusters_name_is_no_orphan(monkeypatch):
    """Labels are anybody's to set; one that is missing fails no start."""
    labels = {OWNER_LABEL: "another-boot/1/1/1", UID_LABEL: str(os.getuid())}
    odd = EngineObject("network", "odd", "odd", labels)
    whole = replace(odd, labels=labels | {CLUSTER_LABEL: "whole"})
    monkeypatch.setattr("canvod.launch.cluster.orphans.list_objects", lambda *_: [odd, whole])
    assert find_orphans(None) == {"whole": [whole]}


def test_containers_that_are_asked_for_need_an_engine(monkeypatch, tmp_path):
    """There is no falling back to processes then."""
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    assert choose_backend(load_settings({"launch": {"backend": "auto"}})).backend == "process"
    with pytest.raises(EngineError, match="there is no socket at"):
        choose_backend(load_settings({"launch": {"backend": "docker"}}))


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("DOCKER_HOST", "garbage", "'garbage', from DOCKER_HOST, is no address of one"),
        ("DOCKER_HOST", "htp://lab", "'htp://lab', from DOCKER_HOST, is no address of one"),
        ("DOCKER_HOST", "tcp://127.0.0.1", "from DOCKER_HOST, is no address of one"),
        ("DOCKER_HOST", "tcp://127.0.0.1:port", "from DOCKER_HOST, is no address of one"),
        ("DOCKER_HOST", "tcp://127.0.0.1:1", r"nothing answers at tcp://127.0.0.1:1 \(connection refused\)"),
        ("DOCKER_HOST", "ssh://me@lab", "ssh://me@lab, from DOCKER_HOST, is on another host"),
        ("DOCKER_HOST", "tcp://nowhere.invalid:2375", r"there is no way to tcp://nowhere.invalid:2375 \("),
        ("DOCKER_CONTEXT", "no-such", r"there is no Docker context 'no-such' \(DOCKER_CONTEXT\)"),
    ],
)
def test_what_keeps_from_the_engine_is_told_as_what_it_is(monkeypatch, variable, value, words):
    """With the remedy; left to choose, a start takes processes and gives the same reason."""
    for name in ("DOCKER_HOST", "DOCKER_CONTEXT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, value)
    with pytest.raises(EngineError, match=words) as caught:
        require_engine(timeout_s=3)
    assert variable in str(caught.value.hint)
    choice = choose_backend(load_settings({"launch": {"backend": "auto"}}))
    assert choice.backend == "process"
    assert re.search(words, choice.reason)
    assert "or set launch.backend" not in choice.reason
    is_absent = isinstance(caught.value, EngineAbsentError)
    assert ("no Docker engine answers" in choice.reason) is is_absent


def test_a_socket_that_may_not_be_used_is_told_with_the_group_to_join(monkeypatch):
    """As the Docker SDK wraps it."""
    monkeypatch.setenv("DOCKER_HOST", "unix:///var/run/docker.sock")
    refused = PermissionError(errno.EACCES, "Permission denied")
    with (
        pytest.raises(EngineError, match="permission denied at unix:///var/run") as caught,
        translate("reach the Docker engine"),
    ):
        raise requests.exceptions.ConnectionError(urllib3.exceptions.ProtocolError("Aborted", refused))
    assert "usermod -aG docker" in str(caught.value.hint)
