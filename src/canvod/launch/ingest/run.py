"""One ingest: observation files into a group of a store, by whatever runs the tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from canvod.launch.errors import InputError
from canvod.launch.ingest.days import DayTable
from canvod.launch.ingest.file_states import FileStates
from canvod.launch.ingest.group import GroupState, check_group_name, check_variables, read_state
from canvod.launch.ingest.progress import IngestProgress
from canvod.launch.ingest.report import IngestReport, format_day, format_files
from canvod.launch.ingest.stations import check_names
from canvod.launch.ingest.store import open_repository, store_exists
from canvod.launch.ingest.stream import Stream, Target
from canvod.launch.paths import absolute

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping, Sequence

    from canvod.launch.config.sections import IngestSettings
    from canvod.launch.ingest.runner import TaskRunner
    from canvod.launch.ingest.store_lock import Owner


def stored_state(path: str, group: str) -> GroupState | None:
    """What a group holds now.

    Parameters
    ----------
    path : str
        Folder of the store, which need not be there.
    group : str
        Path of the group.

    Returns
    -------
    GroupState or None
        None where there is no such group.

    Raises
    ------
    InputError
        If there is no store where other things are, or the group is none of this version.
    StoreError
        If Icechunk cannot open the store.
    """
    return read_state(open_repository(path).reader(), group) if store_exists(path) else None


def ingest(
    files: Sequence[str | os.PathLike[str]],
    store: str | os.PathLike[str],
    group: str,
    *,
    runner: TaskRunner,
    settings: IngestSettings,
    progress: IngestProgress | None = None,
    lock_timeout_s: float | None = None,
    owner: Owner | None = None,
) -> IngestReport:
    """Read observation files on the workers and store them, with a commit as often as the settings say.

    Files that are stored already are known by path, size and time, or by their content. Whatever ends a run,
    what it has committed is whole, and the same call goes on after it.

    Parameters
    ----------
    files : sequence of path
        Observation files, in any order.
    store : path
        Folder of the Icechunk store; made where there is none.
    group : str
        Group of one receiver, such as ``rosalia/reference_01``.
    runner : TaskRunner
        Who reads and writes.
    settings : IngestSettings
        Section ``ingest``: variables, reader, chunks, commits, what is done with changed and failed files.
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
        used, or a stored file has changed and ``on_change`` is ``fail``; nothing has been stored then.
    DependencyError
        If the workers do not have the reader.
    ClusterError, StoreError
        If the cluster, or the store, fails; what was committed before is stored.

    Examples
    --------
    >>> report = ingest(files, "store", "site/canopy", runner=runner, settings=settings)  # doctest: +SKIP
    >>> len(report.stored), report.snapshots  # doctest: +SKIP
    (24, ('2RFJC3S53JKQJGY6H5N0',))
    """
    progress = progress if progress is not None else IngestProgress()
    group = check_group_name(group)
    paths = tuple(dict.fromkeys(str(absolute(file)) for file in files))
    if not paths:
        raise InputError(
            "there are no files to ingest", hint="name observation files, or folders that hold some"
        )
    path = str(absolute(store))
    state = check_group(paths, path, group, settings)
    workers = runner.n_workers
    states = FileStates(paths, progress, runner.explain)
    stream = Stream(
        states,
        Target(path, group, lock_timeout_s, owner),
        state,
        runner=runner,
        settings=settings,
        progress=progress,
    )
    try:
        stream.run()
    except BaseException:
        if stream.snapshots:
            done = sum(outcome.status != "failed" for outcome in states.outcomes.values())
            progress.say(f"{done} of {len(paths)} files are stored or known; the same command goes on")
        raise
    finally:
        progress.close()
    return _report(
        states,
        path,
        group,
        stream.state,
        seconds=dict(stream.seconds),
        snapshots=tuple(stream.snapshots),
        peak_memory_bytes=dict(sorted(stream.peaks.items())),
        workers=workers,
        notices=(*runner.notices, *_differences(stream.state), *_others(states.others)),
    )


def nothing_new(
    paths: Sequence[str], store: str | os.PathLike[str], group: str, settings: IngestSettings
) -> IngestReport | None:
    """Check what can be known of an ingest before anything starts; see `check_group`.

    Returns
    -------
    IngestReport or None
        What became of the files, where the log book of the group knows them all as they are.
    """
    state = check_group(paths, store, group, settings)
    if state is None:
        return None
    states = FileStates(paths, IngestProgress())
    states.choose(state.log, settings)
    return None if states.open else _report(states, str(store), group, state)


def check_group(
    paths: Iterable[str], store: str | os.PathLike[str], group: str, settings: IngestSettings
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
    settings : IngestSettings
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
    state = stored_state(str(store), group)
    check_variables(state, group, settings.variables)
    if not settings.mixed_stations:
        check_names(paths, state.station_names if state is not None else ())
    return state


def _differences(state: GroupState | None) -> list[str]:
    """Say where the files of a group are of several stations, or were read by different readers."""
    if state is None:
        return []
    kinds = (("were read by different readers", state.readers), ("are of different stations", state.stations))
    return [
        f"the files of this group {what}: {', '.join(values)}" for what, values in kinds if len(values) > 1
    ]


def _others(others: Mapping[str, str], most: int = 5) -> list[str]:
    """Say of which files of earlier runs values do not count any more."""
    told = [f"{path}, stored by an earlier run: {reason}" for path, reason in sorted(others.items())]
    more = len(told) - most
    return told[:most] + ([f"the same of {format_files(more)} more; see the log book"] if more > 0 else [])


def _report(
    states: FileStates, store: str, group: str, state: GroupState | None, **of_run: Any
) -> IngestReport:
    days = state.days if state is not None else DayTable.empty()
    ends = [format_day(int(days.day[index])) for index in (0, -1)] if len(days.day) else [None, None]
    return IngestReport(
        store=store,
        group=group,
        files=tuple(states.outcomes[path] for path in states.paths),
        epochs=int(days.epochs.sum()),
        signals=len(state.sid) if state is not None else 0,
        first_day=ends[0],
        last_day=ends[1],
        bytes_read=states.bytes_read,
        bytes_data=states.bytes_data,
        **of_run,
    )
