"""An ingest on a real Dask cluster: equal to a serial read, whatever dies meanwhile."""

from __future__ import annotations

import contextvars
import os
import signal
import threading
from pathlib import Path

import pytest

from canvod.launch.errors import ClusterError
from canvod.launch.ingest.progress import IngestProgress
from canvod.launch.ingest.read import open_group, open_store
from canvod.launch.ingest.run import ingest
from canvod.launch.ingest.runner import DaskRunner, TaskDiedError
from canvod.launch.runtime import file_tasks
from deadly_reader import make_deadly
from eventually import eventually
from ingest_files import (
    CountingStore,
    InlineRunner,
    Options,
    assert_holds,
    run_inline,
    write_window,
    write_windows,
)

distributed = pytest.importorskip("distributed")
dask = pytest.importorskip("dask")

GROUP = "site/receiver"

LYING = """
class Pickle:
    # Makes a file where it is unpickled, named by the process.
    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return eval, (f"open('{self.folder}/' + str(__import__('os').getpid()), 'w').close()",)

class PickleError(Exception):
    def __reduce__(self):
        return Pickle(self.args[0]).__reduce__()

def lie(folder, how):
    if how == "answer":
        return Pickle(folder)
    raise PickleError(folder)
"""


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    """Two workers in processes of their own, with nannies, that files can kill."""
    deadly = make_deadly(tmp_path_factory.mktemp("deadly"))
    (deadly / "lying.py").write_text(LYING)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(deadly))
        patch.syspath_prepend(deadly)
        with (
            # By default a cluster gives up a worker that its nanny has not restarted within 15 s; busy
            # machines take longer.
            dask.config.set({"distributed.deploy.lost-worker-timeout": "120s"}),
            distributed.LocalCluster(
                n_workers=2,
                threads_per_worker=1,
                memory_limit="1GiB",
                dashboard_address="127.0.0.1:0",
                local_directory=str(tmp_path_factory.mktemp("dask")),
            ) as cluster,
            distributed.Client(cluster) as client,
        ):
            yield client


@pytest.fixture
def runner(client):
    """A runner with both workers there."""
    client.wait_for_workers(2, timeout=60)
    with DaskRunner(client) as runner:
        yield runner


def pids(client):
    """Process IDs of the workers."""
    return sorted(client.run(os.getpid).values())


def test_a_cluster_stores_what_a_serial_read_gives(tmp_path, runner):
    """Workers store the values of a serial read; the report has their peaks, and nothing stays on them."""
    files = write_windows(tmp_path / "in", range(0, 80, 10))
    options = Options(("SNR", "Pseudorange"))
    report = ingest(files, tmp_path / "store", GROUP, runner=runner, settings=options)
    dataset = open_group(tmp_path / "store", GROUP).compute(scheduler="sync")
    assert_holds(dataset, files, variables=options.variables)
    assert len(report.stored) == 8
    assert report.peak_memory_bytes
    assert all(50 * 2**20 < peak < 2**31 for peak in report.peak_memory_bytes.values())


def test_a_runner_waits_by_its_own_client(client):
    """No other client has to be the default one: its loop would not be woken when a task ends."""
    with (
        distributed.Client(client.scheduler.address, set_as_default=False) as apart,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(distributed.client, "_global_clients", {})
        with DaskRunner(apart) as runner:
            task = runner.call(file_tasks.digests, ())
            # Without what `with Client(...)` notes for this thread.
            assert contextvars.Context().run(runner.wait, [task]) == [task]
            assert runner.answer(task) == b"{}"


class Deadly(DaskRunner):
    """Kills workers when a task of a kind is started."""

    def __init__(self, client, kind, victims):
        super().__init__(client)
        self.kind, self.victims = kind, list(victims)
        self.killed = 0

    def _strike(self, kind):
        while kind == self.kind and self.victims:
            os.kill(self.victims.pop(), signal.SIGKILL)
            self.killed += 1

    def make(self, request):
        task = super().make(request)
        self._strike("make")
        return task

    def write(self, *arguments):
        task = super().write(*arguments)
        self._strike("write")
        return task


def test_an_answer_whose_worker_has_died_is_computed_again(client, runner):
    """What has ended need not be there any more when its answer is fetched."""
    client.wait_for_workers(2, timeout=60)
    task = runner.call(file_tasks.digests, ())
    assert runner.wait([task]) == [task]
    for pid in pids(client):
        os.kill(pid, signal.SIGKILL)
    assert runner.answer(task) == b"{}"


@pytest.mark.parametrize("victims", [1, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", ["make", "write"])
def test_killed_workers_cost_no_file(tmp_path, client, runner, kind, victims):
    """SIGKILL of one worker, or of both, that make or write units loses nothing: those are made again."""
    del runner
    files = write_windows(tmp_path / "in", range(0, 40_000, 2_500))
    with Deadly(client, kind, pids(client)[:victims]) as deadly:
        report = ingest(files, tmp_path / "store", GROUP, runner=deadly, settings=Options())
    assert deadly.killed == victims
    assert (len(report.stored), len(report.failed)) == (16, 0)
    assert_holds(open_group(tmp_path / "store", GROUP).compute(scheduler="sync"), files)


@pytest.mark.slow
def test_a_cluster_that_stays_without_workers_ends_the_run(tmp_path, monkeypatch):
    """When the last worker is gone for good, the run ends with an error that says so, and commits nothing.

    The limit of the workers stays known: files may be read alone by what comes back.
    """
    files = write_windows(tmp_path / "in", range(0, 40, 10))
    with (
        distributed.LocalCluster(
            n_workers=1,
            threads_per_worker=1,
            memory_limit="1GiB",
            dashboard_address="127.0.0.1:0",
            local_directory=str(tmp_path / "dask"),
        ) as cluster,
        distributed.Client(cluster) as client,
    ):

        class Leaving(DaskRunner):
            def make(self, request):
                cluster.scale(0)
                assert eventually(lambda: not client.scheduler_info(n_workers=-1)["workers"])
                assert self.memory_limit_bytes == 2**30
                return super().make(request)

        with (
            Leaving(client, stalled_timeout_s=3) as runner,
            pytest.raises(ClusterError, match="the cluster has had no workers for 3 s"),
        ):
            ingest(files, tmp_path / "store", GROUP, runner=runner, settings=Options())
    assert not (tmp_path / "store").exists()


@pytest.mark.slow
def test_only_files_that_kill_their_reader_fail(tmp_path, client):
    """A file that kills every process that reads it fails, with what is known; all others are stored."""
    good = write_windows(tmp_path / "in", range(0, 60, 10))
    killer = write_window(tmp_path / "in" / "killer.rnx", 60)
    hungry = write_window(tmp_path / "in" / "hungry.rnx", 80)
    once = write_window(tmp_path / "in" / "once.rnx", 100)
    client.wait_for_workers(2, timeout=60)
    asked = []

    def explain(worker):
        asked.append(worker)
        return "killed by the kernel at its cap of 1 GiB"

    with DaskRunner(client, explain_death=explain) as runner:
        report = ingest(
            [killer, hungry, *good, once], tmp_path / "store", GROUP, runner=runner, settings=Options()
        )
    reasons = {Path(file.path).name: file.reason for file in report.failed}
    assert set(reasons) == {"killer.rnx", "hungry.rnx"}
    assert "the process that read it, alone, on worker" in reasons["killer.rnx"]
    assert "was ended by SIGKILL" in reasons["killer.rnx"]
    assert reasons["killer.rnx"].endswith("killed by the kernel at its cap of 1 GiB")
    assert asked
    assert "needs more memory than there is, and a worker may use 1 GiB: raise" in reasons["hungry.rnx"]
    assert_holds(open_group(tmp_path / "store", GROUP).compute(scheduler="sync"), [*good, once])


def test_a_second_ingest_waits_and_both_are_kept(tmp_path, runner):
    """Two ingests into one store at once: the second says that it waits, and neither loses anything."""

    class Patient(IngestProgress):
        def __init__(self):
            self.said = []

        def say(self, text):
            self.said.append(text)
            if "another process is writing to" in text:
                waits.set()

    class Slow(InlineRunner):
        def write(self, *arguments):
            writing.set()
            waits.wait(300)
            return super().write(*arguments)

    waits, writing = threading.Event(), threading.Event()
    one, two = write_windows(tmp_path / "a", [0, 10, 20]), write_windows(tmp_path / "b", [5, 30])
    run_inline(one[:1], tmp_path / "store")
    thread = threading.Thread(target=run_inline, args=(one, tmp_path / "store"), kwargs={"runner": Slow()})
    thread.start()
    assert writing.wait(300)
    second = Patient()
    ingest(two, tmp_path / "store", GROUP, runner=runner, settings=Options(), progress=second)
    thread.join(300)
    assert waits.is_set()
    assert any("another process is writing to" in line for line in second.said)
    assert_holds(open_group(tmp_path / "store", GROUP).compute(scheduler="sync"), [*one, *two])


def test_reading_on_the_cluster_loads_only_the_chunks_it_needs(tmp_path, client):
    """``.sel`` of a time span on the client computes on the workers, and fetches the chunks of that span."""
    import xarray as xr

    files = write_windows(tmp_path / "in", range(0, 30_000, 3_000))
    run_inline(files, tmp_path / "store")
    store = CountingStore(open_store(tmp_path / "store"))
    fetched = CountingStore.fetched
    fetched.clear()
    dataset = xr.open_zarr(store, group=GROUP, consolidated=False)
    assert not any("/SNR/c/" in key for key in fetched)
    span = slice("2025-01-01T08:00:00", "2025-01-01T15:00:00")
    dataset.SNR.sel(epoch=span).compute(scheduler="sync")
    assert sorted(key for key in fetched if "/SNR/c/" in key) == [f"{GROUP}/SNR/c/1/0", f"{GROUP}/SNR/c/2/0"]
    assert client.status == "running"
    lazy = open_group(tmp_path / "store", GROUP).SNR.sel(epoch=span)
    assert lazy.compute().notnull().sum() == lazy.compute(scheduler="sync").notnull().sum() > 0


@pytest.mark.slow
def test_real_files_are_bit_identical_to_a_serial_read(tmp_path, rosalia, runner):
    """The 48 real files of two receivers, on two workers, give what a serial read gives."""
    for folder, group in (("01_reference", "rosalia/reference_01"), ("02_canopy", "rosalia/canopy_01")):
        files = sorted((rosalia / folder).rglob("*.rnx"))
        report = ingest(files, tmp_path / "store", group, runner=runner, settings=Options())
        assert (len(report.stored), report.epochs) == (24, 4320)
        dataset = open_group(tmp_path / "store", group)
        assert dataset.SNR.chunks[0] == (4320,) * 4
        assert_holds(dataset.compute(scheduler="sync"), files)


@pytest.mark.parametrize(("how", "error"), [("answer", ClusterError), ("failure", TaskDiedError)])
def test_what_a_worker_sends_is_not_unpickled(tmp_path, runner, how, error):
    """A worker that answers with a pickle, or fails with one, has no code run in the launcher."""
    import lying

    task = runner.call(lying.lie, str(tmp_path), how)
    assert runner.wait([task]) == [task]
    with pytest.raises(error):
        runner.answer(task)
    assert not (tmp_path / str(os.getpid())).exists()
