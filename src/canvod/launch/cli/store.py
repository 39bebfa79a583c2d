"""``canvod-launch store``: show what a store holds, draw it, clean it up, change its chunks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Group
from rich.text import Text
from rich.tree import Tree

from canvod.launch.cli.console import make_table, print_result, results, say
from canvod.launch.cli.options import ConfigOption, JsonOption, read_settings
from canvod.launch.ingest.report import STATUSES
from canvod.launch.units import format_bytes

if TYPE_CHECKING:
    from rich.console import RenderableType

    from canvod.launch.ingest.inspect import GroupInfo, StoreTree

GroupOption = Annotated[
    str | None,
    typer.Option(
        metavar="GROUP", help="Group, such as rosalia/reference_01; else the only one of the store."
    ),
]
OlderThanOption = Annotated[
    float,
    typer.Option(
        metavar="HOURS",
        min=0.0,
        help="Keep younger objects: a program that does not use the lock may commit them.",
    ),
]
StoreArgument = Annotated[Path, typer.Argument(metavar="PATH", help="Folder of the store.")]


def show(path: StoreArgument, json_output: JsonOption = False) -> None:
    """Show the groups of a store, and its newest snapshots.

    Of each group its variables, chunks, sizes, time span and signals.

    Examples
    --------
    $ canvod-launch store show /data/store
    $ canvod-launch store show /data/store --json | jq .groups
    """
    from canvod.launch.ingest.inspect import store_tree

    tree = store_tree(path)
    print_result(tree.as_json(), _draw(tree), as_json=json_output, fold=False)


def plot(
    path: StoreArgument,
    group: GroupOption = None,
    variable: Annotated[str, typer.Option(metavar="NAME", help="Variable to draw.")] = "SNR",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Write a PNG instead (needs matplotlib)."),
    ] = None,
) -> None:
    """Draw the mean SNR of each kind of signal over time, in the terminal or as a PNG file.

    Examples
    --------
    $ canvod-launch store plot /data/store
    $ canvod-launch store plot /data/store --group rosalia/canopy_01 --output snr.png
    """
    from canvod.launch.cli.plot import draw_heatmap, make_heatmap, require_matplotlib, save_png
    from canvod.launch.cli.progress_bars import delayed_bar
    from canvod.launch.ingest.read import open_arrays

    if output is not None:
        require_matplotlib()
    console = results()
    bins = 400 if output is not None else max(20, min(console.width, 160) - 12)
    with delayed_bar("reading", "blocks") as progress:
        heatmap = make_heatmap(open_arrays(path, group), variable, bins=bins, progress=progress)
    if output is not None:
        console.print(f"Written: {save_png(heatmap, output)}", soft_wrap=True)
    else:
        color, ascii_only = console.color_system is not None, console.options.ascii_only
        console.print(draw_heatmap(heatmap, color=color, ascii_only=ascii_only), soft_wrap=True)


def log(
    path: StoreArgument,
    group: GroupOption = None,
    by: Annotated[
        Literal["file", "run"], typer.Option(metavar="file|run", help="A line for each file, or each run.")
    ] = "file",
    last: Annotated[
        int, typer.Option(metavar="N", min=1, help="Newest lines of the table; --json has them all.")
    ] = 40,
    json_output: JsonOption = False,
) -> None:
    """Show what became of the files that were ingested.

    A file that was ingested several times has as many lines; the last one counts.

    Examples
    --------
    $ canvod-launch store log /data/store --group rosalia/reference_01
    $ canvod-launch store log /data/store --by run
    $ canvod-launch store log /data/store --json | jq '.[] | select(.status == "failed") | .path'
    """
    from canvod.launch.ingest.log_book import runs
    from canvod.launch.ingest.read import read_log

    records = read_log(path, group)
    if by == "run":
        lines = runs(records)
        rows = [
            [_time(run.run), *(str(run.counts.get(status, 0)) for status in STATUSES), f"{run.values:,}"]
            for run in lines[-last:]
        ]
        table = make_table(["run (UTC)"], [*STATUSES, "values"], rows)
        print_result([asdict(run) for run in lines], table, as_json=json_output)
        return
    rows = [
        [
            _time(record.run),
            record.status,
            ": ".join(filter(None, (record.path, record.reason))),
            f"{record.values:,}",
        ]
        for record in records[-last:]
    ]
    table = make_table(["run (UTC)", "status", "file"], ["values"], rows)
    print_result([asdict(record) for record in records], table, as_json=json_output)


def _time(run: str) -> str:
    return run[:19].replace("T", " ")


def gc(
    path: StoreArgument,
    older_than: OlderThanOption = 1.0,
    json_output: JsonOption = False,
) -> None:
    """Remove what interrupted runs have left behind: objects that no snapshot needs.

    Snapshots stay.

    Examples
    --------
    $ canvod-launch store gc /data/store
    $ canvod-launch store gc /data/store --older-than 0
    """
    _clean(path, older_than, expire=False, json_output=json_output)


def compact(
    path: StoreArgument,
    older_than: OlderThanOption = 1.0,
    json_output: JsonOption = False,
) -> None:
    """Forget older snapshots but the newest, and remove what only they need.

    Every run of an ingest leaves the parts of days that it has written anew. The newest snapshot stays.

    Examples
    --------
    $ canvod-launch store compact /data/store
    $ canvod-launch store compact /data/store --older-than 720
    """
    _clean(path, older_than, expire=True, json_output=json_output)


def rechunk(
    path: StoreArgument,
    group: GroupOption = None,
    chunk: Annotated[
        tuple[int, int] | None,
        typer.Option(
            metavar="EPOCHS SIGNALS",
            help="Chunks to write; else ingest.chunk of the settings, else what fits the group's interval.",
        ),
    ] = None,
    config: ConfigOption = None,
    json_output: JsonOption = False,
) -> None:
    """Write a group anew in other chunks; what it holds stays.

    Until all is written, the group is as it was. Older snapshots keep the old chunks until `store compact`.

    Examples
    --------
    $ canvod-launch store rechunk /data/store --group rosalia/reference_01
    $ canvod-launch store rechunk /data/store --chunk 2880 64
    """
    from canvod.launch.cli.progress_bars import delayed_bar
    from canvod.launch.ingest.rechunk import rechunk_group

    wanted = chunk or read_settings(config).ingest.chunk
    with delayed_bar("writing", "days") as progress:
        done = rechunk_group(path, group, wanted, progress=progress, on_wait=say)
    size = f"{done.chunk[0]} epochs by {done.chunk[1]} signals"
    text = (
        f"{done.group} has chunks of {size} already: nothing was written"
        if done.snapshot is None
        else f"Wrote {done.days} days of {done.group} anew, in chunks of {size} "
        f"(before: {done.before[0]} by {done.before[1]})"
    )
    print_result(asdict(done), text, as_json=json_output)


def _clean(path: Path, older_than: float, *, expire: bool, json_output: bool) -> None:
    from canvod.launch.ingest.store_lifecycle import clean_store

    age = timedelta(hours=older_than)
    garbage = clean_store(path, older_than=age, now=datetime.now(UTC), expire=expire)
    text = f"Removed {garbage.objects} objects, {format_bytes(garbage.bytes)}"
    print_result(asdict(garbage), text, as_json=json_output)


def _draw(store: StoreTree) -> RenderableType:
    """Draw the groups of a store as a tree, and a line for each of its newest snapshots."""
    from canvod.launch.ingest.inspect import format_utc

    tree = Tree(Text(f"{store.path}  {format_bytes(store.disk_bytes)} on disk", style="bold"))
    for group in store.groups:
        branch = tree.add(Text(group.path, style="bold cyan"))
        for line in _lines(group):
            branch.add(Text(line))
    if not store.groups:
        tree.add("no groups")
    snapshots = [
        Text(f"{snapshot.id}  {format_utc(snapshot.written_at)}  {snapshot.message}")
        for snapshot in store.snapshots
    ]
    return Group(tree, Text(), Text("Newest snapshots", style="bold"), *snapshots)


def _lines(group: GroupInfo) -> Iterator[str]:
    if group.epochs is not None:
        days = f"{group.days} day{'s' if group.days != 1 else ''}"
        yield f"{group.epochs:,} epochs of {days}, {group.first_day} to {group.last_day}, GPS time"
        counts = ", ".join(f"{system} {count}" for system, count in group.signals.items())
        yield f"{sum(group.signals.values())} signals: {counts}"
        files = f"{group.files} files" + (f" of {', '.join(group.stations)}" if group.stations else "")
        if len(group.readers) == 1:
            files += f", read by {next(iter(group.readers))}"
        elif group.readers:
            files += ", " + "; ".join(f"{count} by {name}" for name, count in group.readers.items())
        yield files
    for array in group.arrays:
        size = " × ".join(f"{dim} {length}" for dim, length in zip(array.dims, array.shape, strict=True))  # noqa: RUF001
        chunks = " × ".join(map(str, array.chunks))  # noqa: RUF001
        stored = f"{format_bytes(array.bytes_stored)} of {format_bytes(array.bytes_raw)}"
        yield f"{array.name}  {array.dtype}  {size}, chunks {chunks}, {stored}"
