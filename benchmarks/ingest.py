"""Time of an ingest of a receiver-day, as ratios to canvod-readers: ``python benchmarks/ingest.py``.

The 96 files of 15 minutes are real ones of ``../shared/data`` or of ``--data``, where files of fewer hours
are repeated with later epochs, or simulated ones. Each round runs these in turn, on the same files:
``canvod-launch ingest`` into a new store; canvod-readers and our reader, in as many processes as the cluster
has workers. canvod-readers needs Python 3.14: ``--oracle`` is the interpreter of an environment that has it,
and without one there are no ratios. A round that does not count comes first: it builds images that are
missing, and has the files read into memory.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from subprocess import PIPE

from rich.console import Console
from rich.table import Table

from canvod.launch.simulate import simulate

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("CANVOD_TEST_DATA", ROOT.parent / "shared" / "data")) / "rosalia" / "02_canopy"
ORACLE = ROOT / ".venv-3.14" / "bin" / "python"
FILES_A_DAY = 96
TARGETS_S = {"read and committed": 2.5, "whole command": 7.0}

READER = """
import sys, time
sys.path.insert(0, sys.argv[1])
from reader import canvod_reader
from canvod.launch.readers import read_observations
read = canvod_reader() if sys.argv[2] == "canvod" else read_observations
paths = sys.argv[3:]
read(paths[0], ("SNR",))
print(flush=True)
sys.stdin.read()
for path in paths:
    read(path, ("SNR",))
"""


def whole_day(folder: Path, data: Path) -> tuple[Path, str]:
    """Give the folder of a receiver-day, and say what it is."""
    found = sorted(data.rglob("*.rnx")) if data.is_dir() else []
    if not found:
        return simulate(folder, hours=24, receivers=1).folders[0], "simulated files"
    copies = FILES_A_DAY // len(found)
    if copies > 1:
        for path in found:
            for copy in range(copies):
                _shift(path, folder, copy * 24 // copies)
        return folder, f"real files of {24 // copies} h, {copies} times"
    return data, "real files"


def _shift(path: Path, folder: Path, hours: int) -> None:
    """Write a file again, so many hours later on its day."""

    def later(match: re.Match[bytes]) -> bytes:
        return match[1] + b"%02d" % (int(match[2]) + hours)

    name = re.sub(rb"(_\d{7})(\d\d)(?=\d\d_)", later, path.name.encode()).decode()
    (folder / name).write_bytes(
        re.sub(rb"(?m)(^> \d{4} [ \d]\d [ \d]\d )([ \d]\d)", later, path.read_bytes())
    )


def read_s(python: Path, reader: str, paths: list[str], processes: int) -> float:
    """Seconds in which so many processes read the files, without their start and first file."""
    command = [str(python), "-c", READER, str(ROOT / "benchmarks"), reader]
    running = [
        subprocess.Popen([*command, *paths[number::processes]], stdin=PIPE, stdout=PIPE, text=True)
        for number in range(processes)
    ]
    for process in running:
        if process.stdout is not None:
            process.stdout.readline()
    began = time.perf_counter()
    for process in running:
        if process.stdin is not None:
            process.stdin.close()
    statuses = [process.wait() for process in running]
    if any(statuses):
        raise SystemExit(f"{reader} could not read the files; its message is above")
    return time.perf_counter() - began


def ingest_s(data: Path, store: Path, workers: int, backend: str) -> dict[str, float]:
    """Seconds of the phases of one command."""
    command = [str(Path(sys.executable).with_name("canvod-launch")), "ingest", str(data), "--json"]
    command += ["--store", str(store), "--group", "site/receiver"]
    command += ["--workers", str(workers), "--backend", backend]
    began = time.perf_counter()
    running = subprocess.Popen(command, stdout=PIPE, stderr=PIPE, text=True)
    up = 0.0
    said = []
    for line in running.stderr or ():
        said.append(line)
        if line.startswith("Dashboard:"):  # the first line that is said when the cluster is up
            up = time.perf_counter() - began
    answer = running.communicate()[0]
    total = time.perf_counter() - began
    if running.returncode:
        raise SystemExit("".join(said))
    stored = json.loads(answer)["seconds"]
    return {
        "until the cluster is up": up,
        "read and committed": stored["total"],
        "of this to write and commit": stored["commit"],
        "cluster removed, and end": total - up - stored["total"],
        "whole command": total,
    }


def main() -> None:
    """Measure by turns, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--data", type=Path, default=DATA, help="folder of one receiver's files (real ones)")
    parser.add_argument("--rounds", type=int, default=5, help="how often each is measured (5)")
    parser.add_argument("--workers", type=int, default=2, help="workers, and processes of the readers (2)")
    parser.add_argument("--backend", default="docker", help="docker or process (docker)")
    parser.add_argument("--oracle", type=Path, default=ORACLE, help="a Python that has canvod-readers")
    parser.add_argument("--json", action="store_true", help="figures as JSON on standard output")
    options = parser.parse_args()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # each command would compile all that it imports
    theirs = "canvod-readers"
    times: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="ingest-") as scratch:
        folder = Path(scratch)
        folder.chmod(0o755)
        (folder / "data").mkdir()
        data, what = whole_day(folder / "data", options.data)
        paths = sorted(map(str, data.rglob("*.rnx")))
        size = sum(Path(path).stat().st_size for path in paths)
        for turn in range(options.rounds + 1):
            found = ingest_s(data, folder / f"store{turn}", options.workers, options.backend)
            found["our reader"] = read_s(Path(sys.executable), "rinex", paths, options.workers)
            if options.oracle.exists():
                found[theirs] = read_s(options.oracle, "canvod", paths, options.workers)
            for name, seconds in found.items() if turn else ():
                times.setdefault(name, []).append(seconds)
    if options.json:
        sys.stdout.write(json.dumps(times, indent=2) + "\n")
        return
    title = f"{len(paths)} {what}, {size / 1e6:.0f} MB, {options.workers} workers ({options.backend})"
    table = Table("", "median [s]", "min", "max", f"ratio to {theirs}", "target [s]", title=title)
    reference = statistics.median(times[theirs]) if theirs in times else None
    for name, seconds in times.items():
        median = statistics.median(seconds)
        ratio = f"{median / reference:.2f}" if reference else ""
        target = f"{TARGETS_S[name]:.1f}" if name in TARGETS_S else ""
        table.add_row(name, f"{median:.2f}", f"{min(seconds):.2f}", f"{max(seconds):.2f}", ratio, target)
    Console(width=max(Console().width, 100)).print(table)
    packages = ", ".join(f"{name} {version(name)}" for name in ("canvod-launch", "distributed", "icechunk"))
    print(f"{os.cpu_count()} cores, Python {sys.version.split()[0]}, {packages}, {options.rounds} rounds")


if __name__ == "__main__":
    main()
