"""Memory and speed of an ingest of many files, which do not depend on how many there are.

    .venv/bin/python benchmarks/scale.py [--files 20000] [--workers 2] [--memory 2] [--backend docker]

One day of simulated files (30 s) is made, and written again for so many days. The ingest runs on a cluster of
its own; once a second the resident memory of this process (the launcher), of the scheduler and of the largest
worker is taken, with the number of files that were read. The table has a row for the 500th file and for each
tenth of the files: the rate, and the median of memory, since the row before; then the most memory of all.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import threading
import time
from datetime import date, timedelta
from pathlib import Path

import psutil

from canvod.launch.config import load_settings
from canvod.launch.ingest.job import IngestJob
from canvod.launch.ingest.progress import IngestProgress
from canvod.launch.simulate import simulate

FIRST = date(2025, 1, 1)
MIB = 2**20
ROLES = "scheduler", "worker"


class Watch(IngestProgress):
    """Notes time, files done, and memory, once a second."""

    def __init__(self) -> None:
        self.done = 0
        self.rows: list[tuple[float, int, list[int]]] = []
        self.began = 0.0
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.sample, daemon=True)

    def begin(self, files: int) -> None:
        """Start."""
        del files
        self.began = time.monotonic()
        self.thread.start()

    def advance(self) -> None:
        """Count files."""
        self.done += 1

    def sample(self) -> None:
        """Note a row each second."""
        processes = {
            role: [process for process in psutil.process_iter() if runs(process, role)] for role in ROLES
        }
        processes["launcher"] = [psutil.Process()]
        while not self.ended.wait(1):
            used = [max((rss(process) for process in found), default=0) for found in processes.values()]
            self.rows.append((time.monotonic() - self.began, self.done, used))

    def close(self) -> None:
        """Stop."""
        self.ended.set()
        self.thread.join()


def runs(process: psutil.Process, role: str) -> bool:
    """Whether a process of this host is a scheduler, or a worker but not its nanny, of canvod-launch."""
    try:
        command, parent = " ".join(process.cmdline()), process.parent()
        above = " ".join(parent.cmdline()) if parent is not None else ""
    except psutil.Error:
        return False
    return f"canvod.launch.runtime.{role}" in command or (role == "worker" and "runtime.worker" in above)


def rss(process: psutil.Process) -> int:
    """Resident memory; 0 of a process that has ended."""
    try:
        return process.memory_info().rss
    except psutil.Error:
        return 0


def write_files(folder: Path, count: int) -> None:
    """Write the files of one simulated day, and again for the days after it."""
    campaign = simulate(folder / "one", hours=24, interval_s=30, receivers=1)
    templates = [(path.name, path.read_text()) for path in sorted(map(Path, campaign.files))]
    (folder / "data").mkdir()
    for number in range(count):
        day = FIRST + timedelta(days=number // len(templates))
        name, text = templates[number % len(templates)]
        name = name.replace("_2025001", f"_{day.year}{day.timetuple().tm_yday:03}")
        text = text.replace("> 2025 01 01", f"> {day:%Y %m %d}")
        text = text.replace("  2025     1     1", f"  {day.year}{day.month:6}{day.day:6}")
        (folder / "data" / name).write_text(text)


def main() -> None:
    """Measure, and print the table."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--files", type=int, default=20_000)
    options.add_argument("--workers", type=int, default=2)
    options.add_argument("--memory", type=float, default=2)
    options.add_argument("--backend", default="docker")
    given = options.parse_args()
    settings = load_settings(
        {
            "processing": {
                "resource_mode": "manual",
                "n_max_threads": given.workers,
                "max_memory_gb": given.memory,
            },
            "launch": {"backend": given.backend, "log_level": "error", "dashboard_port": 0},
        }
    )
    with tempfile.TemporaryDirectory(prefix="scale-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        write_files(folder, given.files)
        watch = Watch()
        job = IngestJob([folder / "data"], folder / "store", "site/receiver", settings)
        report = job.run(ingest_progress=lambda: watch)
        began = time.monotonic()
        again = IngestJob([folder / "data"], folder / "store", "site/receiver", settings).nothing_new
        known_s = time.monotonic() - began
    stored, commits, took_s = len(report.stored), len(report.snapshots), report.seconds["total"]
    print(f"{stored} of {given.files} files stored in {took_s:.0f} s")
    print(f"{commits} commits took {report.seconds['commit']:.1f} s of it")
    print(f"again: all of them known ({again is not None}) in {known_s:.1f} s, without a cluster")
    print(f"{'files':>8}{'files/s':>10}" + "".join(f"{name + ' MiB':>16}" for name in (*ROLES, "launcher")))
    marks = sorted({500, *(given.files * tenth // 10 for tenth in range(1, 11))})
    since = (0.0, 0)
    for mark in marks:
        rows = [row for row in watch.rows if since[1] < row[1] <= mark] or [watch.rows[-1]]
        rate = (rows[-1][1] - since[1]) / max(rows[-1][0] - since[0], 1)
        usual = [statistics.median(row[2][index] for row in rows) / MIB for index in range(3)]
        print(f"{rows[-1][1]:8}{rate:10.1f}" + "".join(f"{used:16.0f}" for used in usual))
        since = rows[-1][:2]
    most = [max(row[2][index] for row in watch.rows) / MIB for index in range(3)]
    print(f"{'most':>18}" + "".join(f"{used:16.0f}" for used in most))
    print(f"{os.cpu_count()} cores, Python {sys.version.split()[0]}, {given.backend}")


if __name__ == "__main__":
    main()
