"""Both readers give the same epochs, signals and values, and refuse the same files for the same reason."""

from __future__ import annotations

import gzip
import pickle
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from canvod.launch.runtime import decompress as unpacking
from canvod.launch.runtime.observations import (
    READERS,
    VARIABLE_DTYPES,
    NoReaderError,
    Observations,
    UnreadableFileError,
    available_readers,
    read_observations,
    resolve_reader,
)
from canvod.launch.simulate.header import RinexHeader
from canvod.launch.simulate.rinex import write_rinex
from hypothesis_profiles import EXAMPLES
from rinex211 import write_rinex211

ALL = tuple(VARIABLE_DTYPES)
INSTALLED = available_readers()
EPOCHS = np.datetime64("2025-01-01T00:00:00", "ns") + np.arange(4) * np.timedelta64(5, "s")

each_reader = pytest.mark.parametrize("reader", INSTALLED)


def outcome(path: Path, reader: str, variables: tuple[str, ...] = ("SNR",)) -> Observations | str:
    """Return what a reader made of a file: observations, or the reason why not."""
    try:
        return read_observations(str(path), reader, variables)
    except UnreadableFileError as exc:
        return exc.reason


def check(result: Observations, variables: tuple[str, ...] = ("SNR",)) -> None:
    """Assert what holds of all observations."""
    assert len(result.epoch) > 0
    assert result.epoch.dtype == np.int64
    assert all(a < b for a, b in pairwise(result.epoch.tolist()))
    assert list(result.sid) == sorted(set(result.sid))
    assert set(result.variables) == set(variables)
    for name, values in result.variables.items():
        assert values.shape == (len(result.epoch), len(result.sid))
        assert values.dtype == VARIABLE_DTYPES[name]
        assert not (values == 0).any()
    finite = [np.isfinite(values).any(axis=0) for values in result.variables.values()]
    assert np.logical_or.reduce(finite).all()


def same(path: Path, variables: tuple[str, ...] = ("SNR",)) -> Observations | str:
    """Assert that all readers installed here make the same of a file, bit by bit; return it."""
    first, *others = [outcome(path, reader, variables) for reader in INSTALLED]
    if isinstance(first, Observations):
        check(first, variables)
    for other in others:
        if isinstance(first, str) or isinstance(other, str):
            assert first == other
            continue
        assert first.sid == other.sid
        np.testing.assert_array_equal(first.epoch, other.epoch)
        for name in variables:
            np.testing.assert_array_equal(first.variables[name], other.variables[name], strict=True)
    return first


def read(path: Path, variables: tuple[str, ...] = ("SNR",)) -> Observations:
    """Return what all readers read alike."""
    result = same(path, variables)
    assert isinstance(result, Observations), result
    return result


def seconds(result: Observations) -> list[float]:
    """Epochs in seconds after the first of `EPOCHS`."""
    return [(time - EPOCHS[0].astype(np.int64)) / 1e9 for time in result.epoch.tolist()]


def small(path: Path, **observations: list[float]) -> Path:
    """Write a file of RINEX 3 with the epochs of `EPOCHS`, S1C by satellite."""
    write_rinex(path, RinexHeader(), EPOCHS, {sv: {"S1C": values} for sv, values in observations.items()})
    return path


# ---- real files -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("receiver", ["01_reference", "02_canopy"])
def test_readers_agree_on_a_real_file_in_all_variables(rosalia, receiver):
    """All four variables of a file are the same to the last bit: text becomes numbers in one way."""
    path = min((rosalia / receiver).rglob("*.rnx"))
    result = read(path, ALL)
    assert len(result.epoch) == 180
    assert result.notes == ()
    assert {sid[0] for sid in result.sid} >= set("GRESC")


@pytest.mark.slow
def test_readers_agree_on_all_real_files(rosalia):
    """SNR of all 48 files is the same to the last bit."""
    files = sorted(rosalia.rglob("*.rnx"))
    assert len(files) == 48
    for path in files:
        assert len(read(path).epoch) == 180


def test_canvod_values_are_those_of_the_bare_library(rosalia):
    """What canvod-readers gives by its own defaults is what is read: epochs, and every finite value."""
    library = pytest.importorskip("canvod.readers", reason="canvod-readers not installed")
    path = min(rosalia.rglob("*.rnx"))
    expected = library.Rnxv3Obs(fpath=path).to_ds(keep_data_vars=["SNR"]).dropna("sid", how="all")
    result = read_observations(str(path), "canvod")
    assert result.sid == tuple(expected.sid.values)
    np.testing.assert_array_equal(result.variables["SNR"], expected.SNR.values, strict=True)
    np.testing.assert_array_equal(result.epoch, expected.epoch.values.astype(np.int64))


# ---- damaged files ----------------------------------------------------------------------------------------

READ = {
    # file: epochs, signals, what the notes say
    "blank_lines_in_data": (2, 76, ""),
    "crlf_line_endings": (2, 76, ""),
    "event_epoch": (1, 75, ""),
    "invalid_epoch_flag": (1, 74, "left out 1 damaged or empty epoch, at line 61: epoch flag 9 is not known"),
    "invalid_satellite_id": (1, 74, "at line 61: 'X99' is not a satellite"),
    "misaligned_observations": (1, 74, "at line 61: 'E' is not a satellite"),
    "multiple_end_of_header": (2, 76, ""),
    "non_ascii_header": (2, 76, ""),
    "null_bytes": (2, 76, ""),
    "reversed_epochs": (3, 83, ""),
    "truncated_at_epoch_boundary": (1, 75, ""),
    "zero_position": (180, 87, ""),
}
REFUSED = {
    "binary_garbage": (
        "not a RINEX file: line 1 must be the record 'RINEX VERSION / TYPE', but holds binary data"
    ),
    "duplicate_obs_types": (
        "line 13: a second 'SYS / # / OBS TYPES' record of system G; the first is at line 12"
    ),
    "header_only": "no epochs: the file ends after its header",
    "missing_obs_types": "no 'SYS / # / OBS TYPES' record in the header: what was observed is not known",
    "truncated_mid_epoch": (
        "no epochs: left out 1 damaged or empty epoch, at line 61: 35 satellites announced, 1 found"
    ),
    "wrong_version_v2": (
        "wrong version: line 1 says RINEX 2.11, but the header has 'SYS / # / OBS TYPES' records, "
        "those of RINEX 3"
    ),
}


def test_every_damaged_file_is_in_the_tables(invalid):
    """No damaged file is forgotten here."""
    assert {path.stem for path in invalid.iterdir()} == READ.keys() | REFUSED.keys()


@pytest.mark.parametrize("name", READ)
def test_what_can_be_read_of_a_damaged_file_is_read(invalid, name):
    """The sound epochs are kept, and the notes say what was left out; the same with every reader."""
    n_epochs, n_signals, note = READ[name]
    result = read(invalid / f"{name}.25o")
    assert (len(result.epoch), len(result.sid)) == (n_epochs, n_signals)
    assert note in " ".join(result.notes)
    assert bool(note) == bool(result.notes)
    for reader in INSTALLED:
        assert read_observations(str(invalid / f"{name}.25o"), reader).notes == result.notes


@pytest.mark.parametrize("name", REFUSED)
def test_a_hopeless_file_is_refused_with_its_reason(invalid, name):
    """The reason is the same with every reader, and is one that a user understands."""
    assert same(invalid / f"{name}.25o") == REFUSED[name]


def test_damage_counts_where_it_is_read(invalid):
    """Bytes of zero in a pseudorange cost its epoch only where pseudoranges are wanted."""
    result = read(invalid / "null_bytes.25o", ("SNR", "Pseudorange"))
    assert len(result.epoch) == 1
    assert "at line 61: satellite G02" in result.notes[0]


@pytest.mark.parametrize("version", [2, 3])
@settings(
    max_examples=EXAMPLES // 4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_readers_agree_on_whatever_damage(tmp_path, version, data):
    """A file with lines lost, doubled, cut or overwritten is read alike, or refused for the same reason."""
    path = tmp_path / "damaged.25o"
    values = {
        "G01": [40.5] * 4,
        "G02": [np.nan, 41, 42, np.nan],
        "E05": [30.25, 0, 31, 32],
        "R03": [20.0] * 4,
    }
    if version == 2:
        write_rinex211(path, EPOCHS, {sv: {"S1": each} for sv, each in values.items()}, types=["C1", "S1"])
    else:
        small(path, **values)
    lines = path.read_text("ascii").splitlines()
    start = data.draw(st.sampled_from([0, lines.index(f"{'':60}END OF HEADER       ") + 1]))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(start, len(lines) - 1))
        match data.draw(st.sampled_from(["lose", "double", "cut", "overwrite", "swap"])):
            case "lose" if len(lines) > start + 1:
                del lines[at]
            case "double":
                lines.insert(at, lines[at])
            case "cut":
                lines[at] = lines[at][: data.draw(st.integers(0, len(lines[at])))]
            case "overwrite":
                column = data.draw(st.integers(0, 30))
                text = data.draw(
                    st.sampled_from(["9", " ", "-", ".", ">", "#", "X", "\0", "é", "1e5", "nan", "\n"])
                )
                lines[at] = lines[at][:column] + text + lines[at][column + len(text) :]
            case "swap":
                lines[at], lines[-1] = lines[-1], lines[at]
        start = min(start, len(lines) - 1)
    path.write_text("\n".join(lines), encoding="utf-8")
    result = same(path)
    if isinstance(result, str):
        assert "\n" not in result


# ---- epochs and satellites --------------------------------------------------------------------------------


def test_epochs_are_sorted_and_the_first_of_repeated_ones_is_kept(tmp_path):
    """An epoch that comes twice is counted, and its first values stay."""
    path = tmp_path / "repeated.rnx"
    write_rinex(path, RinexHeader(), EPOCHS[[2, 0, 2, 1]], {"G01": {"S1C": [42.0, 40.0, 99.0, 41.0]}})
    result = read(path)
    assert seconds(result) == [0, 5, 10]
    assert result.variables["SNR"].ravel().tolist() == [40, 41, 42]
    assert result.notes == ("left out 1 repeated epoch; the first of each is kept",)


def test_gaps_and_single_epochs_are_no_reason_to_refuse(tmp_path):
    """A file with a gap is stored with what it has; so is one of a single epoch."""
    path = tmp_path / "gap.rnx"
    write_rinex(path, RinexHeader(), EPOCHS[[0, 3]], {"G01": {"S1C": [40.0, 41.0]}})
    assert seconds(read(path)) == [0, 15]
    write_rinex(path, RinexHeader(), EPOCHS[:1], {"G01": {"S1C": [40.0]}})
    assert seconds(read(path)) == [0]


def test_fractions_of_a_second_are_kept_to_the_100_ns_of_the_format(tmp_path):
    """10 Hz epochs do not lose a microsecond on the way through floats."""
    times = EPOCHS[0] + np.arange(30) * np.timedelta64(100, "ms")
    path = tmp_path / "fast.rnx"
    write_rinex(path, RinexHeader(), times, {"G01": {"S1C": np.full(30, 40.0)}})
    np.testing.assert_array_equal(read(path).epoch, times.astype(np.int64))
    old = write_rinex211(tmp_path / "fast001a.25o", times, {"G01": {"S1": np.full(30, 40.0)}})
    np.testing.assert_array_equal(read(old).epoch, times.astype(np.int64))


def test_zero_is_missing_and_blank_satellites_shift_nothing(tmp_path):
    """0.0 and blanks are no observations; a satellite without any takes no value of its neighbour."""
    path = tmp_path / "blank.rnx"
    small(path, G01=[40, 0, 42, 43], G02=[50] * 4, G03=[60] * 4)
    path.write_text(path.read_text("ascii").replace("G02        50.000", "G02", 2), encoding="ascii")
    result = read(path)
    expected = [[40, np.nan, 60], [np.nan, np.nan, 60], [42, 50, 60], [43, 50, 60]]
    np.testing.assert_array_equal(result.variables["SNR"], expected)


def test_satellites_that_the_reference_does_not_know_are_left_out(tmp_path):
    """R25 has no place in canvod-readers' signals: with every reader it is left out."""
    path = small(tmp_path / "slots.rnx", R24=[40] * 4, R25=[41] * 4)
    assert read(path).sid == ("R24|G1|C",)
    assert read_observations(str(path), "georinex").notes == (
        "left out satellites that canvod-readers does not know: R25",
    )


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("> 2025 01 01 00 00  5.0", "> 2025 13 01 00 00  5.0"),
        ("> 2025 01 01 00 00  5.0", "> 2025 01 01 00 00 75.0"),
        ("> 2025 01 01 00 00  5.0", "> 9025 01 01 00 00  5.0"),
        ("> 2025 01 01 00 00  5.0", "> 2035 01 01 00 00  5.0"),
    ],
)
def test_an_impossible_time_costs_its_epoch_only(tmp_path, old, new):
    """One epoch of a month 13 does not cost the file; the year 9025 is not taken for another."""
    path = small(tmp_path / "month.rnx", G01=[40, 41, 42, 43])
    path.write_text(path.read_text("ascii").replace(old, new), encoding="ascii")
    result = read(path)
    assert seconds(result) == [0, 10, 15]
    assert "damaged or empty epoch, at line" in result.notes[0]
    assert "not a time" in result.notes[0] or "more than a year from TIME OF FIRST OBS" in result.notes[0]


def test_a_header_record_that_nobody_needs_costs_nothing(tmp_path):
    """RINEX allows local time (LCL) for the date of the file; canvod-readers stops there."""
    path = small(tmp_path / "local.rnx", G01=[40] * 4)
    path.write_text(path.read_text("ascii").replace(" UTC PGM", " LCL PGM"), encoding="ascii")
    assert seconds(read(path)) == [0, 5, 10, 15]


def test_no_value_of_the_wanted_variables_is_a_reason(tmp_path):
    """A file that has SNR only cannot be read for Doppler; the reason says which variable."""
    path = small(tmp_path / "snr.rnx", G01=[40] * 4)
    assert same(path, ("Doppler",)) == "no signals: none of the 4 epochs has a value of Doppler"


@each_reader
def test_the_name_of_a_file_does_not_matter(tmp_path, reader):
    """A file that is named on purpose is read whatever it is called."""
    path = small(tmp_path / "my observations.txt", G01=[40] * 4)
    assert read_observations(str(path), reader).path == str(path)


# ---- RINEX 2.11 -------------------------------------------------------------------------------------------


def observed_211(n_satellites: int) -> dict[str, dict[str, list[float]]]:
    """Observations of many satellites of all systems of RINEX 2.11."""
    names = [f"{system}{n:02d}" for n in range(1, 13) for system in "GRE"][:n_satellites]
    return {
        sv: {
            kind: [100.5 * i + j, 101, np.nan if kind != "S1" else 102, 0]
            for j, kind in enumerate(["C1", "P2", "L1", "D1", "S1", "S2"], 1)
        }
        for i, sv in enumerate([*names, "S48"])
    }


@pytest.mark.parametrize("n_satellites", [1, 11, 12, 30])
def test_readers_agree_on_rinex_211(tmp_path, n_satellites):
    """Epochs of more than 12 satellites, satellites of several lines, SBAS above 36: all alike."""
    path = write_rinex211(
        tmp_path / "simr001a.25o",
        EPOCHS,
        observed_211(n_satellites),
        types=["C1", "P2", "L1", "D1", "S1", "S2"],
    )
    result = read(path, ALL)
    assert {"G01|L1|C", "G01|L1|u", "G01|L2|p", "S48|L1|C"} <= set(result.sid)
    assert seconds(result) == [0, 5, 10, 15]


def test_satellites_of_other_systems_in_rinex_211_are_no_satellites_of_gps(tmp_path):
    """Some writers put BeiDou into 2.11; canvod-readers alone would read C05 as G05."""
    path = write_rinex211(
        tmp_path / "mixd001a.25o", EPOCHS, {"G05": {"S1": [40] * 4}, "G06": {"S1": [50] * 4}}
    )
    path.write_text(path.read_text("ascii").replace("G05", "C05"), encoding="ascii")
    result = read(path)
    assert result.sid == ("G06|L1|u",)
    assert result.notes == ("left out satellites that RINEX 2.11 does not have: C05",)


@pytest.mark.parametrize("line", ["epoch", "satellite", "end"])
def test_damage_to_rinex_211_costs_its_epoch(tmp_path, line):
    """After damage the next epoch is found again; what was lost is told with its line."""
    path = write_rinex211(tmp_path / "dama001a.25o", EPOCHS, observed_211(14), types=["S1", "S2"])
    lines = path.read_text("ascii").splitlines()
    starts = [i for i, text in enumerate(lines) if text.startswith(" 25  1  1")]
    if line == "epoch":
        lines[starts[1]] = lines[starts[1]][:20]
    elif line == "satellite":
        del lines[starts[1] + 3]
    else:
        lines = lines[: starts[3] + 4]
    path.write_text("\n".join(lines), encoding="ascii")
    result = read(path)
    assert f"at line {starts[3 if line == 'end' else 1] + 1}" in result.notes[0]
    assert 5.0 not in seconds(result) or line == "end"


# ---- packed files -----------------------------------------------------------------------------------------


def packed(plain: bytes, how: str) -> bytes:
    """Pack a file as data centres do."""
    hatanaka = pytest.importorskip("hatanaka")
    ncompress = pytest.importorskip("ncompress")
    for step in how.split("+"):
        plain = {"crx": hatanaka.rnx2crx, "gz": gzip.compress, "Z": ncompress.compress}[step](plain)
    return plain


@each_reader
@pytest.mark.parametrize("how", ["gz", "Z", "crx", "crx+gz", "crx+Z"])
@pytest.mark.parametrize("version", [2, 3])
def test_packed_files_are_read_like_plain_ones(tmp_path, reader, how, version):
    """Packing changes nothing, and leaves nothing behind."""
    plain = tmp_path / "simr001a.25o"
    if version == 2:
        write_rinex211(plain, EPOCHS, observed_211(14), types=["S1", "S2", "C1", "L1", "D1", "P2"])
    else:
        small(plain, G01=[40, 41, 42, 43], E05=[30] * 4)
    expected = read_observations(str(plain), reader)
    other = tmp_path / "packed"
    other.write_bytes(packed(plain.read_bytes(), how))
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    result = read_observations(str(other), reader, scratch_dir=str(scratch))
    assert result.sid == expected.sid
    np.testing.assert_array_equal(result.variables["SNR"], expected.variables["SNR"])
    assert list(scratch.iterdir()) == []


@each_reader
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (gzip.compress(b"x" * 5000)[:-9], "damaged gzip file"),
        (b"\x1f\x8bnot gzip at all", "damaged gzip file"),
        (b"\x1f\x9d\x90\xff\xff\xff\xff\xff", "damaged .Z file"),
        (b"PK\x03\x04", "packed with zip, which is not supported"),
        (b"BZh91AY", "packed with bzip2, which is not supported"),
        (
            b"1.0                 COMPACT RINEX FORMAT                    CRINEX VERS   / TYPE\nx",
            "damaged Hatanaka file",
        ),
        (b"", "the file is empty"),
    ],
)
def test_damaged_packed_files_are_refused(tmp_path, reader, content, reason):
    """A packed file that cannot be unpacked is refused in one line."""
    path = tmp_path / "packed.gz"
    path.write_bytes(content)
    assert str(outcome(path, reader)).startswith(reason)


@pytest.mark.parametrize("how", ["gz", "Z", "crx"])
def test_a_file_that_unpacks_to_too_much_is_refused(tmp_path, how):
    """The limit holds for each way of packing, before memory or disk is filled."""
    plain = small(tmp_path / "plain.rnx", G01=[40] * 4, G02=[41] * 4).read_bytes()
    path = tmp_path / "packed"
    path.write_bytes(packed(plain, how))
    with pytest.raises(
        UnreadableFileError, match="unpacks to more than 600 bytes, the most that is accepted"
    ):
        unpacking.decompress(str(path), str(tmp_path), limit_bytes=600)


def test_the_bound_on_hatanaka_is_above_what_comes_out(rosalia):
    """A real file passes a limit that is a few times its size: the bound is not far too high."""
    hatanaka = pytest.importorskip("hatanaka")
    plain = min(rosalia.rglob("*.rnx")).read_bytes()
    unpacked = unpacking.crx2rnx(hatanaka.rnx2crx(plain), 3 * len(plain))
    assert unpacked.count(b"\n") == plain.count(b"\n")


def test_without_hatanaka_the_remedy_is_named(tmp_path, monkeypatch):
    """Plain and gzip files need no package; the others name the one that is missing."""
    plain = small(tmp_path / "plain.rnx", G01=[40] * 4)
    files = {how: tmp_path / how for how in ("gz", "Z", "crx")}
    for how, path in files.items():
        path.write_bytes(packed(plain.read_bytes(), how))
    for module in ("hatanaka", "ncompress"):
        monkeypatch.setitem(sys.modules, module, None)
    unpacking.decompress(str(files["gz"]), str(tmp_path))
    for how in ("Z", "crx"):
        with pytest.raises(
            UnreadableFileError, match="install the package hatanaka where the files are read"
        ):
            unpacking.decompress(str(files[how]), str(tmp_path))


# ---- the interface ----------------------------------------------------------------------------------------


@each_reader
def test_a_file_that_cannot_be_opened_is_unreadable(tmp_path, reader):
    """A file that vanished, or a folder, is refused like any other; no OSError comes through."""
    assert outcome(tmp_path / "gone.rnx", reader) == "cannot be opened: No such file or directory"
    assert outcome(tmp_path, reader) == "cannot be opened: Is a directory"


@each_reader
def test_memory_errors_are_not_swallowed(tmp_path, reader, monkeypatch):
    """Running out of memory says nothing about the file."""
    path = small(tmp_path / "plain.rnx", G01=[40] * 4)
    read_observations(str(path), reader)

    def out_of_memory(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(np, "full", out_of_memory)
    with pytest.raises(MemoryError):
        read_observations(str(path), reader)


@each_reader
def test_readers_print_nothing(invalid, reader):
    """What the libraries say of damaged epochs is told in the notes, not on the stdout of a worker."""
    path = str(invalid / "invalid_satellite_id.25o")
    program = (
        "from canvod.launch.runtime.observations import read_observations\n"
        f"read_observations({path!r}, {reader!r})\n"
    )
    # In a process of its own, as on a worker: here other tests have set structlog up in ways of their own.
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=120)
    assert not done.stdout


def test_errors_cross_processes():
    """The reason survives pickling, which all that a worker raises goes through."""
    error = pickle.loads(pickle.dumps(UnreadableFileError("line 3: no")))  # noqa: S301 - its own dump
    assert (error.reason, str(error)) == ("line 3: no", "line 3: no")


def test_auto_is_the_first_reader_that_is_installed(monkeypatch):
    """canvod-readers comes first; a reader that is not installed is refused with what installs it."""
    assert resolve_reader("auto") == INSTALLED[0]
    assert [resolve_reader(name) for name in INSTALLED] == list(INSTALLED)
    monkeypatch.setitem(READERS, "canvod", "no_such_module.readers")
    assert resolve_reader("auto") == "georinex"
    with pytest.raises(NoReaderError, match=r"pip install canvod-readers \(Python 3.14 or newer\)"):
        resolve_reader("canvod")
    monkeypatch.setitem(READERS, "georinex", "no_such_module")
    with pytest.raises(NoReaderError, match="no reader of observation files is installed here"):
        resolve_reader("auto")


def test_wrong_arguments_are_no_fault_of_the_file(tmp_path):
    """An unknown reader or variable is a ValueError that lists what there is."""
    with pytest.raises(ValueError, match="'magic' is not a reader; auto, canvod and georinex are"):
        read_observations("x", "magic")
    with pytest.raises(ValueError, match="one or more of SNR, Pseudorange, Phase, Doppler"):
        read_observations("x", "georinex", ("snr",))
