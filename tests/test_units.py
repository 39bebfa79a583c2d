"""Amounts of bytes are counted, read and written in one way."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from canvod.launch.cluster.keywords import settings_fields
from canvod.launch.units import GIB, MIB, bytes_of_gib, format_bytes

ROOT = Path(__file__).parents[1]
DOCUMENTS = (
    "README.md",
    *(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")),
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    ".env",
    "compose.yaml",
    "config/processing.yaml",
)
ALLOWED = ("MemTotal:", "as Dask reads it")
"""What the kernel writes, and what the contract leaves to Dask."""
UNITS = {"B": 1} | {f"{letter}iB": 1024**power for power, letter in enumerate("KMGTP", 1)}
DECIMAL_UNIT = re.compile(r"\d *[kMGT]B\b|\bin [kMGT]B\b|\} ?[kMGT]B\b")
BY_HAND = re.compile(r"1024 ?\*\* ?[23]|1 ?<< ?[23]0|/ ?1e[69]\b.*[MG]i?B")


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (99 * MIB + MIB // 2, "99.5 MiB"),
        (100 * MIB + MIB // 2, "100 MiB"),
        (GIB - 1, "1023 MiB"),
        (GIB, "1 GiB"),
        (1536 * MIB, "1.5 GiB"),
        (-GIB, "-1 GiB"),
        (2048 * GIB, "2 TiB"),
    ],
)
def test_sizes_for_people(size: int, text: str) -> None:
    """The largest unit of which there is one, with three digits at most, or four before the next unit."""
    assert format_bytes(size) == text


@given(st.integers(0, 2**63))
@example(2**63)
def test_a_size_is_never_said_to_be_more_than_it_is(size: int) -> None:
    """Rounded down, by less than a tenth: what is said to be enough is enough."""
    number, unit = format_bytes(size).split()
    said = float(number) * UNITS[unit]
    assert 0.9 * size <= said <= size


def test_settings_in_gb_are_gib() -> None:
    """The fields keep canVODpy's names and meaning."""
    assert bytes_of_gib(0.5) == 512 * MIB


@pytest.mark.parametrize(
    ("written", "size"),
    [
        ("4GiB", 4 * GIB),
        ("4 GiB", 4 * GIB),
        ("4GB", 4 * 10**9),
        ("512MiB", 512 * MIB),
        (GIB, GIB),
        (1e9, 10**9),
    ],
)
def test_limits_of_workers_are_read_as_dask_reads_them(written: str | float, size: int) -> None:
    """The contract's own words go to Dask, where GB is decimal and GiB is not."""
    fields = settings_fields(n_workers=2, memory_limit_per_worker=written, backend=None)
    assert bytes_of_gib(fields["processing.max_memory_gb"]) == 2 * size


@pytest.mark.parametrize("workers", [None, 2])
def test_a_limit_of_auto_is_none_that_is_given(workers: int | None) -> None:
    """It is canVODpy's default, and Dask's own."""
    given = {"n_workers": workers, "backend": None}
    assert settings_fields(memory_limit_per_worker="auto", **given) == settings_fields(
        memory_limit_per_worker=None, **given
    )


def test_one_module_writes_and_counts_bytes() -> None:
    """No size is formatted by hand, and nothing that people read has a unit that could be decimal."""
    sources = [path for path in (ROOT / "src").rglob("*.py") if path.name != "units.py"]
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in (*sources, *(ROOT / name for name in DOCUMENTS))
        # Readers import nothing of the project.
        if "readers" not in path.parts
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if not any(words in line for words in ALLOWED)
        if DECIMAL_UNIT.search(line) or (path.suffix == ".py" and BY_HAND.search(line))
    ]
    assert not found, "\n".join(found)
