"""Files that are easily read wrongly, of the data that come beside the project."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from alike import ALL, Observations, alike, seconds, values
from canvod.launch.readers import read_observations

PAIR = {"G01|L1|C": [45, 46], "G01|L2|W": [30, 31]}
RIGHT = {
    # file: seconds after 2024-01-01, SNR, what the notes say
    "blank_padded_epoch.rnx": ([0, 30], PAIR, ""),
    "event_changes_types.rnx": ([0, 60], PAIR, ""),
    "concatenated_v3.rnx": (
        [0, 30, 60, 90],
        {"G01|L1|C": [45, 45.5, 46, 46.5], "G01|L2|W": [30, 30.5, 31, 31.5]},
        "",
    ),
    "bds_302.rnx": ([0, 30], {"C06|B1I|I": [45, 45.5], "C06|B2b|I": [40, 40.5]}, ""),
    "scale_factor.rnx": ([0, 30], {"G01|L1|C": [45.5, 45.6], "G01|L2|W": [30, 30.1]}, ""),
    "glonass_r26.rnx": ([0, 30], {"G01|L1|C": [40, 41], "R26|G1|C": [45, 46]}, ""),
    "per_system/TEST00XXX_R_20240010000_01M_30S_GO.rnx": ([0, 30], PAIR, ""),
    "per_system/TEST00XXX_R_20240010000_01M_30S_RO.rnx": ([0, 30], {"R01|G1|C": [41, 42]}, ""),
    "date_with_colons.rnx": ([0, 30], PAIR, ""),
    "duplicated_line_v2.24o": (
        [30],
        {"G01|L1|u": [45], "G01|L2|u": [30], "G02|L1|u": [44], "G02|L2|u": [29]},
        "left out 1 damaged epoch, at line 13: satellite G01: an SNR of 2e+07 dB-Hz is not within 0 to 100",
    ),
    "time_GAL.rnx": ([0, 30], PAIR, ""),
    "time_sbas_only.rnx": (
        [0, 30],
        {"S20|L1|C": [45, 46]},
        "a file of SBAS alone (S) is taken to be in GPS time",
    ),
    "event_blank_time.rnx": ([0, 30], PAIR, ""),
    "formfeed_comment_v2.24o": (
        [0, 30],
        {"G01|L1|u": [45, 46], "G01|L2|u": [30, 31], "G02|L1|u": [44, 45], "G02|L2|u": [29, 30]},
        "",
    ),
    "bare_comment_v3.rnx": ([0, 30], PAIR, ""),
    "snr_1_decimal.rnx": ([0, 30], {"G01|L1|C": [45.5, 46.5], "G01|L2|W": [30, 31]}, ""),
    "bom.rnx": ([0, 30], PAIR, ""),
}
STATIONS = {
    "AAAA00XXX_R_20240010000_01M_30S_MO.rnx": "TEST",
    "BBBB00XXX_R_20240010001_01M_30S_MO.rnx": "BBBB",
}


def test_every_file_is_in_the_tables(faults):
    """No file is forgotten here."""
    files = {str(path.relative_to(faults)) for path in faults.rglob("*") if path.suffix in {".rnx", ".24o"}}
    assert files == RIGHT.keys() | {f"two_stations/{name}" for name in STATIONS}


@pytest.mark.parametrize("name", RIGHT)
def test_a_file_is_read_as_its_format_says(faults, name):
    """Epochs, values and notes are right, and those of SNR among all four variables are the same."""
    at, snr, note = RIGHT[name]
    result = alike(faults / name)
    assert isinstance(result, Observations), result
    assert seconds(result) == at
    assert values(result) == snr
    assert bool(result.notes) == bool(note)
    assert note in " ".join(result.notes)
    every = alike(faults / name, ALL)
    assert isinstance(every, Observations), every
    assert seconds(every) == at
    assert {sid: row for sid, row in values(every).items() if set(row) != {None}} == snr


@pytest.mark.parametrize("name", STATIONS)
def test_the_station_is_that_of_the_file(faults, name):
    """MARKER NAME is handed on, so that two stations are told apart."""
    assert read_observations(str(faults / "two_stations" / name)).station == STATIONS[name]


def test_nothing_is_written_to_standard_output(faults):
    """A date that is written in another way costs no warning that would break a program's own output."""
    program = (
        "import json\nfrom canvod.launch.readers import read_observations\n"
        f"print(json.dumps(len(read_observations({str(faults / 'date_with_colons.rnx')!r}).epoch)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert json.loads(done.stdout) == 2
    assert not done.stderr
