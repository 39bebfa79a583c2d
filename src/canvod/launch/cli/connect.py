"""``canvod-launch connect``: what a notebook, or a shell, needs to use a detached cluster."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Annotated

import typer

from canvod.launch.cli.console import print_result, warn
from canvod.launch.cli.options import JsonOption, NameArgument

if TYPE_CHECKING:
    from canvod.launch.detached.attach import Attachment


def connect(
    name: NameArgument = None,
    shell: Annotated[
        bool, typer.Option("--shell", help="Print lines for a shell, for a bare distributed.Client().")
    ] = False,
    json_output: JsonOption = False,
) -> None:
    """Print the lines with which a notebook on this host connects to a detached cluster.

    They need only distributed; the keys are in files that only you can read.

    Examples
    --------
    $ canvod-launch connect
    $ canvod-launch connect lab
    $ eval "$(canvod-launch connect --shell)"; python -c "import distributed; distributed.Client()"
    $ canvod-launch connect --json | jq -r .scheduler_address
    """
    from canvod.launch.detached.attach import attach_by_name

    attachment = attach_by_name(name)
    cluster, python = attachment.cluster, attachment.plan.python
    environment = attachment.environment()
    if hint := other_python(cluster.name, python):
        warn(hint)
    exports = [f"export {variable}={shlex.quote(value)}" for variable, value in environment.items()]
    values = {
        "name": cluster.name,
        "scheduler_address": cluster.scheduler_address,
        "dashboard_link": cluster.dashboard_link,
        "python": python,
        "environment": environment,
    }
    text = "\n".join(exports) if shell else _notebook_lines(attachment)
    print_result(values, text, as_json=json_output)


def other_python(name: str, python: str | None) -> str | None:
    """Say what to do where the workers of a cluster have another Python than this program.

    Parameters
    ----------
    name : str
        Name of the cluster.
    python : str or None
        Python minor version of its workers; None where that is unknown.

    Returns
    -------
    str or None
        A text, or None where there is nothing to say.
    """
    from canvod.launch.host.python_version import own_python

    if python in {None, own_python()}:
        return None
    return (
        f"the workers of {name} have Python {python}, and this is {own_python()}: functions that a program "
        f"defines itself need a program of Python {python}, or a cluster that was started again from this "
        f"environment: canvod-launch down {name} && canvod-launch up --name {name}"
    )


def _notebook_lines(attachment: Attachment) -> str:
    """Write a Python program that makes a client."""
    from canvod.launch.runtime.keys import CA, CERTIFICATE, KEY

    keys, cluster = attachment.keys, attachment.cluster
    return f"""\
from distributed import Client
from distributed.security import Security

security = Security(
    require_encryption=True,
    tls_ca_file={keys.file("client", CA)!r},
    tls_client_cert={keys.file("client", CERTIFICATE)!r},
    tls_client_key={keys.file("client", KEY)!r},
)
client = Client({cluster.scheduler_address!r}, security=security)
# dashboard: {cluster.dashboard_link}
# workers have Python {attachment.plan.python}: your own functions need it too
# with canvod-launch here as well, which compares the versions:
#   from canvod.launch import DaskClusterManager
#   client = DaskClusterManager(name={cluster.name!r}).client"""
