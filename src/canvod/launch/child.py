"""A program that runs as a child, with signals and a terminal as if it had been started by itself."""

from __future__ import annotations

import errno
import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from canvod.launch.errors import CommandNotExecutableError, CommandNotFoundError
from canvod.launch.paths import exists, is_folder
from canvod.launch.termination import SIGNALS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from types import FrameType

_PYTHON = re.compile(r"python[0-9.]*$")
_LINE_BYTES = 4096
_ANSWER_TIMEOUT_S = 10.0


def find_program(name: str) -> str:
    """Find a program as a shell does, before anything is started for it.

    Parameters
    ----------
    name : str
        Its name, which is looked for on ``PATH``, or its path.

    Returns
    -------
    str
        Its path.

    Raises
    ------
    CommandNotFoundError
        If it is not there.
    CommandNotExecutableError
        If it cannot be executed.
    """
    found = shutil.which(name)
    if found is not None:
        return found
    if "/" in name and exists(name):
        what = "is a folder" if is_folder(name) else "may not be executed"
        raise CommandNotExecutableError(
            f"{name} {what}; nothing was started.",
            hint="name a program"
            if is_folder(name)
            else f"chmod +x {name}, or name its interpreter: python {name}",
        )
    where = "" if "/" in name else " on PATH"
    raise CommandNotFoundError(
        f"There is no command {name}{where}; nothing was started.",
        hint="check its spelling, or name its path; options of canvod-launch come before --",
    )


def python_of(program: str) -> str | None:
    """Tell which Python a program is, or runs in.

    Parameters
    ----------
    program : str
        Path of an interpreter, or of a script whose first line names one.

    Returns
    -------
    str or None
        Such as ``3.14``; None where it is no Python, or cannot be told.
    """
    interpreter = program if _PYTHON.match(Path(program).name) else _interpreter_of_script(program)
    if interpreter is None or not _PYTHON.match(Path(interpreter).name):
        return None
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    try:
        done = subprocess.run(
            [interpreter, "-I", "-c", code],
            check=True,
            capture_output=True,
            text=True,
            timeout=_ANSWER_TIMEOUT_S,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def _interpreter_of_script(script: str) -> str | None:
    try:
        with Path(script).open("rb") as file:
            first = file.readline(_LINE_BYTES)
    except OSError:
        return None
    words = first[2:].decode(errors="replace").split() if first.startswith(b"#!") else []
    if words and Path(words[0]).name == "env":
        words = [found for word in words[1:] if not word.startswith("-") and (found := shutil.which(word))]
    return words[0] if words else None


def run_child(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run a program to its end.

    It is a process group of its own, so that SIGINT, SIGTERM and SIGHUP reach it once, whoever sent them to
    whom: what a terminal sends comes to it alone, what this process gets is passed on. It has the terminal
    where this process had it.

    In a pipeline of a terminal it stays in the group of all the others, which would lose the terminal with
    this process: a pager could not read its keys. What the terminal sends comes to all of them then, and
    only SIGTERM is passed on.

    Parameters
    ----------
    command : sequence of str
        Path of the program, and its arguments.
    environment : mapping
        All its environment.

    Returns
    -------
    int
        Its exit status, as a shell tells it: 128 + n if signal n has killed it.

    Raises
    ------
    CommandNotExecutableError
        If it is not a program after all.
    """
    shared = _in_pipeline()
    with _passed_on(shared=shared) as pass_on_to:
        try:
            child = subprocess.Popen(
                list(command), env=dict(environment), process_group=None if shared else 0
            )
        except OSError as error:
            script = error.errno == errno.ENOEXEC
            hint = "begin it with the line of its interpreter: #!/bin/sh" if script else None
            raise CommandNotExecutableError(
                f"{command[0]} cannot be executed: {error.strerror or error}.", hint=hint
            ) from error
        pass_on_to(child)
        with nullcontext() if shared else _terminal_for(child):
            return _wait(child)


def _in_pipeline() -> bool:
    """Whether this process has a terminal in the foreground that others may have with it."""
    alone = all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stdout))
    return not alone and _terminal(os.getpgrp()) is not None


@contextmanager
def _passed_on(*, shared: bool) -> Iterator[Any]:
    """Pass signals on to a child, those too that came before it was there."""
    early: list[int] = []
    children: list[subprocess.Popen[bytes]] = []

    def take(number: int, _frame: FrameType | None) -> None:
        if not children:
            early.append(number)
        elif not shared or number == signal.SIGTERM:
            _send(children[0], number, shared=shared)

    def begin(child: subprocess.Popen[bytes]) -> None:
        children.append(child)
        while early:
            _send(child, early.pop(0), shared=shared)

    # One that is ignored (nohup) stays ignored, for the child too.
    numbers = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, take) for number in numbers}
    try:
        yield begin
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _send(child: subprocess.Popen[bytes], number: int, *, shared: bool) -> None:
    if child.returncode is None:
        with suppress(ProcessLookupError):
            (os.kill if shared else os.killpg)(child.pid, number)


@contextmanager
def _terminal_for(child: subprocess.Popen[bytes]) -> Iterator[None]:
    """Make a child's group the one in the foreground of the terminal, if this process's was."""
    terminal = _terminal(os.getpgrp())
    if terminal is None:
        yield
        return
    # Who is not in the foreground is stopped when it asks for the terminal, unless it ignores that.
    before = signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    try:
        with suppress(OSError):
            os.tcsetpgrp(terminal, child.pid)
            # It may have asked for the terminal a moment too early.
            os.killpg(child.pid, signal.SIGCONT)
        yield
    finally:
        with suppress(OSError):
            os.tcsetpgrp(terminal, os.getpgrp())
        signal.signal(signal.SIGTTOU, before)


def _terminal(group: int) -> int | None:
    """Return the file of the terminal that a process group has in the foreground, or None."""
    for stream in (sys.stdin, sys.stderr, sys.stdout):
        with suppress(OSError, ValueError, AttributeError):
            if os.tcgetpgrp(stream.fileno()) == group:
                return stream.fileno()
    return None


def _wait(child: subprocess.Popen[bytes]) -> int:
    """Wait for the end; where the child is stopped (Ctrl-Z), stop too, and go on together."""
    while True:
        _, status = os.waitpid(child.pid, os.WUNTRACED)
        if not os.WIFSTOPPED(status):
            break
        terminal = _terminal(child.pid)
        if terminal is None:
            continue
        os.tcsetpgrp(terminal, os.getpgrp())
        os.kill(os.getpid(), signal.SIGSTOP)
        with suppress(OSError):
            if os.tcgetpgrp(terminal) == os.getpgrp():
                os.tcsetpgrp(terminal, child.pid)
            os.killpg(child.pid, signal.SIGCONT)
    code = os.waitstatus_to_exitcode(status)
    child.returncode = code
    return code if code >= 0 else 128 - code
