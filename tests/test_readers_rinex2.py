"""Records of RINEX 2 as the documents have them (RINEX 2.10 to 2.12, tables A1 and A2)."""

from __future__ import annotations

from itertools import chain

import numpy as np
import pytest

from alike import ALL, alike, read, seconds, values
from rinex211 import write_rinex211
from rinex_text import epoch2, header, record, text, time2

PAIR = {"G01": [45, 30]}


@pytest.fixture
def path(tmp_path):
    """A file to write."""
    return tmp_path / "some.24o"


def epochs(count: int = 6, satellites=PAIR, start: int = 0) -> list[str]:
    """Return so many records 5 s apart: enough that they are read all at once."""
    return list(chain(*(epoch2(5 * step, satellites) for step in range(start, start + count))))


@pytest.mark.parametrize("version", [2, 2.10, 2.11, 2.12])
def test_every_version_is_read(path, version):
    """The records of observations are the same in all of them."""
    result = read(path, text(header(("S1", "S2"), version=version), epochs()))
    assert seconds(result) == [0, 5, 10, 15, 20, 25]
    bands = ("G01|L1|p", "G01|L2|p") if version >= 2.12 else ("G01|L1|u", "G01|L2|u")
    assert values(result) == {bands[0]: [45] * 6, bands[1]: [30] * 6}
    assert (result.station, result.notes) == ("TEST", ())


def test_letters_of_212_name_signals(path):
    """2.12: A is C/A on L1, B is L1C, C is L2C, D is C/A of GLONASS on G2; BeiDou's band 1 is B1I."""
    rows = {"G01": [41, 42, 43, None, 45], "R01": [41, None, None, 44, 45], "C06": [None] * 4 + [45]}
    result = read(path, text(header(("SA", "SB", "SC", "SD", "S1"), version=2.12), epochs(satellites=rows)))
    assert values(result) == {
        sid: [value] * 6
        for sid, value in {
            "C06|B1I|u": 45, "G01|L1|C": 41, "G01|L1|l": 42, "G01|L1|p": 45, "G01|L2|l": 43,
            "R01|G1|C": 41, "R01|G1|P": 45, "R01|G2|C": 44,
        }.items()
    }  # fmt: skip


@pytest.mark.parametrize("count", [1, 11, 12, 13, 24, 25, 40])
def test_more_satellites_than_a_line_holds(path, count):
    """The list goes on in columns 33 to 68 of the next line."""
    names = [f"{system}{n:02d}" for n in range(1, 21) for system in "GR"][:count]
    rows = {sv: [20 + i, 21 + i] for i, sv in enumerate(names)}
    result = read(path, text(header(("S1", "S2"), version=2.11), epochs(satellites=rows)))
    assert result.notes == ()
    for i, sv in enumerate(names):
        assert values(result)[f"{sv}|{'L' if sv[0] == 'G' else 'G'}1|u"] == [20 + i] * 6


@pytest.mark.parametrize("count", [1, 4, 5, 6, 9, 10, 11, 15, 16, 20])
def test_more_codes_than_a_line_holds(path, count):
    """Five observations a line; the codes of the header go on after nine."""
    codes = [f"{kind}{band}" for kind in "SCLD" for band in "12578"][:count]
    rows = {"G01": [20 + i for i in range(count)], "G02": [30] + [None] * (count - 1)}
    result = read(path, text(header(codes, version=2.11), epochs(satellites=rows)), ALL)
    assert values(result)["G01|L1|u"] == [20] * 6
    assert values(result)["G02|L1|u"] == [30] * 6
    if count > 16:
        assert values(result, "Doppler")["G01|L2|u"] == [36] * 6
    # GPS has no signal in the bands 7 and 8.
    assert len(result.notes) == (count > 3)
    assert all("G01 S7" in note for note in result.notes)


@pytest.mark.parametrize(("system", "letter"), [("G", "G"), ("M", "G"), (" ", "G"), ("R", "R"), ("S", "S")])
def test_a_blank_system_is_that_of_the_file(path, system, letter):
    """2.11, table A2: a blank letter means the system of the file, and GPS where it is mixed."""
    lines = header(("C1", "S1"), version=2.11, system=system)
    result = read(path, text(lines, epochs(satellites={" 07": [2e7, 45], "  8": [2e7, 40]})))
    assert [sid[:3] for sid in result.sid] == [f"{letter}07", f"{letter}08"]
    assert result.notes == ()


def test_satellites_of_systems_that_the_version_lacks_are_told(path):
    """Some writers put BeiDou into 2.11, where its codes mean nothing: left out, and no satellite of GPS."""
    result = read(path, text(header(("S1", "S2"), version=2.11), epochs(satellites={"C05": [40, 41]} | PAIR)))
    assert values(result) == {"G01|L1|u": [45] * 6, "G01|L2|u": [30] * 6}
    (note,) = result.notes
    assert note.startswith(
        "left out 6 records of satellites whose systems this version of RINEX does not have"
    )
    assert "line 6: C05" in note


@pytest.mark.parametrize(
    "line",
    [
        " 24 01 01 00 00 00.0000000  0  1G01",
        " 24  1  1  0  0  0.0000000  0  1G 1",
        " 24  1  1  0  0  0.0000000     1G01",
        " 24  1  1  0  0  0.0000000  0  1G01                                  .123456789",
        " 24  1  1  0  0  0.0000000  1  1G01   ",
        " 24  1  1  0  0   .0000000  0  1G01",
        " 24  1  1  0  0  0.0        0  1G01",
    ],
)
def test_an_epoch_line_may_be_written_in_several_ways(path, line):
    """1X,I2.2, 4(1X,I2), F11.7, 2X,I1, I3, 12(A1,I2), F12.9; a blank flag is 0."""
    lines = [
        each
        for n in range(6)
        for each in (line.replace("0.0", f"{n}.0").replace(" .0", f"{n}.0"), "        45.000")
    ]
    result = read(path, text(header(("S1", "S2"), version=2.11), lines))
    assert seconds(result) == list(range(6))
    assert result.notes == ()


def test_two_digits_of_a_year(path):
    """80 to 99 are of the 20th century (RINEX 3.04, section 6.10)."""
    for year, written in ((1997, "97"), (1980, "80"), (2079, "79"), (2005, " 5"), (2005, "05")):
        first = f"  {year}     3     1     0     0    0.0000000     GPS"
        lines = [line.replace(" 24  1  1", f" {written}  3  1") for line in epochs()]
        result = read(path, text(header(("S1", "S2"), version=2.11, first=first), lines))
        assert str(result.epoch.view("datetime64[ns]")[0])[:10] == f"{year}-03-01"


def test_epochs_that_a_simulator_writes(path):
    """Satellites of several systems and lines, SBAS above 36, blanks for zeros: every value comes back."""
    times = np.datetime64("2024-01-01T00:00:00", "ns") + np.arange(6) * np.timedelta64(100, "ms")
    kinds = ["C1", "C5", "L1", "D1", "S1", "S5"]
    names = [*(f"{system}{n:02d}" for n in range(1, 9) for system in "GE"), "S48"]
    made = {
        sv: {kind: [20.5 + i + j, 30, np.nan if j else 31, 0, 33.125, 34] for j, kind in enumerate(kinds)}
        for i, sv in enumerate(names)
    }
    for blank in (True, False):
        write_rinex211(path, times, made, types=kinds, blank_satellite_zero=blank)
        result = alike(path, ALL)
        assert not isinstance(result, str)
        np.testing.assert_array_equal(result.epoch, times.astype(np.int64))
        assert result.notes == ()
        place = {sid: i for i, sid in enumerate(result.sid)}
        for sv in names[:-1]:
            band = {"G": "L1|u", "E": "E1|u"}[sv[0]]
            expected = np.array(made[sv]["S1"])
            expected[expected == 0] = np.nan
            np.testing.assert_array_equal(
                result.variables["SNR"][:, place[f"{sv}|{band}"]], expected.astype("f4")
            )


def test_scale_factors_are_divided_out(path):
    """2.20 and later: 2I6, 10(4X,A2), or of all codes where no number is given."""
    extra = [record(f"{10:6d}{1:6d}{'S2':>6}", "OBS SCALE FACTOR")]
    result = read(
        path, text(header(("S1", "S2"), version=2.11, extra=extra), epochs(satellites={"G01": [45, 301]}))
    )
    assert values(result) == {"G01|L1|u": [45] * 6, "G01|L2|u": [30.1] * 6}
    extra = [record(f"{100:6d}", "OBS SCALE FACTOR")]
    lines = epochs(satellites={"G01": [4510, 3010]})
    result = read(path, text(header(("S1", "S2"), version=2.11, extra=extra), lines))
    assert values(result) == {"G01|L1|u": [45.1] * 6, "G01|L2|u": [30.1] * 6}


@pytest.mark.parametrize("damage", ["epoch", "lost", "doubled", "number", "name", "zero", "twice", "snr"])
def test_damage_costs_its_epoch(path, damage):
    """The next epoch is found again, however many lines were lost; the note has the line of the first."""
    rows = {"G01": [45, 30, None, None, None, 2e7], "G02": [44, 29, None, None, None, 2e7]}
    lines = epochs(8, rows)
    at = 3 * 5  # five lines an epoch
    match damage:
        case "epoch":
            lines[at] = lines[at][:14]
        case "lost":
            del lines[at + 2]
        case "doubled":
            lines.insert(at + 1, lines[at + 1])
        case "number":
            lines[at + 1] = lines[at + 1].replace("45.0", "4x.0")
        case "name":
            lines[at] = lines[at].replace("G02", "G?2")
        case "zero":
            lines[at] = lines[at].replace("G02", "G00")
        case "twice":
            lines[at] = lines[at].replace("G02", "G01")
        case _:
            lines[at + 1] = lines[at + 1].replace(" 45.0", "145.0")
    result = read(path, text(header(("S1", "S2", "L1", "L2", "D1", "C1"), version=2.11), lines))
    assert seconds(result) == [0, 5, 10, 20, 25, 30, 35]
    assert values(result)["G02|L1|u"] == [44] * 7
    (note,) = result.notes
    assert note.startswith("left out 1 damaged epoch")
    assert "at line 21" in note


def test_an_epoch_without_satellites_is_told(path):
    """It has nothing to store."""
    lines = [*epochs(), *time2(30, []), *time2(35, []), *epochs(start=8)]
    result = read(path, text(header(("S1", "S2"), version=2.11), lines))
    assert len(result.epoch) == 12
    assert result.notes == ("left out 2 epochs without satellites, the first at line 18",)


def test_what_stands_beyond_80_columns_is_no_observation(path):
    """A line of RINEX 2 has 80 columns."""
    rows = epochs(satellites={"G01": [45, 30, None, None, 41, 40]})
    rows = [line.ljust(80) + "   123.456" if "45.000" in line else line for line in rows]
    codes = ("S1", "S2", "L1", "L2", "S5", "S6")
    result = read(path, text(header(codes, version=2.11), rows))
    assert values(result)["G01|L1|u"] == [45] * 6
    assert values(result)["G01|L5|u"] == [41] * 6
