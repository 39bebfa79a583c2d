"""Log lines: their form, and whose set-up they follow."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
import warnings
from datetime import UTC, datetime

import pytest
import structlog

from canvod.launch.logs import configure_logging, get_logger


@pytest.fixture(autouse=True)
def set_up_again():
    """Undo what a test has set up for the whole process."""
    root = logging.getLogger()
    loggers = [root, *(logging.getLogger(name) for name in ("canvod", "distributed", "docker"))]
    before = [(logger, logger.handlers[:], logger.level, logger.propagate) for logger in loggers]
    show = warnings.showwarning
    yield
    logging.captureWarnings(capture=False)
    warnings.showwarning = show
    structlog.reset_defaults()
    for logger, handlers, level, propagate in before:
        logger.handlers[:] = handlers
        logger.setLevel(level)
        logger.propagate = propagate


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self):
        return True


def objects(stream):
    """Lines of JSON as values."""
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_json_lines_hold_event_fields_level_and_time():
    """Each line is one object; times are UTC in ISO 8601, and values that JSON lacks are written as text."""
    stream = io.StringIO()
    configure_logging("json", "info", stream=stream)
    log = get_logger("canvod.launch")
    log.info("dask_cluster_started", workers=2, path=ValueError("x"))
    log.debug("not_shown")
    (line,) = objects(stream)
    time = datetime.fromisoformat(line.pop("timestamp"))
    assert time.utcoffset() == UTC.utcoffset(None)
    assert line == {"event": "dask_cluster_started", "workers": 2, "path": "x", "level": "info"}


@pytest.mark.parametrize(
    ("shape", "stream", "as_json"),
    [
        ("console", Terminal(), False),
        ("console", io.StringIO(), False),
        ("json", Terminal(), True),
        ("json", io.StringIO(), True),
    ],
)
def test_lines_are_for_people_unless_they_are_to_be_json(shape, stream, as_json):
    """Wherever they go; colours are for terminals."""
    configure_logging(shape, "info", stream=stream)
    get_logger("canvod.launch").info("memory_stats", used_percent=3)
    text = stream.getvalue()
    assert text.startswith("{") is as_json
    assert "memory_stats" in text
    assert ("\x1b" in text) is (not as_json and stream.isatty())


def test_other_libraries_are_shown_from_warning_up():
    """Dask, Docker and Python's warnings come in the same form; their chatter does not."""
    stream = io.StringIO()
    configure_logging("json", "debug", stream=stream)
    for name in ("distributed.worker", "docker", "urllib3.connectionpool"):
        logging.getLogger(name).setLevel("DEBUG")
        logging.getLogger(name).info("chatter")
        logging.getLogger(name).warning("trouble with %s", name)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=False)
        logging.captureWarnings(capture=True)
        warnings.warn("careful", stacklevel=1)
    found = objects(stream)
    assert [line["event"] for line in found[:3]] == [
        "trouble with distributed.worker",
        "trouble with docker",
        "trouble with urllib3.connectionpool",
    ]
    assert found[0]["logger"] == "distributed.worker"
    assert "careful" in found[3]["event"]
    configure_logging("json", "error", stream=stream)
    logging.getLogger("docker").warning("below the level")
    assert len(objects(stream)) == 4


@pytest.mark.parametrize("first", ["import distributed\n", ""])
def test_lines_of_dask_come_once_and_in_our_form(first):
    """Whether distributed is imported before or after, its own handler does not print beside ours."""
    pytest.importorskip("distributed")
    code = (
        f"{first}"
        "import logging\n"
        "from canvod.launch.logs import configure_logging\n"
        "configure_logging('json', 'info')\n"
        "import distributed\n"
        "logging.getLogger('distributed.scheduler').info('chatter')\n"
        "logging.getLogger('distributed.scheduler').warning('trouble')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    assert [json.loads(line)["event"] for line in done.stderr.splitlines()] == ["trouble"]


@pytest.mark.parametrize("shape", ["json", "console"])
def test_tracebacks_show_no_local_variables(shape):
    """The traceback is there; values of variables, which may be secrets, are not."""
    stream = io.StringIO()
    configure_logging(shape, "info", stream=stream)
    password = "hu" + "sh"
    try:
        password.index("x")
    except ValueError:
        get_logger("canvod.launch").exception("failed")
    assert "ValueError" in stream.getvalue()
    assert "hush" not in stream.getvalue()


def test_a_second_call_replaces_the_first():
    """Lines are not written twice."""
    first, second = io.StringIO(), io.StringIO()
    configure_logging("json", "info", stream=first)
    configure_logging("json", "info", stream=second)
    get_logger("canvod.launch").info("once")
    assert first.getvalue() == ""
    assert len(objects(second)) == 1


def test_nothing_is_set_up_by_an_import():
    """Importing the library changes neither structlog nor logging, and an embedded library is silent."""
    code = (
        "import logging, structlog\n"
        "from canvod.launch.logs import get_logger\n"
        "log = get_logger('canvod.launch')\n"
        "log.info('not_shown')\n"
        "log.warning('shown', workers=2)\n"
        "assert not structlog.is_configured()\n"
        "assert not logging.getLogger().handlers\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    assert done.stderr == "event='shown' workers=2\n"


def test_an_embedding_program_keeps_its_own_set_up():
    """Where structlog is configured, a logger that was made before follows that configuration."""
    log = get_logger("canvod.launch")
    stream = io.StringIO()
    structlog.configure(
        processors=[structlog.processors.JSONRenderer()], logger_factory=structlog.PrintLoggerFactory(stream)
    )
    log.bind(cluster="c").info("dask_cluster_started", workers=2)
    assert objects(stream) == [{"cluster": "c", "workers": 2, "event": "dask_cluster_started"}]
    with structlog.testing.capture_logs() as captured:
        log.info("seen")
    assert captured == [{"event": "seen", "log_level": "info"}]


def test_lines_follow_the_level_of_a_standard_logger(caplog):
    """Without structlog a program shows our lines by the standard library's own means."""
    with caplog.at_level("INFO", logger="canvod.launch"):
        get_logger("canvod.launch").info("dask_cluster_started", workers=2)
    assert caplog.messages == ["event='dask_cluster_started' workers=2"]
