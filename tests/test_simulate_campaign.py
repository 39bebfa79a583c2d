"""Campaigns of simulated files: names, determinism, refusals, and the command."""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import sys
import tempfile
from datetime import timedelta
from pathlib import Path

import hatanaka
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from canvod.launch.cli.simulate import next_command, parse_position
from canvod.launch.errors import InputError
from canvod.launch.readers import read_observations
from canvod.launch.simulate import DEFAULT_POSITION, Position, observe, simulate
from canvod.launch.simulate.campaign import BYTES_PER_EPOCH, _Campaign, code_of_duration
from oracles import oracle

BANDS = {
    "G1C": "L1|C",
    "G2W": "L2|W",
    "G2L": "L2|L",
    "R1C": "G1|C",
    "R2C": "G2|C",
    "E1C": "E1|C",
    "E5Q": "E5a|Q",
    "E7Q": "E5b|Q",
    "C2I": "B1I|I",
    "C6I": "B3I|I",
}
LONG_NAME = re.compile(r"[A-Z0-9]{4}\d\d[A-Z]{3}_R_\d{11}_\d\d[MHD]_\d\d[ZSMH]_MO\.rnx")
DEFAULTS = {
    "directory": Path("/campaign"),
    "receivers": 2,
    "seed": 0,
    "position": DEFAULT_POSITION,
    "elevation_mask": 5.0,
    "compress": False,
}
EPOCHS = np.datetime64("2025-01-01", "ns") + np.arange(0, 900, 30) * np.timedelta64(1, "s")


@pytest.fixture(scope="module")
def campaign(tmp_path_factory):
    """Half an hour of three receivers, an epoch every 30 s."""
    folder = tmp_path_factory.mktemp("campaign")
    return simulate(folder, hours=0.5, receivers=3, interval_s=30)


def contents(folder):
    """All files below a folder, by relative path."""
    return {
        str(path.relative_to(folder)): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()
    }


def test_files_lie_where_real_ones_do(campaign):
    """Receiver, day and long file name of RINEX 3.04 make the path, and the report names all files."""
    names = [str(path.relative_to(campaign.directory)) for path in campaign.files]
    assert names == [
        "01_reference/25001/SIMR01XXX_R_20250010000_15M_30S_MO.rnx",
        "01_reference/25001/SIMR01XXX_R_20250010015_15M_30S_MO.rnx",
        "02_canopy/25001/SIMA01XXX_R_20250010000_15M_30S_MO.rnx",
        "02_canopy/25001/SIMA01XXX_R_20250010015_15M_30S_MO.rnx",
        "03_canopy/25001/SIMA02XXX_R_20250010000_15M_30S_MO.rnx",
        "03_canopy/25001/SIMA02XXX_R_20250010015_15M_30S_MO.rnx",
    ]
    assert sorted(contents(campaign.directory)) == sorted(names)
    assert campaign.bytes == sum(len(content) for content in contents(campaign.directory).values())
    assert (campaign.epochs, campaign.written) == (60, 6)
    assert 30 <= campaign.satellites <= 60


def test_the_estimate_of_disk_space_is_an_upper_one(tmp_path):
    """No file is larger than what is reserved for its epochs, even where all that is above ground is seen."""
    report = simulate(tmp_path, hours=12, receivers=1, interval_s=300, minutes_per_file=720, elevation_mask=0)
    assert report.bytes < report.epochs * BYTES_PER_EPOCH


def test_an_epoch_has_8_to_45_satellites(campaign):
    """Epoch lines of the reference count what is in view; every record has at least one value."""
    lines = [line for path in campaign.files[:2] for line in path.read_text().splitlines()]
    counts = [int(line[32:35]) for line in lines if line.startswith(">")]
    assert len(counts) == 60
    assert min(counts) >= 8
    assert max(counts) <= 45
    assert all(line[3:].strip() for line in lines if re.match(r"[GREC]\d\d ", line))


def test_equal_seeds_make_equal_files_whatever_else_is_asked_for(campaign, tmp_path):
    """Fewer hours and receivers, and an extension afterwards, give the same bytes; another seed does not."""
    whole = contents(campaign.directory)
    first = simulate(tmp_path / "a", hours=0.25, receivers=1, interval_s=30)
    assert contents(tmp_path / "a").items() <= whole.items()
    before = first.files[0].stat().st_mtime_ns
    again = simulate(tmp_path / "a", hours=0.5, receivers=3, interval_s=30)
    assert contents(tmp_path / "a") == whole
    assert again.written == 5
    assert again.satellites == campaign.satellites
    assert first.files[0].stat().st_mtime_ns == before
    late = simulate(tmp_path / "b", hours=0.25, start="2025-01-01T00:15", interval_s=30)
    assert contents(late.directory).items() <= whole.items()
    other = simulate(tmp_path / "c", hours=0.25, receivers=1, interval_s=30, seed=1)
    assert contents(other.directory).keys() <= whole.keys()
    assert not contents(other.directory).items() <= whole.items()


def test_compressed_files_have_the_same_content(campaign, tmp_path):
    """With compression the name ends in .gz, and what is inside is the same; twice gives the same bytes."""
    for folder in ("a", "b"):
        simulate(tmp_path / folder, hours=0.25, receivers=1, interval_s=30, compress=True)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    ((name, packed),) = contents(tmp_path / "a").items()
    assert name.endswith("_MO.rnx.gz")
    assert gzip.decompress(packed) == campaign.files[0].read_bytes()


def simulated(receiver):
    """Observe what the first file of a receiver holds."""
    return observe(EPOCHS, seed=0, receiver=receiver, position=DEFAULT_POSITION, elevation_mask=5.0)


def expected_snr(observed):
    """SNR by signal identifier, rounded as in the file."""
    return {
        f"{satellite}|{BANDS[satellite[0] + name[1:]]}": np.round(values, 3)
        for satellite, columns in observed.items()
        for name, values in columns.items()
        if name[0] == "S"
    }


@pytest.mark.parametrize("receiver", [1, 2])
def test_our_reader_gives_what_was_simulated(campaign, receiver):
    """The epochs and strengths that were simulated, all of them and no other."""
    observations = read_observations(str(campaign.files[2 * receiver - 2]), ("SNR",), "rinex")
    assert observations.epoch.astype("datetime64[ns]").tolist() == EPOCHS.tolist()
    expected = expected_snr(simulated(receiver))
    assert set(observations.sid) == set(expected)
    for column, sid in enumerate(observations.sid):
        np.testing.assert_allclose(observations.variables["SNR"][:, column], expected[sid], atol=6e-4)


@pytest.mark.parametrize("receiver", [1, 2])
def test_canvod_readers_gives_what_was_simulated(campaign, receiver):
    """The reference reader has the epochs and strengths that were simulated, all of them and no other."""
    readers = oracle("canvod.readers")
    dataset = readers.Rnxv3Obs(fpath=campaign.files[2 * receiver - 2]).to_ds(keep_data_vars=["SNR"])
    assert dataset["epoch"].values.astype("datetime64[ns]").tolist() == EPOCHS.tolist()
    expected = expected_snr(simulated(receiver))
    snr = dataset["SNR"].transpose("epoch", "sid")
    present = snr.notnull().any("epoch").values
    assert set(snr["sid"].values[present]) == set(expected)
    for sid, values in expected.items():
        np.testing.assert_allclose(snr.sel(sid=sid).values, values, atol=6e-4)


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("receiver", [1, 2])
def test_georinex_gives_what_was_simulated(campaign, receiver):
    """The second reader has the epochs and strengths that were simulated."""
    georinex = oracle("georinex")
    dataset = georinex.load(campaign.files[2 * receiver - 2], meas=["S"])
    assert dataset["time"].values.astype("datetime64[ns]").tolist() == EPOCHS.tolist()
    for satellite, columns in simulated(receiver).items():
        for name, values in columns.items():
            if name[0] == "S":
                np.testing.assert_allclose(dataset[name].sel(sv=satellite), values, atol=6e-4)


def test_crx2rnx_restores_a_simulated_file(campaign, tmp_path):
    """A file goes through Compact RINEX, gzip and compress, and comes back line by line, value by value."""
    content = campaign.files[2].read_bytes()
    expected = [line.rstrip() for line in content.splitlines()]
    for compression in ("gz", "Z"):
        path = tmp_path / f"file.crx.{compression}"
        path.write_bytes(hatanaka.compress(content, compression=compression))
        # CRX2RNX leaves out blanks at the ends of lines, and the zero of 0.285.
        restored = [line.rstrip() for line in hatanaka.decompress(path).splitlines()]
        assert [re.sub(rb" (-?)\.(\d{3})", rb"\g<1>0.\2", line) for line in restored] == expected


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"hours": 0}, "hours is 0: .* greater than 0"),
        ({"hours": -1}, "hours is -1: .* greater than 0"),
        ({"hours": float("nan")}, "hours is nan: .* finite"),
        ({"hours": 0.3}, "hours is 0.3; allowed: a whole number of files of 15 minutes"),
        ({"hours": 1e-9}, "hours is 1e-09; allowed: a whole number of files of 15 minutes"),
        ({"receivers": 0, "seed": -1}, "receivers is 0: .* than or equal to 1; seed is -1: .* equal to 0"),
        ({"receivers": 100}, "receivers is 100: .* less than or equal to 99"),
        ({"interval_s": 0}, r"interval_s is 0: .* than or equal to 0\.02"),
        ({"interval_s": 0.3}, "interval is 0.3; allowed: whole seconds or minutes, or 1/N seconds"),
        ({"interval_s": 7}, "interval is 7.0; allowed: a half of 15 minutes or smaller parts"),
        ({"interval_s": 900}, "interval is 900.0; allowed: a half of 15 minutes or smaller parts"),
        ({"minutes_per_file": 7}, "minutes per file is 7; allowed: part of a day"),
        ({"minutes_per_file": 144}, "minutes per file is 144; allowed: .* up to 99 or whole hours"),
        ({"start": "now"}, "start is now: .* valid datetime"),
        ({"start": "2025-02-30"}, "start is 2025-02-30: .* outside expected range"),
        ({"start": "2025-01-01T00:00Z"}, "start is 2025-01-01T00:00Z: .* timezone"),
        ({"start": "2016-12-31"}, "start is 2016-12-31: .* than or equal to 2017-01-01"),
        ({"start": "2079-12-31T23:45", "hours": 1}, "an end before 2080"),
        ({"start": "2025-01-01T00:07"}, "start is .*; allowed: multiples of 15 minutes from midnight"),
        ({"position": Position(91, 0, 0)}, r"position\.latitude is 91: .* less than or equal to 90"),
        ({"position": Position(0, 0, float("nan"))}, r"position\.height_m is nan: .* finite"),
        ({"elevation_mask": 80}, "elevation_mask is 80: .* less than or equal to 60"),
        ({"hours": 87_840, "receivers": 99, "interval_s": 0.02}, "may need .*iB; its disk has .*iB"),
    ],
)
def test_wrong_values_are_refused_before_anything_is_written(tmp_path, wrong, message):
    """A value that is not allowed gives an error with the value and what is allowed, and no folder."""
    with pytest.raises(InputError, match=message) as caught:
        simulate(tmp_path / "new", **{"hours": 0.25, **wrong})
    assert caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_place_of_the_folder_is_refused(tmp_path):
    """Where the folder, one above it or one below it is a file, the error names it and nothing is written."""
    (tmp_path / "file").write_text("mine")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InputError, match=rf"{folder} may not be written to .*\n.*make .*/file a folder"):
            simulate(folder, hours=0.25)
    (tmp_path / "file").rename(tmp_path / "02_canopy")
    with pytest.raises(InputError, match=r"make .*/02_canopy a folder"):
        simulate(tmp_path, hours=0.25)
    assert contents(tmp_path) == {"02_canopy": b"mine"}


@pytest.fixture
def read_only_folder():
    """A folder that this user may not write to, and the user, who is not root where the tests run as root."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o555)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    yield folder, os.geteuid()
    if root:
        os.seteuid(0)
    folder.rmdir()


def test_a_folder_that_may_not_be_written_is_refused(read_only_folder):
    """Without the permission to write, the error names the folder and the user, and nothing is written."""
    folder, user = read_only_folder
    for place in (folder, folder / "below"):
        with pytest.raises(InputError, match=rf"{place} may not be written to by user {user}\n.*{folder} "):
            simulate(place, hours=0.25)


def test_other_content_is_kept_unless_forced(tmp_path):
    """A file that differs stops the campaign before the first write; --force replaces it."""
    simulate(tmp_path, hours=0.5, receivers=1, interval_s=60)
    whole = contents(tmp_path)
    first, second = sorted(whole)
    (tmp_path / first).unlink()
    (tmp_path / second).write_bytes(b"mine")
    with pytest.raises(InputError, match=r"1 of 2 files exist with other content.*nothing was written"):
        simulate(tmp_path, hours=0.5, receivers=1, interval_s=60)
    assert contents(tmp_path) == {second: b"mine"}
    assert simulate(tmp_path, hours=0.5, receivers=1, interval_s=60, force=True).written == 2
    assert contents(tmp_path) == whole


def test_progress_counts_every_file_once(tmp_path):
    """Written and compared files are reported one by one, up to the whole."""
    calls = []
    for _ in range(2):
        report = simulate(tmp_path, hours=0.5, interval_s=60, progress=lambda *done: calls.append(done))
        report.files[1].unlink()
    assert calls == [(1, 4), (2, 4), (3, 4), (4, 4)] * 2


def test_a_campaign_goes_on_over_midnight_and_new_year(tmp_path):
    """Files of two days lie in two folders, and no observation is lost between them."""
    report = simulate(tmp_path, hours=0.5, receivers=1, interval_s=60, start="2024-12-31T23:45")
    assert [str(path.relative_to(tmp_path / "01_reference")) for path in report.files] == [
        "24366/SIMR01XXX_R_20243662345_15M_01M_MO.rnx",
        "25001/SIMR01XXX_R_20250010000_15M_01M_MO.rnx",
    ]


@given(
    st.floats(allow_nan=True) | st.integers(1, 24 * 365),
    st.sampled_from([1, 15, 60, 96, 120, 144, 1440]) | st.integers(),
    st.floats(allow_nan=True) | st.sampled_from([0.02, 0.1, 0.5, 1, 5, 30, 60, 120, 3600]),
    st.integers(1, 98),
)
def test_files_are_full_and_have_long_names_or_are_refused(hours, minutes, interval_s, receiver):
    """Files cover what is asked for, each with two or more epochs and a name of its own; or none do."""
    request = {"hours": hours, "minutes_per_file": minutes, "interval_s": interval_s, "start": "2020-02-29"}
    try:
        campaign = _Campaign.model_validate(DEFAULTS | request)
    except ValidationError:
        return
    assert campaign.files >= 1
    assert campaign.files * minutes == pytest.approx(hours * 60, abs=1e-4)
    epochs, rest = divmod(campaign.file_length, campaign.interval)
    assert epochs >= 2
    assert not rest
    path = campaign._path(receiver, campaign.start)
    assert LONG_NAME.fullmatch(path.name)
    assert path.name != campaign._path(receiver, campaign.start + campaign.file_length).name
    assert path.name != campaign._path(receiver + 1, campaign.start).name


@given(st.floats(0.02, 86_400))
def test_a_code_tells_its_duration(seconds):
    """Two digits and a unit, from which the duration follows; else there is none."""
    duration = timedelta(seconds=seconds)
    code = code_of_duration(duration)
    if code is not None:
        count, unit = int(code[:2]), code[2:]
        units = {"D": 86_400, "H": 3_600, "M": 60, "S": 1}
        assert timedelta(seconds=1 / count if unit == "Z" else count * units[unit]) == duration


def run(*arguments):
    """Run the command as a user does."""
    return subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; from canvod.launch.cli import main; sys.exit(main())",
            *arguments,
        ],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": "200"},
    )


def test_the_command_writes_and_says_what_to_do_next(tmp_path):
    """The summary counts files and satellites, and ends with the command that ingests them."""
    folder = tmp_path / "with blank"
    command = ["simulate", str(folder), "--hours", "0.25", "--interval", "60", "--position", "-33.9,151.2,50"]
    result = run(*command)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    assert re.match(r"2 files written: \d+ KiB, ", result.stdout)
    assert result.stdout.splitlines()[-1] == (
        f"Next: canvod-launch ingest '{folder}/01_reference' "
        f"--store '{folder}/store' --group sim/reference_01"
    )
    again = json.loads(run(*command, "--json").stdout)
    assert (again["files"], again["written"], again["epochs"]) == (2, 0, 15)
    assert again["folders"] == [f"{folder}/01_reference", f"{folder}/02_canopy"]


def test_the_command_refuses_with_a_readable_error(tmp_path):
    """A wrong value ends with status 1, one error without traceback, and no folder."""
    result = run("simulate", str(tmp_path / "new"), "--hours", "0")
    assert result.returncode == 1
    assert "hours is 0.0: input should be greater than 0" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "new").exists()


def test_positions_are_three_numbers():
    """LAT,LON,HEIGHT is read as it stands; anything else is refused with an example."""
    assert parse_position("-33.9,151.2,50") == Position(-33.9, 151.2, 50.0)
    for text in ("1,2", "1,2,3,4", "a,b,c", ""):
        with pytest.raises(InputError, match="three numbers, LAT,LON,HEIGHT"):
            parse_position(text)


def test_the_next_command_can_be_pasted(campaign):
    """It names the folder of the reference and a store inside the campaign."""
    words = next_command(campaign).split()
    assert words[:3] == ["canvod-launch", "ingest", str(campaign.folders[0])]
