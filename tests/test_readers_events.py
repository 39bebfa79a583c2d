"""Header records within the data: of events, comments alone, and whole headers of files that were joined.

RINEX 2.11, table A2 and section 6.5; RINEX 3.04, table A3 and sections 6.5 and 6.6.
"""

from __future__ import annotations

from itertools import chain

import pytest

from alike import ALL, read, refusal, seconds, values
from rinex_text import END, FIRST, epoch, event, header, record, text, types2, types3

COMMENT = record("RINEX FILE SPLICE", "COMMENT")
each_version = pytest.mark.parametrize("version", [2.11, 3.04, 4.02])
CODES = {2.11: ("S1", "S2"), 3.04: ("S1C", "S2W"), 4.02: ("S1C", "S2W")}
SIDS = {2.11: ("G01|L1|u", "G01|L2|u"), 3.04: ("G01|L1|C", "G01|L2|W"), 4.02: ("G01|L1|C", "G01|L2|W")}


@pytest.fixture
def path(tmp_path):
    """A file to write."""
    return tmp_path / "some.rnx"


def some(version: float, start: int, count: int = 6, pair=(45, 30)) -> list[str]:
    """Return so many epochs 5 s apart."""
    return list(chain(*(epoch(version, 5 * step, {"G01": pair}) for step in range(start, start + count))))


def changed(version: float, codes) -> list[str]:
    """Header records of other observation codes."""
    return types2(codes) if version < 3 else types3({"G": codes})


def expected(version: float, count: int, pair=(45, 30)) -> dict[str, list[float]]:
    """Values of a constant pair."""
    return {sid: [value] * count for sid, value in zip(SIDS[version], pair, strict=True)}


@each_version
@pytest.mark.parametrize("second", [None, 30])
@pytest.mark.parametrize("flag", [2, 3, 4, 5])
def test_an_event_is_no_epoch(path, version, second, flag):
    """Its lines are passed over, its time may be blank, and nothing of it is damage."""
    lines = event(version, [COMMENT, COMMENT], flag=flag, second=second)
    result = read(
        path, text(header(CODES[version], version=version), some(version, 0), lines, some(version, 6))
    )
    assert seconds(result) == [5 * step for step in range(12)]
    assert values(result) == expected(version, 12)
    assert result.notes == ()


@each_version
def test_an_event_before_each_epoch(path, version):
    """However many events there are."""
    lines = (event(version, [COMMENT]) + some(version, step, 1) for step in range(8))
    result = read(path, text(header(CODES[version], version=version), *lines))
    assert values(result) == expected(version, 8)
    assert result.notes == ()


@each_version
def test_an_event_without_lines(path, version):
    """An external event has none."""
    lines = event(version, [], flag=5, second=12.5)
    result = read(
        path, text(header(CODES[version], version=version), some(version, 0), lines, some(version, 6))
    )
    assert len(result.epoch) == 12
    assert result.notes == ()


@each_version
def test_cycle_slips_are_no_observations(path, version):
    """Flag 6: records in the form of observations, which hold slips."""
    slips = (epoch(version, 27, {"G01": [1, 2]}), epoch(version, 28, {"G01": [1, 2], "G02": [3, 4]}))
    lines = [line.replace("  0  ", "  6  ") for line in chain(*slips)]
    result = read(
        path, text(header(CODES[version], version=version), some(version, 0), lines, some(version, 6))
    )
    assert values(result) == expected(version, 12)
    assert result.notes == ()


@each_version
@pytest.mark.parametrize("is_event", [True, False])
def test_other_codes_hold_from_there_on(path, version, is_event):
    """Header records of an event, or bare ones, change the meaning of the columns after them."""
    records = changed(version, CODES[version][::-1])
    lines = event(version, records) if is_event else records
    data = text(
        header(CODES[version], version=version),
        some(version, 0),
        lines,
        some(version, 6, pair=(31, 46)),
        lines,
        some(version, 12, pair=(32, 47)),
    )
    result = read(path, data)
    assert values(result) == dict(
        zip(SIDS[version], ([45] * 6 + [46] * 6 + [47] * 6, [30] * 6 + [31] * 6 + [32] * 6), strict=True)
    )
    assert result.notes == ()


@each_version
def test_more_codes_may_come(path, version):
    """A column that was not there before."""
    codes = [*CODES[version], "D1" if version < 3 else "D1C"]
    lines = chain(*(epoch(version, 30 + step, {"G01": [46, 31, -12.5]}) for step in range(6)))
    data = text(
        header(CODES[version], version=version),
        some(version, 0),
        event(version, changed(version, codes)),
        lines,
    )
    result = read(path, data, ALL)
    assert values(result)[SIDS[version][0]] == [45] * 6 + [46] * 6
    assert values(result, "Doppler")[SIDS[version][0]] == [None] * 6 + [-12.5] * 6


def test_other_codes_of_one_system_leave_the_others(path):
    """RINEX 3: each system has records of its own."""
    lines = [epoch(3, step, {"G01": [45, 30], "E01": [40]}) for step in range(5)]
    more = [epoch(3, step, {"G01": [31, 46], "E01": [41]}) for step in range(5, 10)]
    change = event(3, types3({"G": ["S2W", "S1C"]}))
    result = read(path, text(header({"G": ["S1C", "S2W"], "E": ["S1C"]}), *lines, change, *more))
    assert values(result) == {
        "E01|E1|C": [40] * 5 + [41] * 5,
        "G01|L1|C": [45] * 5 + [46] * 5,
        "G01|L2|W": [30] * 5 + [31] * 5,
    }


def test_a_scale_factor_may_come(path):
    """It holds for what is after it."""
    change = event(3, [record("G   10   1 S1C", "SYS / SCALE FACTOR")])
    result = read(path, text(header(), some(3.04, 0), change, some(3.04, 6, pair=(451, 31))))
    assert values(result) == {"G01|L1|C": [45] * 6 + [45.1] * 6, "G01|L2|W": [30] * 6 + [31] * 6}


@each_version
@pytest.mark.parametrize(
    "line", [COMMENT, record("> 2024 01 01 00 00 30.0", "COMMENT"), record("", "COMMENT")]
)
def test_comments_among_epochs_are_passed_over(path, version, line):
    """Programs that join files leave them; each of them may stand anywhere, an epoch may be interrupted."""
    lines = some(version, 0, 12)
    for at in (24, 20, 13, 7, 2, 0):
        lines[at:at] = [line]
    result = read(path, text(header(CODES[version], version=version), lines))
    assert values(result) == expected(version, 12)
    assert result.notes == ()


@each_version
def test_joined_files_are_read_each_with_its_header(path, version):
    """The second one has its codes in another order, and its own station."""
    second = header(CODES[version][::-1], version=version)
    data = text(
        header(CODES[version], version=version),
        some(version, 0),
        [line.replace("TEST", "NEXT") for line in second],
        some(version, 6, pair=(31, 46)),
    )
    result = read(path, data)
    assert values(result) == dict(zip(SIDS[version], ([45] * 6 + [46] * 6, [30] * 6 + [31] * 6), strict=True))
    assert result.station == "TEST"
    line = 5 + 12 + 2
    assert result.notes == (
        f"the MARKER NAME changes 1 time within the file, at line {line - 1}: from 'TEST' to 'NEXT'",
    )


@each_version
def test_a_joined_file_may_be_of_another_day_and_time_system(path, version):
    """Its TIME OF FIRST OBS, and the time system that it names, are its own."""
    first = FIRST.replace("2024 ", "2021 ").replace("GPS", "GLO")
    later = [line.replace("2024", "2021").replace(" 24 ", " 21 ") for line in some(version, 0)]
    data = text(
        header(CODES[version], version=version),
        some(version, 0),
        header(CODES[version], version=version, first=first),
        later,
    )
    result = read(path, data)
    assert len(result.epoch) == 12
    assert str(result.epoch.view("datetime64[ns]")[0])[:19] == "2021-01-01T00:00:18"
    assert result.notes == ()


@each_version
def test_headers_that_do_not_tell_what_follows_cost_what_follows(path, version):
    """What is before them is kept; until the next whole header nothing is guessed."""
    wrong = changed(version, CODES[version])
    wrong[0] = wrong[0].replace("  2 ", "  3 ", 1)
    whole = header(CODES[version], version=version)
    data = text(whole, some(version, 0), event(version, wrong), some(version, 6))
    result = read(path, data)
    assert values(result) == expected(version, 6)
    assert result.notes[0].startswith("left out 6 damaged epochs, the first at line 20")
    assert "do not tell what follows" in result.notes[0]
    assert "announces 3 observation codes, but has 2" in result.notes[0]
    assert seconds(read(path, data + text(whole, some(version, 20)))) == [
        5 * step for step in [*range(6), *range(20, 26)]
    ]


def test_a_joined_file_of_another_version_is_told(path):
    """RINEX 2 within 3: other records."""
    data = text(header(), some(3.04, 0), header(("S1", "S2"), version=2.11), some(2.11, 6))
    result = read(path, data)
    assert values(result) == expected(3.04, 6)
    assert result.notes


@each_version
def test_lines_that_belong_to_nothing_are_told(path, version):
    """After the lines that an event announces, or before the first epoch."""
    lines = [*event(version, [COMMENT]), "nobody knows what this is"]
    result = read(
        path, text(header(CODES[version], version=version), some(version, 0), lines, some(version, 6))
    )
    assert values(result) == expected(version, 12)
    assert len(result.notes) == 1


@each_version
def test_blank_lines_are_passed_over(path, version):
    """They are no damage, between epochs and at the end."""
    lines = chain(*(["", *some(version, step, 1), "   "] for step in range(8)))
    result = read(path, text(header(CODES[version], version=version), lines, ["", ""]))
    assert values(result) == expected(version, 8)
    # In RINEX 2 each may be a row too many; those at the end mean nothing.
    told = "passed over 15 blank lines between records, the first at line 6"
    assert result.notes == ((told,) if version < 3 else ())


@each_version
@pytest.mark.parametrize("flag", [7, 8, 9])
def test_an_unknown_flag_costs_its_epoch(path, version, flag):
    """RINEX has 0 to 6."""
    lines = some(version, 0, 8)
    lines[6] = lines[6].replace("  0  1", f"  {flag}  1")
    result = read(path, text(header(CODES[version], version=version), lines))
    assert seconds(result) == [0, 5, 10, 20, 25, 30, 35]
    assert f"epoch flag {flag} is not known" in result.notes[0]


@each_version
def test_an_event_that_the_end_of_the_file_cuts(path, version):
    """What was announced and is not there is no observation."""
    lines = event(version, [COMMENT] * 5)[:3]
    result = read(path, text(header(CODES[version], version=version), some(version, 0), lines))
    assert values(result) == expected(version, 6)


@each_version
def test_a_header_that_the_end_of_the_file_cuts(path, version):
    """A joined file of which nothing is there but a part of its header."""
    whole = header(CODES[version], version=version)
    result = read(path, text(whole, some(version, 0), whole[:2]))
    assert values(result) == expected(version, 6)
    assert refusal(path, text(whole[:-1])).startswith("no END OF HEADER record")
    assert END in whole[-1]
