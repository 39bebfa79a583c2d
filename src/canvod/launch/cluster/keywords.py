"""The keyword arguments of `DaskClusterManager`: which of them go together, and what they set."""

from __future__ import annotations

from importlib.util import find_spec
from numbers import Integral
from typing import TYPE_CHECKING, Any

from canvod.launch.cluster.dask_settings import import_settings
from canvod.launch.errors import ConfigError, DependencyError, PlanError, install_command
from canvod.launch.plan.sizing import MIN_WORKER_BYTES
from canvod.launch.units import GIB, format_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping


def require_dask() -> None:
    """Refuse to go on without Dask.

    Raises
    ------
    DependencyError
        If it is not installed.
    ConfigError
        If it cannot be imported with the user's settings.
    """
    if find_spec("distributed") is None or find_spec("dask") is None:
        raise DependencyError(
            "DaskClusterManager needs the packages dask and distributed, which are not installed here.",
            hint=f"{install_command('dask', 'distributed')}; "
            "canvod-launch ingest works without them, without limits",
        )
    import_settings()


def settings_fields(**given: Any) -> dict[str, Any]:
    """Turn canVODpy's keyword arguments into fields of the settings.

    Parameters
    ----------
    **given : object
        Those of `canvod.launch.manager.DaskClusterManager`; None where one was not given.

    Returns
    -------
    dict of str to object
        Values by dotted field; None where one was not given.

    Raises
    ------
    ConfigError
        If one of them is not what it should be, or they do not fit together.
    PlanError
        If the memory is less than a worker needs.
    """
    from dask.utils import parse_bytes

    per_worker = given.pop("memory_limit_per_worker")
    workers = given.pop("n_workers")
    fields = {"launch.backend": given.pop("backend")}
    fields |= {f"processing.{name}": value for name, value in given.items()}
    if workers is not None:
        if isinstance(workers, bool) or not isinstance(workers, Integral):
            raise ConfigError(f"n_workers={workers!r} is not a whole number.", hint="write n_workers=2")
        fields |= {"processing.resource_mode": "manual", "processing.n_max_threads": workers}
    if per_worker not in (None, "auto"):  # Dask's own default, and canVODpy's: an equal part of what there is
        if workers is None:
            raise ConfigError(
                f"memory_limit_per_worker={per_worker!r} needs n_workers.",
                hint="pass n_workers too, or set max_memory_gb, the limit for all workers together",
            )
        try:
            worker_bytes = parse_bytes(per_worker)
        except (ValueError, OverflowError, TypeError, AttributeError) as error:
            raise ConfigError(
                f"memory_limit_per_worker={per_worker!r} is not an amount of memory.",
                hint='write it as "4GiB", or as a number of bytes',
            ) from error
        if worker_bytes < MIN_WORKER_BYTES:
            raise PlanError(
                f"memory_limit_per_worker={per_worker!r} is too little: a worker needs at least "
                f"{format_bytes(MIN_WORKER_BYTES)} to start, and a number without a unit is bytes.",
                hint='write it as "4GiB"',
            )
        fields["processing.max_memory_gb"] = workers * worker_bytes / GIB
    return fields


def require_alone(name: str, keywords: Mapping[str, Any]) -> None:
    """Refuse to use a cluster that runs already and to set what it should be at the same time.

    Parameters
    ----------
    name : str
        The cluster to use.
    keywords : mapping
        Fields of the settings, and other keyword arguments; None, or empty, where one was not given.

    Raises
    ------
    ConfigError
        If anything is given besides the name, or the name is empty.
    """
    if not name:
        raise ConfigError(
            f"name={name!r} names no cluster.",
            hint="canvod-launch status shows the names; to start a cluster, leave name out",
        )
    given = [field.rpartition(".")[2] for field, value in keywords.items() if value not in (None, ())]
    if given:
        raise ConfigError(
            f"name={name!r} uses a cluster that runs already, as it is: {', '.join(given)} cannot be set.",
            hint=f"leave that out; or start a new cluster: cluster_name={name!r} in place of name",
        )
