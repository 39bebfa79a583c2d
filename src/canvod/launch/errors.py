"""Every error that canvod-launch raises on purpose.

An error says what failed, where, what was observed, what is allowed and what to do next. The classes are
grouped by what a caller would do about them, and each carries the exit status that the command line returns.
"""

from __future__ import annotations

import shlex
import sys
from enum import IntEnum
from pathlib import Path
from typing import ClassVar


class ExitStatus(IntEnum):
    """Exit statuses of the ``canvod-launch`` command."""

    OK = 0
    """Everything that was asked for is done."""
    REFUSED = 1
    """Refused before anything was started: wrong input, a missing engine, an image that cannot be had."""
    USAGE = 2
    """The command line itself is wrong (an unknown option, a missing argument)."""
    SOME_FAILED = 3
    """The run ended and was committed, but some files could not be stored."""
    CLUSTER_FAILED = 4
    """The cluster or a commit failed after the start; what an ingest had committed before is stored."""
    INTERNAL_ERROR = 70
    """A bug: an error that canvod-launch did not foresee. Run again with ``--debug`` to see where."""
    INTERRUPTED = 130
    """Interrupted by Ctrl-C (SIGINT); what an ingest had committed before is stored."""
    NOT_EXECUTABLE = 126
    """The command of ``canvod-launch run`` is not a program that can be executed; nothing was started."""
    NOT_FOUND = 127
    """The command of ``canvod-launch run`` is not there; nothing was started."""
    HUNG_UP = 129
    """Ended by SIGHUP, likewise."""
    TERMINATED = 143
    """Ended by SIGTERM, likewise."""


class LaunchError(Exception):
    """Base class of all errors of canvod-launch.

    Parameters
    ----------
    message : str
        What failed, with the observed and the allowed values.
    hint : str, optional
        What to do next: a command to run or a setting to change.
    """

    exit_status: ClassVar[ExitStatus] = ExitStatus.REFUSED
    """Exit status of the command that raises it."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}\n  What to do: {self.hint}"


class ConfigError(LaunchError):
    """Settings that cannot be used; raised before anything has started."""


class PlanError(LaunchError):
    """Settings that are valid in themselves but do not fit this host."""


class EngineError(LaunchError):
    """No Docker engine answers, or it refuses what is asked of it."""


class ImageError(LaunchError):
    """An image cannot be built, or the one at hand cannot be used."""


class VersionMismatchError(LaunchError):
    """Client and cluster differ in a version that must be alike."""


class InputError(LaunchError):
    """Input files, or the place to store them, cannot be used."""


class OutputError(LaunchError):
    """The result cannot be written to standard output."""


class KeysError(LaunchError):
    """The keys of a cluster cannot be made, kept or found; nothing has been started."""


class DependencyError(LaunchError):
    """An optional package is needed and not installed."""


def install_command(*packages: str) -> str:
    """Give the command that installs packages where this program runs, for a hint.

    Parameters
    ----------
    *packages : str
        As pip takes them, such as ``canvod-launch[plot]``.

    Returns
    -------
    str
        With pip where this environment has it, else with uv, which needs none.
    """
    from importlib.util import find_spec
    from shutil import which

    if find_spec("pip") is not None:
        return shlex.join([sys.executable, "-m", "pip", "install", *packages])
    # In the environments of the Makefile uv is found beside Python, or where the Makefile keeps its own.
    prefix = Path(sys.prefix)
    kept = [*prefix.glob("bin/uv"), *prefix.parent.glob(".cache/uv-*/bin/uv")]
    uv = "uv" if which("uv") or not kept else str(kept[0])
    return shlex.join([uv, "pip", "install", "--python", sys.executable, *packages])


class ClusterNotFoundError(LaunchError):
    """No cluster of this name is there, or it is not clear which one is meant."""


class ForeignClusterError(LaunchError):
    """The cluster is another user's, or ``docker compose`` runs it."""


class ClusterExistsError(LaunchError):
    """A cluster of this name is there already."""


class CommandNotFoundError(LaunchError):
    """The command to run is not there; nothing has been started."""

    exit_status = ExitStatus.NOT_FOUND


class CommandNotExecutableError(LaunchError):
    """The command to run cannot be executed; nothing has been started."""

    exit_status = ExitStatus.NOT_EXECUTABLE


class ClusterError(LaunchError):
    """The cluster failed after it was asked to start; what was started has been removed."""

    exit_status = ExitStatus.CLUSTER_FAILED


class ContainerFailedError(ClusterError):
    """A container ended while it was needed.

    The message holds its status, exit code, whether the kernel killed it at its memory limit, and the
    last lines of its output.
    """


class StoreError(LaunchError):
    """The store refused a write or a commit, which changed nothing."""

    exit_status = ExitStatus.CLUSTER_FAILED
