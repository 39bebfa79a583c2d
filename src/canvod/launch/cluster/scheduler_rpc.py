"""Asking a scheduler, and waiting for a cluster that is not this process's own."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from canvod.launch.cluster.dask_settings import dask_defaults
from canvod.launch.errors import ClusterError
from canvod.launch.plan.model import SCHEDULER_PORT
from canvod.launch.runtime.operations import STATUS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from distributed.security import Security

    from canvod.launch.docker.container import Container
    from canvod.launch.docker.containers import ContainerSet
    from canvod.launch.plan.model import ContainerPlan

ANSWER_TIMEOUT_S = 5.0
"""How long a scheduler may take to answer; it is busy for moments, not for seconds."""

_POLL_S = 0.05


def ask_scheduler(
    address: str,
    security: Security,
    operation: str = STATUS,
    *,
    timeout_s: float = ANSWER_TIMEOUT_S,
    **arguments: Any,
) -> Any:
    """Ask a scheduler one thing.

    Parameters
    ----------
    address : str
        Of the scheduler.
    security : distributed.security.Security
        A client's keys.
    operation : str
        One of the scheduler's operations.
    timeout_s : float, default: 5
        How long it may take.
    **arguments
        Of the operation.

    Returns
    -------
    object
        The answer.

    Raises
    ------
    ClusterError
        If there is no answer in time.
    """
    try:
        with dask_defaults():
            return asyncio.run(_ask(address, security, operation, timeout_s, arguments))
    except (OSError, TimeoutError, ValueError) as error:
        reason = str(error) or f"none within {timeout_s:g} s"
        raise ClusterError(
            f"The scheduler at {address} gives no answer: {reason}.",
            hint="look at its log: canvod-launch logs",
        ) from error


async def _ask(
    address: str, security: Security, operation: str, timeout_s: float, arguments: dict[str, Any]
) -> Any:
    from distributed.core import rpc

    async with asyncio.timeout(timeout_s):
        async with rpc(address, connection_args=security.get_connection_args("client")) as scheduler:
            return await getattr(scheduler, operation)(**arguments)


def wait_until_up(
    fleet: ContainerSet, workers: Sequence[ContainerPlan], security: Security, scheduler: str | None = None
) -> str:
    """Wait until all workers are registered with the scheduler.

    Parameters
    ----------
    fleet : ContainerSet
        Has begun to start them.
    workers : sequence of ContainerPlan
        Who is awaited.
    security : distributed.security.Security
        A client's keys.
    scheduler : str, optional
        Address of the scheduler; by default that of the fleet's own.

    Returns
    -------
    str
        Address of the scheduler.

    Raises
    ------
    ContainerFailedError
        If a container ends meanwhile, or the time is up.
    EngineError
        If the engine refuses a request.
    """
    with dask_defaults():
        return asyncio.run(_wait_until_up(fleet, workers, security, scheduler))


async def _wait_until_up(
    fleet: ContainerSet, workers: Sequence[ContainerPlan], security: Security, scheduler: str | None
) -> str:
    deadline = asyncio.get_running_loop().time() + fleet.plan.start_timeout_s
    awaited: list[Container] = []
    if scheduler is None:
        awaited.append(await asyncio.wrap_future(fleet.start(fleet.plan.scheduler)))
        scheduler = f"tls://{awaited[0].address}:{SCHEDULER_PORT}"
    awaited += [await asyncio.wrap_future(fleet.start(worker)) for worker in workers]
    names = {worker.dask_name for worker in workers}
    answered = False
    while True:
        registered: set[str] = set()
        try:
            status = await _ask(scheduler, security, STATUS, ANSWER_TIMEOUT_S, {})
            answered, registered = True, set(status["workers"])
        except (OSError, TimeoutError):
            pass  # it starts to listen at some moment
        missing = names - registered
        if answered and not missing:
            return scheduler
        late = asyncio.get_running_loop().time() > deadline
        for container in awaited:
            if container.ended.is_set():
                raise await asyncio.to_thread(container.failure, "ended while the cluster was starting")
            if late and (container.plan.dask_name in missing or not answered):
                limit = f"{fleet.plan.start_timeout_s:g} s (launch.start_timeout_s)"
                what = "did not register with the scheduler" if answered else "did not answer"
                raise await asyncio.to_thread(container.failure, f"{what} within {limit}")
        await asyncio.sleep(_POLL_S)


def wait_until(condition: Callable[[], bool], timeout_s: float) -> bool:
    """Ask until a condition holds.

    Parameters
    ----------
    condition : callable
        The question.
    timeout_s : float
        How long to ask.

    Returns
    -------
    bool
        Whether it holds.
    """
    return bool(
        Retrying(
            retry=retry_if_result(lambda holds: not holds),
            stop=stop_after_delay(timeout_s),
            wait=wait_fixed(_POLL_S),
            retry_error_callback=lambda _state: False,
        )(condition)
    )
