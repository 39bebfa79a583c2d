"""RINEX by canvod-readers, the reference."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
import structlog
from canvod.readers import Rnxv2Obs, Rnxv3Obs

from canvod.launch.runtime.reading import Reading
from canvod.launch.runtime.rinex_screen import screen
from canvod.launch.runtime.rinex_text import file_2, file_3

if TYPE_CHECKING:
    from canvod.launch.runtime.rinex_header import RinexHeader

_REFUSALS: Final = (ValueError, KeyError, IndexError, AttributeError, TypeError)
_NAME: Final = re.compile(r"\.(\d\do|O|rnx)$")

if not structlog.is_configured():
    # As it comes, structlog writes to stdout, where commands put their results. What canvod-readers warns of
    # is told in the notes of each file.
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def read(path: str, header: RinexHeader, variables: Sequence[str], scratch_dir: str) -> Reading:
    """Read a plain RINEX file whose header is ``header``.

    Completeness is not asked for: a file with a gap, or with a single epoch, is stored with what it has.
    The signals that the header makes possible are not padded to all that exist.

    Parameters
    ----------
    path : str
        The file.
    header : RinexHeader
        Its header.
    variables : sequence of str
        Variables to read.
    scratch_dir : str
        An empty folder of the caller's, removed afterwards.

    Returns
    -------
    Reading
    """
    return (_read_2 if header.is_rinex2 else _read_3)(path, header, variables, scratch_dir)


def _read_3(path: str, header: RinexHeader, variables: Sequence[str], scratch_dir: str) -> Reading:
    notes: list[str] = []
    try:
        reader = Rnxv3Obs(fpath=_with_known_name(path, scratch_dir), completeness_mode="off")
        reading = _reading(reader, variables, notes)
    except _REFUSALS as exc:
        # One epoch of a month 13, or a header record that nobody needs, costs it the whole file.
        notes = _without_header(exc)
    else:
        first, last = header.span_ns
        if ((reading.epoch >= first) & (reading.epoch <= last)).all():
            if len(reader.get_epoch_record_batches()) == len(reading.epoch):
                return reading
            return replace(reading, notes=screen(path, header, variables).notes())
    records = screen(path, header, variables)
    notes = records.notes() or notes
    if not records.epochs:
        return _nothing(variables, notes)
    copy = _write(scratch_dir, file_3(header, records.epochs))
    return _reading(Rnxv3Obs(fpath=copy, completeness_mode="off"), variables, notes)


def _read_2(path: str, header: RinexHeader, variables: Sequence[str], scratch_dir: str) -> Reading:
    # canvod-readers does not check RINEX 2.11: after damage it reads on wherever a line looks like an epoch,
    # and it takes satellites of systems that 2.11 does not have for satellites of GPS.
    records = screen(path, header, variables)
    notes = records.notes()
    if not records.epochs:
        return _nothing(variables, notes)
    reading: Reading | None = None
    if not notes:
        try:
            reading = _reading(Rnxv2Obs(fpath=Path(path)), variables, notes)
        except _REFUSALS as exc:
            notes = _without_header(exc)
    if reading is None:
        copy = _write(scratch_dir, file_2(header, records.epochs))
        reading = _reading(Rnxv2Obs(fpath=copy), variables, notes)
    # It cuts seconds to microseconds (5.3 becomes 5.299999), so the times are those of the checks.
    epoch = np.array([each.time_ns for each in records.epochs], dtype=np.int64)
    if len(epoch) != len(reading.epoch):
        raise ValueError(f"canvod-readers finds {len(reading.epoch)} epochs where {len(epoch)} are")
    return replace(reading, epoch=epoch)


def _without_header(exc: Exception) -> list[str]:
    return [f"read without its header, which canvod-readers refuses ({type(exc).__name__})"]


def _nothing(variables: Sequence[str], notes: list[str]) -> Reading:
    empty: dict[str, npt.NDArray[np.floating[Any]]] = {name: np.empty((0, 0)) for name in variables}
    return Reading(np.empty(0, dtype=np.int64), [], empty, notes)


def _reading(reader: Rnxv3Obs | Rnxv2Obs, variables: Sequence[str], notes: list[str]) -> Reading:
    dataset = reader.to_ds(keep_data_vars=list(variables), pad_global_sid=False)
    return Reading(
        epoch=dataset["epoch"].values.astype("datetime64[ns]").astype(np.int64),
        sid=[str(sid) for sid in dataset["sid"].values],
        variables={name: dataset[name].values for name in variables},
        notes=notes,
    )


def _with_known_name(path: str, scratch_dir: str) -> Path:
    """Return the path under a name that canvod-readers accepts."""
    if _NAME.search(path):
        return Path(path)
    link = Path(scratch_dir, "observations.rnx")
    link.symlink_to(Path(path).absolute())
    return link


def _write(scratch_dir: str, text: str) -> Path:
    copy = Path(scratch_dir, "sound.rnx")
    copy.write_text(text, encoding="utf-8")
    return copy
