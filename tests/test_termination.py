"""Signals unwind the program, and wait while something is being removed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading

import pytest

from canvod.launch.termination import SIGNALS, exit_on_signals, shielded

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


def handlers() -> list[object]:
    """What each signal does now."""
    return [signal.getsignal(number) for number in SIGNALS]


def test_a_signal_that_comes_in_a_finalizer_is_not_lost() -> None:
    """Python drops what is raised in ``__del__``, and in what that calls."""

    class Finalized:
        def __del__(self) -> None:
            sorted([1], key=lambda _: signal.raise_signal(signal.SIGTERM))

    def finalize_and_wait() -> None:
        Finalized()
        threading.Event().wait(60)
        raise TimeoutError

    with exit_on_signals(), pytest.raises(SystemExit) as ended:
        finalize_and_wait()
    assert ended.value.code == 128 + signal.SIGTERM


def test_a_handler_of_the_program_is_left_alone() -> None:
    """A program that handles SIGTERM itself goes on doing so, also when ours are restored."""
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        mine = handlers()
        with exit_on_signals():
            assert handlers()[:2] == mine[:2]
        assert handlers() == mine
    finally:
        signal.signal(signal.SIGTERM, before)


def test_handlers_are_restored_when_the_last_user_is_done() -> None:
    """Two clusters in one program, in whatever order they are closed, one of them twice."""
    before = handlers()
    first, second = exit_on_signals(), exit_on_signals()
    first.close()
    first.close()
    with pytest.raises(SystemExit):
        signal.raise_signal(signal.SIGTERM)
    second.close()
    assert handlers() == before


def test_handlers_are_restored_in_a_block_that_holds_signals_back() -> None:
    """A cluster restores them while it is being removed; the end of that brings none of them back."""
    before = handlers()
    exits = exit_on_signals()
    with shielded():
        exits.close()
    assert handlers() == before


def test_another_thread_sets_no_handlers() -> None:
    """Python would refuse to; what a cluster in a thread has begun, it may also end there."""
    before, ran = handlers(), []

    def use() -> None:
        with exit_on_signals(), shielded():
            ran.append(handlers())

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert ran == [before]
    assert handlers() == before


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


def test_a_signal_takes_effect_though_the_block_fails() -> None:
    """What went wrong in the block is the context of the interrupt."""

    def fail() -> None:
        with shielded():
            signal.raise_signal(signal.SIGINT)
            raise ValueError("in the block")

    with pytest.raises(KeyboardInterrupt) as caught:
        fail()
    assert isinstance(caught.value.__context__, ValueError)


EVERY_STEP = """
import json, os, signal, sys, threading
from canvod.launch.termination import SIGNALS, exit_on_signals, shielded

number, by = signal.Signals[sys.argv[1]], sys.argv[2]
exit_on_signals()
before = [signal.getsignal(each) for each in SIGNALS]


def block(step):
    count, sent = 0, False
    chosen = threading.Event()

    def send():
        chosen.wait()
        if sent and by == "thread":
            signal.raise_signal(number)

    # Before any signal is blocked, which threads inherit.
    sender = threading.Thread(target=send)
    sender.start()

    def trace(frame, event, argument):
        nonlocal count, sent
        if not frame.f_code.co_filename.endswith("termination.py"):
            return None
        count += event == "line"
        if count == step and not sent:
            sent = True
            if by == "process":
                os.kill(os.getpid(), number)
            else:
                chosen.set()
                sender.join()
        return trace

    raised = None
    sys.settrace(trace)
    try:
        with shielded():
            for held in sys.argv[3:]:
                signal.raise_signal(signal.Signals[held])
    except BaseException as error:
        raised = type(error).__name__
    finally:
        sys.settrace(None)
        chosen.set()
        sender.join()
    restored = [signal.getsignal(each) for each in SIGNALS] == before
    blocked = bool(signal.pthread_sigmask(signal.SIG_BLOCK, ()))
    return sent, raised, restored, blocked


step, outcomes = 0, []
while (outcome := block(step := step + 1))[0]:
    outcomes.append(outcome[1:])
print(json.dumps(outcomes))
"""


@pytest.mark.parametrize("held", [[], ["SIGINT"]], ids=["first", "second"])
@pytest.mark.parametrize("by", ["process", "thread"])
@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_at_any_step_is_not_lost_and_leaves_no_handler(
    number: str, by: str, held: list[str]
) -> None:
    """While handlers are set or restored: sent to the process, or taken by another thread; after Ctrl-C."""
    command = [sys.executable, "-c", EVERY_STEP, number, by, *held]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    outcomes = [tuple(outcome) for outcome in json.loads(done.stdout)]
    errors = {"KeyboardInterrupt" if name == "SIGINT" else "SystemExit" for name in (number, *held)}
    assert len(outcomes) > 20
    assert set(outcomes) == {(error, True, False) for error in errors}


REMOVAL = """
from canvod.launch.termination import exit_on_signals, shielded
with exit_on_signals():
    try:
        with shielded():
            print("removing", flush=True)
            input()
            print("removed", flush=True)
    finally:
        print("unwound", flush=True)
"""


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_signals_of_other_programs_wait_for_the_end_of_a_removal(first: signal.Signals) -> None:
    """Sent while a program removes something; it ends as the signal says."""
    with subprocess.Popen(
        [sys.executable, "-c", REMOVAL],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as program:
        assert program.stdin is not None
        assert program.stdout is not None
        assert program.stdout.readline() == "removing\n"
        program.send_signal(first)
        out, _ = program.communicate("go\n", timeout=60)
    assert out == "removed\nunwound\n"
    assert program.returncode == (-first if first == signal.SIGINT else 128 + first)


def test_nothing_changes_where_no_signal_came() -> None:
    """Handlers are as they were after the block."""
    before = handlers()
    with shielded():
        pass
    assert handlers() == before
