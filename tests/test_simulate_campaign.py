"""Campaigns of simulated files: names, determinism, refusals, and the command."""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import hatanaka
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from canvod.launch.cli.simulate import next_command, parse_position
from canvod.launch.errors import InputError
from canvod.launch.simulate import Position, observe, simulate
from canvod.launch.simulate.campaign import BYTES_PER_EPOCH, DEFAULT_POSITION
from canvod.launch.simulate.names import file_name
from canvod.launch.simulate.request import check_files, check_interval
from oracles import oracle

BANDS = {
    "G1C": "L1|C",
    "G2W": "L2|W",
    "G2L": "L2|L",
    "G5Q": "L5|Q",
    "R1C": "G1|C",
    "R2C": "G2|C",
    "E1C": "E1|C",
    "E5Q": "E5a|Q",
    "E7Q": "E5b|Q",
    "E8Q": "E5|Q",
    "C2I": "B1I|I",
    "C7I": "B2b|I",
    "C6I": "B3I|I",
}
LONG_NAME = re.compile(r"[A-Z0-9]{4}\d\d[A-Z]{3}_R_\d{11}_\d\d[MHD]_\d\d[ZSM]_MO\.rnx")


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


def test_the_estimate_of_disk_space_is_an_upper_one(campaign):
    """No file is larger than what is reserved for its epochs."""
    assert max(path.stat().st_size for path in campaign.files) < 30 * BYTES_PER_EPOCH


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
    epochs = np.datetime64("2025-01-01", "ns") + np.arange(0, 900, 30) * np.timedelta64(1, "s")
    return observe(epochs, seed=0, receiver=receiver, position=DEFAULT_POSITION, elevation_mask=5.0)


@pytest.mark.parametrize("receiver", [1, 2])
def test_canvod_readers_gives_what_was_simulated(campaign, receiver):
    """The reference reader has the epochs and strengths that were simulated, all of them and no other."""
    readers = oracle("canvod.readers")
    observed = simulated(receiver)
    dataset = readers.Rnxv3Obs(fpath=campaign.files[2 * receiver - 2]).to_ds(keep_data_vars=["SNR"])
    assert dataset["epoch"].values.astype("datetime64[ns]").tolist() == observed.epochs.tolist()
    expected = {
        f"{satellite}|{BANDS[satellite[0] + name[1:]]}": values
        for satellite, columns in observed.observations.items()
        for name, values in columns.items()
        if name[0] == "S" and np.isfinite(values).any()
    }
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
    observed = simulated(receiver)
    dataset = georinex.load(campaign.files[2 * receiver - 2], meas=["S"])
    assert dataset["time"].values.astype("datetime64[ns]").tolist() == observed.epochs.tolist()
    for satellite, columns in observed.observations.items():
        for name, values in columns.items():
            if name[0] == "S" and np.isfinite(values).any():
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
        ({"hours": 0}, "hours is 0; allowed: more than 0"),
        ({"hours": -1}, "hours is -1; allowed: more than 0"),
        ({"hours": float("nan")}, "hours is nan; allowed"),
        ({"hours": 0.3}, "hours is 0.3; allowed: a whole number of files of 15 minutes"),
        ({"receivers": 0}, "receivers is 0; allowed: a number from 1 to 99"),
        ({"receivers": 100}, "receivers is 100; allowed: a number from 1 to 99"),
        ({"seed": -1}, "seed is -1; allowed"),
        ({"interval_s": 0}, "interval is 0; allowed: 1 to 99 whole seconds"),
        ({"interval_s": 0.3}, "interval is 0.3; allowed: 1 to 99 whole seconds"),
        ({"interval_s": 7}, "interval is 7; allowed: a part of 15 minutes without a rest"),
        ({"interval_s": 900}, "interval is 900; allowed: .* no longer than half a file"),
        ({"minutes_per_file": 7}, "minutes per file is 7; allowed: a part of a day"),
        ({"start": "now"}, "start is now; allowed: a date"),
        ({"start": "2025-02-30"}, "start is 2025-02-30; allowed: a date of the calendar"),
        ({"start": "2016-12-31"}, "start is 2016-12-31; allowed: from 2017-01-01 on"),
        ({"start": "2079-12-31T23:45", "hours": 1}, "the end before 2080"),
        ({"start": "2025-01-01T00:07"}, "start is .*; allowed: a multiple of 15 minutes after midnight"),
        ({"position": Position(91, 0, 0)}, "position: latitude is 91; allowed: -90 to 90 degrees"),
        ({"position": Position(0, 0, float("nan"))}, "position: height is nan; allowed: -500 to 9000 metres"),
        ({"elevation_mask": 80}, "elevation mask is 80; allowed: 0 to 60 degrees"),
        (
            {"hours": 87_840, "receivers": 99, "interval_s": 0.02},
            "may need .*iB; its disk has .*iB in all",
        ),
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
        with pytest.raises(InputError, match=r"file is not a folder"):
            simulate(folder, hours=0.25)
    (tmp_path / "file").rename(tmp_path / "02_canopy")
    with pytest.raises(InputError, match=r"02_canopy is not a folder"):
        simulate(tmp_path, hours=0.25)
    assert contents(tmp_path) == {"02_canopy": b"mine"}


@pytest.fixture
def stranger():
    """Go on as a user without rights where the tests run as root, with a folder that only others may fill."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o555)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    yield folder, os.geteuid()
    if root:
        os.seteuid(0)
    folder.rmdir()


def test_a_folder_of_somebody_else_is_refused(stranger):
    """Without the permission to write, the error names the folder and the user, and nothing is written."""
    folder, user = stranger
    for place in (folder, folder / "below"):
        with pytest.raises(InputError, match=f"{folder} may not be written to by user {user}"):
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
    st.integers(1, 99),
    st.integers(0, 24 * 365 * 20),
    st.sampled_from([1, 15, 60, 1440]),
    st.sampled_from([0.02, 0.5, 1, 5, 30, 60, 120]),
)
def test_names_are_long_names_and_tell_receiver_and_time_apart(receiver, hours, minutes, interval_s):
    """Every name has the form of RINEX 3.04, and that of the next hour or receiver is another one."""
    start = np.datetime64("2017-01-01", "ns") + np.timedelta64(hours, "h")
    name = file_name(receiver, start, minutes, interval_s)
    assert LONG_NAME.fullmatch(name)
    assert name != file_name(receiver, start + np.timedelta64(1, "h"), minutes, interval_s)
    assert name != file_name(receiver + 1, start, minutes, interval_s)


@given(st.floats(allow_nan=True), st.sampled_from([1, 15, 60, 96, 1440]))
def test_hours_are_a_whole_number_of_files_or_refused(hours, minutes):
    """Whatever is asked for, either the files cover it exactly, or it is refused."""
    try:
        files = check_files(hours, minutes)
    except InputError:
        return
    assert files >= 1
    assert files * minutes == pytest.approx(hours * 60, abs=1e-4)


@given(st.floats(allow_nan=True), st.sampled_from([1, 15, 60, 96, 1440]))
def test_intervals_fill_a_file_or_are_refused(interval_s, minutes):
    """Whatever is asked for, either two epochs or more fill a file exactly, or it is refused."""
    try:
        interval_ns = check_interval(interval_s, minutes)
    except InputError:
        return
    epochs, rest = divmod(minutes * 60 * 10**9, interval_ns)
    assert (epochs >= 2, rest) == (True, 0)


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
    assert "hours is 0.0; allowed: more than 0" in result.stderr
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
