"""canvod-readers and georinex read the same values; where not, the RINEX documents say who is right."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
import pytest

from alike import ALL, Observations, outcome
from canvod.launch.readers.rinex.signals import signal, variable
from canvod.launch.simulate import RinexHeader, write_rinex
from oracles import oracle
from rinex211 import write_rinex211

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.oracle

FILL = -9999.0
"""canvod-readers' integer of a missing value, which no observation has."""


def of_canvod(path: Path, *, version: int = 3) -> Observations:
    """Read with canvod-readers, by its own defaults; what it does not have is NaN."""
    library = oracle("canvod.readers")
    reader = library.Rnxv3Obs(fpath=path) if version == 3 else library.Rnxv2Obs(fpath=path)
    data = reader.to_ds(keep_data_vars=list(ALL)).sortby("sid")
    return Observations(
        data.epoch.values.astype("datetime64[ns]").astype(np.int64),
        tuple(data.sid.values.tolist()),
        {name: data[name].transpose("epoch", "sid").values for name in ALL},
    )


def differences(ours: Observations, theirs: Observations) -> list[str]:
    """Say where the values of common epochs and signals differ, and what only one of them has."""
    assert ours.epoch.tolist() == theirs.epoch.tolist()
    place = {sid: i for i, sid in enumerate(theirs.sid)}
    found = []
    for name in ALL:
        mine = ours.variables[name].astype(theirs.variables[name].dtype)
        for i, sid in enumerate(ours.sid):
            column = (
                theirs.variables[name][:, place[sid]] if sid in place else np.full(len(ours.epoch), np.nan)
            )
            column = np.where(column == FILL, np.nan, column)
            if not np.array_equal(mine[:, i], column, equal_nan=True):
                found.append(f"{name} {sid}")
        for sid, i in place.items():
            if sid not in ours.sid and np.isfinite(theirs.variables[name][:, i]).any():
                found.append(f"{name} {sid}: theirs alone")
    return found


def read(path: Path) -> Observations:
    """Read all variables."""
    result = outcome(path, ALL)
    assert isinstance(result, Observations), result
    return result


@pytest.mark.parametrize("receiver", ["01_reference", "02_canopy"])
@pytest.mark.parametrize("part", [0, *(pytest.param(part, marks=pytest.mark.slow) for part in range(1, 6))])
def test_real_files(rosalia, receiver, part):
    """All four variables of all files are equal to the last bit; no difference is left."""
    files = sorted((rosalia / receiver).rglob("*.rnx"))
    assert len(files) == 24
    for path in files[part::6]:
        ours = read(path)
        assert ours.notes == ()
        assert differences(ours, of_canvod(path)) == []


@pytest.mark.parametrize("receiver", ["01_reference", "02_canopy"])
@pytest.mark.parametrize("part", [0, pytest.param(12, marks=pytest.mark.slow)])
def test_real_files_by_georinex(tmp_path, rosalia, receiver, part):
    """The first epochs of a file, of which georinex reads ten a second."""
    georinex = oracle("georinex")
    whole = sorted((rosalia / receiver).rglob("*.rnx"))[part].read_bytes()
    path = tmp_path / "some.rnx"
    path.write_bytes(b">".join(whole.split(b">")[:4]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of xarray, about how georinex calls it
        theirs = georinex.rinexobs(path)
    ours = read(path)
    place = {sid: i for i, sid in enumerate(ours.sid)}
    assert ours.epoch.tolist() == theirs.time.values.astype("datetime64[ns]").astype(np.int64).tolist()
    seen = set()
    for code in theirs.data_vars:
        for sv in theirs.sv.values.tolist():
            column = theirs[code].sel(sv=sv).values
            name, which = variable(code), signal(sv[0], code, 3.04)
            if name is None or not np.isfinite(column).any():
                continue
            seen.add((name, f"{sv}|{which}"))
            mine = ours.variables[name][:, place[f"{sv}|{which}"]]
            np.testing.assert_array_equal(mine, column.astype(mine.dtype))
    assert seen == {
        (name, sid)
        for name in ALL
        for sid, i in place.items()
        if np.isfinite(ours.variables[name][:, i]).any()
    }


def simulated(systems: str, kinds: dict[str, float]) -> dict[str, dict[str, np.ndarray]]:
    """Values of six epochs, a fifth of them missing."""
    rng = np.random.default_rng(1)
    return {
        f"{system}{n:02d}": {
            kind: np.where(rng.random(6) < 0.2, np.nan, scale * rng.uniform(0.9, 1.1, 6))
            for kind, scale in kinds.items()
        }
        for system in systems
        for n in range(20, 23)
    }


TIMES = np.datetime64("2024-01-01T00:00:00", "ns") + np.arange(6) * np.timedelta64(30, "s")


def test_simulated_files(tmp_path):
    """Signals of all systems that the oracle knows, with gaps."""
    path = tmp_path / "some.rnx"
    kinds = {"C5Q": 2e7, "L5Q": 1e8, "D5Q": -2e3, "S5Q": 45.0, "S1C": 40.0}
    write_rinex(path, RinexHeader(interval_s=30), TIMES, simulated("GES", kinds))
    assert differences(read(path), of_canvod(path)) == []


def test_simulated_files_of_rinex_2(tmp_path):
    """More satellites than a line holds, more codes than a line holds, P codes."""
    path = tmp_path / "simr0010.24o"
    kinds = {"C1": 2e7, "L1": 1e8, "D1": -2e3, "S1": 45.0, "P2": 2e7, "S2": 30.0, "C5": 2e7}
    made = simulated("GRES", kinds)
    write_rinex211(path, TIMES, made, types=list(kinds), interval_s=30)
    assert differences(read(path), of_canvod(path, version=2)) == []


DAMAGED = {
    # Equal: what can be read, without the epochs that both leave out.
    "blank_lines_in_data": "", "crlf_line_endings": "", "invalid_epoch_flag": "", "invalid_satellite_id": "",
    "misaligned_observations": "", "multiple_end_of_header": "", "non_ascii_header": "", "null_bytes": "",
    "zero_position": "",
    # Both refuse: 3.04, table A2 has RINEX VERSION / TYPE first, and each system's codes once.
    "binary_garbage": "both", "duplicate_obs_types": "both", "header_only": "both",
    "missing_obs_types": "both", "truncated_mid_epoch": "both", "wrong_version_v2": "both",
    # The oracle wants an interval to be known. 3.04, table A2: INTERVAL is optional, and table A3 asks for no
    # number of epochs and no even spacing.
    "event_epoch": "theirs", "reversed_epochs": "theirs", "truncated_at_epoch_boundary": "theirs",
}  # fmt: skip
FAULTS = {
    "bom.rnx": "", "date_with_colons.rnx": "", "formfeed_comment_v2.24o": "",
    # 3.04, note below table 9: C1x of a 3.02 file is C2x; the oracle stores B1C.
    "bds_302.rnx": ["SNR C06|B1I|I", "Pseudorange C06|B1I|I"],
    # 3.04, section 6.6: header records of an event hold from there on; the oracle keeps the old columns.
    "event_changes_types.rnx": ["SNR G01|L1|C", "SNR G01|L2|W"],
    # 3.04, table A1 gives GLONASS slots without a limit of 24; the oracle drops R25 and more.
    "glonass_r26.rnx": ["SNR R26|G1|C", "Pseudorange R26|G1|C"],
    # 3.04, table A2, SYS / SCALE FACTOR: stored observations are divided by it; the oracle does not.
    "scale_factor.rnx": ["SNR G01|L1|C", "SNR G01|L2|W"],
    # 3.04, section 6.6 and table A2: COMMENT may be anywhere; the oracle loses the epoch before it.
    "bare_comment_v3.rnx": "epochs",
    # 3.04, section 6.6: header records within the data; the oracle loses the epoch before a second header.
    "concatenated_v3.rnx": "epochs",
    # 3.04, table A3: F14.3 reads a number with fewer decimals; the oracle leaves its epoch out.
    "snr_1_decimal.rnx": "epochs",
    # 2.11, table A2: a row too many shifts what follows; the oracle stores a pseudorange as SNR.
    "duplicated_line_v2.24o": "epochs",
    # 3.04, table A3: 4(1X,I2.2) reads blanks as zeros; the time of an event may be blank.
    "blank_padded_epoch.rnx": "theirs", "event_blank_time.rnx": "theirs",
    # 3.04, section 8.1, tables A2 and 21: Galileo time is GPS time for this purpose; a file of one system may
    # leave the time system out.
    "time_GAL.rnx": "theirs", "time_sbas_only.rnx": "theirs",
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_files(invalid, name):
    """What is read of them is the same, and each refusal of one alone is explained above."""
    compare(invalid / f"{name}.25o", DAMAGED[name])


@pytest.mark.parametrize("name", FAULTS)
def test_files_that_are_easily_read_wrongly(faults, name):
    """Each difference is explained above."""
    compare(faults / name, FAULTS[name])


def compare(path: Path, expected: str | list[str]) -> None:
    """Assert how the oracle differs: not at all, in its epochs, in some values, or by refusing."""
    ours = outcome(path, ALL)
    try:
        theirs = of_canvod(path, version=2 if path.suffix == ".24o" else 3)
    except (ValueError, AssertionError):
        assert expected == ("both" if isinstance(ours, str) else "theirs")
        return
    assert isinstance(ours, Observations), ours
    if expected == "epochs":
        assert ours.epoch.tolist() != theirs.epoch.tolist()
    else:
        assert differences(ours, theirs) == list(expected)
