"""Signals unwind the program, and wait while something is being removed."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from canvod.launch.termination import exit_on_signals, shielded

pytestmark = pytest.mark.filterwarnings("error")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_becomes_an_exit_that_unwinds(number: signal.Signals) -> None:
    """`with` exits and atexit functions run, and the exit status is the shell's for that signal."""
    program = (
        "import atexit, signal\n"
        "from canvod.launch.termination import exit_on_signals\n"
        "exit_on_signals()\n"
        "atexit.register(print, 'atexit')\n"
        "try:\n"
        f"    signal.raise_signal({int(number)})\n"
        "finally:\n"
        "    print('finally')\n"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert (done.returncode, done.stdout) == (128 + number, "finally\natexit\n")


def test_a_handler_of_the_program_is_left_alone() -> None:
    """A program that handles SIGTERM itself goes on doing so."""
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        mine = signal.getsignal(signal.SIGTERM)
        exit_on_signals()
        assert signal.getsignal(signal.SIGTERM) is mine
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_signal_waits_for_the_end_of_a_removal() -> None:
    """The whole block runs, however often Ctrl-C is pressed, and the interrupt comes afterwards."""
    steps = []

    def remove() -> None:
        with shielded():
            steps.append("begin")
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            steps.append("end")
        steps.append("never reached")

    with pytest.raises(KeyboardInterrupt):
        remove()
    assert steps == ["begin", "end"]


def test_nothing_changes_where_no_signal_came() -> None:
    """Handlers are as they were after the block."""
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    with shielded():
        pass
    assert before == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
