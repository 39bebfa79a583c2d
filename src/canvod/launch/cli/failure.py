"""Show an error: one readable block on stderr, or one JSON object on standard output."""

from __future__ import annotations

import json
import re
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

import typer
from rich.text import Text

from canvod.launch import errors
from canvod.launch.cli.console import tell
from canvod.launch.errors import ExitStatus, InputError, LaunchError


def report(error: BaseException, *, as_json: bool, debug: bool) -> int:
    """Show what ended a command.

    Parameters
    ----------
    error : BaseException
        An error of canvod-launch or of the command line, a signal, or an error that nobody foresaw.
    as_json : bool
        Print one JSON object on standard output instead of text on stderr.
    debug : bool
        Show the traceback of an error too, on stderr.

    Returns
    -------
    int
        The exit status.
    """
    if isinstance(error, KeyboardInterrupt | typer.Abort | SystemExit):
        found = _describe_signal(error)
    # typer carries its own copy of click in newer releases, so its errors are known by what they can do.
    elif hasattr(error, "format_message") and hasattr(error, "exit_code"):
        if type(error).__name__ == "NoArgsIsHelpError":  # the help is shown already
            return int(error.exit_code)
        context = getattr(error, "ctx", None)
        command = context.command_path if context is not None else "canvod-launch"
        found = _failure("usage", error.format_message(), f"{command} --help", error.exit_code)
    else:
        if debug:
            traceback.print_exception(error)
        error = _foreseen(error) or error
        found = _describe_error(error, debug=debug)
    if notes := _notes(error):
        found["notes"] = notes
    if as_json:
        print(json.dumps(found), flush=True)  # noqa: T201 (the command's output)
    else:
        _show(found)
    return int(found["exit_status"])


def _failure(kind: str, message: str, hint: str | None, status: int) -> dict[str, Any]:
    return {"error": message, "kind": kind, "hint": hint, "exit_status": int(status)}


def _describe_signal(error: BaseException) -> dict[str, Any]:
    """Say that the command was ended by a signal."""
    status = int(error.code or 0) if isinstance(error, SystemExit) else int(ExitStatus.INTERRUPTED)
    name = signal.Signals(status - 128).name
    message = "interrupted" if status == ExitStatus.INTERRUPTED else f"ended by {name}"
    return _failure("interrupted", message, None, status)


def _describe_error(error: BaseException, *, debug: bool) -> dict[str, Any]:
    if not isinstance(error, LaunchError):
        remedy = "report the traceback above"
        if not debug:
            remedy = "run the command again with --debug and report what it shows"
        message, hint = f"{type(error).__name__}: {error}", f"this is not foreseen; {remedy}"
        return _failure("internal", message, hint, ExitStatus.INTERNAL_ERROR)
    problems = getattr(error, "problems", ())
    remedies = "; ".join(dict.fromkeys(problem.remedy for problem in problems))
    found = _failure(kind_of(error), error.message, error.hint or remedies or None, error.exit_status)
    if problems:
        found["problems"] = [problem.as_json() for problem in problems]
    return found


def _foreseen(error: BaseException) -> LaunchError | None:
    """Return what an error of another library means here, where that is known."""
    from canvod.launch.cluster.dask_settings import refusal

    if isinstance(error, FileNotFoundError):
        try:
            Path.cwd()
        except FileNotFoundError:
            return InputError("The current folder does not exist any more.", hint="cd to one that exists")
    return refusal(error)


def kind_of(error: LaunchError) -> str:
    """Stable code of an error: its class, or the nearest above it that :mod:`canvod.launch.errors` defines.

    Parameters
    ----------
    error : LaunchError
        The error.

    Returns
    -------
    str
        Such as ``config`` for every kind of :class:`~canvod.launch.errors.ConfigError`.

    Examples
    --------
    >>> kind_of(errors.VersionMismatchError("…"))
    'version_mismatch'
    """
    name = next(base.__name__ for base in type(error).__mro__ if base.__module__ == errors.__name__)
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name.removesuffix("Error")).lower()


def _notes(error: BaseException | None) -> list[str]:
    """Gather what was noted on an error on its way: typer makes another one of Ctrl-C."""
    found: list[str] = []
    while error is not None:
        found += [note for note in getattr(error, "__notes__", ()) if note not in found]
        error = error.__cause__ or (error.__context__ if isinstance(error, RuntimeError) else None)
    return found


def _show(failure: dict[str, Any]) -> None:
    text = Text.assemble(("error: ", "bold red"), failure["error"])
    if failure["hint"] is not None and "problems" not in failure:
        text.append("\n  to do: ", "bold").append(failure["hint"].replace("\n", "\n  "))
    for note in failure.get("notes", ()):
        text.append(f"\n{note}")
    tell(failure.pop("error"), text, level="error", **failure)
    sys.stderr.flush()
