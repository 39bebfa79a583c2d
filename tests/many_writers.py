"""What processes of a test do to one store at the same instant; importable, so that a process can be told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from canvod.launch.ingest.read import open_group
from canvod.launch.ingest.store import open_repository, store_exists
from canvod.launch.ingest.store_lifecycle import store_in_use
from ingest_files import run_inline

if TYPE_CHECKING:
    from multiprocessing.synchronize import Barrier
    from pathlib import Path


def use_and_write(barrier: Barrier, stores: list[Path], number: int, files: list[Path]) -> None:
    """Use new stores together with other processes; every other process has something to write."""
    for round_, store in enumerate(stores):
        barrier.wait(60)
        with store_in_use(store, remove_empty=True):
            assert store_exists(store)
            open_repository(store)
            if (number + round_) % 2:
                run_inline(files, store, f"site/receiver_{number}")
        barrier.wait(60)
        if (number + round_) % 2:
            assert open_group(store, f"site/receiver_{number}").sizes["epoch"]
