"""Records of RINEX 3 and 4 as the documents have them (RINEX 3.04, tables A2 and A3; 4.02 has the same)."""

from __future__ import annotations

from itertools import chain

import pytest

from alike import ALL, read, refusal, seconds, values
from rinex_text import epoch3, header, record, text, time3

PAIR = {"G01": [45, 30]}


@pytest.fixture
def path(tmp_path):
    """A file to write."""
    return tmp_path / "some.rnx"


def epochs(count: int = 6, satellites=PAIR) -> list[str]:
    """Return so many records 5 s apart: enough that they are read all at once."""
    return [line for step in range(count) for line in epoch3(5 * step, satellites)]


@pytest.mark.parametrize("version", [3.00, 3.01, 3.02, 3.03, 3.04, 3.05, 4.00, 4.01, 4.02])
def test_every_version_is_read(path, version):
    """The records of observations are the same in all of them."""
    result = read(path, text(header(version=version), epochs()))
    assert seconds(result) == [0, 5, 10, 15, 20, 25]
    assert values(result) == {"G01|L1|C": [45] * 6, "G01|L2|W": [30] * 6}
    assert (result.station, result.notes) == ("TEST", ())


@pytest.mark.parametrize("version", [3.01, 3.02, 3.03, 3.04, 4.02])
def test_digit_1_of_beidou_means_b1i_in_302_alone(path, version):
    """3.04, note below table 9: C1x of a 3.02 file is C2x of all others."""
    lines = text(header({"C": ["S1I", "S7I"]}, version=version), epochs(satellites={"C06": [45, 40]}))
    band = "B1I" if version == 3.02 else "B1C"
    assert values(read(path, lines)) == {f"C06|{band}|I": [45] * 6, "C06|B2b|I": [40] * 6}


@pytest.mark.parametrize(
    "line",
    [
        "> 2024  1  1  0  0  0.0000000  0  1",
        "> 2024 01 01 00 00  0.0000000  0 01",
        "> 2024 01 01 00 00 00.0000000  0001",
        "> 2024 01 01 00 00  0.0000000  0  1       .123456789012",
        "> 2024 01 01 00 00  0.0000000  0  1      -0.000012345678   ",
        "> 2024 01 01 00 00   .0000000  0  1",
        "> 2024 01 01 00 00  0.0000000  1  1",
    ],
)
def test_an_epoch_line_may_be_written_in_several_ways(path, line):
    """I4, 4(1X,I2.2), F11.7, 2X,I1, I3: Fortran reads blanks as zeros."""
    lines = [each for step in range(6) for each in (line.replace("0.0", f"{step}.0"), "G01        45.000")]
    if "0.0" not in line:
        lines = [line, "G01        45.000"]
    result = read(path, text(header(), lines))
    assert result.epoch[0] == 1704067200 * 10**9
    assert len(result.epoch) == len(lines) // 2
    assert result.notes == ()


def test_fractions_of_a_second_are_kept(path):
    """F11.7 is 100 ns; no fraction goes through a float."""
    result = read(path, text(header(), *(epoch3(step / 10 + 0.0000001, PAIR) for step in range(25))))
    assert (result.epoch - result.epoch[0]).tolist() == [step * 100_000_000 for step in range(25)]
    assert result.epoch[0] % 1000 == 100


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("45.000", 45), ("45.5", 45.5), ("45.", 45), (".300", 0.3), ("0.300", 0.3), ("+45.5", 45.5),
        ("00045.500", 45.5), (45.5, 45.5),
    ],
)  # fmt: skip
def test_a_number_may_be_written_in_several_ways(path, written, value):
    """F14.3 reads a number with a point wherever the point is in its 14 columns."""
    result = read(path, text(header(), epochs(satellites={"G01": [written, 30], "G02": [40, written]})))
    assert values(result)["G01|L1|C"] == [value] * 6
    assert values(result)["G02|L2|W"] == [value] * 6
    assert result.notes == ()


@pytest.mark.parametrize(
    "written", ["-.353", "-0.353", "   -.353", "-1234.500", "-999999999.999", "9999999999.999"]
)
def test_other_variables_may_be_negative_and_large(path, written):
    """A minus may stand before the point, and a number fill its field."""
    codes = ["C1C", "L1C", "D1C"]
    result = read(path, text(header(codes), epochs(satellites={"G01": [written] * 3})), ALL)
    for name in ("Pseudorange", "Phase"):
        assert result.variables[name].ravel().tolist() == [float(written)] * 6
    assert result.variables["Doppler"][0, 0] == pytest.approx(float(written), rel=1e-7)


@pytest.mark.parametrize(
    "written",
    [
        "4x.000",
        "1e1",
        "nan",
        "inf",
        "4 5.000",
        "45,000",
        "45-000",
        "--45.000",
        "-",
        ".",
        "45.000-",
        "٤.5",
    ],
)
def test_what_is_no_number_costs_its_epoch(path, written):
    """The rest of the file is read, and the note names line, satellite and field."""
    lines = [epoch3(5 * step, {"G01": [written if step == 3 else 45, 30]}) for step in range(6)]
    result = read(path, "\n".join([*header(), *chain(*lines), ""]).encode())
    assert seconds(result) == [0, 5, 10, 20, 25]
    (note,) = result.notes
    assert note.startswith("left out 1 damaged epoch, at line 12: satellite G01: '")
    assert note.endswith("' is not an observation")


@pytest.mark.parametrize("snr", [-0.001, -45, 100.001, 20_000_000])
def test_an_snr_that_no_receiver_has_costs_its_epoch(path, snr):
    """Such a value is a sign that columns are shifted."""
    lines = [epoch3(5 * step, {"G01": [45, snr if step == 3 else 30]}) for step in range(6)]
    result = read(path, text(header(), *lines))
    assert seconds(result) == [0, 5, 10, 20, 25]
    assert "at line 12: satellite G01: an SNR of" in result.notes[0]


def test_zeros_and_blanks_are_missing(path):
    """3.04, table A3: missing observations are 0.0 or blank; trailing ones may be left out."""
    rows = {
        "G01": [0, 30],
        "G02": [45, "0.0"],
        "G03": [None, 30],
        "G04": [45],
        "G05": [],
        "G06": ["-0.000", 31],
    }
    result = read(path, text(header(), epochs(satellites=rows)))
    expected = {"G01|L2|W": 30, "G02|L1|C": 45, "G03|L2|W": 30, "G04|L1|C": 45, "G06|L2|W": 31}
    assert values(result) == {sid: [value] * 6 for sid, value in expected.items()}


def test_flags_beside_a_number_are_no_part_of_it(path):
    """Loss of lock and signal strength take one column each, blank or a digit."""
    lines = [time3(0), "G01        45.00019        30.000 9"]
    assert values(read(path, text(header(), lines))) == {"G01|L1|C": [45], "G01|L2|W": [30]}
    lines = [*epochs(), time3(30), "G01        45.000x9        30.000 9"]
    assert "is not an observation" in read(path, text(header(), lines)).notes[0]


def test_a_flag_may_stand_without_a_number(path):
    """A lost lock of an observation that is missing."""
    lines = [time3(0), "G01              1         30.000 9"]
    assert values(read(path, text(header(), lines))) == {"G01|L2|W": [30]}


def test_scale_factors_are_divided_out(path):
    """3.04, table A2: of the codes that are named, or of all of a system; over several records and lines."""
    codes = {
        "G": [f"{kind}{band}C" for kind in "SCLD" for band in "125"] + ["S1W", "S2W"],
        "E": ["S1C", "C1C"],
    }
    extra = [
        record("G   10  14 " + " ".join(codes["G"][:12]), "SYS / SCALE FACTOR"),
        record("           " + " ".join(codes["G"][12:]), "SYS / SCALE FACTOR"),
        record("E  100", "SYS / SCALE FACTOR"),
    ]
    lines = epochs(satellites={"G01": [451, 300, 300] + [123] * 9 + [333, 444], "E01": [4510, 2_000_000_010]})
    result = read(path, text(header(codes, extra=extra), lines), ALL)
    assert values(result)["G01|L1|C"] == [45.1] * 6
    assert values(result)["G01|L2|W"] == [44.4] * 6
    assert values(result)["E01|E1|C"] == [45.1] * 6
    assert values(result, "Doppler")["G01|L5|C"] == [12.3] * 6
    assert values(result, "Pseudorange")["E01|E1|C"] == [20_000_000.1] * 6


def test_satellites_are_kept_whatever_their_number(path):
    """R25 to R27 transmit, SBAS has 20 to 99; a blank stands for a zero."""
    rows = {sv: [45] for sv in ("R26", "R 1", "G32", "G40", "S20", "S58", "S99", "J07", "C62", "I14", "E36")}
    codes = {system: ["S1C"] for system in "GRESJI"} | {"C": ["S2I"]}
    codes["I"] = ["S5A"]
    result = read(path, text(header(codes), epochs(satellites=rows)))
    assert {sid[:3] for sid in result.sid} == {sv.replace(" ", "0") for sv in rows}
    assert result.notes == ()


@pytest.mark.parametrize("sv", ["G00", "X01", "g01", "G1", "G1 ", "01G", "   ", "G-1"])
def test_what_is_no_satellite_costs_its_epoch(path, sv):
    """An epoch with an unknown satellite is left out."""
    lines = [epoch3(5 * step, {sv if step == 3 else "G01": [45, 30]}) for step in range(6)]
    result = read(path, text(header(), *lines))
    assert seconds(result) == [0, 5, 10, 20, 25]
    assert result.notes[0].startswith("left out 1 damaged epoch, at line 12: ")


def test_a_satellite_of_a_system_without_codes_costs_its_epoch(path):
    """Its fields cannot be told; that it is there says that the file is damaged."""
    lines = [epoch3(5 * step, PAIR | ({"E01": [45]} if step == 3 else {})) for step in range(6)]
    result = read(path, text(header(), *lines))
    assert seconds(result) == [0, 5, 10, 20, 25]
    (note,) = result.notes
    assert note.startswith(
        "left out 1 damaged epoch, at line 12: satellite E01, but the header has no observation"
    )


def test_a_satellite_that_is_there_twice_costs_its_epoch(path):
    """Which of the two is right is not known."""
    lines = [*epochs(), time3(30, count=2), "G01        45.000", "G01        46.000"]
    result = read(path, text(header(), lines))
    assert seconds(result) == [0, 5, 10, 15, 20, 25]
    assert result.notes == ("left out 1 damaged epoch, at line 18: satellite G01 is there twice",)


@pytest.mark.parametrize("count", [0, 2, 998, "xx"])
def test_a_wrong_number_of_satellites_costs_its_epoch(path, count):
    """A line was lost or doubled."""
    lines = epochs()
    lines[6] = lines[6][:-3] + f"{count:>3}"
    result = read(path, text(header(), lines))
    assert seconds(result) == [0, 5, 10, 20, 25]
    assert "damaged epoch, at line 12" in result.notes[0]


def test_an_epoch_without_satellites_is_told(path):
    """It has nothing to store."""
    result = read(path, text(header(), epochs(), [time3(30, count=0), time3(35, count=0)]))
    assert seconds(result) == [0, 5, 10, 15, 20, 25]
    assert result.notes == ("left out 2 epochs without satellites, the first at line 18",)


def test_repeated_epochs_are_merged_and_told(path):
    """Epochs are sorted; of two at one time the second gives what the first does not have."""
    first, second = {"G01": [45, None]}, {"G01": [46, 30]}
    result = read(path, text(header(), epoch3(5, first), epoch3(0, PAIR), epoch3(5, second), epochs(1)))
    assert seconds(result) == [0, 5]
    assert values(result) == {"G01|L1|C": [45, 45], "G01|L2|W": [30, 30]}
    assert result.notes[0].startswith("left out 1 value that differs from the first one of its epoch and")
    assert result.notes[1].startswith("2 epochs are there more than once, the first at line ")


def test_more_codes_than_a_line_of_the_header_holds(path):
    """The fifteenth code is read in the second line of the record, and from column 228 of the satellite."""
    codes = [f"{kind}{band}{mode}" for mode in "CW" for band in "12" for kind in "CLDS"]
    rows = {"G01": [1000 + i if code[0] != "S" else 40 + i for i, code in enumerate(codes)]}
    result = read(path, text(header(codes), epochs(satellites=rows)), ALL)
    assert values(result)["G01|L2|W"] == [55] * 6
    assert values(result, "Doppler")["G01|L2|W"] == [1014] * 6


def test_text_beyond_the_last_code_is_told(path):
    """It belongs to no code, and may be a sign of a wrong header."""
    result = read(path, text(header(), epochs(satellites={"G01": [45, 30, 12]})))
    assert values(result) == {"G01|L1|C": [45] * 6, "G01|L2|W": [30] * 6}
    assert result.notes == (
        "passed over 6 records with text beyond their last observation code, the first at line 6",
    )


def test_a_code_of_an_unknown_band_is_told(path):
    """The columns after it are read all the same."""
    result = read(path, text(header(["S9C", "S1C"]), epochs(satellites={"G01": [30, 45]})))
    assert values(result) == {"G01|L1|C": [45] * 6}
    (note,) = result.notes
    assert note.startswith(
        "left out 6 values of observation codes that RINEX does not define for their systems"
    )
    assert note.endswith("the first at line 6: G01 S9C")


def test_a_code_of_another_kind_does_not_shift_the_others(path):
    """X1 and I1C (channel, ionosphere) are no variables; they hold any number."""
    result = read(path, text(header(["X1", "S1C", "I1C"]), epochs(satellites={"G01": [999, 45, -7]})))
    assert values(result) == {"G01|L1|C": [45] * 6}
    assert result.notes == ()


@pytest.mark.parametrize("system", "GRESJCI")
def test_a_file_of_one_system(path, system):
    """Its system need not be M, and the time system may be blank."""
    code = "S2I" if system == "C" else "S5I" if system == "I" else "S1C"
    first = "  2024     1     1     0     0    0.0000000"
    lines = header({system: [code]}, system=system, first=first)
    result = read(path, text(lines, epochs(satellites={f"{system}01": [45]})))
    assert len(result.sid) == 1
    assert values(result)[result.sid[0]] == [45] * 6


def test_nothing_of_the_wanted_variable_is_a_reason(path):
    """A file that has SNR only cannot be read for Doppler; the reason says which variable."""
    data = text(header(), epochs())
    assert refusal(path, data, ("Doppler",)) == "no signals: none of the 6 epochs has a value of Doppler"
    assert refusal(path, text(header())) == "no epochs: the file ends after its header"
    reason = refusal(path, text(header(), epochs(satellites={"G01": [145]})))
    assert reason.startswith("no epochs: left out 6 damaged epochs, the first at line 6: satellite G01")


def test_damage_counts_where_it_is_read(path):
    """A wrong pseudorange costs its epoch only where pseudoranges are wanted."""
    rows = [epoch3(5 * step, {"G01": ["x.y" if step == 2 else 2e7, 45]}) for step in range(6)]
    data = text(header(["C1C", "S1C"]), *rows)
    assert len(read(path, data).epoch) == 6
    assert len(read(path, data, ("SNR", "Pseudorange")).epoch) == 5
