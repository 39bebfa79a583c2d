"""Files as canvod-readers reads them: SBF, NMEA, and RINEX 2.11 and 3.0x for who wants it."""

from __future__ import annotations

import logging
import re
import sys
import tempfile
import threading
import warnings
from contextlib import redirect_stdout, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import structlog
from canvod.readers import NmeaObs, Rnxv2Obs, Rnxv3Obs, SbfReader

from canvod.launch.readers.content import Content
from canvod.launch.readers.observations import VARIABLES, Observations, UnreadableFileError, one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    import xarray as xr

_VERSION: Final = re.compile(rb" *(\d)[. ].{11,54}RINEX VERSION / TYPE")
_NMEA: Final = re.compile(rb"\$G[A-Z]{4},")
_lock = threading.Lock()

if not structlog.is_configured():
    # As it comes, structlog writes to stdout, where commands put their results.
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def read(path: str, variables: Sequence[str], /) -> Observations:
    """Read a file with canvod-readers; see `canvod.launch.readers.Reader`.

    What a file is, is told from its content; it may be packed as for our own reader. What canvod-readers
    refuses is refused with its reason, and what it warns of is in the notes.
    """
    with tempfile.TemporaryDirectory(prefix="canvod-launch-") as scratch:
        # canvod-readers opens files by name, and takes RINEX files of certain names only.
        copy, content = Path(scratch, "observations.rnx"), Content(path)
        with copy.open("wb") as plain:
            for block in content.blocks():
                plain.write(block)
        with copy.open("rb") as plain:
            start = plain.read(2**16)
        # The streams and the warnings that are caught are those of the whole process.
        with _lock, redirect_stdout(sys.stderr), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                dataset, station = _dataset(copy, start, variables)
            except (MemoryError, OSError, UnreadableFileError):
                raise
            except Exception as exc:
                raise UnreadableFileError(f"canvod-readers: {_reason(exc)}") from exc
    notes = dict.fromkeys(one_line(str(warning.message)) for warning in caught)
    return _observations(dataset, variables, station, list(notes), content.digest)


def _dataset(path: Path, start: bytes, variables: Sequence[str]) -> tuple[xr.Dataset, str]:
    """Return what canvod-readers gives, and the station."""
    reader: Any
    station = ""
    if version := _VERSION.match(start):
        # A file with a gap, or with a single epoch, is stored with what it has.
        reader = Rnxv2Obs(fpath=path) if version[1] == b"2" else Rnxv3Obs(fpath=path, completeness_mode="off")
        station = reader.header.marker_name or ""
    elif b"$@" in start:
        reader = SbfReader(fpath=path)
        with suppress(LookupError):
            station = reader.header.marker_name
    elif _NMEA.search(start):
        reader = NmeaObs(fpath=path)
        if "SNR" not in variables:
            raise UnreadableFileError(f"NMEA has SNR, and none of {', '.join(variables)}")
        variables = ["SNR"]
    else:
        raise UnreadableFileError("neither RINEX 2 or 3, SBF nor NMEA")
    return reader.to_ds(keep_data_vars=list(variables), pad_global_sid=False), station.strip()


def _reason(exc: Exception) -> str:
    """One line for an exception; of a list of pydantic's the first."""
    errors = getattr(exc, "errors", None)
    text = str(errors()[0].get("msg", exc)).removeprefix("Value error, ") if callable(errors) else str(exc)
    return one_line(text) or type(exc).__name__


def _observations(
    dataset: xr.Dataset, variables: Sequence[str], station: str, notes: list[str], digest: str
) -> Observations:
    """Sort epochs and signals, and leave out what was not observed."""
    times = dataset["epoch"].values.astype("datetime64[ns]").astype(np.int64)
    epoch, first = np.unique(times, return_index=True)
    if repeated := len(times) - len(epoch):
        notes.append(f"left out {repeated} repeated epochs; the first of each is kept")
    if not len(times):
        raise UnreadableFileError("canvod-readers finds no epochs")
    names = [str(sid) for sid in dataset["sid"].values]
    blank = np.full((len(times), len(names)), np.nan)
    values = {name: dataset[name].values if name in dataset else blank for name in variables}
    notes += [f"the file has no {name}" for name in variables if name not in dataset]
    observed = np.zeros(len(names), dtype=bool)
    for array in values.values():
        observed |= np.isfinite(array[first]).any(axis=0)
    kept = sorted((name, i) for i, name in enumerate(names) if observed[i] and "|UnknownBand" not in name)
    if not kept:
        raise UnreadableFileError(f"no signals: none of the {len(epoch)} epochs has {' or '.join(variables)}")
    columns = [i for _, i in kept]
    return Observations(
        epoch=epoch,
        sid=tuple(name for name, _ in kept),
        variables={
            name: np.ascontiguousarray(array[np.ix_(first, columns)], dtype=VARIABLES[name])
            for name, array in values.items()
        },
        station=station,
        notes=tuple(notes),
        digest=digest,
    )
