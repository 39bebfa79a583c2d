"""What the ingest relies on in whatever a reader returns; for the tests of a reader of one's own."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Final

import numpy as np

from canvod.launch.readers import VARIABLES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from canvod.launch.readers import Observations

_NOTE_LENGTH: Final = 400


def assert_valid_observations(observations: Observations, variables: Sequence[str] = ("SNR",)) -> None:
    """Assert that what a reader has returned is as `canvod.launch.readers.Observations` describes it.

    Parameters
    ----------
    observations : Observations
        What it has returned.
    variables : sequence of str
        The variables that it was asked for.

    Raises
    ------
    AssertionError
        If it is not; the message names each rule that is broken.

    Examples
    --------
    >>> assert_valid_observations(read_observations("rosa001a.rnx"))  # doctest: +SKIP
    """
    found = list(_broken_rules(observations, variables))
    if found:
        raise AssertionError("\n  ".join(["the observations are not valid:", *found]))


def _broken_rules(observations: Observations, variables: Sequence[str]) -> Iterator[str]:
    epoch, sid = observations.epoch, observations.sid
    if epoch.dtype != np.int64:
        yield f"epoch: dtype {epoch.dtype}, not int64"
    if not len(epoch) or not sid:
        yield f"{len(epoch)} epochs, {len(sid)} signals, but an UnreadableFileError is due then"
    if backwards := [(a, b) for a, b in pairwise(epoch.tolist()) if a >= b]:
        yield f"epoch: not strictly increasing, {len(backwards)} times; first {backwards[0]}"
    if list(sid) != sorted(set(sid)):
        yield f"sid: not sorted, or some are there twice: {sid}"
    for note in observations.notes:
        if len(note) >= _NOTE_LENGTH or not note.isprintable():
            yield f"notes: longer than {_NOTE_LENGTH} characters, or not printable: {note!r}"
    if list(observations.variables) != list(variables):
        yield f"variables: {list(observations.variables)}, asked for were {list(variables)}"
    yield from _broken_rules_of_values(observations)


def _broken_rules_of_values(observations: Observations) -> Iterator[str]:
    shape = len(observations.epoch), len(observations.sid)
    has_values = np.zeros(shape[1], dtype=bool)
    for name, values in observations.variables.items():
        if values.shape != shape:
            yield f"{name}: shape {values.shape}, not {shape}"
            continue
        if values.dtype != VARIABLES[name]:
            yield f"{name}: dtype {values.dtype}, not {np.dtype(VARIABLES[name])}"
        if zeros := int((values == 0).sum()):
            yield f"{name}: {zeros} values are 0, which means no observation and has to be NaN"
        has_values |= np.isfinite(values).any(axis=0)
    if not has_values.all():
        yield f"sid: without any value: {[observations.sid[i] for i in np.flatnonzero(~has_values)]}"
