"""The backend whose members are processes of this host, for machines without a Docker engine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

from canvod.launch.cluster.backend import SCHEDULER
from canvod.launch.cluster.own_program import start_program
from canvod.launch.errors import ClusterError, LaunchError
from canvod.launch.host.clusters import ClusterInfo, ContainerInfo
from canvod.launch.host.cpulist import format_cpulist
from canvod.launch.host.memory_monitor import resident_bytes
from canvod.launch.host.owner import OWNER_FILE, SCRATCH_PREFIX, owner_mark, semaphore_name
from canvod.launch.host.ports import choose_dashboard_port
from canvod.launch.logs import get_logger
from canvod.launch.runtime.host_process import remove_semaphores
from canvod.launch.termination import shielded
from canvod.launch.threads import in_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from canvod.launch.plan.model import ClusterPlan, ContainerPlan

STOP_TIMEOUT_S: Final = 15.0
"""How long a process that is told to end may take before it is killed."""

SCHEDULER_FILE: Final = "scheduler.json"
"""Where Dask's scheduler writes its address, for its workers and for this process."""

SEARCH_PATH_FILE: Final = "search_path.json"
"""Where a process reads in which folders it finds its modules."""

log = get_logger("canvod.launch")


class ProcessBackend:
    """A scheduler, and workers with a nanny each, as processes of this host in sessions of their own.

    They begin as new programs and not as copies of this one: they import neither the user's script nor what
    happens to lie in the current folder, and have no part in this program's terminal and standard output.
    Affinity and nice are set on every thread, and the nanny restarts a worker that outgrows its memory limit.
    There is no kernel limit, no cpuset and no CPU weight: a task may leave its cores, and may outgrow its
    memory for as long as the nanny takes to notice.

    Parameters
    ----------
    plan : ClusterPlan
        What to start.
    keys : pathlib.Path
        Holds a folder of keys for each role.

    Raises
    ------
    ClusterError
        If the folder for temporary files and spilled data cannot be made.
    """

    def __init__(self, plan: ClusterPlan, keys: Path) -> None:
        self.plan = plan
        self.on_end: Callable[[ContainerInfo], None] | None = None
        self._keys = keys
        self._plans = {each.dask_name: each for each in (plan.scheduler, *plan.workers)}
        self._lock = threading.Lock()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._closed = False
        prefix, parent = f"{SCRATCH_PREFIX}{plan.name}-", plan.workers[0].spill_path
        try:
            self._scratch = TemporaryDirectory(prefix=prefix, dir=parent, ignore_cleanup_errors=True)
            Path(self._scratch.name, OWNER_FILE).write_text(owner_mark())
        except OSError as error:
            raise ClusterError(
                f"Could not make a folder for temporary files and spilled data: {error}.",
                hint="see that launch.spill_dir, or the system's folder of temporary files where that is not "
                "set (TMPDIR), is there, can be written and has room",
            ) from error

    def start(self, names: Iterable[str]) -> None:
        """Start processes, whose workers wait for the scheduler's address; see `Backend.start`."""
        for name in names:
            # A signal between a process's start and its entry here would leave it to itself.
            with shielded(), self._lock:
                if self._closed:
                    raise ClusterError(f"The cluster {self.plan.name} is being closed.")
                if name not in self._processes:
                    process = self._processes[name] = self._launch(self._plans[name])
                    threading.Thread(target=self._watch, args=(name, process), daemon=True).start()

    def _launch(self, plan: ContainerPlan) -> subprocess.Popen[bytes]:
        scratch = Path(self._scratch.name, plan.dask_name)
        scheduler_file = Path(self._scratch.name, SCHEDULER_FILE)
        options: dict[str, object] = {
            "keys": self._keys / plan.role,
            "nice": plan.nice,
            "scheduler-file": scheduler_file,
            "launcher": os.getpid(),
            "host": "127.0.0.1",
        }
        if plan.role == "worker":
            options |= {
                "name": plan.dask_name,
                "nthreads": plan.nthreads,
                "memory-limit": plan.dask_memory_limit_bytes,
                "cpu-affinity": ",".join(map(str, plan.cpuset_cpus)),
                "spill-path": scratch,
                "max-spill": plan.spill_bytes or 0,
                "start-timeout": self.plan.start_timeout_s,
                "semaphores": semaphore_name(self.plan.name, plan.dask_name),
            }
        else:
            options |= {
                "port": 0,
                "local-directory": scratch,
                "dashboard-port": choose_dashboard_port(self.plan.dashboard_port),
            }
        try:
            scratch.mkdir(exist_ok=True)
            return start_program(
                f"canvod.launch.runtime.{plan.role}", options, scratch / SEARCH_PATH_FILE, plan.environment
            )
        except OSError as error:
            raise ClusterError(
                f"Could not start {plan.dask_name} as a process: {error}.",
                hint="see that there is memory, room for temporary files, and that this user may have more "
                "processes (ulimit -u)",
            ) from error

    def _watch(self, name: str, process: subprocess.Popen[bytes]) -> None:
        status = process.wait()
        with self._lock:
            ended = self._processes.get(name) is process
        if ended:
            log.warning("process_ended", process=name, ended_with=_ending(status))
            if self.on_end is not None:
                self.on_end(self._info(name, process))

    def stop(self, names: Iterable[str]) -> None:
        """End processes with all that they have started; see `Backend.stop`."""
        with self._lock:
            leaving = [(name, self._processes.pop(name)) for name in names if name in self._processes]
        in_threads(self._end, leaving)

    def _end(self, member: tuple[str, subprocess.Popen[bytes]]) -> None:
        name, process = member
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            log.warning("process_killed", process=name, after_s=STOP_TIMEOUT_S)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        remove_semaphores(semaphore_name(self.plan.name, name))

    def describe(self) -> ClusterInfo:
        """Describe the processes, and where the scheduler listens; see `Backend.describe`."""
        with self._lock:
            members = dict(self._processes)
        containers = tuple(self._info(name, process) for name, process in members.items())
        try:
            found = json.loads(Path(self._scratch.name, SCHEDULER_FILE).read_text())
        except (FileNotFoundError, ValueError):  # not there yet, or being written
            return ClusterInfo(self.plan.name, containers)
        port = found["services"].get("dashboard")
        link = f"http://127.0.0.1:{port}/status" if port else ""
        return ClusterInfo(self.plan.name, containers, found["address"], link)

    def _info(self, name: str, process: subprocess.Popen[bytes]) -> ContainerInfo:
        plan = self._plans[name]
        status = process.poll()
        return ContainerInfo(
            name=name,
            role=plan.role,
            state="running" if status is None else "exited",
            id=str(process.pid),
            cores=format_cpulist(plan.cpuset_cpus),
            dask_memory_limit_bytes=plan.dask_memory_limit_bytes,
            exit_code=status,
        )

    def memory_bytes(self) -> int:
        """Add up the resident memory of all processes and their children; see `Backend.memory_bytes`."""
        with self._lock:
            pids = [process.pid for process in self._processes.values()]
        return sum(map(resident_bytes, pids))

    def problem(self, name: str) -> LaunchError | None:
        """Say whether a process has ended, or was stopped; see `Backend.problem`."""
        with self._lock:
            process = self._processes.get(name)
        status = None if process is None else process.poll()
        if process is not None and status is None:
            return None
        ending = "was stopped" if status is None else f"ended with {_ending(status)}"
        return ClusterError(
            f"{name} {ending} while the cluster was starting; what it wrote is above.",
            hint="see that there is memory and room for temporary files (launch.spill_dir)",
        )

    def failure(self, name: str, what: str) -> LaunchError:
        """Describe a process that is late; see `Backend.failure`."""
        return ClusterError(f"{name} {what}.", hint="raise launch.start_timeout_s, or use fewer workers")

    def close(self) -> list[str]:
        """End all processes, and remove what they have written for themselves; see `Backend.close`."""
        with self._lock:
            self._closed = True
            names = list(self._processes)
        # Workers before their scheduler: they would say that they have lost it.
        self.stop(name for name in names if name != SCHEDULER)
        self.stop([SCHEDULER])
        self._scratch.cleanup()
        return []

    def release(self) -> None:
        """Do nothing, since processes end with the one that started them; see `Backend.release`."""


def _ending(status: int) -> str:
    return signal.Signals(-status).name if -status in set(signal.Signals) else f"exit status {status}"
