"""The RINEX 3.04 writer: every field in its columns, and files that readers and converters accept."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import hatanaka
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from canvod.launch.errors import InputError
from canvod.launch.simulate import RinexHeader, render_rinex, write_rinex
from canvod.launch.simulate.rinex_writer import _render_f14_3
from oracles import oracle
from rinex211 import write_rinex211

if TYPE_CHECKING:
    from pathlib import Path

EPOCHS = np.datetime64("2025-03-01T23:59:50", "ns") + np.arange(4) * np.timedelta64(5, "s")
F14_3 = re.compile(r" *-?\d+\.\d{3}")
HEADER = RinexHeader(
    marker_name="TEST",
    interval_s=5.0,
    glonass_channels={f"R{slot:02d}": (slot % 14) - 7 for slot in range(1, 25)},
    comments=["A COMMENT"],
)


def observations(seed=0):
    """Make 16 GPS satellites with 20 types and a GLONASS one with 4; every third value is missing."""
    random = np.random.default_rng(seed)
    types = [kind + band for band in ("1C", "2W", "2L", "5Q", "1L") for kind in "CLDS"]
    low, high = {"C": 19e6, "L": 1e8, "D": -5e3, "S": 1.0}, {"C": 26e6, "L": 2e8, "D": 5e3, "S": 59.0}
    result = {
        f"G{number:02d}": {name: random.uniform(low[name[0]], high[name[0]], EPOCHS.size) for name in types}
        for number in range(1, 17)
    }
    result["R24"] = {name: random.uniform(low[name[0]], high[name[0]], EPOCHS.size) for name in types[:4]}
    for columns in result.values():
        for values in columns.values():
            values[random.random(EPOCHS.size) < 1 / 3] = np.nan
    return result


def split(content):
    """Split a file into its header lines and its records."""
    lines = content.decode("ascii").splitlines()
    end = next(number for number, line in enumerate(lines) if line[60:].strip() == "END OF HEADER")
    return lines[: end + 1], lines[end + 1 :]


def stripped(content):
    """Return the lines without the blanks at their ends, which the header has and CRX2RNX leaves out."""
    return [line.rstrip() for line in content.splitlines()]


def test_header_records_stand_in_the_columns_of_the_standard():
    """Every header line has 80 characters, its label in 61-80, and its values where Table A2 puts them."""
    head, _ = split(render_rinex(HEADER, EPOCHS, observations()))
    assert {len(line) for line in head} == {80}
    records = [(line[:60], line[60:].rstrip()) for line in head]
    labels = [label for _, label in records]
    assert labels[0] == "RINEX VERSION / TYPE"
    mandatory = {
        "PGM / RUN BY / DATE",
        "MARKER NAME",
        "MARKER TYPE",
        "OBSERVER / AGENCY",
        "REC # / TYPE / VERS",
        "ANT # / TYPE",
        "APPROX POSITION XYZ",
        "ANTENNA: DELTA H/E/N",
        "SYS / # / OBS TYPES",
        "TIME OF FIRST OBS",
        "SYS / PHASE SHIFT",
        "GLONASS SLOT / FRQ #",
        "GLONASS COD/PHS/BIS",
        "END OF HEADER",
    }
    assert mandatory <= set(labels)
    value = {label: text for text, label in reversed(records)}
    assert value["RINEX VERSION / TYPE"] == f"{'     3.04':<20}{'OBSERVATION DATA':<20}{'M':<20}"
    assert value["PGM / RUN BY / DATE"][40:] == "20250301 235950 UTC "
    assert value["MARKER NAME"].rstrip() == "TEST"
    assert value["COMMENT"].rstrip() == "A COMMENT"
    assert value["APPROX POSITION XYZ"][:42] == "  4127445.8715  1206915.1282  4695541.0781"
    assert value["INTERVAL"] == f"{'     5.000':<60}"
    assert value["TIME OF FIRST OBS"] == f"{'  2025     3     1    23    59   50.0000000     GPS':<60}"
    assert value["LEAP SECONDS"] == f"{'    18':<60}"
    assert value["SIGNAL STRENGTH UNIT"] == f"{'DBHZ':<60}"
    assert value["GLONASS COD/PHS/BIS"] == " C1C    0.000 C1P    0.000 C2C    0.000 C2P    0.000        "
    shifts = [text.rstrip() for text, label in records if label == "SYS / PHASE SHIFT"]
    assert shifts == [f"{code}  0.00000" for code in ("G L1C", "G L2W", "G L2L", "G L5Q", "G L1L", "R L1C")]


def test_lists_in_the_header_are_continued():
    """13 types and 8 frequency slots fit a line; the rest follows on lines that begin blank."""
    head, _ = split(render_rinex(HEADER, EPOCHS, observations()))
    types = [line[:60] for line in head if line[60:].startswith("SYS / # / OBS TYPES")]
    assert [line[:6] for line in types] == ["G   20", "      ", "R    4"]
    assert [len(line[6:].split()) for line in types] == [13, 7, 4]
    assert all(line[6 + 4 * k] == " " for line in types for k in range(13))
    slots = [line[:60] for line in head if line[60:].startswith("GLONASS SLOT / FRQ #")]
    assert [line[:4] for line in slots] == [" 24 ", "    ", "    "]
    read = {
        line[4 + 7 * k : 7 + 7 * k]: int(line[8 + 7 * k : 10 + 7 * k]) for line in slots for k in range(8)
    }
    assert read == HEADER.glonass_channels


def test_records_stand_in_the_columns_of_the_standard():
    """Every epoch line and every field F14.3, I1, I1 is where Table A3 puts it, with the value given."""
    given_values = observations()
    head, records = split(render_rinex(HEADER, EPOCHS, given_values))
    types, system = {"G": [], "R": []}, ""
    for line in head:
        if line[60:].startswith("SYS / # / OBS TYPES"):
            system = line[0].strip() or system
            types[system] += line[6:60].split()
    epoch_line = re.compile(r"> (\d{4}) (\d\d) (\d\d) (\d\d) (\d\d)( {2}\d| \d\d)\.(\d{7})  0 {0,2}\d{1,3}")
    index, left, fields = -1, 0, 0
    for line in records:
        assert line == line.rstrip()
        if line.startswith(">"):
            assert left == 0
            match = epoch_line.fullmatch(line)
            assert match is not None
            index += 1
            stamp = f"{line[2:6]}-{line[7:9]}-{line[10:12]}T{line[13:15]}:{line[16:18]}:00"
            seconds = np.timedelta64(round(float(line[18:29]) * 1e9), "ns")
            assert np.datetime64(stamp, "ns") + seconds == EPOCHS[index]
            left, names = int(line[32:35]), []
            continue
        left -= 1
        names.append(line[:3])
        assert names == sorted(names)
        columns = given_values[line[:3]]
        for position, name in enumerate(types[line[0]]):
            field = f"{line[3 + 16 * position : 19 + 16 * position]:<16}"
            expected = columns[name][index]
            if not np.isfinite(expected):
                assert not field.strip()
                continue
            fields += 1
            assert F14_3.fullmatch(field[:14])
            assert field[10] == "."
            assert float(field[:14]) == pytest.approx(expected, abs=0.0005001)
            snr = columns["S" + name[1:]][index]
            digit = str(min(max(int(snr / 6), 1), 9)) if np.isfinite(snr) and name[0] != "S" else " "
            assert field[14:] == ("0" if name[0] == "L" else " ") + digit
    assert (index, left) == (EPOCHS.size - 1, 0)
    assert fields == sum(np.isfinite(v).sum() for columns in given_values.values() for v in columns.values())


@given(st.lists(st.integers(-999_999_999_999, 9_999_999_999_999), min_size=1, max_size=50))
def test_numbers_are_rendered_as_fortran_does(thousandths):
    """F14.3 equals Python's own formatting for every number that fits, zero and negatives included."""
    rendered = _render_f14_3(np.array(thousandths) / 1000)
    expected = [f"{number / 1000:14.3f}" for number in thousandths]
    assert [bytes(row).decode() for row in rendered] == expected


def test_values_are_rounded_and_zero_has_no_sign():
    """Values go to the nearest thousandth, and what rounds to zero is written 0.000."""
    rendered = _render_f14_3(np.array([-0.0004, 0.0006, -0.0006, 1.9996, 99.9999]))
    assert [bytes(row).decode().strip() for row in rendered] == [
        "0.000",
        "0.001",
        "-0.001",
        "2.000",
        "100.000",
    ]


@pytest.mark.parametrize("value", [1e10, -1e9, 999_999_999.9999])
def test_a_value_too_wide_for_its_field_is_refused(value):
    """A number that F14.3 cannot hold is an error that names the types and the limits."""
    with pytest.raises(InputError, match=r"value of C1C, S1C does not fit F14\.3"):
        render_rinex(RinexHeader(), EPOCHS[:1], {"G01": {"C1C": [value], "S1C": [40]}})


@pytest.mark.parametrize(
    "order", [[3, 2, 1, 0], [0, 0, 1, 1], [2, 0, 3, 1]], ids=["reversed", "repeated", "mixed"]
)
def test_epochs_are_written_in_the_order_given(order):
    """Epochs that run backwards or repeat are written as they are, each with its own values."""
    values = np.array([40.0, 41.0, 42.0, 43.0])
    _, records = split(render_rinex(RinexHeader(), EPOCHS[order], {"G05": {"S1C": values[order]}}))
    assert [line[18:21] for line in records[::2]] == [f"{[50, 55, 0, 5][k]:3d}" for k in order]
    assert [float(line[3:]) for line in records[1::2]] == values[order].tolist()


def test_an_epoch_without_satellites_is_written_with_the_count_zero():
    """Epochs never disappear, even where nothing was observed."""
    _, records = split(render_rinex(RinexHeader(), EPOCHS[:2], {"G05": {"S1C": [np.nan, 40.0]}}))
    assert [line[29:] for line in records if line.startswith(">")] == ["  0  0", "  0  1"]


def test_lock_and_strength_are_written_behind_a_phase():
    """The indicators are in the 15th and 16th column of a phase's field."""
    columns = {"C1C": [2e7], "L1C": [1e8], "S1C": [45.0]}
    _, records = split(render_rinex(RinexHeader(), EPOCHS[:1], {"G05": columns}))
    assert records[1] == "G05  20000000.000 7 100000000.00007        45.000"


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    """Writing leaves no temporary file, replaces what is there, and cleans up where it fails."""
    path = tmp_path / "one.rnx"
    path.write_text("old")
    size = write_rinex(path, RinexHeader(), EPOCHS, observations())
    assert path.stat().st_size == size
    assert path.stat().st_mode & 0o444 == 0o444
    folder = tmp_path / "folder.rnx"
    folder.mkdir()
    with pytest.raises(InputError, match=r"folder\.rnx cannot be written"):
        write_rinex(folder, RinexHeader(), EPOCHS, observations())
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["folder.rnx", "one.rnx"]


def test_canvod_readers_reads_the_same_values(tmp_path):
    """The reference reader gives the epochs and strengths that were written."""
    readers = oracle("canvod.readers")
    path = tmp_path / "SIMR01XXX_R_20250602359_15M_05S_MO.rnx"
    written = observations()
    write_rinex(path, HEADER, EPOCHS, written)
    dataset = readers.Rnxv3Obs(fpath=path).to_ds(keep_data_vars=["SNR"])
    assert dataset["epoch"].values.astype("datetime64[ns]").tolist() == EPOCHS.tolist()
    for satellite, sid, name in (
        ("G01", "G01|L1|C", "S1C"),
        ("G16", "G16|L2|W", "S2W"),
        ("R24", "R24|G1|C", "S1C"),
    ):
        np.testing.assert_allclose(dataset["SNR"].sel(sid=sid), written[satellite][name], atol=6e-4)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_georinex_reads_the_same_values(tmp_path):
    """The second reader gives the epochs and every value that was written."""
    georinex = oracle("georinex")
    path = tmp_path / "one.rnx"
    written = observations()
    write_rinex(path, HEADER, EPOCHS, written)
    dataset = georinex.load(path)
    assert dataset["time"].values.astype("datetime64[ns]").tolist() == EPOCHS.tolist()
    for satellite, columns in written.items():
        for name, values in columns.items():
            np.testing.assert_allclose(dataset[name].sel(sv=satellite), values, atol=6e-4)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_georinex_reads_the_rinex_211_files_of_the_tests(tmp_path):
    """Continued satellite lists and observation lines of the 2.11 writer come back as they were written."""
    georinex = oracle("georinex")
    random = np.random.default_rng(1)
    written = {
        f"{system}{number:02d}": {
            "C1": random.uniform(19e6, 26e6, 4),
            "S1": random.uniform(20, 50, 4),
            "S2": np.where(random.random(4) < 0.5, np.nan, 33.25),
        }
        for system in "GR"
        for number in range(1, 16)
    }
    path: Path = write_rinex211(tmp_path / "simr060x.25o", EPOCHS, written, interval_s=5.0)
    head, records = split(path.read_bytes())
    assert {len(line) for line in head} == {80}
    assert len(records) == EPOCHS.size * (3 + 30 * 2)
    dataset = georinex.load(path)
    assert dataset["time"].values.astype("datetime64[ns]").tolist() == EPOCHS.tolist()
    for satellite, columns in written.items():
        for name, values in columns.items():
            np.testing.assert_allclose(dataset[name].sel(sv=satellite), values, atol=6e-4)


def test_hatanaka_compresses_and_restores_the_file():
    """RNX2CRX accepts the file, and CRX2RNX, also from .crx.gz and .crx.Z, gives back every line."""
    content = render_rinex(HEADER, EPOCHS, observations())
    compact = hatanaka.rnx2crx(content)
    assert compact.startswith(b"3.0                 COMPACT RINEX FORMAT")
    assert stripped(hatanaka.crx2rnx(compact)) == stripped(content)
    for compression in ("gz", "Z"):
        packed = hatanaka.compress(content, compression=compression)
        assert len(packed) < len(content) / 2
        assert stripped(hatanaka.decompress(packed)) == stripped(content)
