"""Headers are refused in words that say what is wrong and where."""

from __future__ import annotations

import pytest

from canvod.launch.runtime.reading import UnreadableFileError
from canvod.launch.runtime.rinex_header import MAX_HEADER_LINES, parse_header


def record(content: str, label: str) -> str:
    """Return a header record."""
    return f"{content:60}{label:20}"


VERSION_3 = record("     3.04           OBSERVATION DATA    M", "RINEX VERSION / TYPE")
VERSION_2 = record("     2.11           OBSERVATION DATA    M", "RINEX VERSION / TYPE")
TYPES_3 = record("G    2 C1C S1C", "SYS / # / OBS TYPES")
TYPES_2 = record("     2    C1    S1", "# / TYPES OF OBSERV")
FIRST = record("  2025     1     1     0     0    0.0000000     GPS", "TIME OF FIRST OBS")
END = record("", "END OF HEADER")


def read(*lines: str):
    """Read a header of these lines."""
    return parse_header(iter([f"{line}\n" for line in lines]))


def test_a_header_of_rinex_3_is_read():
    """Codes that go over two lines are joined; the lines of the header are counted."""
    many = [f"{kind}{digit}C" for kind in "CLDS" for digit in "1256"]
    header = read(
        VERSION_3,
        record("E   16 " + " ".join(many[:13]), "SYS / # / OBS TYPES"),
        record("       " + " ".join(many[13:]), "SYS / # / OBS TYPES"),
        TYPES_3,
        FIRST,
        END,
        "> data",
    )
    assert header.codes == {"E": tuple(many), "G": ("C1C", "S1C")}
    assert (header.version, header.system, header.n_lines, header.is_rinex2) == (3.04, "M", 6, False)


def test_a_header_of_rinex_2_is_read():
    """All systems of a 2.11 file share its codes."""
    header = read(VERSION_2, TYPES_2, FIRST, END)
    assert header.codes == dict.fromkeys("GRES", ("C1", "S1"))
    assert header.is_rinex2


def test_the_time_system_of_a_single_system_file_is_its_own():
    """GPS may leave the time system out; a file of mixed systems may not."""
    first = record("  2025     1     1     0     0    0.0000000", "TIME OF FIRST OBS")
    read(VERSION_3.replace("    M  ", "    G  "), TYPES_3, first, END)
    with pytest.raises(UnreadableFileError, match="names no time system"):
        read(VERSION_3, TYPES_3, first, END)
    with pytest.raises(UnreadableFileError, match="time system 'GAL'; only GPS time"):
        read(VERSION_3.replace("    M  ", "    E  "), TYPES_3.replace("G  ", "E  "), first, END)


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ([], "the file is empty"),
        (["\0\1\2"], "line 1 must be the record 'RINEX VERSION / TYPE', but holds binary data"),
        (["hello, world"], "but holds 'hello, world'"),
        ([VERSION_3.replace("3.04", "x.yz")], "line 1: 'x.yz' is not a RINEX version"),
        ([VERSION_3.replace("3.04", "4.01")], "RINEX 4.01 cannot be read; versions 2.11 and 3.0x can"),
        (
            [VERSION_3.replace("OBS", "NAV", 1)],
            "line 1: not observations; the file type is 'NAVERVATION DATA'",
        ),
        ([VERSION_3.replace("  M ", "  Q ")], "satellite system 'Q' is not known"),
        ([VERSION_3, TYPES_3], "no END OF HEADER record: the file ends within its header"),
        (
            [VERSION_3, *[record("", "COMMENT")] * MAX_HEADER_LINES],
            "no END OF HEADER record in the first 10,000",
        ),
        ([VERSION_3, FIRST, END], "no 'SYS / # / OBS TYPES' record in the header"),
        ([VERSION_2, TYPES_3, FIRST, END], "wrong version: line 1 says RINEX 2.11"),
        ([VERSION_3, TYPES_2, FIRST, END], "records, those of RINEX 2"),
        (
            [VERSION_3, TYPES_3, TYPES_3, FIRST, END],
            "line 3: a second 'SYS / # / OBS TYPES' record of system G",
        ),
        ([VERSION_3, TYPES_3.replace("  2", "  3"), FIRST, END], "announces 3 observation codes, but has 2"),
        ([VERSION_3, TYPES_3.replace("  2", "  x"), FIRST, END], "line 2: 'x' is not a number"),
        ([VERSION_3, TYPES_3.replace("C1C", "S1C"), FIRST, END], "of system G has S1C more than once"),
        ([VERSION_3, TYPES_3.replace("C1C", "C?C"), FIRST, END], "line 2: 'C?C' is not an observation code"),
        ([VERSION_3, TYPES_3.replace("G", "Q"), FIRST, END], "line 2: system 'Q'"),
        ([VERSION_3, TYPES_3, END], "no 'TIME OF FIRST OBS' record in the header"),
        ([VERSION_3, TYPES_3, FIRST.replace("  1 ", " 13 ", 1), END], "TIME OF FIRST OBS is not a time"),
        ([VERSION_3, TYPES_3, FIRST.replace("GPS", "GLO"), END], "epochs are in time system 'GLO'; only GPS"),
    ],
)
def test_a_wrong_header_is_refused_with_its_reason(lines, reason):
    """The reason is one line, and says what was expected and found."""
    with pytest.raises(UnreadableFileError) as caught:
        read(*lines)
    assert reason in caught.value.reason
    assert "\n" not in caught.value.reason
