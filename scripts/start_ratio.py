#!/usr/bin/env python
"""How long two container workers take to a ready client, as a ratio to a LocalCluster of two processes.

Run it with an environment that has canvod-launch: .venv/bin/python scripts/start_ratio.py [ROUNDS]
Both take turns, each time in a new program, from its first import to a client that sees both workers.
"""

from __future__ import annotations

import statistics
import subprocess
import sys

OURS = """
import time
started = time.monotonic()
from canvod.launch import DaskClusterManager
settings = {"launch": {"backend": "docker", "dashboard_port": 0, "log_level": "error"}}
if __name__ == "__main__":
    with DaskClusterManager(settings, n_workers=2, memory_limit_per_worker="1GiB") as manager:
        manager.client.wait_for_workers(2)
        print(time.monotonic() - started)
"""

LOCAL = """
import time
started = time.monotonic()
from distributed import Client, LocalCluster
if __name__ == "__main__":
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster:
        with Client(cluster) as client:
            client.wait_for_workers(2)
            print(time.monotonic() - started)
"""


def seconds(program: str) -> float:
    """Run a program, and return what it has measured."""
    done = subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.PIPE, text=True)
    return float(done.stdout.split()[-1])


def main() -> None:
    """Measure in turns, and print each round and the medians."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    seconds(OURS)  # builds the images where they are missing, and warms both
    seconds(LOCAL)
    pairs = []
    for _ in range(rounds):
        pairs.append((seconds(OURS), seconds(LOCAL)))
        sys.stdout.write("containers {:.2f} s, LocalCluster {:.2f} s\n".format(*pairs[-1]))
    ours, local = (statistics.median(column) for column in zip(*pairs, strict=True))
    sys.stdout.write(f"median: {ours:.2f} s against {local:.2f} s, ratio {ours / local:.2f}\n")


if __name__ == "__main__":
    main()
