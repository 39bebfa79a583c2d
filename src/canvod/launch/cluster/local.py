"""The same plan on processes of this host, for machines without a Docker engine."""

from __future__ import annotations

import asyncio
import multiprocessing.process
import os
import signal
import subprocess
import sys
import threading
import warnings
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from distributed import LocalCluster
from distributed.core import Status
from distributed.deploy.spec import ProcessInterface

from canvod.launch.cluster.base import PlannedCluster, in_thread
from canvod.launch.errors import ClusterError
from canvod.launch.host.owner import OWNER_FILE, SCRATCH_PREFIX, owner_mark, semaphore_name
from canvod.launch.host.ports import free_port
from canvod.launch.logs import get_logger
from canvod.launch.plan.container_plans import PROCESS_VARIABLES
from canvod.launch.runtime.host import remove_semaphores

if TYPE_CHECKING:
    from canvod.launch.cluster.tls import KeyFolder
    from canvod.launch.plan.model import ClusterPlan

STOP_TIMEOUT_S = 15.0
"""How long a worker that is told to end may take before it is killed."""

_POLL_S = 0.02

log = get_logger("canvod.launch")


def search_path(without: str) -> list[str]:
    """Give the folders in which this program finds its modules, for its workers to find them too.

    Parameters
    ----------
    without : str
        Leave out what lies below this folder: Dask adds one for the scheduler.
    """
    here = multiprocessing.process.ORIGINAL_DIR  # type: ignore[attr-defined]
    entries = filter(None, (entry or here for entry in sys.path))
    return [entry for entry in dict.fromkeys(entries) if not Path(entry).is_relative_to(without)]


def worker_environment(variables: dict[str, str]) -> dict[str, str]:
    """Give the environment of a worker: this program's, without what Dask would take as settings.

    Parameters
    ----------
    variables : dict of str to str
        What the plan sets.
    """
    own = {name: value for name, value in os.environ.items() if not name.startswith("DASK_")}
    # What a task prints is there at once, as in the containers.
    return PROCESS_VARIABLES | {"PYTHONUNBUFFERED": "1"} | own | variables


class WorkerProcess(ProcessInterface):
    """One worker: a process with a nanny, and the worker process that it watches, in a session of their own.

    It begins as a new program and not as a copy of this one: it imports neither the user's script nor what
    happens to lie in the current folder, and has no part in this program's terminal and standard output.
    """

    def __init__(self, scheduler_address: str, *, name: str, cluster: ProcessCluster) -> None:
        super().__init__()
        self.name = name
        self.scheduler_address = scheduler_address
        self.process: subprocess.Popen[bytes] | None = None
        self._process_cluster = cluster

    async def start(self) -> None:
        """Start the process, and wait until its worker has registered with the scheduler."""
        cluster = self._process_cluster
        timeout_s = cluster.container_plan.start_timeout_s
        self.process = process = cluster.launch(self.name, self.scheduler_address)
        loop = asyncio.get_running_loop()
        threading.Thread(target=self._watch, args=(process, loop), daemon=True).start()
        try:
            async with asyncio.timeout(timeout_s):
                while not cluster.has_worker(self.name):
                    if process.poll() is not None:
                        if cluster.status in {Status.closing, Status.closed}:
                            raise asyncio.CancelledError  # nobody waits for it any more
                        raise ClusterError(
                            f"{self.name} ended with {_ending(process.returncode)} while the cluster was "
                            "starting; what it wrote is above.",
                            hint="see that there is memory and room for temporary files (launch.spill_dir)",
                        )
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            raise ClusterError(
                f"{self.name} did not register with the scheduler within {timeout_s:g} s "
                "(launch.start_timeout_s).",
                hint="raise launch.start_timeout_s, or use fewer workers",
            ) from None
        await super().start()

    def _watch(self, process: subprocess.Popen[bytes], loop: asyncio.AbstractEventLoop) -> None:
        process.wait()
        with suppress(RuntimeError):  # the loop may be gone: so is the cluster
            loop.call_soon_threadsafe(self._ended, process.returncode)

    def _ended(self, status: int) -> None:
        if self.status == Status.running:
            log.warning("worker_process_ended", worker=self.name, ended_with=_ending(status))
            self._process_cluster.ended(self.name)

    async def close(self) -> None:
        """End the process with all that it has started."""
        self.status = Status.closing
        if self.process is not None:
            await in_thread(self._end)
        await super().close()

    def _end(self) -> None:
        process = self.process
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            log.warning("worker_process_killed", worker=self.name, after_s=STOP_TIMEOUT_S)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        remove_semaphores(self._process_cluster.semaphores(self.name))


def _ending(status: int) -> str:
    return signal.Signals(-status).name if -status in set(signal.Signals) else f"exit status {status}"


class ProcessCluster(PlannedCluster, LocalCluster):
    """Worker processes on this host, each with a nanny, affinity and nice.

    Affinity and nice are set on every thread, and the nanny restarts a worker that outgrows its memory limit.
    There is no kernel cap, no cpuset and no CPU weight: a task may leave its cores, and may outgrow its
    memory for as long as the nanny takes to notice.

    Parameters
    ----------
    plan : ClusterPlan
        What to start.
    keys : KeyFolder
        Keys for scheduler, workers and clients.
    """

    def __init__(self, plan: ClusterPlan, keys: KeyFolder) -> None:
        self.container_plan = plan
        self._keys = keys
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._scratch = TemporaryDirectory(
            prefix=f"{SCRATCH_PREFIX}{plan.name}-", dir=plan.workers[0].spill_path, ignore_cleanup_errors=True
        )
        Path(self._scratch.name, OWNER_FILE).write_text(owner_mark())
        try:
            with warnings.catch_warnings():
                # Whoever has taken the port since it was found free: the dashboard's link has another.
                warnings.filterwarnings("ignore", message="Port .* is already in use")
                super().__init__(
                    n_workers=0,
                    threads_per_worker=plan.workers[0].nthreads,
                    processes=True,
                    host="127.0.0.1",
                    protocol="tls://",
                    security=keys.security(),
                    dashboard_address=f"127.0.0.1:{free_port(plan.dashboard_port)}",
                    name=plan.name,
                    scheduler_kwargs={"local_directory": self._scratch.name},
                )
            self.worker_spec = {name: self.slot_spec(name) for name in self.slots}
            self.sync(self._correct_state)
        except BaseException:
            # What went wrong first is what its user should read.
            with suppress(Exception):
                self.close()
            raise

    def slot_spec(self, name: str) -> dict[str, Any]:
        """Return the process of one worker."""
        return {"cls": WorkerProcess, "options": {"name": name, "cluster": self}}

    def has_worker(self, name: str) -> bool:
        """Whether a worker of this name is registered with the scheduler."""
        return any(worker["name"] == name for worker in self.scheduler_info["workers"].values())

    def semaphores(self, name: str) -> str:
        """Name the semaphores of a worker."""
        return semaphore_name(self.container_plan.name, name)

    def ended(self, name: str) -> None:
        """Start a worker anew whose process has ended by itself."""
        if self.loop is not None:
            self.loop.add_callback(self.replace, name)

    def launch(self, name: str, scheduler_address: str) -> subprocess.Popen[bytes]:
        """Start the process of a worker.

        Parameters
        ----------
        name : str
            Its name in Dask.
        scheduler_address : str
            Where the scheduler listens.
        """
        plan = self.slots[name]
        scratch = Path(self._scratch.name, name)
        scratch.mkdir(exist_ok=True)
        # With -P and a search path of its own it finds the modules that this program would.
        code = (
            f"import sys; sys.path[:] = {search_path(self._scratch.name)!r}; "
            "from canvod.launch.runtime.worker import main; sys.exit(main())"
        )
        options = {
            "scheduler": scheduler_address,
            "keys": self._keys.path / "worker",
            "name": name,
            "nthreads": plan.nthreads,
            "memory-limit": plan.dask_memory_limit_bytes,
            "cpu-affinity": ",".join(map(str, plan.cpuset_cpus)),
            "nice": plan.nice,
            "spill-path": scratch,
            "max-spill": plan.spill_bytes or 0,
            "start-timeout": self.container_plan.start_timeout_s,
            "host": "127.0.0.1",
            "launcher": os.getpid(),
            "semaphores": self.semaphores(name),
        }
        self._processes[name] = process = subprocess.Popen(
            [sys.executable, "-P", "-c", code, *(f"--{key}={value}" for key, value in options.items())],
            env=worker_environment(dict(plan.environment)),
            cwd=_current_folder(),
            stdin=subprocess.DEVNULL,
            # What a task prints must not mix with this program's output.
            stdout=_standard_error(),
            start_new_session=True,
        )
        return process

    async def _close(self) -> None:
        try:
            await super()._close()
        finally:
            # A start that was interrupted has not told Dask of the workers that it had begun with.
            await in_thread(self._end_the_rest)
            self._scratch.cleanup()

    def _end_the_rest(self) -> None:
        for name, process in self._processes.items():
            if process.poll() is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                remove_semaphores(self.semaphores(name))


def _standard_error() -> int:
    try:
        os.fstat(2)
    except OSError:
        return subprocess.DEVNULL
    return 2


def _current_folder() -> str:
    try:
        return str(Path.cwd())
    except FileNotFoundError:
        return "/"
