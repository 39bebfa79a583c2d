"""``canvod-launch build``: build the images of scheduler and worker, or say that they are up to date."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from canvod.launch.cli.console import make_table, print_result, warn
from canvod.launch.cli.options import ConfigOption, JsonOption, read_settings
from canvod.launch.units import format_bytes


def build(  # noqa: PLR0917 (typer gives them by name)
    config: ConfigOption = None,
    python: Annotated[
        str | None, typer.Option(metavar="3.N", help="Python of the images; else that of this program.")
    ] = None,
    python_image: Annotated[
        str | None, typer.Option(metavar="IMAGE", help="Base image; else the official python:3.N-slim.")
    ] = None,
    ca_bundle: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Certificates that the build trusts; else SSL_CERT_FILE, REQUESTS_CA_BUNDLE or PIP_CERT, or "
            "what the system trusts.",
        ),
    ] = None,
    index_url: Annotated[
        str | None, typer.Option(metavar="URL", help="Python package index; else pip's own settings.")
    ] = None,
    debian_mirror: Annotated[
        str | None, typer.Option(metavar="URL", help="Debian mirror; else apt's own settings.")
    ] = None,
    base: Annotated[
        bool,
        typer.Option(
            "--base", help="Only make the base image from Debian's packages; needs root and debootstrap."
        ),
    ] = False,
    for_compose: Annotated[
        bool,
        typer.Option(
            "--for-compose",
            help="Only prepare docker compose build, in the checkout here: a base image where no registry "
            "answers, docker/site/ and compose.override.yaml.",
        ),
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", help="Show no steps; failures are shown all the same.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Build anew, without the cache, even what is up to date.")
    ] = False,
    json_output: JsonOption = False,
) -> None:
    """Build the images of scheduler and worker where they are missing or out of date.

    Other commands do the same by themselves when they need an image.

    Examples
    --------
    $ canvod-launch build
    $ canvod-launch build --python 3.13
    $ canvod-launch build --ca-bundle /etc/ssl/lab.pem --index-url https://pypi.lab.example/simple
    $ sudo .venv/bin/canvod-launch build --base
    $ canvod-launch build --for-compose && docker compose build
    """
    from canvod.launch.cli.progress_bars import show_build
    from canvod.launch.docker.engine import connect
    from canvod.launch.host.python_version import own_python
    from canvod.launch.images.compose_build import prepare_compose
    from canvod.launch.images.image_builder import build_base, build_images

    fields = {
        "launch.python": python,
        "launch.python_image": python_image,
        "launch.build.ca_bundle": None if ca_bundle is None else str(ca_bundle.absolute()),
        "launch.build.index_url": index_url,
        "launch.build.debian_mirror": debian_mirror,
    }
    settings = read_settings(config, fields=fields)
    with closing(connect()) as client, show_build(quiet=quiet) as progress:
        if for_compose:
            name, written = prepare_compose(client, settings, Path.cwd(), progress=progress)
            paths = [str(path.relative_to(Path.cwd())) for path in written]
            print_result(
                {"base": name, "written": paths},
                f"Base image  {name}\n"
                f"Written     {', '.join(paths)}\n"
                "Next        docker compose build && docker compose up --detach",
                as_json=json_output,
            )
            return
        if base:
            images = [build_base(client, settings, force=force, progress=progress)]
        else:
            # As an ingest takes them, which runs with any Python.
            images = [*build_images(client, settings, any_python=True, force=force, progress=progress)]
    wanted = settings.launch.python or own_python()
    if images[0].python != wanted:
        warn(
            f"no base image of Python {wanted} is available; images of Python {images[0].python} are enough "
            "for canvod-launch ingest, whose tasks run on either, but not for a program that gets a client"
        )
    rows = [
        (
            image.name,
            image.python,
            "built" if image.built else "up to date",
            format_bytes(image.size_bytes),
            f"{image.seconds:.1f}",
        )
        for image in images
    ]
    table = make_table(("Image", "Python", "State"), ("Size", "Seconds"), rows)
    print_result([asdict(image) for image in images], table, as_json=json_output, fold=False)
    if len(images) > 1 and not json_output:
        typer.echo("They share their layers: together they need as much space as one.")
