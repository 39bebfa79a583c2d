"""What adding one 15-minute file costs: to a group of years, against a group of one day.

    .venv/bin/python benchmarks/flat_cost.py [--years 5] [--rounds 5]

Groups have data at 5 s, made without parsing files: every day has values in one chunk of each part. Each
round adds a file to a copy of either group, in a process of its own, one after the other. CPU time is that of
the launcher and of the process that reads and writes; bytes are what the store grows by; the peak is the most
resident memory of the launcher.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import zarr

from canvod.launch.config import load_settings
from canvod.launch.ingest.days import choose_chunk, usual_parts
from canvod.launch.ingest.group import finish, make_group, place, write_axis
from canvod.launch.ingest.log_book import FileRecord
from canvod.launch.ingest.pool import PoolRunner
from canvod.launch.ingest.run import ingest
from canvod.launch.ingest.store import create_store, open_repository
from canvod.launch.runtime.blocks import DAY_NS, Span
from canvod.launch.runtime.file_tasks import peak_memory_bytes
from canvod.launch.simulate import simulate

GROUP = "site/receiver"
INTERVAL_NS = 5 * 10**9
FIRST_DAY = 18_262  # 2020-01-01


def make_store(folder: Path, numbers: Sequence[int]) -> None:
    """Make a group of days, by their numbers since the first; its log book has a row for each 15 minutes."""
    days = [FIRST_DAY + number for number in numbers]
    chunk = choose_chunk(INTERVAL_NS, 4)
    parts = usual_parts(INTERVAL_NS, chunk[0])
    store = create_store(folder)
    session = store.writer()
    state = make_group(
        session, GROUP, variables=("SNR",), chunk=chunk, parts=parts, compression_level=3, attributes={}
    )
    sid = [f"G{number:02}|L1|C" for number in range(1, 33)]
    table, _ = place(session, GROUP, state, dict.fromkeys(days, parts), sid)
    real = np.arange(0, DAY_NS, INTERVAL_NS)
    counts = [chunk[0]] * parts
    made = [(Span(day, parts, 0, parts), counts, real + day * DAY_NS) for day in days]
    write_axis(session, GROUP, state, table, made)
    array = zarr.open_group(session.store, path=GROUP, mode="r+")["SNR"]
    values = np.random.default_rng(0).integers(120, 200, (chunk[0], len(sid))).astype("f4") / 4
    for row in range(len(days) * parts):
        array[row * chunk[0] : (row + 1) * chunk[0], : len(sid)] = values
    records = [
        FileRecord(
            f"/data/{day:05}{quarter:02}.rnx",
            "stored",
            size=1,
            first_epoch=start,
            last_epoch=start + 895 * 10**9,
        )
        for day in days
        for quarter in range(96)
        for start in [day * DAY_NS + quarter * 900 * 10**9]
    ]
    table = table.changed(dict.fromkeys(days, len(real)), 1)
    finish(session, GROUP, table, 1, records, [])
    store.commit(session, f"{len(days)} days", {})


def size_of(folder: Path) -> int:
    """Bytes of all files of a store."""
    return open_repository(folder).disk_bytes()


def add(store: str, file: str) -> None:
    """Add a file, and print CPU seconds and the peak of memory in MiB."""
    with PoolRunner(1) as runner:
        ingest([file], store, GROUP, runner=runner, settings=load_settings({}).ingest)
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    print(sum(each.ru_utime + each.ru_stime for each in used), peak_memory_bytes() / 2**20)


def main() -> None:
    """Measure, and print the table."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--years", type=float, default=5)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--add", nargs=2, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.add:
        add(*given.add)
        return
    with tempfile.TemporaryDirectory(prefix="flat-cost-") as name:
        folder = Path(name)
        campaign = simulate(folder / "data", hours=1, receivers=1)
        file = str(campaign.files[-1])
        kinds = {"one day": 1, f"{given.years:g} years": round(365.25 * given.years)}
        figures: dict[str, list[tuple[float, float, float]]] = {kind: [] for kind in kinds}
        for kind, days in kinds.items():
            began = time.perf_counter()
            make_store(folder / kind, range(days))
            size_mib, took_s = size_of(folder / kind) / 2**20, time.perf_counter() - began
            print(f"made {kind}: {size_mib:.0f} MiB in {took_s:.0f} s")
        for _ in range(given.rounds):
            for kind in kinds:
                copy = folder / "copy"
                subprocess.run(["cp", "-al", folder / kind, copy], check=True)
                before = size_of(copy)
                done = subprocess.run(
                    [sys.executable, __file__, "--add", copy, file],
                    check=True,
                    capture_output=True,
                    text=True,
                )
                cpu, peak = map(float, done.stdout.split())
                figures[kind].append((cpu, size_of(copy) - before, peak))
                shutil.rmtree(copy)
    print(f"{'':12}{'CPU s':>16}{'bytes written':>16}{'launcher MiB':>16}")
    middle = {
        kind: [statistics.median(column) for column in zip(*rows, strict=True)]
        for kind, rows in figures.items()
    }
    for kind, (cpu, size, peak) in middle.items():
        spread = [row[0] for row in figures[kind]]
        print(f"{kind:12}{f'{cpu:.2f} ({min(spread):.2f}-{max(spread):.2f})':>16}{size:16,.0f}{peak:16.0f}")
    one, many = middle.values()
    print(f"{'ratio':12}{many[0] / one[0]:16.2f}{many[1] / one[1]:16.2f}{many[2] / one[2]:16.2f}")
    print(f"{os.cpu_count()} cores, Python {sys.version.split()[0]}")


if __name__ == "__main__":
    main()
