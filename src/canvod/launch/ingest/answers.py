"""Answers of workers, taken for what they are meant to be, and for nothing else."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from pydantic import TypeAdapter, ValidationError

from canvod.launch.errors import ClusterError
from canvod.launch.runtime.blocks import DAY_NS, parts_of
from canvod.launch.runtime.file_tasks import CLOSEST_NS
from canvod.launch.runtime.messages import FileSummary, UnitReply, WriteReply

if TYPE_CHECKING:
    from collections.abc import Sequence

    from canvod.launch.runtime.blocks import Epochs, Span

UNIT_REPLY = TypeAdapter(UnitReply)
WRITE_REPLY = TypeAdapter(WriteReply)
SUMMARIES = TypeAdapter(tuple[FileSummary, ...])
TIMES = TypeAdapter(dict[str, tuple[int, int]])
DIGESTS = TypeAdapter(dict[str, str])
MOST_ROWS = 4 * DAY_NS // CLOSEST_NS
"""Rows that a day may get: parts are halved until none has more epochs than rows."""
LONGEST_NS = 2 * DAY_NS
"""The longest file that is taken at its word before it is read: it is read once for each day."""
MOST_NS = 2**62
"""Times are within 146 years of 1970."""
MOST_SIGNALS = 2**13
"""Signals that a group has room for in one chunk of its axis."""


def decoded[T](kind: TypeAdapter[T], answer: object) -> tuple[T, bytes]:
    """Take an answer apart: a line of JSON, and bytes behind it.

    Parameters
    ----------
    kind : pydantic.TypeAdapter
        Of the record that is expected.
    answer : object
        What a worker gave.

    Returns
    -------
    tuple of (T, bytes)
        The record, and what follows the line.

    Raises
    ------
    ClusterError
        If it is anything else.
    """
    if not isinstance(answer, bytes):
        raise ClusterError(f"a worker answered with {type(answer).__name__}, not with bytes")
    line, _, rest = answer.partition(b"\n")
    try:
        return kind.validate_json(line, strict=True), rest
    except ValidationError as exc:
        problem = exc.errors()[0]
        raise ClusterError(
            f"a worker's answer is not what was asked for: {problem['msg']} at {problem['loc']}",
            hint="see that all workers run the code of this launcher",
        ) from exc


def check_reply(reply: UnitReply, span: Span, rows: int, files: Sequence[str]) -> None:
    """Refuse a reply that cannot be, whatever a worker has read.

    Parameters
    ----------
    reply : UnitReply
        What a worker says of a span.
    span : Span
        The span that was asked for.
    rows : int
        Rows of a part.
    files : sequence of str
        The files that were asked for.

    Raises
    ------
    ClusterError
        If it is of other files, or has more epochs, rows or signals than there can be.
    """
    more, rest = divmod(reply.parts_needed, span.parts)
    has_room = reply.parts_needed * rows <= MOST_ROWS and more.bit_count() == 1 and more > 1 and not rest
    possible = {
        "files": tuple(file.path for file in reply.files) == tuple(files),
        "parts": not reply.parts_needed or has_room,
        "signals": len(set(reply.sid)) == len(reply.sid) <= MOST_SIGNALS
        and all(name.isprintable() and name.count("|") == 2 and len(name) < 64 for name in reply.sid),
        "days": all(map(has_real_days, reply.files)),
        "numbers of epochs": all(-1 <= count <= rows for count in reply.epochs)
        and 0 <= reply.replaced_epochs <= rows * span.parts,
    }
    for what, is_possible in possible.items():
        if not is_possible:
            raise ClusterError(
                f"worker {reply.worker} answered with {what} that cannot be those of {span}",
                hint="see that all workers run the code of this launcher, and which files they were reading",
            )


def has_real_days(file: FileSummary) -> bool:
    """Whether a file can have the days that a worker says.

    Parameters
    ----------
    file : FileSummary
        What a worker says of it.

    Returns
    -------
    bool
        True where they are successive days of representable times, each with its epochs.
    """
    days = [day for day, _, _ in file.days]
    ends = [(first // DAY_NS, last // DAY_NS) for _, first, last in file.days]
    increase = all(one < other for one, other in pairwise(days))
    possible = all(abs(day) * DAY_NS < MOST_NS for day in days)
    return len(days) <= file.epochs and increase and possible and ends == [(day, day) for day in days]


def claimed(first: int, last: int) -> tuple[int, int]:
    """Times that a file claims, where they may be: what it has beyond them is found when it is read.

    Parameters
    ----------
    first, last : int
        Nanoseconds since 1970-01-01.

    Returns
    -------
    tuple of (int, int)
        The same; the first time alone, where a file would be longer than `LONGEST_NS`.
    """
    first = first if abs(first) < MOST_NS else 0
    return (first, last) if 0 <= last - first <= LONGEST_NS else (first, first)


def real_epochs(span: Span, reply: UnitReply, rest: bytes) -> Epochs:
    """Epochs of the parts that change, checked: whatever a worker says, the axis of the group increases.

    Parameters
    ----------
    span : Span
        The parts that were asked for.
    reply : UnitReply
        Says how many epochs each of them has.
    rest : bytes
        What follows the reply: int64, little endian.

    Returns
    -------
    numpy.ndarray
        Shape (n,), int64: nanoseconds since 1970-01-01, GPS time, strictly increasing.

    Raises
    ------
    ClusterError
        If they are not increasing epochs of those parts.
    """
    epochs = np.frombuffer(rest, "<i8").astype(np.int64)
    taken = 0
    parts = parts_of(epochs, span.parts)
    fits = len(reply.epochs) == span.stop - span.first and bool((np.diff(epochs) > 0).all())
    fits = fits and bool(((epochs >= span.start_ns) & (epochs < span.stop_ns)).all())
    for part, count in zip(range(span.first, span.stop), reply.epochs, strict=False):
        if count > 0:
            fits = fits and bool((parts[taken : taken + count] == part).all())
            taken += count
    if not fits or taken != len(epochs):
        raise ClusterError(f"worker {reply.worker} answered with epochs that are not those of {span}")
    return epochs
