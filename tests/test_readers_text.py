"""Line ends, byte order marks, ends of files: what surrounds the text changes nothing of what is read."""

from __future__ import annotations

from itertools import chain

import numpy as np
import pytest

from alike import ALL, Observations, alike, difference, outcome, read, refusal, seconds
from rinex_mutations import BASES
from rinex_text import epoch, header, text

each_version = pytest.mark.parametrize("version", [2.11, 3.04])


@pytest.fixture
def path(tmp_path):
    """A file to write."""
    return tmp_path / "some.rnx"


def plain(version: float, count: int = 8) -> bytes:
    """Return a file."""
    codes = ("S1", "S2") if version < 3 else ("S1C", "S2W")
    lines = chain(*(epoch(version, 5 * step, {"G01": [45, 30 + step]}) for step in range(count)))
    return text(header(codes, version=version), lines)


@each_version
def test_bytes_of_zero_at_the_end_are_told(path, version):
    """A file whose writer was cut off may end with a part that was reserved, and never written."""
    path.write_bytes(plain(version) + b"\0" * 4000)
    result = alike(path, blocks=(1, 7, 100, 4096))
    assert isinstance(result, Observations), result
    (note,) = result.notes
    assert note.startswith("passed over 4,000 bytes of zero at the end, the first at line ")


@each_version
@pytest.mark.parametrize(
    "surround",
    [
        lambda data: data.replace(b"\n", b"\r\n"),
        lambda data: data.replace(b"\n", b"\r"),
        lambda data: data.replace(b"\n", b"\r\n", 20),
        lambda data: b"\xef\xbb\xbf" + data,
        lambda data: b"\xef\xbb\xbf" + data.replace(b"\n", b"\r\n"),
        lambda data: data + b"\x1a",
        lambda data: data + b"\x1a\r\n",
        lambda data: data + b"\x1a" + b"\0" * 500,
        lambda data: data[:-1],
        lambda data: data[:-1] + b"\x1a",
        lambda data: data + b"\n\n\n",
        lambda data: data.replace(b"\n", b"   \n"),
        lambda data: data.replace(b"END OF HEADER       ", b"END OF HEADER"),
    ],
)
def test_what_surrounds_the_text_changes_nothing(path, version, surround):
    """Files come from all systems, by way of all programs."""
    expected = read(path, plain(version))
    path.write_bytes(surround(plain(version)))
    result = alike(path, blocks=(1, 7, 100, 4096))
    assert isinstance(result, Observations), result
    assert result.epoch.tolist() == expected.epoch.tolist()
    assert (result.sid, result.station, result.notes) == (expected.sid, expected.station, ())
    assert result.variables["SNR"].tobytes() == expected.variables["SNR"].tobytes()


@each_version
def test_every_place_where_a_file_may_be_cut(path, version):
    """A number that may have lost digits is no observation; what is before it is read, the loss is told."""
    data = plain(version, 6)
    last = data.rindex(b"\n", 0, data.rindex(b"25.0")) + 1
    for size in range(last, len(data) + 1):
        path.write_bytes(data[:size])
        result = alike(path, blocks=(100,))
        assert isinstance(result, Observations)
        *others, end = result.variables["SNR"].tolist()
        if len(result.epoch) == 5:
            assert [*others, end] == [[45, 30 + step] for step in range(5)]
            assert result.notes or not data[last:size].strip(b"> \n")
        else:
            assert end[0] == 45 or size < len(data) - 20
            assert end[1] == 35 or np.isnan(end[1])
    assert len(result.epoch) == 6  # type: ignore[union-attr]
    assert result.notes == ()  # type: ignore[union-attr]


@pytest.mark.parametrize("name", BASES)
@pytest.mark.parametrize("crlf", [False, True])
def test_blocks_of_any_size(path, name, crlf):
    """Records, numbers and line ends may be anywhere in a block, or between two."""
    data = BASES[name]()
    path.write_bytes(data.replace(b"\n", b"\r\n") if crlf else data)
    expected = outcome(path, ALL)
    assert isinstance(expected, Observations)
    for block in (11, 79, 80, 81, 160, 500, 1001, 1002, 1003, 4096):
        assert not difference(expected, outcome(path, ALL, block=block))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the file is empty"),
        (b"\xef\xbb\xbf", "the file is empty"),
        (b"\n\n\n", "the file is empty"),
        (
            b"\0" * 5000,
            "not a RINEX file: line 1 must be the record 'RINEX VERSION / TYPE', but holds binary data",
        ),
        (
            b"hello, world",
            "not a RINEX file: line 1 must be the record 'RINEX VERSION / TYPE', but holds 'hello, world'",
        ),
        (bytes(range(256)) * 20, "not a RINEX file"),
        (b"<html>\n<body>404 not found</body>\n", "not a RINEX file"),
    ],
)
def test_what_is_no_rinex_is_refused(path, data, reason):
    """In one line that says what was expected and what is there."""
    assert refusal(path, data).startswith(reason)


@each_version
@pytest.mark.parametrize(
    ("start", "reason"),
    [
        (
            b"\n     3\n.04",
            "not a RINEX file: line 2 must be the record 'RINEX VERSION / TYPE', but holds '3'",
        ),
        (b"\n" * 5000 + b"x\n", "not a RINEX file: line 5001 must be "),
        (b"\n\xef\xbb\xbfhello\n", "not a RINEX file: line 2 must be "),
        (b"x" * 300, "not a RINEX file: line 1 must be "),
    ],
)
def test_a_wrong_start_is_told_with_its_line(path, version, start, reason):
    """However much of the file is read before that is known."""
    path.write_bytes(start + plain(version))
    result = alike(path, blocks=(1, 7, 100, 4096))
    assert isinstance(result, str)
    assert result.startswith(reason)


@each_version
@pytest.mark.parametrize("start", [b"\n" * 3000, b" \t\n\x0c\n" * 200, b"\n\xef\xbb\xbf\r\n"])
def test_blank_lines_before_the_header_mean_nothing(path, version, start):
    """However many there are."""
    expected = read(path, plain(version))
    path.write_bytes(start + plain(version))
    result = alike(path, blocks=(1, 7, 100, 4096))
    assert isinstance(result, Observations), result
    assert (result.epoch.tolist(), result.notes) == (expected.epoch.tolist(), ())


def test_letters_beyond_ascii_in_a_header(path):
    """Names of stations and people: as UTF-8 where they are, and never a reason to refuse."""
    data = plain(3.04)
    for station, encoding, width in (
        ("Ås", "utf-8", 3),
        ("Ås", "latin-1", 4),
        ("桜島", "utf-8", 4),
        ("桜島", "utf-8", 0),
    ):
        written = data.replace(
            b"TEST  ", station.encode(encoding).ljust(6) if not width else f"{station:6}".encode(encoding)
        )
        result = read(path, written)
        assert len(result.epoch) == 8
        assert result.station == station


def test_a_form_feed_or_another_separator_is_no_line_end(path):
    """Only CR and LF end lines: what Python takes for line ends beside them does not shift line numbers."""
    lines = plain(3.04).replace(b"TEST", b"T\x0c\x0b\x1c\x85\xe2\x80\xa8T").split(b"\n")
    lines[10] = lines[10].replace(b"45.000", b"45x000")
    result = read(path, b"\n".join(lines))
    assert seconds(result) == [0, 5, 15, 20, 25, 30, 35]
    assert "at line 10" in result.notes[0]
