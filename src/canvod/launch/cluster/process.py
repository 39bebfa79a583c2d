"""The same plan on `distributed.LocalCluster`, for machines without a Docker engine."""

from __future__ import annotations

import logging
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from distributed import LocalCluster, Nanny

from canvod.launch.cluster.launcher import LAUNCHER_FILE, SCRATCH_PREFIX, launcher_mark
from canvod.launch.cluster.ports import free_port
from canvod.launch.cluster.slots import SlotCluster
from canvod.launch.runtime.plugin import LeaveInterruptsPlugin, ResourceInitPlugin

if TYPE_CHECKING:
    from distributed.security import Security

    from canvod.launch.plan.model import ClusterPlan


class ProcessCluster(SlotCluster, LocalCluster):
    """Worker processes on this host, each with a nanny, affinity and nice.

    Affinity and nice are set on every thread, and the nanny restarts a worker that outgrows its memory limit.
    There is no kernel cap, no cpuset and no CPU weight: a task may leave its cores, and may outgrow its
    memory for as long as the nanny takes to notice.

    Parameters
    ----------
    plan : ClusterPlan
        What to start.
    security : distributed.security.Security
        Keys for scheduler, workers and clients.
    """

    def __init__(self, plan: ClusterPlan, security: Security) -> None:
        self.container_plan = plan
        self._scratch = TemporaryDirectory(
            prefix=f"{SCRATCH_PREFIX}{plan.name}-", dir=plan.workers[0].spill_path, ignore_cleanup_errors=True
        )
        Path(self._scratch.name, LAUNCHER_FILE).write_text(launcher_mark())
        try:
            super().__init__(
                n_workers=0,
                threads_per_worker=plan.workers[0].nthreads,
                processes=True,
                host="127.0.0.1",
                protocol="tls://",
                security=security,
                dashboard_address=f"127.0.0.1:{free_port(plan.dashboard_port)}",
                name=plan.name,
            )
            self.worker_spec = {name: self.slot_spec(name) for name in self.slots}
            self.sync(self._correct_state)
        except BaseException:
            # What went wrong first is what its user should read.
            with suppress(Exception):
                self.close()
            raise

    def slot_spec(self, name: str) -> dict[str, Any]:
        """Return the nanny of one worker."""
        plan = self.slots[name]
        scratch = str(Path(self._scratch.name) / name)
        return {
            "cls": Nanny,
            "options": {
                "name": name,
                "nthreads": plan.nthreads,
                "memory_limit": plan.dask_memory_limit_bytes,
                "host": "127.0.0.1",
                "protocol": "tls://",
                "security": self.security,
                "dashboard": False,
                "silence_logs": logging.WARNING,
                "local_directory": scratch,
                "env": dict(plan.environment),
                "plugins": [ResourceInitPlugin(plan.cpuset_cpus or None, plan.nice), LeaveInterruptsPlugin()],
                "config": {
                    # A task that computes a Dask collection must not start more threads on its cores.
                    "scheduler": "synchronous",
                    "temporary-directory": scratch,
                    "distributed.worker.memory.max-spill": plan.spill_bytes or False,
                },
            },
        }

    async def _close(self) -> None:
        try:
            await super()._close()
        finally:
            self._scratch.cleanup()
