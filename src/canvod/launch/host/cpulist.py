"""The kernel's list format for CPUs and NUMA nodes: ``0-3,8``."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

SHORTEST_RANGE = 3
"""Runs of fewer IDs are written one by one, as the kernel's users do: ``0,1`` rather than ``0-1``."""


def parse_cpulist(text: str) -> tuple[int, ...]:
    """Read a list of CPUs or nodes as the kernel writes it.

    Parameters
    ----------
    text : str
        Such as ``0-3,8``; white space around is ignored, an empty text is an empty list. The kernel's stride
        form (``0-31:2/4``: the first 2 of every 4) is read as well.

    Returns
    -------
    tuple of int
        The IDs, sorted, each once.

    Raises
    ------
    ValueError
        If the text is not a list.

    Examples
    --------
    >>> parse_cpulist("0-3,8")
    (0, 1, 2, 3, 8)
    """
    ids: set[int] = set()
    for part in text.strip().split(","):
        if not part.strip():
            continue
        span, _, stride = part.partition(":")
        first, _, last = span.partition("-")
        low, high = int(first), int(last or first)
        used, _, group = stride.partition("/")
        step, take = (int(group), int(used)) if stride else (1, 1)
        ids.update(n for n in range(low, high + 1) if (n - low) % step < take)
    return tuple(sorted(ids))


def format_cpulist(ids: Iterable[int]) -> str:
    """Write IDs in the kernel's list format, which Docker's ``cpuset_cpus`` takes as well.

    Parameters
    ----------
    ids : iterable of int
        In any order.

    Returns
    -------
    str
        Compact; see `SHORTEST_RANGE`.

    Examples
    --------
    >>> format_cpulist([8, 0, 1, 2, 3])
    '0-3,8'
    """
    parts: list[str] = []
    run: list[int] = []

    def close() -> None:
        if len(run) >= SHORTEST_RANGE:
            parts.append(f"{run[0]}-{run[-1]}")
        else:
            parts.extend(map(str, run))
        run.clear()

    for number in sorted(set(ids)):
        if run and number != run[-1] + 1:
            close()
        run.append(number)
    close()
    return ",".join(parts)
