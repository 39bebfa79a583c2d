"""``canvod-launch connect``: what a notebook, or a shell, needs to use a detached cluster."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Annotated

import typer

from canvod.launch.cli.options import JsonOption, NameArgument, examples
from canvod.launch.cli.options import lines as _lines

if TYPE_CHECKING:
    from canvod.launch.detached.attach import Attachment


def register(app: typer.Typer) -> None:
    """Add the command to the application.

    Parameters
    ----------
    app : typer.Typer
        The application.
    """
    app.command(
        "connect",
        help="Print the lines with which a notebook on this host connects to a detached cluster. They need "
        "only distributed; the keys are in files that only you can read.",
        epilog=examples(
            "canvod-launch connect",
            "canvod-launch connect lab",
            'eval "$(canvod-launch connect --shell)"; python -c "import distributed; distributed.Client()"',
            "canvod-launch connect --json | jq -r .scheduler_address",
        ),
    )(connect)


def connect(
    name: NameArgument = None,
    shell: Annotated[
        bool, typer.Option("--shell", help="Print lines for a shell, for a bare distributed.Client().")
    ] = False,
    json_output: JsonOption = False,
) -> None:
    """Print what is needed to connect."""
    from rich.console import Console

    from canvod.launch.cli.session import engine, warn
    from canvod.launch.detached.attach import attach_by_name
    from canvod.launch.host.python_version import own_python

    with engine() as client:
        attachment = attach_by_name(name, client)
    environment = attachment.environment()
    plan = attachment.plan
    if plan is not None and plan.python != own_python():
        warn(
            Console(stderr=True, soft_wrap=True, highlight=False),
            f"the workers of {attachment.name} have Python {plan.python}, and this is {own_python()}: "
            f"functions that a program defines itself need a program of Python {plan.python}, or a cluster "
            f"that was started anew from here: canvod-launch down {attachment.name} && "
            f"canvod-launch up --name {attachment.name}",
        )
    if json_output:
        found = {
            "name": attachment.name,
            "scheduler_address": attachment.scheduler_address,
            "dashboard_link": attachment.dashboard_link,
            "python": None if attachment.plan is None else attachment.plan.python,
            "environment": environment,
        }
        typer.echo(json.dumps(found, indent=2))
    elif shell:
        for variable, value in environment.items():
            typer.echo(f"export {variable}={shlex.quote(value)}")
    else:
        typer.echo(notebook_lines(attachment))


def notebook_lines(attachment: Attachment) -> str:
    """Write the lines of a notebook.

    Parameters
    ----------
    attachment : Attachment
        The cluster.

    Returns
    -------
    str
        A Python program.
    """
    from canvod.launch.runtime.keys import CA, CERTIFICATE, KEY

    keys, plan = attachment.keys, attachment.plan
    python = [] if plan is None else [f"# workers have Python {plan.python}: your own functions need it too"]
    return _lines(
        "from distributed import Client",
        "from distributed.security import Security",
        "",
        "security = Security(",
        "    require_encryption=True,",
        f"    tls_ca_file={keys.file('client', CA)!r},",
        f"    tls_client_cert={keys.file('client', CERTIFICATE)!r},",
        f"    tls_client_key={keys.file('client', KEY)!r},",
        ")",
        f"client = Client({attachment.scheduler_address!r}, security=security)",
        f"# dashboard: {attachment.dashboard_link}",
        *python,
        "# with canvod-launch here as well, which compares the versions:",
        "#   from canvod.launch import DaskClusterManager",
        f"#   client = DaskClusterManager(name={attachment.name!r}).client",
    )
