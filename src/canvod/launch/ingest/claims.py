"""What is known of files before they are read: whether they have changed, and when they claim to begin."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from canvod.launch.errors import ClusterError, DependencyError, InputError
from canvod.launch.ingest.answers import DIGESTS, SUMMARIES, TIMES, claimed, decoded, has_real_days
from canvod.launch.ingest.commit import NewGroup
from canvod.launch.ingest.days import choose_chunk, usual_interval, usual_parts
from canvod.launch.ingest.discover import describe
from canvod.launch.ingest.file_states import known_outcome
from canvod.launch.ingest.group import item_sizes
from canvod.launch.ingest.report import FileOutcome
from canvod.launch.ingest.runner import Task, TaskDiedError
from canvod.launch.readers import DEFAULT
from canvod.launch.runtime import file_tasks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from canvod.launch.config.sections import IngestSettings
    from canvod.launch.ingest.file_states import FileStates
    from canvod.launch.ingest.runner import TaskRunner
    from canvod.launch.ingest.units import Interval
    from canvod.launch.runtime.messages import FileSummary

SCANNED_TOGETHER = 16
"""Files in one task that only looks at them."""
SAMPLED = 8
"""Files whose interval decides the chunks of a new group."""


def check_reader(runner: TaskRunner, reader: str) -> None:
    """Refuse a reader that the workers do not have.

    Parameters
    ----------
    runner : TaskRunner
        Who reads.
    reader : str
        Name of the reader.

    Raises
    ------
    DependencyError
        If the workers cannot use it.
    """
    if reader == DEFAULT:  # it comes with the code of the tasks
        return
    if problem := _answers(runner, file_tasks.reader_problem, [(reader,)])[0].decode():
        raise DependencyError(
            f"the workers cannot read with ingest.reader {reader!r}: {problem}",
            hint="install it where the workers run, or write ingest.reader: rinex",
        )


def settle_changed(
    paths: Sequence[str], files: FileStates, runner: TaskRunner, settings: IngestSettings, group: str
) -> None:
    """Decide about stored files whose size or time has changed: their content tells.

    Parameters
    ----------
    paths : sequence of str
        The files.
    files : FileStates
        Is told what becomes of them.
    runner : TaskRunner
        Who reads.
    settings : IngestSettings
        ``on_change``.
    group : str
        Path of the group, for the message.

    Raises
    ------
    InputError
        If the content of one has changed, and ``on_change`` is ``fail``.
    ClusterError
        If the cluster fails.
    """
    for answer in _answers(runner, file_tasks.digests, ((part,) for part in _portions(paths))):
        for path, digest in decoded(DIGESTS, answer)[0].items():
            file = files.open.get(path)
            if file is None:
                raise ClusterError(f"a worker answered for {path}, which it was not asked for")
            if digest and file.record is not None and digest == file.record.digest:
                if file.record.status == "begun":
                    file.digest = digest
                    continue
                files.settle(known_outcome(file.record, "stored already, with the same content"))
            elif settings.on_change == "replace":
                file.replaces = True
            elif settings.on_change == "skip":
                told = "has changed since it was stored, and what it gave stays (ingest.on_change: skip)"
                files.settle(FileOutcome(path, "failed", told))
            else:
                raise InputError(
                    f"{path} has changed since it was stored in group {group!r}",
                    hint="--on-change replace takes the new content in place of what it gave, "
                    "--on-change skip leaves what is stored",
                )


def claimed_times(
    files: FileStates, runner: TaskRunner, settings: IngestSettings
) -> dict[str, list[Interval]]:
    """When each file has epochs, by its name, else by its header; a file of which neither tells is read.

    Parameters
    ----------
    files : FileStates
        The files; those that are read and give no data fail.
    runner : TaskRunner
        Who reads.
    settings : IngestSettings
        Reader and variables.

    Returns
    -------
    dict of str to list of (int, int)
        By path: first and last nanosecond of each interval, with those that a file gave before it changed.

    Raises
    ------
    ClusterError
        If the cluster fails.
    """
    claims: dict[str, list[Interval]] = {}
    undated: dict[str, None] = {}
    for path, file in files.open.items():
        named = describe(path, 0)
        if named.start is not None:
            start = int(named.start.astype("datetime64[ns]").astype(np.int64))
            claims[path] = [claimed(start, start + (named.length_s or 1) * 10**9 - 1)]
        else:
            undated[path] = None
        if file.replaces and file.record is not None:
            claims.setdefault(path, []).append((file.record.first_epoch, file.record.last_epoch))
    if settings.reader == DEFAULT:
        # A header that a worker dies of is left to whoever reads the file.
        parts = ((part,) for part in _portions([*undated]))
        for answer in _answers(runner, file_tasks.header_times, parts, of_the_dead=b"{}"):
            for path, ends in decoded(TIMES, answer)[0].items():
                if path in undated:
                    del undated[path]
                    claims.setdefault(path, []).append(claimed(*ends))
    for summary in _scanned([*undated], runner, settings):
        if summary.failure is not None:
            files.fail(summary)
        else:
            claims.setdefault(summary.path, []).extend((first, last) for _, first, last in summary.days)
    return claims


def choose_new_group(paths: Sequence[str], runner: TaskRunner, settings: IngestSettings) -> NewGroup:
    """Choose the chunks of a new group, by the usual interval of some of its files.

    Parameters
    ----------
    paths : sequence of str
        The files, in any order that has nothing to do with their intervals.
    runner : TaskRunner
        Who reads.
    settings : IngestSettings
        Variables, reader, and the chunks where they are set.

    Returns
    -------
    NewGroup
        Chunks, and parts of a day.

    Raises
    ------
    ClusterError
        If the cluster fails.
    """
    chosen = np.linspace(0, len(paths) - 1, SAMPLED, dtype=int).tolist() if paths else []
    sampled = _scanned([paths[index] for index in dict.fromkeys(chosen)], runner, settings, together=1)
    interval = usual_interval(summary.interval_ns for summary in sampled if summary.interval_ns)
    chunk = settings.chunk or choose_chunk(interval, max(item_sizes(settings.variables).values()))
    return NewGroup(chunk, usual_parts(interval, chunk[0]))


def _answers(
    runner: TaskRunner,
    function: Callable[..., bytes],
    calls: Iterable[tuple[object, ...]],
    of_the_dead: bytes | None = None,
) -> list[bytes]:
    """Answers of small tasks, as they come, with one for those that workers died of."""
    waiting, answers = {runner.call(function, *arguments) for arguments in calls}, []
    while waiting:
        for task in runner.wait(waiting):
            waiting.remove(task)
            try:
                answers.append(runner.answer(task))
            except TaskDiedError as died:
                if of_the_dead is None:
                    raise died.repeatedly("had not yet read a file") from died
                answers.append(of_the_dead)
    return answers


def _scanned(
    paths: Sequence[str], runner: TaskRunner, settings: IngestSettings, together: int = SCANNED_TOGETHER
) -> Iterator[FileSummary]:
    """Read files for their summaries, so many in a task."""
    options = settings.reader, tuple(settings.variables)

    def start(part: tuple[str, ...], *, alone: bool) -> None:
        waiting[runner.call(file_tasks.scan_files, part, *options, alone, runner.memory_limit_bytes)] = (
            part,
            alone,
        )

    waiting: dict[Task, tuple[tuple[str, ...], bool]] = {}
    for part in _portions(paths, together):
        start(part, alone=False)
    while waiting:
        for task in runner.wait(waiting):
            part, alone = waiting.pop(task)
            try:
                summaries, _ = decoded(SUMMARIES, runner.answer(task))
            except TaskDiedError as died:
                if alone:
                    raise died.repeatedly(f"looked into {part[0]} and others") from died
                start(part, alone=True)
            else:
                if tuple(file.path for file in summaries) != part or not all(map(has_real_days, summaries)):
                    raise ClusterError(
                        f"a worker answered with files or days that cannot be those of {part[0]} and others",
                        hint="see that all workers run the code of this launcher",
                    )
                yield from summaries


def _portions(paths: Sequence[str], size: int = SCANNED_TOGETHER) -> list[tuple[str, ...]]:
    return [tuple(paths[at : at + size]) for at in range(0, len(paths), size)]
