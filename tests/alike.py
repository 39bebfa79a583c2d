"""Every way by which the reader may come to what a file holds gives the same, bit by bit."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING
from unittest.mock import patch

import numpy as np

from canvod.launch.readers import VARIABLES, Observations, UnreadableFileError, content, read_observations
from canvod.launch.readers.rinex import rinex2, rinex3
from canvod.launch.readers.rinex.records import FEW
from canvod.launch.testing import assert_valid_observations

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

ALL = tuple(VARIABLES)
FIRST_NS = int(np.datetime64("2024-01-01T00:00:00", "ns").astype(np.int64))


def outcome(
    path: Path,
    variables: Sequence[str] = ("SNR",),
    *,
    few: int = FEW,
    block: int = content.BLOCK_BYTES,
) -> Observations | str:
    """Return what the reader makes of a file: observations, or the reason why not.

    Parameters
    ----------
    path : Path
        The file.
    variables : sequence of str
        What to read.
    few : int
        So many records, or more, are read all at once; fewer are read line by line.
    block : int
        Bytes of the file that are read at once.
    """
    with (
        patch.object(rinex2, "FEW", few),
        patch.object(rinex3, "FEW", few),
        patch.object(content, "BLOCK_BYTES", block),
    ):
        try:
            return read_observations(str(path), variables)
        except UnreadableFileError as exc:
            return exc.reason


def difference(one: Observations | str, other: Observations | str) -> str:
    """Say what differs between two outcomes, empty where nothing does."""
    if isinstance(one, str) or isinstance(other, str):
        return "" if one == other else f"{one!r} against {other!r}"
    if one.notes != other.notes:
        return f"notes: {one.notes} against {other.notes}"
    if one.epoch.tolist() != other.epoch.tolist():
        return f"epochs: {one.epoch.tolist()} against {other.epoch.tolist()}"
    if (one.sid, one.station, one.digest) != (other.sid, other.station, other.digest):
        return f"{one.sid, one.station, one.digest} against {other.sid, other.station, other.digest}"
    for name, values in one.variables.items():
        if values.tobytes() != other.variables[name].tobytes():
            return f"{name}: {values} against {other.variables[name]}"
    return ""


def alike(
    path: Path, variables: Sequence[str] = ("SNR",), *, blocks: Sequence[int] = (61, 500)
) -> Observations | str:
    """Assert that a file is read alike all at once, line by line and in small blocks; return how."""
    result = outcome(path, variables)
    if isinstance(result, Observations):
        assert_valid_observations(result, variables)
    else:
        assert "\n" not in result
        assert result
    ways = [{"few": 1}, {"few": sys.maxsize}]
    ways += [{"block": block} | few for block in blocks for few in ({}, {"few": 1})]
    differences = {str(way): difference(result, outcome(path, variables, **way)) for way in ways}
    assert not any(differences.values()), differences
    return result


def read(path: Path, data: bytes, variables: Sequence[str] = ("SNR",)) -> Observations:
    """Write a file, and return what every way reads in it alike."""
    path.write_bytes(data)
    result = alike(path, variables)
    assert isinstance(result, Observations), result
    return result


def refusal(path: Path, data: bytes, variables: Sequence[str] = ("SNR",)) -> str:
    """Write a file, and return why every way refuses it alike."""
    path.write_bytes(data)
    result = alike(path, variables)
    assert isinstance(result, str), result
    return result


def seconds(result: Observations) -> list[float]:
    """Epochs in seconds after 2024-01-01."""
    return [(time - FIRST_NS) / 1e9 for time in result.epoch.tolist()]


def values(result: Observations, variable: str = "SNR") -> dict[str, list[float | None]]:
    """Values by signal, None where there is none, to the digits of the format."""
    return {
        sid: [None if np.isnan(value) else round(float(value), 3) for value in column]
        for sid, column in zip(result.sid, result.variables[variable].T, strict=True)
    }
