"""What is read from the engine's stream of a build."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canvod.launch.images.build_log import KEPT_LINES, REMEDIES, BuildLog, find_remedy
from canvod.launch.images.build_network import BuildNetwork
from canvod.launch.images.context import read_context
from canvod.launch.images.image_builder import ImageBuilder, _one_builder

STREAM = (
    "Step 1/4 : FROM base AS builder\n ---> 111111111111\n"
    "Step 2/4 : RUN a\n ---> Running in 999999999999\nhello\nworld\n ---> 222222222222\n"
    "Step 3/4 : FROM base\n ---> 111111111111\nStep 4/4 : RUN b\nlast words\n"
)


@given(cuts=st.lists(st.integers(0, len(STREAM)), max_size=30))
def test_lines_do_not_depend_on_how_they_arrive(cuts):
    """The engine cuts output anywhere; the lines are the same."""
    ends = sorted({0, len(STREAM), *cuts})
    log = BuildLog("x")
    lines = [
        event.line
        for start, end in itertools.pairwise(ends)
        for event in log.feed({"stream": STREAM[start:end]})
    ]
    assert lines == [line.strip() for line in STREAM.splitlines()]
    assert (log.step, log.steps, log.instruction, log.builder_id) == (4, 4, "RUN b", "222222222222")
    assert list(log.last) == ["last words"]


def test_the_error_and_the_last_lines_are_kept():
    """The engine's error is read, and of the output only the last lines are kept, without colours."""
    log = BuildLog("x")
    for number in range(100):
        list(log.feed({"stream": f"\x1b[91mline {number}\n\x1b[0m"}))
    list(log.feed({"errorDetail": {"code": 1}, "error": "returned a non-zero code: 1"}))
    assert log.error == "returned a non-zero code: 1"
    assert list(log.last) == [f"line {number}" for number in range(100 - KEPT_LINES, 100)]


@pytest.mark.parametrize(
    ("output", "hint"),
    [
        ("invalid peer certificate: UnknownIssuer", "--ca-bundle"),
        ("E: Failed to fetch http://x Temporary failure resolving", "--debian-mirror"),
        ("error: dns error: failed to lookup address", "--index-url"),
        ("OSError: No space left on device", "docker system df"),
        ("401 Unauthorized", "credentials"),
    ],
)
def test_each_failure_has_a_remedy(output, hint):
    """The hint names the option that helps."""
    assert hint in (find_remedy(output, REMEDIES) or "")
    assert find_remedy("something else", REMEDIES) is None


def test_an_authority_that_is_not_trusted_is_told_with_the_file(monkeypatch):
    """The remedy says which certificates were trusted, and names the system's where these are others."""
    log = BuildLog("x", error="CERTIFICATE_VERIFY_FAILED")
    monkeypatch.setattr(
        "canvod.launch.images.image_builder.system_bundle", lambda: Path("/etc/ssl/system.crt")
    )

    def hint(origin):
        return str(ImageBuilder(None, read_context(), BuildNetwork(ca_origin=origin))._failure(log).hint)

    assert "which /lab.pem has not" in hint("/lab.pem")
    assert "--ca-bundle /etc/ssl/system.crt" in hint("/lab.pem")
    assert "--ca-bundle /path/of/authority.pem" in hint("/etc/ssl/system.crt")
    log.error = "something else"
    assert "canvod-launch build tries again" in hint(None)


def test_a_second_builder_waits_and_says_so(tmp_path, monkeypatch):
    """Two launchers do not build at once; the lock is free again afterwards."""
    import threading

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    told, order, waiting = [], [], threading.Event()

    def second():
        def tell(event):
            told.append(event.line)
            waiting.set()

        with _one_builder(tell, "x"):
            order.append("second")

    with _one_builder(told.append, "x"):
        thread = threading.Thread(target=second)
        thread.start()
        assert waiting.wait(10)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]
    assert told == ["waiting for another launcher that builds"]
