"""Packed files are read like plain ones, whatever their name; damaged and oversized ones are refused."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import zipfile
from dataclasses import replace

import hatanaka
import numpy as np
import pytest

from alike import ALL, Observations, difference, outcome
from canvod.launch.readers import UnreadableFileError, content, read_observations
from canvod.launch.readers.content import Content
from rinex_mutations import BASES
from rinex_text import epoch, header, text


def zipped(data: bytes, *others: str) -> bytes:
    """Pack in a zip archive, with other members and a folder."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("folder/", "")
        for name in ("folder/some.rnx", *others):
            file.writestr(name, data)
    return archive.getvalue()


def compressed(data: bytes, max_bits: int = 12) -> bytes:
    """Pack as compress does (LZW, block mode), with codes of 9 bits and more, without clearing the table."""
    table = {bytes([i]): i for i in range(256)}
    bits, n_bits, group, pending = 0, 0, bytearray(), bytearray()
    width, free, word = 9, 257, b""
    n_codes = 0

    def emit(code: int) -> None:
        nonlocal bits, n_bits, n_codes
        bits |= code << n_bits
        n_bits += width
        n_codes += 1

    for byte in data:
        longer = word + bytes([byte])
        if longer in table:
            word = longer
            continue
        emit(table[word])
        if free < 1 << max_bits:
            table[longer] = free
            free += 1
            if free > (1 << width) and width < max_bits:  # codes of one width come in groups of eight
                n_bits += width * (-n_codes % 8)
                n_codes = 0
                pending += bits.to_bytes(-(-n_bits // 8), "little")
                bits, n_bits = 0, 0
                width += 1
        word = bytes([byte])
    emit(table[word])
    group += pending + bits.to_bytes(-(-n_bits // 8), "little")
    return b"\x1f\x9d" + bytes([0x80 | max_bits]) + bytes(group)


PACKINGS = {
    "plain": lambda data: data,
    "gz": gzip.compress,
    "gz of two members": lambda data: gzip.compress(data[:1000]) + gzip.compress(data[1000:]),
    "bz2": bz2.compress,
    "zip": zipped,
    "Z": compressed,
    "Z16": lambda data: compressed(data, 16),
}


@pytest.fixture
def path(tmp_path):
    """A file to write, with a name that says nothing."""
    return tmp_path / "observations"


def regular(version: float) -> bytes:
    """Return a file that RNX2CRX takes."""
    names = [f"{system}{n:02d}" for system in "GR" for n in range(1, 9)]
    codes = ["S1", "C1", "L1"] if version < 3 else {"G": ["S1C", "C1C", "L1C"], "R": ["S1C", "C1C", "L1C"]}
    epochs = (
        epoch(version, step, {sv: [40 + step / 8, 2e7 + step + i, 1e8 - step] for i, sv in enumerate(names)})
        for step in range(20)
    )
    return text(header(codes, version=version), *epochs)


@pytest.mark.parametrize("how", PACKINGS)
@pytest.mark.parametrize("name", BASES)
def test_packed_files_are_read_like_plain_ones(path, name, how):
    """The content decides, not the name; the digest is that of the file as it is."""
    path.write_bytes(BASES[name]())
    expected = outcome(path, ALL)
    path.write_bytes(PACKINGS[how](BASES[name]()))
    for block in (content.BLOCK_BYTES, 97, 4096):
        result = outcome(path, ALL, block=block)
        assert isinstance(result, Observations), result
        assert result.digest == hashlib.sha256(path.read_bytes()).hexdigest()
        assert same(expected, result)


def same(one: Observations | str, other: Observations | str) -> bool:
    """Whether two files hold the same."""
    assert isinstance(one, Observations)
    assert isinstance(other, Observations)
    return not difference(one, replace(other, digest=one.digest))


@pytest.mark.parametrize("how", PACKINGS)
@pytest.mark.parametrize("version", [2.11, 3.04])
def test_hatanaka_in_every_packing(path, version, how):
    """Compact RINEX 1.0 of RINEX 2 and 3.0 of RINEX 3, plain or packed."""
    path.write_bytes(regular(version))
    expected = outcome(path, ALL)
    compact = hatanaka.rnx2crx(regular(version))
    assert compact[:20].strip() in (b"1.0", b"3.0", b"3.1")
    for each in (compact, compact.replace(b"\n", b"\r\n")) if how == "plain" else (compact,):
        path.write_bytes(PACKINGS[how](each))
        for block in (content.BLOCK_BYTES, 97):
            result = outcome(path, ALL, block=block)
            assert same(expected, result), result
            assert result.digest == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("clock", ["", " 12345", " &&&&&", "3&-45 12345", "1&0 "])
def test_hatanaka_31(path, clock):
    """3.1 differs from 3.0 in its number, and in picoseconds beside the clock offset of an epoch."""
    path.write_bytes(regular(3.04))
    expected = outcome(path, ALL)
    lines = hatanaka.rnx2crx(regular(3.04)).replace(b"3.0", b"3.1", 1).split(b"\n")
    lines[next(i for i, line in enumerate(lines) if line.startswith(b">")) + 1] = clock.encode()
    path.write_bytes(b"\n".join(lines))
    assert same(expected, outcome(path, ALL))


def test_a_real_file_in_every_packing(path, rosalia):
    """All systems and codes of a receiver, through compact RINEX too."""
    plain = b"".join(min(rosalia.rglob("*.rnx")).read_bytes().splitlines(keepends=True)[:600])
    path.write_bytes(plain)
    expected = outcome(path, ALL)
    compact = hatanaka.rnx2crx(plain[: plain.rindex(b">")])
    for data in (gzip.compress(plain), bz2.compress(plain), zipped(plain), compressed(plain, 16)):
        path.write_bytes(data)
        assert same(expected, outcome(path, ALL))
    path.write_bytes(gzip.compress(compact))
    result = outcome(path, ALL)
    assert isinstance(result, Observations)
    assert isinstance(expected, Observations)
    assert result.epoch.tolist() == expected.epoch.tolist()[: len(result.epoch)]
    place = [expected.sid.index(sid) for sid in result.sid]
    for name in ALL:
        np.testing.assert_array_equal(
            result.variables[name], expected.variables[name][: len(result.epoch), place]
        )


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (gzip.compress(regular(3.04))[:500], "damaged packed file: Compressed file ended"),
        (gzip.compress(regular(3.04))[:-8] + b"\0" * 8, "damaged packed file: CRC check failed"),
        (b"\x1f\x8bnot gzip at all", "damaged packed file"),
        (b"\x1f\x8b", "damaged packed file"),
        (b"\x1f\x9d\x90\xff\xff\xff\xff\xff", "damaged .Z file"),
        (b"BZh91AY", "damaged packed file"),
        (bz2.compress(regular(3.04))[:300], "damaged packed file"),
        (b"BZh9" + b"x" * 200, "damaged packed file"),
        (b"PK\x03\x04", "damaged packed file"),
        (zipped(regular(3.04))[:-30], "damaged packed file"),
        (zipped(regular(3.04), "other.rnx"), "a zip archive of 2 files (folder/some.rnx, other.rnx)"),
        (lzma.compress(b"x"), "packed with xz, which is not supported"),
        (b"(\xb5/\xfd" + b"x" * 20, "packed with zstd, which is not supported"),
        (b"7z\xbc\xaf\x27\x1c", "packed with 7z, which is not supported"),
        (f"{'1.0':20}{'COMPACT RINEX FORMAT':40}CRINEX VERS   / TYPE\nx".encode(), "damaged Hatanaka file"),
        (hatanaka.rnx2crx(regular(3.04))[:-40], ""),
        (gzip.compress(b""), "the file is empty"),
        (gzip.compress(gzip.compress(regular(3.04))), "not a RINEX file"),
    ],
)  # fmt: skip
def test_damaged_packed_files_are_refused(path, data, reason):
    """In one line; no error of a library comes through."""
    path.write_bytes(data)
    for block in (content.BLOCK_BYTES, 97):
        result = outcome(path, block=block)
        if not reason:
            continue
        assert isinstance(result, str)
        assert result.startswith(reason)
        assert "\n" not in result


def test_an_encrypted_member_is_refused(path):
    """The bit that says so is set by hand: Python does not write such archives."""
    data = bytearray(zipped(b"x" * 100))
    for magic, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = data.rindex(magic)
        data[start + at] |= 1
    path.write_bytes(data)
    assert str(outcome(path)).startswith("zip archive: ")


@pytest.mark.parametrize("how", ["Z", "zip", "crx", "crx.gz"])
def test_a_file_that_unpacks_to_too_much_is_refused(path, monkeypatch, how):
    """What must be unpacked as a whole has a limit, which holds before memory is filled."""
    data = regular(3.04)
    pack = PACKINGS | {"crx": hatanaka.rnx2crx, "crx.gz": lambda data: gzip.compress(hatanaka.rnx2crx(data))}
    path.write_bytes(pack[how](data * 40 if how in ("Z", "zip") else data))
    monkeypatch.setattr(content.Content.__init__, "__defaults__", (600,))
    with pytest.raises(
        UnreadableFileError, match="unpacks to more than 600 bytes, the most that is accepted"
    ):
        b"".join(Content(str(path)).blocks())


def test_the_bound_on_hatanaka_is_above_what_comes_out(path, rosalia):
    """A real file passes a limit of a few times its size: the bound is not far too high."""
    plain = min(rosalia.rglob("*.rnx")).read_bytes()
    path.write_bytes(hatanaka.rnx2crx(plain))
    unpacked = b"".join(Content(str(path), 3 * len(plain)).blocks())
    assert unpacked.count(b"\n") == plain.count(b"\n")


def test_the_digest_is_that_of_the_whole_file(path):
    """Also of what follows the packed data."""
    path.write_bytes(gzip.compress(regular(3.04)) + b"\0" * 100_000)
    assert read_observations(str(path)).digest == hashlib.sha256(path.read_bytes()).hexdigest()
