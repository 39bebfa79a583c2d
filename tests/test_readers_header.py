"""Headers are read as the documents have them, and refused in words that say what is wrong and where."""

from __future__ import annotations

import pytest

from alike import ALL, read, refusal, values
from rinex_text import FIRST, epoch3, header, record, text

VERSION_3 = record("     3.04           OBSERVATION DATA    M", "RINEX VERSION / TYPE")
VERSION_2 = VERSION_3.replace("3.04", "2.11")
TYPES_3 = record("G    2 C1C S1C", "SYS / # / OBS TYPES")
TYPES_2 = record("     2    C1    S1", "# / TYPES OF OBSERV")
FIRST_3 = record(FIRST, "TIME OF FIRST OBS")
END = record("", "END OF HEADER")
EPOCH = epoch3(0, {"G01": [2e7, 45]})


@pytest.fixture
def path(tmp_path):
    """A file to write."""
    return tmp_path / "some.rnx"


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (["\0\1\2"], "line 1 must be the record 'RINEX VERSION / TYPE', but holds binary data"),
        (["hello, world"], "but holds 'hello, world'"),
        ([VERSION_3.replace("3.04", "x.yz")], "line 1: 'x.yz' is not a RINEX version"),
        ([VERSION_3.replace("3.04", "5.00")], "RINEX 5.00 cannot be read; versions 2, 3 and 4 can"),
        ([VERSION_3.replace("3.04", "1.00")], "RINEX 1.00 cannot be read; versions 2, 3 and 4 can"),
        (
            [VERSION_3.replace("OBS", "NAV", 1)],
            "line 1: not observations; the file type is 'NAVERVATION DATA'",
        ),
        ([VERSION_3.replace("  M ", "  Q ")], "satellite system 'Q' is not known"),
        ([VERSION_3, TYPES_3], "no END OF HEADER record: the file ends within its header"),
        ([VERSION_3, FIRST_3, END, *EPOCH], "no 'SYS / # / OBS TYPES' record in the header"),
        ([VERSION_2, TYPES_3, FIRST_3, END, *EPOCH], "wrong version: line 1 says RINEX 2.11"),
        ([VERSION_3, TYPES_2, FIRST_3, END, *EPOCH], "records, those of RINEX 2"),
        (
            [VERSION_3, TYPES_3, TYPES_3, FIRST_3, END, *EPOCH],
            "line 3: a second 'SYS / # / OBS TYPES' record of system G; the first is at line 2",
        ),
        (
            [VERSION_3, TYPES_3.replace("  2", "  3"), FIRST_3, END, *EPOCH],
            "of system G announces 3 observation codes, but has 2",
        ),
        ([VERSION_3, TYPES_3.replace("  2", "  x"), FIRST_3, END, *EPOCH], "line 2: 'x' is not a number"),
        (
            [VERSION_3, TYPES_3.replace("C1C", "S1C"), FIRST_3, END, *EPOCH],
            "of system G has S1C more than once",
        ),
        (
            [VERSION_3, TYPES_3.replace("C1C", "C?C"), FIRST_3, END, *EPOCH],
            "line 2: 'C?C' is not an observation code",
        ),
        ([VERSION_3, TYPES_3.replace("G", "Q"), FIRST_3, END, *EPOCH], "line 2: system 'Q'"),
    ],
)
def test_a_wrong_header_is_refused_with_its_reason(path, lines, reason):
    """The reason is one line, and says what was expected and found."""
    found = refusal(path, text(lines))
    assert reason in found


def test_a_scale_factor_that_rinex_does_not_have_is_refused(path):
    """1, 10, 100 and 1000 are allowed: another one is a sign of another record."""
    extra = [record("G    7   1 S1C", "SYS / SCALE FACTOR")]
    assert "has the factor 7; 1, 10, 100 and 1000 are allowed" in refusal(
        path, text(header(extra=extra), epoch3(0, {"G01": [45, 30]}))
    )


def test_another_unit_of_signal_strength_is_told(path):
    """3.04, table A2: SIGNAL STRENGTH UNIT; what is stored may then not be dB-Hz."""
    data = text(header(extra=[record("dBm", "SIGNAL STRENGTH UNIT")]), epoch3(0, {"G01": [45, 30]}))
    (note,) = read(path, data).notes
    assert "SIGNAL STRENGTH UNIT is 'dBm'" in note
    data = text(header(extra=[record("DBHZ", "SIGNAL STRENGTH UNIT")]), epoch3(0, {"G01": [45, 30]}))
    assert read(path, data).notes == ()


@pytest.mark.parametrize(
    "line",
    [
        record("someone             anyone              20240101 000000 LCL", "PGM / RUN BY / DATE"),
        record("someone             anyone              01-JAN-24 00:00:00", "PGM / RUN BY / DATE"),
        record("nonsense", "APPROX POSITION XYZ"),
        record("nonsense", "INTERVAL"),
        record("nonsense", "LEAP SECONDS"),
        record("nonsense", "GLONASS SLOT / FRQ #"),
        record("whatever", "A LABEL OF OUR OWN"),
        record("", "SYS / PHASE SHIFT"),
        record("end of header", "COMMENT"),
        "",
    ],
)
def test_a_header_record_that_nobody_needs_costs_nothing(path, line):
    """Dates, positions, intervals and labels of any kind."""
    result = read(path, text(header(extra=[line]), epoch3(0, {"G01": [45, 30]})), ALL)
    assert values(result) == {"G01|L1|C": [45], "G01|L2|W": [30]}
    assert result.notes == ()


def test_a_station_without_a_name(path):
    """MARKER NAME may be missing or blank."""
    for data in (
        text(header()).replace(b"TEST", b"    "),
        text(line for line in header() if "MARKER" not in line),
    ):
        assert read(path, data + text(epoch3(0, {"G01": [45, 30]}))).station == ""
