"""canvod-readers as a reader to choose: SBF, NMEA and RINEX, by the interface that every reader has."""

from __future__ import annotations

import gzip
import hashlib
import struct
import tempfile
from binascii import crc_hqx
from functools import reduce
from operator import xor

import numpy as np
import pytest

pytest.importorskip("canvod.readers", reason="canvod-readers is not installed (needs Python 3.14)")

from canvod.launch.readers import UnreadableFileError, read_observations
from ingest_files import true_snr, write_window

GPS_EPOCH = np.datetime64("1980-01-06", "ns")


def sbf_block(number, body):
    """Return a block of SBF: sync, CRC, ID, length, body."""
    body += b"\0" * (-len(body) % 4)
    checked = struct.pack("<HH", number, 8 + len(body)) + body
    return b"$@" + struct.pack("<H", crc_hqx(checked, 0)) + checked


def sbf_epoch(week, tow_s, strengths):
    """Return a MeasEpoch block: satellites of GPS with their L1 C/A strengths in quarters of dB-Hz."""
    body = struct.pack("<IHBBBBBB", round(tow_s * 1000), week, len(strengths), 20, 12, 0, 0, 0)
    for channel, (svid, snr) in enumerate(strengths.items()):
        carrier = struct.pack("<HbBHBB", 0, -128, round((snr - 10) * 4), 10, 0, 0)
        body += struct.pack("<BBBBIi", channel, 0, svid, 0, 0, -(2**31)) + carrier
    return sbf_block(4027, body)


def sentence(text):
    """Return an NMEA sentence with its checksum."""
    return f"${text}*{reduce(xor, text.encode()):02X}\r\n".encode()


@pytest.fixture
def no_scratch_left(tmp_path, monkeypatch):
    """Assert that the folder for temporary files is empty at the end."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    yield
    assert not list(scratch.iterdir())


@pytest.mark.usefixtures("no_scratch_left")
def test_sbf_is_read(tmp_path, capfd):
    """Epochs in GPS time, signals and strengths of SBF, packed or not; nothing on standard output."""
    file = tmp_path / "rosa0010.25_"
    file.write_bytes(
        sbf_epoch(2347, 259200, {1: 45.25, 12: 38.5}) + sbf_epoch(2347, 259205, {1: 45.5, 31: 30.0})
    )
    found = read_observations(str(file), ("SNR",), "canvod")
    assert found.sid == ("G01|L1|C", "G12|L1|C", "G31|L1|C")
    start = GPS_EPOCH + np.timedelta64(2347 * 7 * 86400 + 259200, "s")
    assert found.epoch.tolist() == [start.astype(int), start.astype(int) + 5_000_000_000]
    nan = np.nan
    np.testing.assert_array_equal(found.variables["SNR"], np.float32([[45.25, 38.5, nan], [45.5, nan, 30.0]]))
    assert found.digest == hashlib.sha256(file.read_bytes()).hexdigest()
    packed = tmp_path / "rosa0010.25_.gz"
    packed.write_bytes(gzip.compress(file.read_bytes()))
    again = read_observations(str(packed), ("SNR",), "canvod")
    assert (again.sid, again.epoch.tolist()) == (found.sid, found.epoch.tolist())
    assert capfd.readouterr().out == ""


@pytest.mark.usefixtures("no_scratch_left")
def test_nmea_is_read(tmp_path):
    """Strengths of GSV at the times of RMC, in GPS time; other variables are told to be missing."""
    file = tmp_path / "rosa.nmea"
    lines = [
        "GPRMC,120000.00,A,4740.0000,N,01610.0000,E,0.0,0.0,010125,,,A",
        "GPGSV,1,1,02,01,40,083,46,12,17,308,41",
        "GPRMC,120001.00,A,4740.0000,N,01610.0000,E,0.0,0.0,010125,,,A",
        "GPGSV,1,1,02,01,40,083,45,12,17,308,",
    ]
    file.write_bytes(b"".join(map(sentence, lines)))
    found = read_observations(str(file), ("SNR", "Phase"), "canvod")
    assert found.sid == ("G01|L1|C", "G12|L1|C")
    assert found.epoch[0] == np.datetime64("2025-01-01T12:00:18", "ns").astype(int)
    np.testing.assert_array_equal(found.variables["SNR"], np.float32([[46, 41], [45, np.nan]]))
    assert np.isnan(found.variables["Phase"]).all()
    assert found.notes == ("the file has no Phase",)
    with pytest.raises(UnreadableFileError, match="NMEA has SNR, and none of Phase"):
        read_observations(str(file), ("Phase",), "canvod")


@pytest.mark.usefixtures("no_scratch_left")
def test_rinex_is_read(tmp_path):
    """RINEX under any name, with its station."""
    file = write_window(tmp_path / "window.txt", 7)
    found = read_observations(str(file), ("SNR",), "canvod")
    assert found.station == "SIMULATED"
    column = found.sid.index("G01|L1|C")
    assert np.array_equal(found.variables["SNR"][:, column], true_snr("G01", np.arange(7, 17)))


@pytest.mark.usefixtures("no_scratch_left")
def test_what_canvod_readers_refuses_is_refused_with_its_reason(tmp_path, invalid):
    """One line says who refused, and why; a file of another kind is refused by us."""
    with pytest.raises(UnreadableFileError, match=r"^canvod-readers: [^\n]+$"):
        read_observations(str(invalid / "duplicate_obs_types.25o"), ("SNR",), "canvod")
    with pytest.raises(UnreadableFileError, match="canvod-readers finds no epochs"):
        read_observations(str(invalid / "header_only.25o"), ("SNR",), "canvod")
    other = tmp_path / "other"
    other.write_bytes(b"nothing of the kind")
    with pytest.raises(UnreadableFileError, match="neither RINEX 2 or 3, SBF nor NMEA"):
        read_observations(str(other), ("SNR",), "canvod")


def test_a_warning_on_standard_output_is_kept_off_it(invalid, capfd):
    """What canvod-readers prints of a date that it does not know goes to standard error."""
    path = invalid.parent / "faults" / "date_with_colons.rnx"
    read_observations(str(path), ("SNR",), "canvod")
    out, err = capfd.readouterr()
    assert out == ""
    assert "Could not parse date" in err
