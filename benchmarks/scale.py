"""Memory and speed of an ingest of many files, which do not depend on how many there are.

    .venv/bin/python benchmarks/scale.py [--files 20000] [--workers 2] [--memory 2] [--backend docker]

One day of simulated files (30 s) is made, and written again for so many days. The ingest runs on a cluster of
its own; once a second the memory of this process (the launcher) and of the workers is taken, with the number
of files that are done. The table has a row for each tenth of the files. Flat are figures whose last row is
about that of the 500th file.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import threading
import time
from datetime import date, timedelta
from pathlib import Path

import psutil

from canvod.launch.config import load_settings
from canvod.launch.ingest.job import IngestJob
from canvod.launch.ingest.progress import IngestProgress, MemoryProbe
from canvod.launch.simulate import simulate

FIRST = date(2025, 1, 1)
MIB = 2**20


class Watch(IngestProgress):
    """Notes time, files done, and memory, once a second."""

    def __init__(self) -> None:
        self.done = 0
        self.probe: MemoryProbe | None = None
        self.rows: list[tuple[float, int, int, int]] = []
        self.began = time.monotonic()
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.sample, daemon=True)
        self.thread.start()

    def watch(self, memory: MemoryProbe, limit_bytes: int | None) -> None:
        """Take what gives the workers' memory."""
        del limit_bytes
        self.probe = memory

    def advance(self) -> None:
        """Count files."""
        self.done += 1

    def sample(self) -> None:
        """Note a row each second."""
        launcher = psutil.Process()
        while not self.ended.wait(1):
            probe = self.probe
            workers = max(probe().values(), default=0) if probe is not None else 0
            used = launcher.memory_info().rss
            self.rows.append((time.monotonic() - self.began, self.done, used, workers))

    def close(self) -> None:
        """Stop."""
        self.ended.set()
        self.thread.join()


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
    print(f"{stored} of {given.files} files stored in {took_s:.0f} s, {commits} commits")
    print(f"again: all of them known ({again is not None}) in {known_s:.1f} s, without a cluster")
    print(f"{'files':>8}{'files/s':>10}{'launcher MiB':>14}{'worker MiB':>12}")
    marks = sorted({500, *(given.files * tenth // 10 for tenth in range(1, 11))})
    before = (0.0, 0, 0, 0)
    for mark in marks:
        row = next((row for row in watch.rows if row[1] >= mark), watch.rows[-1])
        rate = (row[1] - before[1]) / max(row[0] - before[0], 1)
        print(f"{row[1]:8}{rate:10.1f}{row[2] / MIB:14.0f}{row[3] / MIB:12.0f}")
        before = row
    print(f"{os.cpu_count()} cores, Python {sys.version.split()[0]}, {given.backend}")


if __name__ == "__main__":
    main()
