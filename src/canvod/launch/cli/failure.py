"""Show an error: one readable block on stderr, or one JSON object on standard output."""

from __future__ import annotations

import json
import re
import signal
import sys
import traceback
from typing import Any

from canvod.launch import errors
from canvod.launch.errors import ExitStatus, LaunchError


def report(error: Exception, *, as_json: bool, debug: bool) -> int:
    """Show an error that ended a command.

    Parameters
    ----------
    error : Exception
        An error of canvod-launch, or one that it did not foresee.
    as_json : bool
        Print one JSON object on standard output instead of text on stderr.
    debug : bool
        Show the traceback too, on stderr.

    Returns
    -------
    int
        The exit status.
    """
    from canvod.launch.cluster.dask_settings import refusal

    if debug:
        traceback.print_exception(error)
    error = refusal(error) or error
    if isinstance(error, LaunchError):
        return _show(kind_of(error), error.message, _hint(error), error.exit_status, error, as_json=as_json)
    return _show(
        "internal",
        f"{type(error).__name__}: {error}",
        "this is not foreseen; run the command again with --debug and report what it shows"
        if not debug
        else "this is not foreseen; report the traceback above",
        ExitStatus.INTERNAL_ERROR,
        error,
        as_json=as_json,
    )


def report_usage(error: Any, *, as_json: bool) -> int:
    """Show what is wrong with the command line.

    Parameters
    ----------
    error : click.ClickException
        The error, from whichever copy of click typer uses.
    as_json : bool
        Print one JSON object on standard output instead of text on stderr.

    Returns
    -------
    int
        The exit status.
    """
    context = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":
        # The help is shown already.
        return int(error.exit_code)
    command = context.command_path if context is not None else "canvod-launch"
    return _show(
        "usage", error.format_message(), f"{command} --help", int(error.exit_code), error, as_json=as_json
    )


def report_interrupt(error: BaseException, status: int, *, as_json: bool) -> int:
    """Show that the command was ended by a signal, and what it could not remove.

    Parameters
    ----------
    error : BaseException
        What unwound the command.
    status : int
        128 + the number of the signal.
    as_json : bool
        Print one JSON object on standard output instead of text on stderr.

    Returns
    -------
    int
        The exit status.
    """
    ended = f"ended by {signal.Signals(status - 128).name}"
    message = "interrupted" if status == ExitStatus.INTERRUPTED else ended
    return _show("interrupted", message, None, status, error, as_json=as_json)


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


def _hint(error: LaunchError) -> str | None:
    remedies = [problem.remedy for problem in getattr(error, "problems", ())]
    return error.hint or "; ".join(dict.fromkeys(remedies)) or None


def _notes(error: BaseException | None) -> list[str]:
    """Gather what was noted on an error on its way: typer makes another one of Ctrl-C."""
    found: list[str] = []
    while error is not None:
        found += [note for note in getattr(error, "__notes__", ()) if note not in found]
        error = error.__cause__ or (error.__context__ if isinstance(error, RuntimeError) else None)
    return found


def _show(
    kind: str, message: str, hint: str | None, status: int, error: BaseException | None, *, as_json: bool
) -> int:
    problems = getattr(error, "problems", ())
    notes = _notes(error)
    if as_json:
        found: dict[str, Any] = {"error": message, "kind": kind, "hint": hint, "exit_status": int(status)}
        if problems:
            found["problems"] = [problem.as_json() for problem in problems]
        if notes:
            found["notes"] = notes
        print(json.dumps(found), flush=True)  # noqa: T201 (the command's output)
        return int(status)
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=True, soft_wrap=True, highlight=False)
    console.print(Text.assemble(("error: ", "bold red"), message))
    if hint is not None and not problems:
        console.print(Text.assemble(("  to do: ", "bold"), hint.replace("\n", "\n  ")))
    for note in notes:
        console.print(Text(note))
    sys.stderr.flush()
    return int(status)
