"""A group is a function of the set of its files, in whatever order, runs and accidents they come."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import xarray as xr
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from canvod.launch.ingest.read import open_store
from canvod.launch.testing import assert_dataset_equals, serial_model
from hypothesis_profiles import EXAMPLES
from ingest_files import SATELLITES, InlineRunner, Options, run_inline, true_snr, write_window

GROUP = "site/receiver"
DAY = 17_280
"""Epochs of 5 s in a day."""


class KilledError(Exception):
    """What ends a run in the middle."""


class MortalRunner(InlineRunner):
    """Raises when so many tasks have been started."""

    def __init__(self, lives):
        super().__init__()
        self.lives = lives

    def _count(self):
        self.lives -= 1
        if self.lives < 0:
            raise KilledError

    def make(self, request):
        self._count()
        return super().make(request)

    def write(self, *arguments):
        self._count()
        return super().write(*arguments)


starts = st.integers(-300, 300).map(lambda n: n * 12) | st.sampled_from(
    [-5, DAY - 5, DAY // 4 - 3, 3 * DAY, 10 * DAY, DAY // 2]
)
windows = st.tuples(
    starts,
    st.integers(1, 40),
    st.sets(st.sampled_from(SATELLITES), min_size=1, max_size=3).map(sorted).map(tuple),
    st.sampled_from([0.0, 0.0, 0.25]),
    st.sampled_from([1, 1, 6]),
)
NAMES = [f"{index:02d}.rnx" for index in range(8)]


class IngestMachine(RuleBasedStateMachine):
    """Files come, change, are ingested in part, and runs are killed; a dictionary of files is the model."""

    @initialize()
    def begin(self):
        self.folder = Path(tempfile.mkdtemp(prefix="states-"))
        self.files = {}
        self.stored = set()
        self.empty = set()

    def _write(self, name, window):
        first, count, satellites, off, every = window
        rows = np.arange(first, first + count * every, every)
        if name in self.files and all(np.isnan(true_snr(satellite, rows)).all() for satellite in satellites):
            return  # where a file has no values any more, what it gave stays
        path = self.folder / "in" / name
        write_window(path, first, count, satellites=satellites, off=off, every=every)
        self.files[name] = path

    @rule(name=st.sampled_from(NAMES), window=windows)
    def file_comes_or_changes(self, name, window):
        """A file is written; where there was one of its name, it is another now."""
        self._write(name, window)

    @precondition(lambda self: self.files)
    @rule(data=st.data(), days=st.booleans())
    def ingest(self, data, days):
        """Some of the files are ingested."""
        names = data.draw(st.sets(st.sampled_from(sorted(self.files)), min_size=1), "files")
        self._ingest(names, InlineRunner(), days)

    @precondition(lambda self: self.files)
    @rule(data=st.data(), lives=st.integers(0, 6), days=st.booleans())
    def killed(self, data, lives, days):
        """A run is killed somewhere; what comes next goes on after it."""
        names = data.draw(st.sets(st.sampled_from(sorted(self.files)), min_size=1), "files")
        with suppress(KilledError):
            self._ingest(names, MortalRunner(lives), days)

    def _ingest(self, names, runner, days):
        # All files that are stored take part again: one that has changed may share cells with them.
        names = sorted({*names, *self.stored})
        self.stored = set(names)
        settings_ = Options(commit_every="1 day" if days else "10 minutes")
        report = run_inline(
            [self.files[name] for name in names], self.folder / "store", runner=runner, settings=settings_
        )
        self.empty = {Path(file.path).name for file in report.failed}
        assert all(file.reason.startswith(("holds no", "no epochs")) for file in report.failed), report.failed

    @rule()
    def compare(self):
        """Everything is ingested, and compared."""
        if not self.files:
            return
        self._ingest(self.files, InlineRunner(), days=False)
        files = [path for name, path in self.files.items() if name not in self.empty]
        if files:
            dataset = xr.open_zarr(open_store(self.folder / "store"), group=GROUP, chunks=None)
            assert_dataset_equals(dataset, serial_model(files))

    def teardown(self):
        """Remove the folder."""
        if hasattr(self, "folder"):
            if self.files:
                self.compare()
            shutil.rmtree(self.folder)


TestIngest = IngestMachine.TestCase
TestIngest.settings = settings(
    max_examples=max(1, EXAMPLES // 2),
    stateful_step_count=12,
)
