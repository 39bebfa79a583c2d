"""One ingest: read every file, lay out the axes, write the chunks, commit once."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Protocol

from canvod.launch.errors import DependencyError, InputError, StoreError
from canvod.launch.ingest.file_status import IngestState, Written, file_records, set_outcomes, skip_known
from canvod.launch.ingest.group import (
    FileRecord,
    GroupState,
    append_records,
    check_group_name,
    check_variables,
    item_sizes,
    read_state,
    write_axes,
)
from canvod.launch.ingest.layout import FileAxes, make_batches, make_layout
from canvod.launch.ingest.progress import IngestProgress
from canvod.launch.ingest.report import IngestReport, format_epoch, format_files
from canvod.launch.ingest.stations import check_markers, check_names
from canvod.launch.ingest.store import (
    CommitConflictError,
    Owner,
    create_store,
    open_repository,
    store_exists,
    store_lock,
    store_path,
)
from canvod.launch.logs import get_logger
from canvod.launch.paths import absolute
from canvod.launch.runtime.messages import SourceLostError

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping, Sequence

    from canvod.launch.ingest.runner import TaskRunner

log = get_logger("canvod.launch")

COMMIT_ATTEMPTS = 5
"""How often the layout is made again when a file is lost, or something else has committed, meanwhile."""


class IngestOptions(Protocol):
    """The part of the settings that an ingest needs: section ``ingest``."""

    @property
    def variables(self) -> Sequence[str]:
        """Variables to store."""

    @property
    def reader(self) -> str:
        """Name of a reader that is installed where the files are read, such as ``rinex``."""

    @property
    def mixed_stations(self) -> bool:
        """Whether files of several stations may be stored in one group."""

    @property
    def chunk_epochs(self) -> int | None:
        """Epochs in one chunk; None takes as many as most of the files have."""

    @property
    def compression_level(self) -> int:
        """Level of the zstd compression."""


@dataclass(frozen=True, eq=False)
class _Committed:
    """What the last attempt to write has led to."""

    state_axes: tuple[int, int, int | None, int | None]
    """Epochs, signals, first and last epoch of the group now."""
    snapshot_id: str | None = None
    bytes_stored: int = 0
    notices: tuple[str, ...] = ()


def ingest(
    files: Sequence[str | os.PathLike[str]],
    store: str | os.PathLike[str],
    group: str,
    *,
    runner: TaskRunner,
    settings: IngestOptions,
    progress: IngestProgress | None = None,
    lock_timeout_s: float | None = None,
    owner: Owner | None = None,
) -> IngestReport:
    """Read observation files on the workers and store them in one commit.

    Files that are stored already are known by path, size and time, or by their content, and are not read
    again. A value that the group holds is kept as it is. Until the commit nothing is visible to anyone; a
    run that ends before it has changed nothing, and leaves at most objects that ``canvod-launch store gc``
    removes.

    Parameters
    ----------
    files : sequence of path
        Observation files, in any order.
    store : path
        Folder of the Icechunk store; made where there is none.
    group : str
        Group of one receiver, such as ``rosalia/reference_01``.
    runner : TaskRunner
        `canvod.launch.ingest.runner.DaskRunner` or `canvod.launch.cluster.process_pool.PoolRunner`.
    settings : IngestSettings
        Variables, reader, chunks and compression.
    progress : IngestProgress, optional
        Shows how far it is; nothing by default.
    lock_timeout_s : float, optional
        How long to wait while another process writes to the store; by default as long as it takes.
    owner : tuple of int, optional
        uid and gid of what is made, where the workers are another user than this process.

    Returns
    -------
    IngestReport
        What became of every file.

    Raises
    ------
    InputError
        If there are no files, or these are of several stations by their names, or store or group cannot be
        used; nothing has been read then.
    DependencyError
        If the workers do not have the reader.
    ClusterError, StoreError
        If the cluster, or the store, fails; nothing was committed.

    Examples
    --------
    >>> report = ingest(files, "store", "site/canopy", runner=runner, settings=settings)  # doctest: +SKIP
    >>> len(report.stored), report.snapshot_id  # doctest: +SKIP
    (24, '2RFJC3S53JKQJGY6H5N0')
    """
    progress = progress if progress is not None else IngestProgress()
    group = check_group_name(group)
    path = str(store_path(store))
    run = IngestState(tuple(dict.fromkeys(str(absolute(file)) for file in files)))
    if not run.paths:
        raise InputError(
            "there are no files to ingest", hint="name observation files, or folders that hold some"
        )
    state = check_group(run.paths, path, group, settings)
    workers = runner.n_workers
    try:
        skip_known(run, state.records if state is not None else ())
        committed = _Committed(_extent(state))
        if run.read:
            run.reader = settings.reader
            if problem := runner.reader_problem(settings.reader):
                raise DependencyError(
                    f"the workers cannot read with ingest.reader {settings.reader!r}: {problem}",
                    hint="install it where the workers run, or write ingest.reader: rinex",
                )
            progress.watch(runner.memory)
            with run.timed("read"):
                _read(run, runner, settings, progress)
        if any(summary.failure is None for summary in run.summaries.values()):
            committed = _store(run, path, group, runner, settings, progress, lock_timeout_s, owner)
        peaks = _peak_memory(runner) if run.read else {}
    finally:
        progress.close()
        _release_results(runner)
    return _report(run, path, group, committed, workers, peaks, runner.notices)


def _peak_memory(runner: TaskRunner) -> Mapping[str, int]:
    """Ask for the peaks; that they cannot be had does not fail what is committed."""
    try:
        return runner.peak_memory()
    except Exception:  # noqa: BLE001 - whatever the cluster answers now
        return {}


def _release_results(runner: TaskRunner) -> None:
    """Release what the workers hold; that a cluster is gone does not fail what is committed."""
    try:
        runner.forget()
    except Exception as error:  # noqa: BLE001 - whatever the cluster answers now
        log.warning("results_not_released", reason=f"{type(error).__name__}: {error}")


def check_group(
    paths: Iterable[str], store: str | os.PathLike[str], group: str, settings: IngestOptions
) -> GroupState | None:
    """Refuse files that a group cannot hold, by what is known before they are read.

    Parameters
    ----------
    paths : iterable of str
        The files.
    store : path
        Folder of the store, which need not be there.
    group : str
        Path of the group, which need not be there.
    settings : IngestOptions
        Variables, and whether several stations are wanted.

    Returns
    -------
    GroupState or None
        What the group holds.

    Raises
    ------
    InputError
        If the group has other variables, or files of another station by their names.
    """
    state = _stored_state(str(store), group)
    check_variables(state, group, settings.variables)
    if not settings.mixed_stations:
        check_names(paths, [record.path for record in state.records] if state is not None else ())
    return state


def _stored_state(path: str, group: str) -> GroupState | None:
    return read_state(open_repository(path).reader().store, group) if store_exists(path) else None


def _extent(state: GroupState | None) -> tuple[int, int, int | None, int | None]:
    if state is None or len(state.axes.epoch) == 0:
        return 0, 0, None, None
    epoch = state.axes.epoch
    return len(epoch), len(state.axes.sid), int(epoch[0]), int(epoch[-1])


def _read(run: IngestState, runner: TaskRunner, settings: IngestOptions, progress: IngestProgress) -> None:
    progress.begin("reading", len(run.read), "files")
    names: dict[str, str] = {}
    with closing(runner.read(run.read, run.reader, tuple(settings.variables))) as summaries:
        for number, summary in summaries:
            run.summaries[number] = summary
            if summary.failure is not None:
                run.fail(run.read[number], summary.failure.reason)
                progress.fail(run.read[number], summary.failure.reason)
            else:
                # Thousands of files name the same few hundred signals: one copy of each will do.
                shared = tuple(names.setdefault(name, name) for name in summary.sid)
                run.summaries[number] = replace(summary, sid=shared)
            progress.advance()


def _store(
    run: IngestState,
    path: str,
    group: str,
    runner: TaskRunner,
    settings: IngestOptions,
    progress: IngestProgress,
    lock_timeout_s: float | None,
    owner: Owner | None,
) -> _Committed:
    """Write and commit under the lock; what was read stays with the workers while another process has it."""
    waiting = time.perf_counter()
    with store_lock(path, timeout_s=lock_timeout_s, owner=owner, on_wait=progress.say):
        run.seconds["wait"] = time.perf_counter() - waiting
        for _ in range(COMMIT_ATTEMPTS):
            try:
                return _attempt(run, path, group, runner, settings, progress, owner)
            except SourceLostError as lost:
                run.summaries.pop(lost.source)
                run.fail(run.read[lost.source], lost.reason)
                progress.fail(run.read[lost.source], f"{lost.reason}; the others are written again")
            except CommitConflictError:
                progress.say(
                    "another program has committed to the same group meanwhile; writing again on top of it"
                )
    raise StoreError(
        f"{path}: in {COMMIT_ATTEMPTS} attempts either files changed or another program committed to group "
        f"{group!r}; nothing was committed",
        hint="run the same command again when nothing else writes to these files and this store",
    )


def _attempt(
    run: IngestState,
    path: str,
    group: str,
    runner: TaskRunner,
    settings: IngestOptions,
    progress: IngestProgress,
    owner: Owner | None,
) -> _Committed:
    good = {number: summary for number, summary in run.summaries.items() if summary.failure is None}
    state = _stored_state(path, group)  # again: another run may have committed while this one was reading
    check_variables(state, group, settings.variables)
    if not settings.mixed_stations:
        others = check_markers(
            good, [record.station for record in state.records] if state is not None else ()
        )
        for number, reason in others.items():
            del good[number], run.summaries[number]
            run.fail(run.read[number], reason)
            progress.fail(run.read[number], reason)
        if not good:
            return _Committed(_extent(state))
    sizes = state.variables if state is not None else item_sizes(settings.variables)
    layout = make_layout(
        [FileAxes(number, run.read[number], summary.epoch, summary.sid) for number, summary in good.items()],
        state.axes if state is not None else None,
        chunk_epochs=settings.chunk_epochs,
        itemsize=max(sizes.values()),
    )
    store = create_store(path, owner=owner)
    before = store.disk_bytes()
    with run.timed("write"):
        session = store.writer()
        attributes = _attributes(group)
        write_axes(
            session.store,
            group,
            layout,
            state,
            variables=tuple(settings.variables),
            compression_level=settings.compression_level,
            attributes=attributes,
        )
        digests = {number: summary.digest for number, summary in good.items()}
        batches = make_batches(
            layout, group=group, variables=sizes, digests=digests, n_workers=runner.n_workers
        )
        progress.begin("writing", len(layout.chunks), "chunks")
        forks, written = [], Written()
        with closing(runner.write(store.fork(session), batches)) as results:
            for result in results:
                forks.append(result.fork)
                written.add(result)
                progress.advance(result.chunks)
    set_outcomes(run, good, layout, written, state)
    stored, n_files = written.stored.total(), len(+written.stored)
    if not stored:
        return _Committed(_extent(state))
    with run.timed("commit"):
        progress.begin("commit", 1, "commits")
        store.merge(session, forks)
        records = file_records(run, good, written)
        append_records(session.store, group, records)
        snapshot_id = store.commit(
            session,
            f"Ingest {format_files(n_files)} into {group}: {stored} epochs",
            {
                "group": group,
                "files": n_files,
                "epochs": stored,
                "first_epoch_gps": format_epoch(int(layout.epoch[0])),
                "last_epoch_gps": format_epoch(int(layout.epoch[-1])),
                "variables": list(sizes),
                "reader": run.reader,
                "software": _software(),
            },
        )
        progress.advance()
    extent = len(layout.epoch), len(layout.sid), int(layout.epoch[0]), int(layout.epoch[-1])
    notices = _differences([*(state.records if state is not None else ()), *records])
    if state is not None and settings.chunk_epochs not in (None, layout.chunk_epochs):
        notices.append(
            f"ingest.chunk_epochs is {settings.chunk_epochs}; the group keeps the {layout.chunk_epochs} "
            "epochs a chunk that it was made with"
        )
    return _Committed(extent, snapshot_id, store.disk_bytes() - before, tuple(notices))


def _differences(records: Sequence[FileRecord]) -> list[str]:
    """What is not alike in all files of a group: readers, stations."""
    found = []
    for what, of, values in (
        ("were read by different readers", "by", [record.reader for record in records]),
        ("are of different stations", "of", [record.station for record in records]),
    ):
        counts = Counter(filter(None, values))
        if len(counts) > 1:
            told = ", ".join(f"{format_files(count)} {of} {name}" for name, count in counts.most_common())
            found.append(f"the files of this group {what}: {told}")
    return found


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


def _report(
    run: IngestState,
    path: str,
    group: str,
    committed: _Committed,
    workers: int,
    peaks: Mapping[str, int],
    notices: Sequence[str],
) -> IngestReport:
    epochs, signals, first, last = committed.state_axes
    summaries = run.summaries.values()
    return IngestReport(
        store=path,
        group=group,
        reader=run.reader,
        files=tuple(run.outcomes[file] for file in run.paths),
        epochs=epochs,
        signals=signals,
        first_epoch=first,
        last_epoch=last,
        bytes_read=sum(summary.size_bytes for summary in summaries),
        bytes_data=sum(summary.data_bytes for summary in summaries),
        bytes_stored=committed.bytes_stored,
        seconds_read=run.seconds.get("read", 0.0),
        seconds_wait=run.seconds.get("wait", 0.0),
        seconds_write=run.seconds.get("write", 0.0),
        seconds_commit=run.seconds.get("commit", 0.0),
        snapshot_id=committed.snapshot_id,
        peak_memory_bytes=dict(peaks),
        workers=workers,
        notices=(*notices, *committed.notices),
    )
