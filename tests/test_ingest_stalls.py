"""Workers that have paused, since their memory is full: no run hangs, and none ends that could go on."""

from __future__ import annotations

import pytest

from canvod.launch.errors import ClusterError
from canvod.launch.ingest.read import open_group
from canvod.launch.ingest.run import ingest
from canvod.launch.ingest.runner import DaskRunner
from eventually import eventually
from ingest_files import Options, assert_holds, write_windows

distributed = pytest.importorskip("distributed")
dask = pytest.importorskip("dask")

pytestmark = pytest.mark.slow

GROUP = "site/receiver"
MIB = 2**20

BALLAST = """
held = []

def hold(count):
    held.append(b"x" * count)

def give(count):
    return b"x" * count
"""


@pytest.fixture
def client(tmp_path, monkeypatch):
    """Two workers of 600 MiB that may spill 64 MiB each."""
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "ballast.py").write_text(BALLAST)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "modules"))
    monkeypatch.syspath_prepend(tmp_path / "modules")
    with (
        dask.config.set({"distributed.worker.memory.max-spill": "64MiB"}),
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            memory_limit=600 * MIB,
            dashboard_address="127.0.0.1:0",
            local_directory=str(tmp_path / "dask"),
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


def statuses(client):
    """Status of each worker, as the scheduler knows it."""
    return [worker["status"] for worker in client.scheduler_info(n_workers=-1)["workers"].values()]


def fill(client, *, workers):
    """Fill the memory of workers until they pause."""
    import ballast

    client.run(ballast.hold, 440 * MIB, workers=workers)
    assert eventually(lambda: statuses(client).count("paused") == len(workers))


class Filling(DaskRunner):
    """Fills the memory of one worker when it has got a task of a kind, before that runs."""

    def __init__(self, client, kind, **options):
        super().__init__(client, **options)
        self.client, self.kind, self.filled = client, kind, False

    def wait(self, started):
        keys = {key.rpartition("-")[0][: len(self.kind)] for task in started for key in task.keys}
        if self.kind in keys and not self.filled and len(started) > 1:
            self.filled = True
            fill(self.client, workers=sorted(self._workers())[:1])
        return super().wait(started)


def test_a_cluster_whose_spill_is_full_ends_the_run(tmp_path, client):
    """Data of others fill memory and spill of all workers: an error says so, and what to raise."""
    import ballast

    files = write_windows(tmp_path / "in", range(0, 40, 10))
    workers = sorted(client.scheduler_info(n_workers=-1)["workers"])
    held = []

    def paused():
        # One after the other: at 95 % of its limit a worker is killed.
        for worker in workers:
            held.append(client.submit(ballast.give, 20 * MIB, workers=[worker], pure=False))
            assert eventually(lambda: held[-1].done() or statuses(client).count("paused"))
        return statuses(client) == ["paused", "paused"]

    assert eventually(paused)
    with (
        DaskRunner(client, stalled_timeout_s=3) as runner,
        pytest.raises(ClusterError, match="run nothing for 3 s: all 2 workers have paused") as caught,
    ):
        ingest(files, tmp_path / "store", GROUP, runner=runner, settings=Options())
    assert " of 600 MiB, " in str(caught.value)
    assert " 0 B spilled" not in str(caught.value)
    assert "raise processing.max_memory_gb, or launch.spill_gb" in caught.value.hint
    assert not (tmp_path / "store").exists()


def test_a_paused_worker_that_runs_somebody_elses_task_does_not_keep_the_run_waiting(tmp_path, client):
    """All workers have paused, and run what others started: that is not waited for."""
    import time

    files = write_windows(tmp_path / "in", range(0, 40, 10))
    workers = sorted(client.scheduler_info(n_workers=-1)["workers"])
    others = [client.submit(time.sleep, 600, workers=[worker], pure=False) for worker in workers]
    assert eventually(lambda: all(client.processing().values()))
    fill(client, workers=workers)
    with (
        DaskRunner(client, stalled_timeout_s=3) as runner,
        pytest.raises(ClusterError, match="all 2 workers have paused"),
    ):
        ingest(files, tmp_path / "store", GROUP, runner=runner, settings=Options())
    assert all(future.status == "pending" for future in others)


@pytest.mark.parametrize("kind", ["read_files", "write_unit"])
def test_what_a_paused_worker_has_got_is_done_by_another(tmp_path, client, kind):
    """One of two workers pauses with tasks and data on it: the other one does everything."""
    files = write_windows(tmp_path / "in", range(0, 40_000, 2_500))
    with Filling(client, kind, stalled_timeout_s=30) as runner:
        report = ingest(files, tmp_path / "store", GROUP, runner=runner, settings=Options())
    assert runner.filled
    assert sorted(statuses(client)) == ["paused", "running"]
    assert (len(report.stored), len(report.failed)) == (16, 0)
    assert_holds(open_group(tmp_path / "store", GROUP).compute(scheduler="sync"), files)
