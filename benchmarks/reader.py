"""Time and memory of the RINEX reader against canvod-readers: ``python benchmarks/reader.py``.

Both readers take turns on the same files, so that whatever else the machine does meets both alike. CPU time
is that of the process; ratios are of minima. Files are those given, else real ones of ``../shared/data`` or
simulated ones. The first of them is read in irregular and damaged forms, too; where canvod-readers does not
read one, the ratio is to its reading of the file as it is. ``--daily`` measures a file of a day at 1 Hz, and
one three times as long, each in a process of its own. canvod-readers needs Python 3.14; without it nothing is
compared.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.table import Table

from canvod.launch.readers import VARIABLES, read_observations
from canvod.launch.simulate import RinexHeader, render_rinex

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parent.parent
REAL = Path(os.environ.get("CANVOD_TEST_DATA", ROOT.parent / "shared" / "data")) / "rosalia"
NAMED = {"SNR": ("SNR",), "four variables": tuple(VARIABLES)}
MIB = 1024**2

CHILD = """
import json, resource, sys, time
from canvod.launch.readers import read_observations
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
start = time.perf_counter(), time.process_time()
result = read_observations(sys.argv[1], sys.argv[2].split(","))
wall, cpu = time.perf_counter() - start[0], time.process_time() - start[1]
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
arrays = sum(each.nbytes for each in result.variables.values()) + result.epoch.nbytes
print(json.dumps({"epochs": len(result.epoch), "signals": len(result.sid), "wall_s": wall, "cpu_s": cpu,
                  "before_bytes": before, "peak_bytes": peak, "arrays_bytes": arrays, "notes": result.notes}))
"""


def canvod_reader() -> Callable[[str, tuple[str, ...]], object] | None:
    """Return canvod-readers as a function, None where it is not installed."""
    try:
        import structlog
        from canvod.readers import Rnxv3Obs
    except ModuleNotFoundError:
        return None
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))

    def read(path: str, variables: tuple[str, ...]) -> object:
        with contextlib.redirect_stdout(io.StringIO()):
            return Rnxv3Obs(fpath=Path(path)).to_ds(keep_data_vars=list(variables))

    return read


def simulated(n_epochs: int, n_satellites: int = 12, step_s: int = 5) -> bytes:
    """Return a file of four systems, all four variables, two signals a satellite."""
    rng = np.random.default_rng(1)
    codes = {"G": ("1C", "2W"), "R": ("1C", "2P"), "E": ("1C", "5Q"), "C": ("2I", "7I")}
    scales = {"C": 2.2e7, "L": 1.1e8, "D": -2e3, "S": 45.0}
    values = {
        f"{system}{n:02d}": {
            kind + code: scale * rng.uniform(0.9, 1.1, n_epochs)
            for code in codes[system]
            for kind, scale in scales.items()
        }
        for system in codes
        for n in range(1, n_satellites + 1)
    }
    times = np.datetime64("2025-01-01T00:00:00", "ns") + np.arange(n_epochs) * np.timedelta64(step_s, "s")
    return render_rinex(RinexHeader(interval_s=step_s), times, values)


def records(data: bytes) -> tuple[bytes, list[bytes]]:
    """Return the header of a file of RINEX 3, and its epoch records."""
    head, first, rest = data.partition(b"\n>")
    return head + b"\n", [b">" + record + b"\n" for record in (first + rest).rstrip(b"\n")[2:].split(b"\n>")]


def _shortened(record: bytes) -> bytes:
    lines = []
    for line in record.splitlines():
        fields = [line[3:][at : at + 16] for at in range(0, len(line) - 3, 16)]
        short = (b" " * 2 + field[:12] + b"  " if field[11:14].strip(b" ") else field for field in fields)
        lines.append(line if line.startswith(b">") else line[:3] + b"".join(short).rstrip())
    return b"\n".join(lines) + b"\n"


def variants(data: bytes) -> dict[str, bytes]:
    """Return a file in irregular and damaged forms."""
    head, epochs = records(data)
    comment = f"{'a comment':60}{'COMMENT':20}\n".encode()
    event = b">                              4  1\n" + comment
    first = epochs[0].index(b".") + 4

    def joined(parts: Iterator[bytes]) -> bytes:
        return head + b"".join(parts)

    damaged = {
        f"1 of {k} epochs damaged": joined(
            each if n % k else each.replace(b"\n", b"\nX", 1) for n, each in enumerate(epochs, start=1)
        )
        for k in (1, 2, 10)
    }
    return {
        "as it is": data,
        **damaged,
        "a comment after each epoch": joined(each + comment for each in epochs),
        "an event before each epoch": joined(event + each for each in epochs),
        "blanks for zeros in epoch lines": joined(
            each[:first].replace(b" 0", b"  ") + each[first:] for each in epochs
        ),
        "short decimals": joined(map(_shortened, epochs)),
        "CRLF": data.replace(b"\n", b"\r\n"),
    }


def cpu_s(read: Callable[[], Any]) -> tuple[float, str]:
    """Return the CPU time of a call, and how many epochs it gave."""
    start = time.process_time()
    try:
        result = read()
    except Exception as exc:  # noqa: BLE001 - what a reader refuses it refuses after some time, too
        return time.process_time() - start, "refused" if str(exc) else "failed"
    return time.process_time() - start, f"{len(result.epoch)}"


def compare(paths: list[Path], variables: tuple[str, ...], rounds: int) -> dict[str, Any]:
    """Read files by turns with both readers."""
    theirs = canvod_reader()
    times: dict[str, list[float]] = {"ours": [], "canvod": []}
    minima = {"ours": 0.0, "canvod": 0.0}
    outcomes: dict[str, str] = {}
    for path in paths:
        here: dict[str, list[float]] = {"ours": [], "canvod": []}
        for turn in range(rounds):
            seconds, outcomes["ours"] = cpu_s(lambda path=path: read_observations(str(path), variables))
            here["ours"].append(seconds)
            if theirs is not None and turn < max(2, rounds // 3):
                seconds, outcomes["canvod"] = cpu_s(lambda path=path: theirs(str(path), variables))
                here["canvod"].append(seconds)
        for name, values in here.items():
            times[name] += values
            minima[name] += min(values, default=0.0) / len(paths)
    return {
        "min_ms": minima["ours"] * 1e3,
        "median_ms": statistics.median(times["ours"]) * 1e3,
        "canvod_min_ms": minima["canvod"] * 1e3 if theirs else None,
        "canvod_median_ms": statistics.median(times["canvod"]) * 1e3 if theirs else None,
        "ratio": minima["canvod"] / minima["ours"] if theirs else None,
        "epochs": " / ".join(outcomes.values()),
    }


def write_long(path: Path, n_epochs: int) -> int:
    """Write a file at 1 Hz by repeating the observations of 100 epochs under advancing times."""
    head, epochs = records(simulated(100, n_satellites=4, step_s=1))
    bodies = [each.split(b"\n", 1) for each in epochs]
    with path.open("wb") as file:
        file.write(head)
        for n in range(n_epochs):
            line, body = bodies[n % 100]
            day, second = divmod(n, 86_400)
            minute, rest = divmod(second, 60)
            when = f"> 2025 01 {day + 1:02d} {minute // 60:02d} {minute % 60:02d}{rest:11.7f}".encode()
            file.write(when + line[29:] + b"\n" + body)
    return path.stat().st_size


def measured(path: Path, variables: tuple[str, ...]) -> dict[str, Any]:
    """Read a file in a process of its own."""
    command = [sys.executable, "-c", CHILD, str(path), ",".join(variables)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    result: dict[str, Any] = json.loads(done.stdout)
    result["size_bytes"] = path.stat().st_size
    result["peak_ratio"] = result["peak_bytes"] / result["size_bytes"]
    result["text_bytes"] = result["peak_bytes"] - result["before_bytes"] - result["arrays_bytes"]
    return result


def daily(folder: Path, n_epochs: int) -> dict[str, dict[str, Any]]:
    """Measure a daily file and one of three days."""
    found = {}
    for days in (1, 3):
        path = folder / "long.rnx"
        write_long(path, days * n_epochs)
        for name, variables in NAMED.items():
            found[f"{days} x {n_epochs:,} epochs, {name}"] = measured(path, variables)
    return found


def show(
    title: str, rows: dict[str, dict[str, Any]], columns: dict[str, Callable[[dict[str, Any]], str]]
) -> None:
    """Print a table."""
    table = Table("", *columns, title=title)
    for name, row in rows.items():
        table.add_row(name, *(each(row) for each in columns.values()))
    Console(width=max(Console().width, 110)).print(table)


def _number(key: str, digits: int = 1, unit: float = 1) -> Callable[[dict[str, Any]], str]:
    return lambda row: "" if row.get(key) is None else f"{row[key] / unit:,.{digits}f}"


SPEED = {
    "min": _number("min_ms"),
    "median [ms]": _number("median_ms"),
    "canvod min": _number("canvod_min_ms"),
    "median [ms] ": _number("canvod_median_ms"),
    "ratio": _number("ratio", 2),
    "epochs": lambda row: row["epochs"],
}
MEMORY = {
    "file [MiB]": _number("size_bytes", 0, MIB),
    "epochs": _number("epochs", 0),
    "wall [s]": _number("wall_s", 2),
    "CPU [s]": _number("cpu_s", 2),
    "peak [MiB]": _number("peak_bytes", 0, MIB),
    "peak / file": _number("peak_ratio", 2),
    "arrays [MiB]": _number("arrays_bytes", 0, MIB),
    "beside arrays [MiB]": _number("text_bytes", 0, MIB),
}


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("files", nargs="*", type=Path, help="RINEX 3 files (four real ones, or simulated)")
    parser.add_argument("--rounds", type=int, default=9, help="readings of each file (9)")
    parser.add_argument("--daily", action="store_true", help="a daily file at 1 Hz, and one of three days")
    parser.add_argument("--epochs", type=int, default=86_400, help="epochs of the daily file (86400)")
    parser.add_argument("--json", action="store_true", help="figures as JSON on standard output")
    options = parser.parse_args()
    found: dict[str, dict[str, dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        if options.daily:
            found["daily"] = daily(folder, options.epochs)
        else:
            files = options.files or sorted(REAL.rglob("*.rnx"))[::12]
            if not files:
                files = [folder / "simulated.rnx"]
                files[0].write_bytes(simulated(180))
            found["files"] = {
                name: compare(files, variables, options.rounds) for name, variables in NAMED.items()
            }
            found["variants"] = {}
            for name, data in variants(files[0].read_bytes()).items():
                path = folder / "variant.rnx"
                path.write_bytes(data)
                row = compare([path], ("SNR",), max(3, options.rounds // 3))
                found["variants"][name] = row
                ours, _, other = row["epochs"].partition(" / ")
                if other not in {"", ours}:  # it did not read the file
                    row["ratio"] = found["variants"]["as it is"]["canvod_min_ms"] / row["min_ms"]
    if options.json:
        sys.stdout.write(json.dumps(found, indent=2) + "\n")
        return
    for title, rows in found.items():
        show(title, rows, MEMORY if title == "daily" else SPEED)


if __name__ == "__main__":
    main()
