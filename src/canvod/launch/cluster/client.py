"""A client of a cluster, and the versions that must be alike on both sides."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_fixed

from canvod.launch.errors import ClusterError, ConfigError, VersionMismatchError
from canvod.launch.host.python_version import own_python
from canvod.launch.images.versions import CLIENT_PACKAGES, install_versions, version_differences

if TYPE_CHECKING:
    from distributed import Client, SpecCluster
    from distributed.security import Security

CLIENT_TIMEOUT_S = 30.0
_PAUSE_S = 0.2


def open_client(target: SpecCluster | str, security: Security | None = None) -> Client:
    """Connect a client.

    Parameters
    ----------
    target : distributed.SpecCluster or str
        A cluster of this process, or the address of a scheduler.
    security : distributed.security.Security, optional
        A client's keys; those of the cluster, or of Dask's own settings, by default.

    Returns
    -------
    distributed.Client
        The client.

    Raises
    ------
    ConfigError
        If the address asks for certificates, and there are none.
    ClusterError
        If no scheduler answers in time.
    """
    from distributed import Client
    from distributed.security import Security
    from distributed.versions import VersionMismatchWarning

    address = target if isinstance(target, str) else target.scheduler_address
    if isinstance(target, str) and address.startswith("tls://") and security is None:
        _require_keys(Security(), address)
    with warnings.catch_warnings():
        # Dask warns of what is checked below, and refused where it matters.
        warnings.simplefilter("ignore", VersionMismatchWarning)
        attempts = Retrying(
            retry=retry_if_exception(_was_closed_early),
            stop=stop_after_delay(CLIENT_TIMEOUT_S),
            wait=wait_fixed(_PAUSE_S),
            reraise=True,
        )
        try:
            return attempts(Client, target, timeout=CLIENT_TIMEOUT_S, security=security)
        except (OSError, ValueError) as error:
            if isinstance(error, ValueError) and not _was_closed_early(error):
                raise
            raise ClusterError(
                f"No scheduler answers at {address} within {CLIENT_TIMEOUT_S:g} s: {error}",
                hint="check processing.scheduler_address, and that the scheduler is running",
            ) from error


def close_client(client: Client) -> None:
    """Close a client, and let Dask compute without one again where it was the last.

    Dask itself goes on asking for a client where two are closed in the order in which they were made.

    Parameters
    ----------
    client : distributed.Client
        The client.
    """
    import dask.config
    from distributed import default_client

    client.close()
    try:
        default_client()
    except ValueError:
        if dask.config.get("scheduler", None) == "dask.distributed":
            dask.config.set(scheduler=None)


def _was_closed_early(error: BaseException) -> bool:
    """Whether the other side accepted the connection and closed it before TLS began.

    The engine's proxy does that while a published port has no scheduler behind it, and Dask, which tries
    again after other errors, does not know what tornado says then.
    """
    return isinstance(error, ValueError) and "IOStream is not idle" in str(error)


def _require_keys(known: Security, address: str) -> None:
    """Refuse a TLS address without a certificate: Dask would say so in words of its own."""
    if known.get_connection_args("client")["ssl_context"] is None:
        raise ConfigError(
            f"The scheduler at {address} wants a certificate, and Dask's settings name none. It is "
            "none of canvod-launch in containers of this host, whose keys would have been found.",
            hint="set DASK_DISTRIBUTED__COMM__TLS__CA_FILE, DASK_DISTRIBUTED__COMM__TLS__CLIENT__CERT and "
            "DASK_DISTRIBUTED__COMM__TLS__CLIENT__KEY to the files from whoever runs that scheduler",
        )


def check_versions(client: Client, *, own_tasks_only: bool, detached: str | None = None) -> None:
    """Refuse a client whose environment differs from the cluster's.

    Parameters
    ----------
    client : distributed.Client
        The client.
    own_tasks_only : bool
        Compare only what the tasks of canvod-launch need.
    detached : str, optional
        Name of the cluster, where it is a detached one of this host.

    Raises
    ------
    VersionMismatchError
        If Python or a package differs; names each, and what to do.
    """
    answer: Any = client.get_versions(packages=list(CLIENT_PACKAGES))
    found = version_differences(answer, own_tasks_only=own_tasks_only)
    if not found:
        return
    theirs = answer["scheduler"]["packages"]
    names = dict.fromkeys(line.partition(":")[0] for line in found)
    versions = {name: theirs[name] for name in names if name != "python" and theirs.get(name)}
    steps = [] if "python" not in names else [f"use Python {'.'.join(theirs['python'].split('.')[:2])} here"]
    if versions:
        steps.append(install_versions(versions))
    hint = f"to go with the cluster: {'; '.join(steps)}"
    if detached is not None:
        hint += (
            "; or start it anew from this environment: "
            f"canvod-launch down {detached} && canvod-launch up --name {detached}"
        )
    else:
        hint += (
            "; or, where docker compose runs it, make its images again: "
            f"CANVOD_PYTHON={own_python()} in .env, docker compose build, docker compose up --detach"
        )
    raise VersionMismatchError(
        "This environment and the cluster differ:\n" + "\n".join(f"    {line}" for line in found),
        hint=hint,
    )
