"""Epochs in GPS time, whatever time a file is written in (RINEX 3.04, section 8.1 and table 21)."""

from __future__ import annotations

import datetime as dt
from itertools import chain

import pytest

from alike import read, refusal, seconds, values
from canvod.launch.readers.rinex.times import LEAP_DAYS
from rinex_text import FIRST, epoch, header, text

each_version = pytest.mark.parametrize("version", [2.11, 3.04])


@pytest.fixture
def path(tmp_path):
    """A file to write."""
    return tmp_path / "some.rnx"


def write(version: float, first: str | None, *, system: str = "M", date: str = "2024 01 01 00 00") -> bytes:
    """Return a file of six epochs 5 s apart."""
    codes = ("S1", "S2") if version < 3 else dict.fromkeys("GRES", ("S1C",))
    sv = "G01" if system == "M" else f"{system}20"
    lines = list(chain(*(epoch(version, 5 * step, {sv: [45, 30]}) for step in range(6))))
    if version < 3:
        lines = [line.replace(" 24  1  1  0  0", f" {date[2:]}") for line in lines]
    else:
        lines = [line.replace("2024 01 01 00 00", date) for line in lines]
    if version >= 3:
        lines = [line[:17] if line[0] != ">" else line for line in lines]
    return text(header(codes, version=version, system=system, first=first), lines)


@each_version
@pytest.mark.parametrize(
    ("time", "ahead"), [("GPS", 0), ("GAL", 0), ("QZS", 0), ("IRN", 0), ("BDT", 14), ("GLO", 18)]
)
def test_every_time_system_becomes_gps_time(path, version, time, ahead):
    """BDT is 14 s behind GPS time, GLO is UTC; the others are alike to far less than a microsecond."""
    result = read(path, write(version, FIRST.replace("GPS", time)))
    assert seconds(result) == [ahead + 5 * step for step in range(6)]
    assert result.notes == ()


@each_version
def test_an_unknown_time_system_is_refused(path, version):
    """It cannot be converted."""
    reason = refusal(path, write(version, FIRST.replace("GPS", "XYZ")))
    assert "epochs are in time system 'XYZ'" in reason
    assert "GPS, GLO, GAL, QZS, BDT, IRN" in reason


@each_version
@pytest.mark.parametrize(("system", "ahead"), [("G", 0), ("R", 18), ("E", 0), ("S", 0)])
@pytest.mark.parametrize("first", [FIRST.replace("GPS", ""), None])
def test_a_file_of_one_system_has_its_time(path, version, first, system, ahead):
    """3.04, section 8.1: the default of a file of one system is its own time; SBAS has GPS time."""
    result = read(path, write(version, first, system=system))
    assert seconds(result) == [ahead + 5 * step for step in range(6)]


def test_a_mixed_file_that_does_not_say_its_time_is_taken_for_gps_time_and_says_so(path):
    """3.04, table A2: compulsory in mixed files; those that lack it are in GPS time as far as is known."""
    result = read(path, write(3.04, FIRST.replace("GPS", "")))
    assert seconds(result) == [5 * step for step in range(6)]
    assert "a file of mixed systems, which has to name it, is taken to be in GPS time" in result.notes[0]


@pytest.mark.parametrize("day", LEAP_DAYS)
def test_leap_seconds_are_those_of_the_epoch(path, day):
    """In GLONASS time the difference is that of the day, and second 60 of a leap second is read."""
    date = dt.date.fromisoformat(day)
    before = date - dt.timedelta(days=1)
    ahead = sum(other <= day for other in LEAP_DAYS)
    first = f"  {before.year}{before.month:6d}{before.day:6d}    23    59   55.0000000     GLO"
    lines = [
        *chain(*(epoch(3.04, 55 + step, {"G01": [45]}) for step in range(5))),
        "> 2024 01 01 00 00 60.0000000  0  1",
        "G01        45.000",
    ]
    lines = [line.replace("2024 01 01 00 00", f"{before:%Y %m %d} 23 59") for line in lines]
    later = [line.replace("2024 01 01", f"{date:%Y %m %d}") for line in chain(*(
        epoch(3.04, step, {"G01": [45]}) for step in range(5)
    ))]  # fmt: skip
    result = read(path, text(header(("S1C",), first=first), lines, later))
    start = dt.datetime(date.year, date.month, date.day, tzinfo=dt.UTC).timestamp()
    assert [time / 1e9 - start - ahead for time in result.epoch.tolist()] == list(range(-6, 5))
    assert result.notes == ()


@each_version
@pytest.mark.parametrize(
    "date",
    ["2024 13 01 00 00", "2024 00 01 00 00", "2023 02 29 00 00", "2024 01 32 00 00", "2024 01 01 24 00",
     "2024 01 01 00 60", "2035 01 01 00 00", "2021 01 01 00 00"],
)  # fmt: skip
def test_an_impossible_time_costs_its_epoch(path, version, date):
    """A month 13, and a time that is years from TIME OF FIRST OBS."""
    good, bad = write(version, FIRST), write(version, FIRST, date=date)
    data = good + bad[bad.index(b"END OF HEADER       \n") + 21 :]
    result = read(path, data)
    assert seconds(result) == [0, 5, 10, 15, 20, 25]
    (note,) = result.notes
    assert note.startswith("left out ")
    assert "not a time" in note or "more than a year from TIME OF FIRST OBS" in note


@each_version
def test_second_60_is_rounded_or_a_leap_second(path, version):
    """Some writers round 59.99999996 to 60; in a leap second of UTC it is a second of its own."""
    data = write(version, FIRST).replace(b"15.0000000", b"60.0000000")
    assert 60 in seconds(read(path, data))
    assert 78 in seconds(read(path, data.replace(b"GPS", b"GLO")))
    result = read(path, data.replace(b"60.0000000", b"61.0000000"))
    assert seconds(result) == [0, 5, 10, 20, 25]
    assert "not a time" in result.notes[0]


@pytest.mark.parametrize(
    "first",
    [
        "",
        "     0     0     0     0     0    0.0000000     GPS",
        "  2024     1     1     0     0    0.0       GPS",
    ],
)
def test_the_first_epoch_may_be_written_in_several_ways(path, first):
    """Blank or zero is allowed where it is not known (6.6), seconds in other columns are not uncommon."""
    data = write(3.04, first, system="M" if "GPS" in first else "G")
    assert values(read(path, data))
