"""Observation files and runners for the tests of the ingest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from zarr.storage import WrapperStore

from canvod.launch.ingest.run import ingest
from canvod.launch.ingest.runner import Task
from canvod.launch.runtime import file_tasks, unit_tasks
from canvod.launch.simulate import RinexHeader, write_rinex
from canvod.launch.testing import assert_dataset_equals, serial_model

if TYPE_CHECKING:
    from pathlib import Path

START = np.datetime64("2025-01-01T00:00:00", "ns")
STEP = np.timedelta64(5, "s")
SATELLITES = ("G01", "G02", "E03", "R04", "C05")
TYPES = {"G": "S1C", "E": "S1C", "R": "S1C", "C": "S2I"}


@dataclass(frozen=True)
class Options:
    """The section ``ingest`` of the settings."""

    variables: tuple[str, ...] = ("SNR",)
    reader: str = "rinex"
    mixed_stations: bool = False
    compression_level: int = 3
    chunk: tuple[int, int] | None = None
    commit_every: str = "10 minutes"
    on_change: str = "replace"
    retry_failed: bool = False


class CountingStore(WrapperStore):
    """Notes what is fetched. Dask would pickle a class of a test by value, with a list of its own."""

    fetched: ClassVar[list[str]] = []

    async def get(self, key, prototype, byte_range=None):
        """Fetch a value."""
        self.fetched.append(key)
        return await super().get(key, prototype, byte_range)


def true_snr(satellite: str, rows: np.ndarray) -> np.ndarray:
    """SNR of a satellite at epochs by their number since `START`; each satellite sets for a while."""
    index = SATELLITES.index(satellite)
    values = 30 + index + (rows % 40) / 4
    return np.where((rows // 7 + index) % 5 == 0, np.nan, values)


def write_window(
    path: Path, first: int, count: int = 10, *, satellites=SATELLITES, off=0.0, marker="SIMULATED", every=1
) -> Path:
    """Write a window of the one truth, so that files that overlap agree where none is ``off``."""
    rows = np.arange(first, first + count * every, every)
    observations = {name: {TYPES[name[0]]: true_snr(name, rows) + off} for name in satellites}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_rinex(
        path, RinexHeader(interval_s=5.0 * every, marker_name=marker), START + rows * STEP, observations
    )
    return path


def write_windows(folder: Path, starts, count: int = 10) -> list[Path]:
    """Write one file for each start."""
    return [write_window(folder / f"{start:05d}.rnx", start, count) for start in starts]


class InlineRunner:
    """Runs tasks at once in this process."""

    notices = ()
    n_workers = 2
    memory_limit_bytes = None

    def __init__(self):
        self.reads = 0

    def call(self, function, *arguments):
        self.reads += len(arguments[0]) if function is file_tasks.scan_files else 0
        return Task(function(*arguments))

    def make(self, request):
        self.reads += len(request.files)
        unit = unit_tasks.make_unit(request)
        return Task(unit.reply, unit)

    def write(self, fork, unit, request):
        return Task(unit_tasks.write_unit(fork, unit.data, request))

    def wait(self, started):
        return list(started)[:1]

    def answer(self, task):
        return task.answer

    def release(self, unit):
        pass

    def explain(self, worker):
        pass

    def memory(self):
        return {"inline": file_tasks.peak_memory_bytes()}


def run_inline(files, store, group="site/receiver", **options):
    """Ingest in this process."""
    settings = options.pop("settings", Options())
    return ingest(
        files, store, group, runner=options.pop("runner", InlineRunner()), settings=settings, **options
    )


def assert_holds(dataset, files, reader="rinex", variables=("SNR",)):
    """Assert that a dataset holds what a serial read of the files gives, bit by bit, and nothing else."""
    assert_dataset_equals(dataset, serial_model(files, variables, reader=reader))
