"""The application: its commands, its global options, and the way from an error to an exit status.

:data:`COMMANDS` names the commands in the order of the help. The command NAME is the function NAME of the
module NAME of this package, the command GROUP NAME that of the module GROUP. Its docstring is its help: a
line for the list of commands, what else there is to know, and command lines in a section ``Examples``.

Options that several commands share are in :mod:`~canvod.launch.cli.options` with the loading of settings,
what writes text and JSON is in :mod:`~canvod.launch.cli.console`.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from canvod.launch.cli.console import messages
from canvod.launch.cli.failure import report
from canvod.launch.cli.streams import discard, prepared
from canvod.launch.errors import ExitStatus, OutputError
from canvod.launch.termination import SIGNALS

COMMANDS = (
    "plan",
    "build",
    "compose",
    "ingest",
    "run",
    "up",
    "status",
    "connect",
    "logs",
    "scale",
    "down",
    "prune",
    "store show",
    "store log",
    "store plot",
    "store gc",
    "store compact",
    "store rechunk",
    "simulate",
    "config check",
    "config schema",
    "version",
)
"""All commands, in the order of the help."""

GROUPS = {
    "store": "Show what a store holds and how it came there, draw it, clean it up, change its chunks.",
    "config": "Check settings, and print their schema.",
}
"""Groups of commands, with their help."""

_BROKEN_PIPE = 141
"""What a shell reports of a program that ends because nobody reads its output (128 + SIGPIPE)."""

_ENDED_BY_SIGNAL = frozenset(128 + number for number in SIGNALS)
"""Exit statuses of a command that SIGINT, SIGTERM or SIGHUP has ended."""

_EPILOG = """\
[bold]Examples[/]
$ canvod-launch plan
$ canvod-launch ingest /data/rosalia --store /data/store --group rosalia/ref_01
$ canvod-launch run -- python analysis.py
$ canvod-launch up; canvod-launch status
$ canvod-launch config check config/processing.yaml

[bold]Settings[/] come from --config FILE, else from ./config/processing.yaml where it is there; \
environment variables (CANVOD_LAUNCH__BACKEND=process) go before the file, options before both.

[bold]Exit statuses[/]
  0  everything that was asked for is done
  1  refused before anything was started
  2  the command line is wrong
  3  committed, but something of the files was not stored
  4  the cluster or a commit failed; what an ingest had committed before is stored
 70  a bug of canvod-launch
126, 127  run: the command cannot be executed, or is not there; else the status is the command's own
129, 130, 143  ended by SIGHUP, Ctrl-C or SIGTERM, likewise"""


def make_app() -> typer.Typer:
    """Put the application together.

    Returns
    -------
    typer.Typer
        The application with all commands.
    """
    app = typer.Typer(
        name="canvod-launch",
        cls=_Commands,
        help="Start a pinned Dask cluster with memory limits on one host, and ingest GNSS files with it.",
        epilog=_EPILOG,
        no_args_is_help=True,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_global_options)
    groups = {name: typer.Typer(no_args_is_help=True, rich_markup_mode="rich") for name in GROUPS}
    for command in COMMANDS:
        module, _, name = command.rpartition(" ")
        function = getattr(import_module(f"canvod.launch.cli.{module or name}"), name)
        text, epilog = _help(function)
        # What follows the command that run is to run belongs to that command.
        context = {"allow_interspersed_args": command != "run"}
        groups.get(module, app).command(name, help=text, epilog=epilog, context_settings=context)(function)
    for name, group in groups.items():
        app.add_typer(group, name=name, help=GROUPS[name])
    return app


def _help(command: Callable[..., Any]) -> tuple[str, str]:
    """Take the help of a command, and the examples below it, from its docstring."""
    text, _, examples = inspect.cleandoc(command.__doc__ or "").partition("\n\nExamples\n--------\n")
    paragraphs = (" ".join(paragraph.split()) for paragraph in text.split("\n\n"))
    return "\n\n".join(paragraphs), "[bold]Examples[/]\n" + examples.replace("[", "\\[")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command ``canvod-launch``, and turn every end of it into an exit status.

    Parameters
    ----------
    arguments : sequence of str, optional
        Arguments after the command's name; those of this process where None.

    Returns
    -------
    int
        The exit status, see :class:`canvod.launch.errors.ExitStatus`.
    """
    messages.cache_clear()
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = given[: _own_words(given)]
    # Read here and not by typer: an error of the command line itself comes before any option is known. So
    # --debug may also follow the command, where people write it.
    debug, as_json = "--debug" in options, "--json" in options
    words = [word for word in options if word != "--debug"] + given[len(options) :]
    with prepared():
        try:
            status = _call(words)
            sys.stdout.flush()
        except BrokenPipeError:
            discard(sys.stdout)
            status = _BROKEN_PIPE
        except OutputError as exc:
            discard(sys.stdout)
            status = report(exc, as_json=False, debug=debug)
        except (Exception, KeyboardInterrupt, SystemExit) as exc:  # noqa: BLE001 (its user reads one block)
            status = report(exc, as_json=as_json, debug=debug)
    return status


def _own_words(given: Sequence[str]) -> int:
    """Count the words up to ``--``, or up to the command that ``run`` is to run."""
    if "--" in given:
        return given.index("--")
    if next((word for word in given if not word.startswith("-")), None) != "run":
        return len(given)
    first = given.index("run") + 1
    return first + next((n for n, word in enumerate(given[first:]) if not word.startswith("-")), len(given))


class _Commands(TyperGroup):
    """The commands, with Ctrl-C as an exit that has its cause: typer drops that."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as interrupt:
            raise SystemExit(ExitStatus.INTERRUPTED) from interrupt


def _call(words: list[str]) -> int:
    """Run the application; raises `SystemExit` where a signal has ended it."""
    try:
        result = make_app()(words, prog_name="canvod-launch", standalone_mode=False)
    except SystemExit as exc:
        # typer answers a broken pipe itself, with the status of a refusal.
        if isinstance(exc.__context__, BrokenPipeError):
            raise exc.__context__ from None
        if exc.code in _ENDED_BY_SIGNAL:
            raise
        return int(exc.code or 0)
    return result if isinstance(result, int) else ExitStatus.OK


def _print_version(wanted: bool) -> None:
    if wanted:
        from canvod.launch.cli.version import launch_version

        typer.echo(f"canvod-launch {launch_version()}")
        raise typer.Exit


def _global_options(
    debug: Annotated[
        bool,
        typer.Option("--debug", help="Show the traceback of an error; may also follow the command."),
    ] = False,
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version and exit.", callback=_print_version, is_eager=True),
    ] = False,
) -> None:
    """Accept the global options, which have been handled already."""
