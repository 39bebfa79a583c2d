"""What a store holds, as a tree."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.text import Text
from rich.tree import Tree

from canvod.launch.ingest.inspect import format_utc
from canvod.launch.ingest.report import format_epoch
from canvod.launch.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

    from canvod.launch.ingest.inspect import GroupInfo, StoreTree


def draw_store(store: StoreTree) -> RenderableType:
    """Draw the groups of a store, and its newest snapshots.

    Parameters
    ----------
    store : StoreTree
        What it holds.

    Returns
    -------
    rich renderable
        A tree, and a line for each snapshot.
    """
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
    if group.first_epoch is not None and group.last_epoch is not None:
        first, last = format_epoch(group.first_epoch), format_epoch(group.last_epoch)
        yield f"{group.epochs} epochs, {first} to {last} GPS time"
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
