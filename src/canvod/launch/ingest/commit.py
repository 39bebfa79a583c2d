"""One commit of an ingest: make room in the group, have the workers write, and put all into a snapshot."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from canvod.launch.errors import StoreError
from canvod.launch.ingest.answers import WRITE_REPLY, decoded
from canvod.launch.ingest.discover import station_of
from canvod.launch.ingest.group import finish, make_group, place, write_axis
from canvod.launch.ingest.report import format_files
from canvod.launch.ingest.runner import Task, TaskDiedError
from canvod.launch.runtime.messages import WriteRequest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import icechunk

    from canvod.launch.config.sections import IngestSettings
    from canvod.launch.ingest.group import GroupState
    from canvod.launch.ingest.log_book import FileRecord
    from canvod.launch.ingest.runner import TaskRunner
    from canvod.launch.ingest.store import Store
    from canvod.launch.ingest.units import Unit
    from canvod.launch.runtime.blocks import Epochs
    from canvod.launch.runtime.messages import UnitReply

TASK_ATTEMPTS = 3
"""How often a task is given to the cluster again after its workers died."""


@dataclass(eq=False)
class MadeUnit:
    """A unit that was made and waits to be written.

    Attributes
    ----------
    unit : Unit
        What was asked for.
    task : Task
        Who holds its values.
    reply : UnitReply
        What came back.
    epochs : numpy.ndarray
        Shape (n,), int64 nanoseconds: the real epochs of the parts that change.
    """

    unit: Unit
    task: Task
    reply: UnitReply
    epochs: Epochs

    @property
    def changes(self) -> bool:
        """Whether it is not what is stored already."""
        return any(count >= 0 for count in self.reply.epochs)


class UnitLostError(Exception):
    """A unit is not what it was any more, and is to be made again.

    Parameters
    ----------
    unit : MadeUnit
        The unit.
    """

    def __init__(self, unit: MadeUnit) -> None:
        super().__init__(unit)
        self.unit = unit


@dataclass(frozen=True)
class NewGroup:
    """How a group is made that is not there yet.

    Attributes
    ----------
    chunk : tuple of int
        Rows and signals of a chunk.
    parts : int
        Parts that a day has at least.
    """

    chunk: tuple[int, int]
    parts: int


def commit(
    store: Store,
    session: icechunk.Session,
    group: str,
    state: GroupState | NewGroup,
    *,
    made: Sequence[MadeUnit],
    records: Sequence[FileRecord],
    runner: TaskRunner,
    settings: IngestSettings,
) -> str:
    """Write units and rows of the log book, and commit them; hold the lock of the store.

    Parameters
    ----------
    store : Store
        The store.
    session : icechunk.Session
        A writable session that nothing has changed.
    group : str
        Path of the group.
    state : GroupState or NewGroup
        The group as it is in that session, or how it is made.
    made : sequence of MadeUnit
        Units that were made of this state.
    records : sequence of FileRecord
        Rows for the log book.
    runner : TaskRunner
        Who writes.
    settings : IngestSettings
        Section ``ingest``.

    Returns
    -------
    str
        ID of the new snapshot.

    Raises
    ------
    CommitConflictError
        If another program has changed the group meanwhile.
    UnitLostError
        If a file changed after its worker had died; nothing is committed then.
    ClusterError, StoreError
        If workers cannot write; nothing is committed then.
    """
    if isinstance(state, NewGroup):
        state = make_group(
            session,
            group,
            variables=tuple(settings.variables),
            chunk=state.chunk,
            parts=state.parts,
            compression_level=settings.compression_level,
            attributes=_attributes(group),
        )
    changing = [unit for unit in made if unit.changes]
    days, sid = place(
        session,
        group,
        state,
        {unit.unit.span.day: unit.unit.span.parts for unit in changing},
        {name for unit in changing for name in unit.reply.sid},
    )
    position = {name: index for index, name in enumerate(sid)}
    jobs = {}
    for unit in changing:
        span = unit.unit.span
        first = days.first_row(span, state.rows) - span.first * state.rows
        rows = {part: first + part * state.rows for part in range(span.first, span.stop)}
        columns = [position[name] for name in unit.reply.sid]
        jobs[unit] = WriteRequest(group, rows, columns, unit.reply.signature)
    _write(store, session, jobs, runner, state)
    write_axis(
        session, group, state, days, [(unit.unit.span, unit.reply.epochs, unit.epochs) for unit in changing]
    )
    epochs: Counter[int] = Counter()
    for unit in changing:
        epochs[unit.unit.span.day] += len(unit.epochs) - unit.reply.replaced_epochs
    days = days.changed(epochs, state.revision + 1)
    names = (station_of(record.path) or "" for record in records if record.has_values)
    finish(session, group, days, state.revision + 1, records, names)
    counts = Counter(record.status for record in records)
    told = ", ".join(f"{format_files(count)} {status}" for status, count in sorted(counts.items()))
    return store.commit(
        session,
        f"Ingest into {group}: {told or 'parts of files'}",
        {
            "group": group,
            "files": dict(counts),
            "epochs": int(days.epochs.sum()),
            "days": len(days.day),
            "variables": list(settings.variables),
            "reader": settings.reader,
            "software": _software(),
        },
    )


def _write(
    store: Store,
    session: icechunk.Session,
    jobs: Mapping[MadeUnit, WriteRequest],
    runner: TaskRunner,
    state: GroupState,
) -> None:
    """Have the workers write units, each in a fork of its own, and take these into the session."""
    fork = store.fork(session) if jobs else b""
    attempts: Counter[MadeUnit] = Counter()
    waiting = {runner.write(fork, unit.task, request): unit for unit, request in jobs.items()}
    while waiting:
        for task in runner.wait(waiting):
            unit = waiting.pop(task)
            try:
                reply, changed = decoded(WRITE_REPLY, runner.answer(task))
            except TaskDiedError as died:
                attempts[unit] += 1
                if attempts[unit] == TASK_ATTEMPTS:
                    raise died.repeatedly("wrote to the store") from died
                waiting[runner.write(fork, unit.task, jobs[unit])] = unit
                continue
            if reply.lost:
                raise UnitLostError(unit)
            if reply.problem:
                raise StoreError(
                    f"a worker could not write to the store: {reply.problem}",
                    hint="see that the workers may write the folder of the store, and that its disk is not "
                    "full; the same command goes on",
                )
            counts, rows = unit.reply.epochs, jobs[unit].rows.values()
            chunk_rows = {row // state.rows for row, count in zip(rows, counts, strict=True) if count >= 0}
            arrays = {f"/{jobs[unit].group}/{name}": chunk_rows for name in state.variables}
            store.merge(session, changed, sent=fork, chunk_rows=arrays)


def _software() -> dict[str, str]:
    found = {}
    for name in ("canvod-launch", "icechunk", "zarr", "xarray"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _attributes(group: str) -> dict[str, Any]:
    software = " ".join(f"{name}/{number}" for name, number in _software().items())
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "Conventions": "CF-1.11",
        "title": f"GNSS observations of {group}",
        "source": "observation files of a GNSS receiver; the group files says what has read each of them",
        "history": f"{now} made by canvod-launch ingest; every later change is a snapshot of the store",
        "software": software,
    }
