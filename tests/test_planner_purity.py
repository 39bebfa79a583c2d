"""A plan is a function of its arguments: making one opens no file and asks nothing of the system."""

from __future__ import annotations

import ast
import os
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

import canvod.launch.plan
from canvod.launch.config import load_settings
from canvod.launch.errors import PlanError
from plan_strategies import cases, engines, make_host, planned

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = Path(canvod.launch.plan.__path__[0])

ALLOWED = {
    *(
        "__future__",
        "bisect",
        "collections",
        "collections.abc",
        "dataclasses",
        "math",
        "re",
        "typing",
    ),
    "pydantic",
    *(
        "canvod.launch.config",
        "canvod.launch.errors",
        "canvod.launch.dask_memory_limit",
        "canvod.launch.units",
    ),
    *(f"canvod.launch.host.{module}" for module in ("cpulist", "inventory", "labels")),
}
"""What modules of the plan import, besides each other: values, and functions of values."""

FORBIDDEN_NAMES = {"open", "input", "print", "exec", "eval", "compile", "__import__", "breakpoint"}
FORBIDDEN_ATTRIBUTES = {"environ", "getenv", "exists", "stat", "read_text", "read_bytes", "write_text"}

AUDITED = {"open", "os", "socket", "subprocess", "shutil", "import", "glob"}
"""Audit events of Python that tell of the system; those of `os` and others have more after a dot."""

_guarded = False


class ImpureError(AssertionError):
    """Something was asked that is no argument."""


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if _guarded and event.partition(".")[0] in AUDITED:
        raise ImpureError(f"{event} {arguments}")


class _Unreadable(dict[str, str]):
    def _refuse(self, *_: object) -> NoReturn:
        raise ImpureError("the environment was read")

    __getitem__ = __contains__ = __iter__ = get = items = copy = _refuse


@contextmanager
def nothing_but_arguments() -> Iterator[None]:
    """Let whatever opens a file, asks the system, or reads the environment or the clock fail."""
    global _guarded  # noqa: PLW0603 - an audit hook cannot be removed, only be told to do nothing

    def refuse(*_: object, **__: object) -> NoReturn:
        raise ImpureError("the system was asked")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "environ", _Unreadable())
        for module, names in {
            os: ("getenv", "getpid", "getuid", "getcwd", "cpu_count", "stat", "urandom"),
            time: ("time", "time_ns", "monotonic", "perf_counter", "sleep"),
        }.items():
            for name in names:
                patch.setattr(module, name, refuse)
        _guarded = True
        try:
            yield
        finally:
            _guarded = False


sys.addaudithook(_audit)


@pytest.mark.parametrize(
    "impure",
    [
        lambda: Path("/etc/hostname").read_text(),
        lambda: os.environ.get("HOME"),
        lambda: time.time() + 1,
        lambda: os.system("true"),  # noqa: S605 - it is refused
    ],
)
def test_the_check_finds_impure_code(impure):
    """A file, the environment, the clock and another program are each refused."""
    with pytest.raises(ImpureError), nothing_but_arguments():
        impure()


@given(
    case=cases(),
    engine=st.none() | engines,
    backend=st.sampled_from(["docker", "process", "pool", "remote"]),
)
def test_a_plan_is_made_from_its_arguments_alone(case, engine, backend):
    """Whatever the settings and the host, also where a plan is refused."""
    settings, host = case
    environ = {"SUDO_UID": "1001", "SUDO_GID": "1001"}
    with nothing_but_arguments(), suppress(PlanError):
        planned(settings, host, engine=engine, backend=backend, environ=environ)


def test_a_refusal_names_a_line_without_reading_the_file_again(tmp_path):
    """Where a value was given is known since the settings were read."""
    file = tmp_path / "processing.yaml"
    file.write_text("processing:\n  cpu_affinity: [99]\n")
    settings = load_settings(file, environ={})
    file.unlink()
    with (
        nothing_but_arguments(),
        pytest.raises(PlanError, match=r"processing\.yaml:2: processing\.cpu"),
    ):
        planned(settings, make_host())


@pytest.mark.parametrize("module", sorted(FOLDER.glob("*.py")), ids=lambda path: path.stem)
def test_modules_of_the_plan_import_values_alone(module):
    """No name and no import with which a file, the environment or the clock could be read."""
    for node in ast.walk(ast.parse(module.read_text())):
        match node:
            case ast.Import(names=names):
                assert {name.name for name in names} <= ALLOWED
            case ast.ImportFrom(module=str(name)):
                assert name in ALLOWED or name.startswith("canvod.launch.plan.")
            case ast.Name(id=name):
                assert name not in FORBIDDEN_NAMES
            case ast.Attribute(attr=name):
                assert name not in FORBIDDEN_ATTRIBUTES
