"""How long a cluster of containers outlives its launcher: ``python benchmarks/killed_launcher.py [ROUNDS]``.

A program starts two workers and is killed (SIGKILL). In every other round its watchdog is killed too, so that
only the lease is left (``launch.lease_grace_s``); the network and the keys stay then, and are pruned. Seconds
are from the kill until the engine lists no container of the cluster, and until nothing else of it is left.
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable

from canvod.launch.cluster.orphans import prune_engine, prune_keys
from canvod.launch.docker.engine import connect
from canvod.launch.testing import find_leftovers

LAUNCHER = """
import sys, time
from canvod.launch import DaskClusterManager
settings = {"launch": {"backend": "docker", "dashboard_port": 0, "log_level": "error"}}
if __name__ == "__main__":
    with DaskClusterManager(settings, n_workers=2, memory_limit_per_worker="1GiB", cluster_name=sys.argv[1]):
        print("up", flush=True)
        time.sleep(3600)
"""
LIMIT_S = 180.0


def wait_until(condition: Callable[[], bool], begun: float) -> float:
    """Wait for a condition, and return how long it took since a moment."""
    while not condition():
        if time.monotonic() - begun > LIMIT_S:
            raise SystemExit(f"still not so after {LIMIT_S:g} s")
        time.sleep(0.05)
    return time.monotonic() - begun


def measure(*, kill_watchdog: bool) -> str:
    """Start a cluster, kill its launcher, and describe what is gone when."""
    name, engine = f"killed-{secrets.token_hex(3)}", connect()
    launcher = subprocess.Popen(
        [sys.executable, "-c", LAUNCHER, name], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    if launcher.stdout is None or launcher.stdout.readline() != "up\n":
        raise SystemExit("the cluster did not start; the reason is above")
    watchdogs = [
        int(line.split()[1].rstrip(":"))
        for line in find_leftovers(name)
        if line.startswith("process") and "watchdog" in line
    ]
    begun = time.monotonic()
    for pid in watchdogs if kill_watchdog else ():
        os.kill(pid, signal.SIGKILL)
    launcher.kill()
    launcher.wait()
    containers = wait_until(
        lambda: not any(line.startswith("container") for line in find_leftovers(name, engine)), begun
    )
    if kill_watchdog:
        left = sorted(line.split()[0] for line in find_leftovers(name, engine))
        prune_engine(engine)
        prune_keys()
        rest = f"pruned: {', '.join(left)}"
    else:
        rest = f"everything {wait_until(lambda: not find_leftovers(name, engine), begun):.1f} s"
    engine.close()
    who = "launcher and watchdog" if kill_watchdog else "launcher"
    return f"{who} killed: containers gone after {containers:.1f} s, {rest}"


def main() -> None:
    """Measure in turns, and print each round."""
    for _ in range(int(sys.argv[1]) if len(sys.argv) > 1 else 3):
        for kill_watchdog in (False, True):
            sys.stdout.write(f"{measure(kill_watchdog=kill_watchdog)}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
