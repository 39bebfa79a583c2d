"""The stream of an ingest: units are made while earlier ones are written, in bounded memory, oldest first."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from canvod.launch.errors import ClusterError, LaunchError, StoreError
from canvod.launch.ingest.answers import UNIT_REPLY, check_reply, decoded, real_epochs
from canvod.launch.ingest.claims import check_reader, choose_new_group, claimed_times, settle_changed
from canvod.launch.ingest.commit import TASK_ATTEMPTS, MadeUnit, NewGroup, UnitLostError, commit
from canvod.launch.ingest.group import GroupState, check_variables, item_sizes, read_state
from canvod.launch.ingest.log_book import LogBook
from canvod.launch.ingest.report import format_epoch
from canvod.launch.ingest.runner import Task, TaskDiedError
from canvod.launch.ingest.stations import check_markers
from canvod.launch.ingest.store import CommitConflictError, create_store, open_repository, translated
from canvod.launch.ingest.store_lock import Owner, store_lock
from canvod.launch.ingest.units import Unit, make_units
from canvod.launch.paths import absolute
from canvod.launch.runtime.messages import FileSummary, RecordedFile, StoredRows, UnitReply, UnitRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from canvod.launch.config.sections import IngestSettings
    from canvod.launch.ingest.file_states import FileStates
    from canvod.launch.ingest.progress import IngestProgress
    from canvod.launch.ingest.runner import TaskRunner
    from canvod.launch.ingest.units import Interval

COMMIT_ATTEMPTS = 5
"""How often a commit is made again when something else has committed to the group meanwhile."""
MADE_SHARE = 0.25
"""Share of the workers' memory that units may take while they are made."""
MADE_BYTES = 2**30
"""The same where workers have no limit."""
WAITING_BYTES = 2**31
"""What units may take on the workers' disk until they are written."""
WAITING_FILES = 2000
"""Files of such units, which the launcher and the workers have to remember until then."""
FIRST_FILES = 250
"""The same of the first commit: a store that cannot be written is to show early."""
USUAL_SIGNALS = 128
"""Signals of a unit, as long as the group does not tell."""


@dataclass(frozen=True)
class Target:
    """Where an ingest stores what it reads.

    Attributes
    ----------
    store : str
        Folder of the store.
    group : str
        Path of the group.
    lock_timeout_s : float or None
        Seconds to wait for another writer; None for as long as it takes.
    owner : tuple of int or None
        uid and gid of what is made, where the workers are another user than this process.
    """

    store: str
    group: str
    lock_timeout_s: float | None = None
    owner: Owner | None = None


class Stream:
    """Makes and commits the units of the files of one run.

    Parameters
    ----------
    files : FileStates
        The files.
    target : Target
        Where the data go.
    state : GroupState or None
        The group as it is; None where there is none.
    runner : TaskRunner
        Who reads and writes.
    settings : IngestSettings
        Section ``ingest``.
    progress : IngestProgress
        Is told how far it is.

    Attributes
    ----------
    state : GroupState or None
        The group after the last commit; None where there is none yet.
    seconds : dict of str to float
        Time for all (``total``), to wait for another writer (``wait``), and to write and commit (``commit``).
    peaks : dict of str to int
        The most memory in bytes that was seen of each worker.
    snapshots : list of str
        The commits, the oldest first.
    """

    def __init__(
        self,
        files: FileStates,
        target: Target,
        state: GroupState | None,
        *,
        runner: TaskRunner,
        settings: IngestSettings,
        progress: IngestProgress,
    ) -> None:
        self._files, self._target, self.state = files, target, state
        self._runner, self._settings, self._progress = runner, settings, progress
        self._new = NewGroup((1, 1), 1)
        self._queue: list[Unit] = []
        self._window: dict[Task, Unit] = {}
        self._made: list[MadeUnit] = []
        self._attempts: Counter[tuple[int, int]] = Counter()
        self._days: set[int] = set()
        self._last_commit = time.monotonic()
        self.seconds = dict.fromkeys(("total", "wait", "commit"), 0.0)
        self.peaks: dict[str, int] = {}
        self.snapshots: list[str] = []

    def run(self) -> None:
        """Read and store all files; what was read when a signal ends it is committed.

        Raises
        ------
        InputError
            If a file has changed since it was stored, and ``on_change`` is ``fail``.
        DependencyError
            If the workers do not have the reader.
        ClusterError, StoreError
            If the cluster, or the store, fails; what was committed before is stored.
        """
        started = time.perf_counter()
        changed = self._files.choose(self._log, self._settings)
        settle_changed(changed, self._files, self._runner, self._settings, self._target.group)
        try:
            if self._files.open:
                self._run()
        except (KeyboardInterrupt, SystemExit):
            if self._made:
                with suppress(LaunchError):
                    self._commit(lock_timeout_s=0)
            raise
        finally:
            self.seconds["total"] += time.perf_counter() - started
            self._release([*self._window, *(made.task for made in self._made)])

    def _run(self) -> None:
        files = self._files
        self._progress.watch(self._memory, self._runner.memory_limit_bytes)
        check_reader(self._runner, self._settings.reader)
        self._progress.begin(len(files.open))
        claims = claimed_times(files, self._runner, self._settings)
        if self.state is None:
            self._new = choose_new_group(sorted(claims), self._runner, self._settings)
        self._enqueue(claims)
        while self._queue or self._window or self._made or files.late or self._unrecorded:
            self._submit()
            for task in self._runner.wait(self._window) if self._window else ():
                if task in self._window:
                    self._take(task, self._window.pop(task))
            if self._is_due():
                self._commit()
                with suppress(Exception):  # whatever the cluster answers now
                    self._memory()
            if files.late and not (self._queue or self._window or self._made):
                late, files.late = files.late, {}
                self._enqueue(late)

    @property
    def _log(self) -> LogBook:
        return self.state.log if self.state is not None else LogBook(None)

    # What is made.

    @property
    def _rows(self) -> int:
        return self.state.rows if self.state is not None else self._new.chunk[0]

    def _parts(self, day: int) -> int:
        if self.state is None:
            return self._new.parts
        return self.state.days.parts_of(day) or self.state.parts

    def _enqueue(self, claims: Mapping[str, Iterable[Interval]]) -> None:
        units = make_units(
            {path: claim for path, claim in claims.items() if path in self._files.open}, self._parts
        )
        self._queue += units
        self._days.update(unit.span.day for unit in units)
        self._tell_days()
        for unit in units:
            for path in unit.files:
                self._files.open[path].open_units += 1

    def _tell_days(self) -> None:
        """Tell how many days are stored, as far as is known."""
        open_units = (
            *self._queue,
            *self._window.values(),
            *(m.unit for m in self._made),
        )
        self._progress.days(len(self._days - {unit.span.day for unit in open_units}), len(self._days))

    def _unit_bytes(self, units: Iterable[Unit]) -> int:
        signals = len(self.state.sid) if self.state is not None and self.state.sid else USUAL_SIGNALS
        width = sum(item_sizes(self._settings.variables).values())
        return sum((unit.span.stop - unit.span.first) * self._rows * signals * width for unit in units)

    def _budget(self) -> int:
        """Bytes that units may take while they are made."""
        limit = self._runner.memory_limit_bytes
        return int(MADE_SHARE * limit * self._runner.n_workers) if limit is not None else MADE_BYTES

    def _submit(self) -> None:
        """Start units as long as there is room for what they will hold."""
        budget, fewest = self._budget(), 2 * self._runner.n_workers
        held = self._unit_bytes(self._window.values())
        while self._queue and (
            len(self._window) < fewest or (held < budget and len(self._window) < 4 * fewest)
        ):
            unit = self._queue.pop(0)
            unit.files = [path for path in unit.files if path in self._files.open]
            if not unit.files:  # another unit has told that they cannot be read
                continue
            held += self._unit_bytes([unit])
            request = UnitRequest(
                span=unit.span,
                rows=self._rows,
                files=tuple(unit.files),
                stored=self._stored_rows(unit),
                reader=self._settings.reader,
                variables=tuple(self._settings.variables),
                alone=unit.alone,
                memory_limit_bytes=self._runner.memory_limit_bytes,
            )
            self._window[self._runner.make(request)] = unit

    def _stored_rows(self, unit: Unit) -> StoredRows | None:
        state, span = self.state, unit.span
        parts = state.days.parts_of(span.day) if state is not None else None
        if state is None or parts is None:
            return None
        whole = replace(span, parts=parts, first=0, stop=parts) if parts != span.parts else span
        start = state.days.first_row(whole, state.rows)
        files = [(path, self._files.open[path]) for path in unit.files]
        recorded = [
            RecordedFile(record.path, record.digest)
            for record in state.log.within(span.start_ns, span.stop_ns - 1)
            if record.path not in unit.files
        ]
        cleared = [
            (path, file.record.first_epoch, file.record.last_epoch)
            for path, file in files
            if file.replaces and file.record is not None
        ]
        return StoredRows(
            self._target.store,
            state.snapshot,
            self._target.group,
            start,
            start + (whole.stop - whole.first) * state.rows,
            parts,
            tuple(recorded),
            tuple(cleared),
        )

    def _memory(self) -> dict[str, int]:
        used = self._runner.memory()
        for name, value in used.items():
            self._note_peak(name, value)
        return used

    # What comes back.

    def _take(self, task: Task, unit: Unit) -> None:
        """Take a unit that was made."""
        try:
            reply, rest = decoded(UNIT_REPLY, self._runner.answer(task))
        except TaskDiedError as died:
            self._release([task])
            self._again_alone(unit, died)
            return
        self._note_peak(reply.worker, reply.peak_memory_bytes)
        check_reply(reply, unit.span, self._rows, unit.files)
        if reply.problem or reply.parts_needed or reply.not_replaced:
            self._release([task])
            self._take_unmade(unit, reply)
            return
        self._made.append(MadeUnit(unit, task, reply, real_epochs(unit.span, reply, rest)))
        fails = self._files.take(reply.files)
        self._drop_ended(self._made[:] if fails else self._made[-1:])

    def _drop_ended(self, units: Iterable[MadeUnit]) -> None:
        """Make units again without the files that can no longer be read, or replaced, for another unit."""
        for made in units:
            if any(file.failure is None and file.path not in self._files.open for file in made.reply.files):
                self._drop(made)

    def _take_unmade(self, unit: Unit, reply: UnitReply) -> None:
        """Have a unit made again, in another way."""
        if reply.parts_needed:
            self._widen(unit, reply.parts_needed)
            return
        for file in reply.files if reply.not_replaced else ():
            known = self._files.open.get(file.path)
            if file.failure is not None:
                self._files.fail(file)
            elif known is not None and known.replaces:
                reason = f"has changed, and what it gave cannot be taken out: {reply.not_replaced}"
                self._files.fail(FileSummary(file.path, failure="error", reason=reason))
        self._drop_ended(self._made[:])
        self._again(unit)
        if reply.problem and not self._made:
            raise ClusterError(
                f"worker {reply.worker} cannot keep what it has read: {reply.problem}",
                hint="make room there, or name another folder as launch.spill_dir; the same command goes on",
            )
        if reply.problem:
            self._commit()  # makes room

    def _note_peak(self, worker: str, peak: int) -> None:
        self.peaks[worker] = max(self.peaks.get(worker, 0), peak)

    def _release(self, units: Iterable[Task]) -> None:
        """Release units; that a cluster is gone does not fail what is committed."""
        for task in units:
            with suppress(Exception):  # whatever the cluster answers now
                self._runner.release(task)

    def _again(self, unit: Unit, *, alone: bool = False) -> None:
        """Make a unit again, of those of its files that have not failed."""
        files = [path for path in unit.files if path in self._files.open]
        if files:
            self._queue.insert(0, Unit(unit.span, files, alone=alone or unit.alone))

    def _again_alone(self, unit: Unit, died: TaskDiedError) -> None:
        key = unit.span.day, unit.span.first
        self._attempts[key] += 1
        if self._attempts[key] > TASK_ATTEMPTS:
            raise died.repeatedly(f"read the files of {format_epoch(unit.span.start_ns)}") from died
        self._again(unit, alone=True)
        if self.state is not None:  # its snapshot may have been removed, which no worker can read then
            store = open_repository(self._target.store)
            self._follow(read_state(store.reader(), self._target.group))

    def _widen(self, unit: Unit, parts: int) -> None:
        """Make a whole day anew in more parts, with all that is on the way of it."""
        same = [unit, *self._taken_out(lambda other: other.span.day == unit.span.day)]
        files = list(
            dict.fromkeys(path for other in same for path in other.files if path in self._files.open)
        )
        for path in files:
            self._files.open[path].open_units -= sum(path in other.files for other in same) - 1
        span = replace(unit.span, parts=parts, first=0, stop=parts)
        self._queue.insert(0, Unit(span, files, alone=any(other.alone for other in same)))

    def _taken_out(self, chosen: Callable[[Unit], bool]) -> list[Unit]:
        """Take units out of what waits, what is being made, and what was made."""
        units = [unit for unit in self._queue if chosen(unit)]
        self._queue = [unit for unit in self._queue if not chosen(unit)]
        for task in [task for task, unit in self._window.items() if chosen(unit)]:
            units.append(self._window.pop(task))
            self._release([task])
        for made in [made for made in self._made if chosen(made.unit)]:
            units.append(made.unit)
            self._release([made.task])
            self._made.remove(made)
        return units

    # What is committed.

    @property
    def _unrecorded(self) -> bool:
        """Whether there are failures that the log book of a group is to have."""
        return bool(self._files.failed) and self.state is not None

    def _is_due(self) -> bool:
        """Whether it is time to commit what was made."""
        if not self._queue and not self._window:
            return bool(self._made) or self._unrecorded
        if not self._made:
            return False
        every, unit = self._settings.commit_every.split()
        if unit.startswith("day"):
            done = len({made.unit.span.day for made in self._made})
        else:
            done = int((time.monotonic() - self._last_commit) / 60)
        units = [made.unit for made in self._made]
        too_many = sum(len(unit.files) for unit in units) >= (
            WAITING_FILES if self.snapshots else FIRST_FILES
        )
        return done >= int(every) or too_many or self._unit_bytes(units) > WAITING_BYTES

    def _commit(self, lock_timeout_s: float | None = None) -> None:
        """Write and commit what was made, under the lock."""
        waiting = time.perf_counter()
        with store_lock(
            self._target.store,
            timeout_s=self._target.lock_timeout_s if lock_timeout_s is None else lock_timeout_s,
            owner=self._target.owner,
            on_wait=self._progress.say,
        ):
            started = time.perf_counter()
            self.seconds["wait"] += started - waiting
            for _ in range(COMMIT_ATTEMPTS):
                try:
                    with translated(absolute(self._target.store), "writing to the group"):
                        self._attempt()
                except UnitLostError as lost:
                    self._drop(lost.unit)
                except CommitConflictError:
                    self._progress.say("another program has committed meanwhile; writing again on top of it")
                else:
                    break
            else:
                raise StoreError(
                    f"{self._target.store}: in {COMMIT_ATTEMPTS} attempts either files changed or another "
                    f"program committed to group {self._target.group!r} first",
                    hint="run the same command again when nothing else writes to this store",
                )
            self.seconds["commit"] += time.perf_counter() - started
        self._last_commit = time.monotonic()
        self._tell_days()

    def _attempt(self) -> None:
        store = create_store(self._target.store, owner=self._target.owner)
        session = store.writer()
        state = read_state(session, self._target.group)
        check_variables(state, self._target.group, self._settings.variables)
        self._follow(state)
        self._drop_other_stations(state)
        tallies = self._files.tallies((made.unit.span, made.reply) for made in self._made)
        of_made = self._files.records(tallies, self._log)
        displaced = self._files.displaced((made.reply for made in self._made), self._log)
        self._files.forget_failed(self._log)
        records = [*self._files.failed, *displaced, *of_made]
        made = self._made
        # A group is made for values: files that give none are not recorded where there is no group yet.
        if any(made.changes for made in self._made) or (records and state is not None):
            snapshot = commit(
                store,
                session,
                self._target.group,
                self._new if state is None else state,
                made=self._made,
                records=records,
                runner=self._runner,
                settings=self._settings,
            )
            # A signal from here on must not have it committed again.
            self._made = []
            self.snapshots.append(snapshot)
            self._files.failed = []
            self._files.note_displaced(displaced)
            self.state = read_state(store.reader(), self._target.group)
        self._files.committed(tallies, of_made)
        self._made = []
        self._release(unit.task for unit in made)

    def _follow(self, state: GroupState | None) -> None:
        """Take the group as it is now; of days that another run has changed, units are made anew."""
        seen, rows = self.state.revision if self.state is not None else 0, self._rows
        self.state = state
        if state is None or state.revision == seen:
            return
        self._files.follow(state.log)
        self._drop_ended(self._made[:])
        changed = set(state.days.day[state.days.revision > seen].tolist())
        # Another run may also have made the group, or given it other chunks: no unit fits then.
        stale = self._taken_out(
            lambda unit: rows != state.rows or unit.span.parts < state.parts or unit.span.day in changed
        )
        claims: dict[str, list[Interval]] = {}
        for unit in stale:
            for path in unit.files:
                if path in self._files.open:
                    self._files.open[path].open_units -= 1
                    claims.setdefault(path, []).append((unit.span.start_ns, unit.span.stop_ns - 1))
        self._enqueue(claims)
        alone = {path for unit in stale if unit.alone for path in unit.files}
        for unit in self._queue:
            unit.alone = unit.alone or not alone.isdisjoint(unit.files)

    def _drop(self, made: MadeUnit) -> None:
        self._made.remove(made)
        self._release([made.task])
        self._again(made.unit)

    def _drop_other_stations(self, state: GroupState | None) -> None:
        """Fail the files of other stations than the group's, and make their units again without them."""
        if self._settings.mixed_stations:
            return
        good = {file.path: file for made in self._made for file in made.reply.files if file.failure is None}
        others = check_markers(good, state.stations if state is not None else ())
        for path, reason in others.items():
            self._files.fail(replace(good[path], failure="station", reason=reason))
        self._drop_ended(self._made[:])
