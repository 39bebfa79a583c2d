"""canVODpy reads our groups with its own code, and names what it shares with us as we do."""

from __future__ import annotations

import warnings
from math import isnan

import numpy as np
import pytest

from canvod.launch.ingest.attributes import EPOCH_ATTRIBUTES, signal_coordinates, variable_attributes
from canvod.launch.ingest.frequencies import BANDS_MHZ, frequencies
from canvod.launch.ingest.read import open_group
from canvod.launch.ingest.store import CANVODPY_LOCK
from canvod.launch.readers import VARIABLES
from canvod.launch.readers.rinex.signals import BANDS
from canvod.launch.testing import assert_dataset_equals, serial_model
from ingest_files import Options, run_inline, write_window
from oracles import oracle

GROUP = "site/receiver"
DAY = 17_280
"""Epochs of 5 s in a day."""


def test_every_band_has_its_frequencies():
    """Those of all bands of RINEX are known, but for the width of one, and hold their order as float32."""
    assert {system: set(bands) for system, bands in BANDS_MHZ.items()} == {
        system: set(bands.values()) for system, bands in BANDS.items()
    }
    signals = [f"{system}01|{band}|C" for system, bands in BANDS_MHZ.items() for band in bands]
    unknown = [name for name in signals if any(map(isnan, frequencies(name)))]
    assert unknown == ["I01|L1|C"]
    found = signal_coordinates([name for name in signals if name not in unknown])
    assert (found["freq_min"] < found["freq_center"]).all()
    assert (found["freq_center"] < found["freq_max"]).all()


def test_a_band_that_is_not_known_has_no_frequency():
    """Such as a reader of one's own may name."""
    assert all(map(isnan, frequencies("G01|X9|C")))


def test_frequencies_follow_their_signals(tmp_path):
    """Also where signals come later, which are put behind those that are there."""
    late = write_window(tmp_path / "in" / "late.rnx", 0, satellites=("R04", "G02"))
    early = write_window(tmp_path / "in" / "early.rnx", 20, satellites=("C05", "E03"))
    for file in (late, early):
        run_inline([file], tmp_path / "store")
    data = open_group(tmp_path / "store", GROUP).load()
    found = dict(zip(data.sid.values.tolist(), data.freq_center.values.tolist(), strict=True))
    wanted = {"G02|L1|C": 1575.42, "R04|G1|C": 1601.71875, "C05|B1I|I": 1561.098, "E03|E1|C": 1575.42}
    assert found == pytest.approx(wanted, rel=1e-7)


@pytest.mark.oracle
def test_canvodpy_names_frequencies_and_units_alike():
    """The bands that both know have the same frequencies to the bit; units and time system are the same."""
    mapper = oracle("canvod.readers.gnss_specs.signals").SignalIDMapper()
    metadata = oracle("canvod.readers.gnss_specs.metadata")
    for system, bands in mapper.SYSTEM_BANDS.items():
        for band in bands.values():
            center = float(mapper.get_band_frequency(band))
            width = float(mapper.get_band_bandwidth(band))
            theirs = np.array([center, center - width / 2, center + width / 2], np.float32)
            ours = signal_coordinates([f"{system}01|{band}|C"])
            assert [ours[name][0] for name in ("freq_center", "freq_min", "freq_max")] == theirs.tolist(), (
                band
            )
    for name in VARIABLES:
        theirs = {"SNR": metadata.CN0_METADATA, **metadata.OBSERVABLES_METADATA}[name]
        assert variable_attributes(name)["units"] == theirs["units"]
    assert EPOCH_ATTRIBUTES["time_system"] == metadata.EPOCH_TIME_SYSTEM
    assert CANVODPY_LOCK == oracle("canvod.store_metadata.io").COMMIT_LOCK_NAME


@pytest.mark.oracle
def test_canvodpy_reads_a_group(tmp_path):
    """Its store finds the group, takes it for valid, and reads what a serial read of the files gives."""
    their_store = oracle("canvod.store.store")
    validate = oracle("canvod.readers.base")
    files = [
        write_window(tmp_path / "in" / "late.rnx", 2 * DAY + 50, 40),
        write_window(tmp_path / "in" / "a.rnx", 0, 40, satellites=("G01", "R04")),
        write_window(tmp_path / "in" / "b.rnx", 20, 40, satellites=("G02", "E03", "C05")),
    ]
    variables = tuple(VARIABLES)
    for file in files:
        run_inline([file], tmp_path / "store", settings=Options(variables))
    with warnings.catch_warnings():
        # It warns of a store that it has not made.
        warnings.simplefilter("ignore", UserWarning)
        store = their_store.open_gnss_store(tmp_path / "store")
    assert store.list_data_groups() == [GROUP]
    data = store.read_group(GROUP)
    validate.validate_dataset(data.assign_attrs(dict.fromkeys(validate.REQUIRED_ATTRS, "")), list(variables))
    assert_dataset_equals(data, serial_model(files, variables))
    day = store.read_group(GROUP, date="2025003")
    assert_dataset_equals(day, serial_model(files[:1], variables))
