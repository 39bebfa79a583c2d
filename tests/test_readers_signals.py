"""Names of signals."""

from __future__ import annotations

import pytest

from canvod.launch.readers.rinex.signals import BANDS, signal, variable

# Tracking codes of RINEX 3.04, tables 4 to 10: system, digit of the band, codes.
TRACKING = [
    ("G", "1", "CSLXPWYMN"),
    ("G", "2", "CDSLXPWYMN"),
    ("G", "5", "IQX"),
    ("R", "1", "CP"),
    ("R", "4", "ABX"),
    ("R", "2", "CP"),
    ("R", "6", "ABX"),
    ("R", "3", "IQX"),
    ("E", "1", "ABCXZ"),
    ("E", "5", "IQX"),
    ("E", "7", "IQX"),
    ("E", "8", "IQX"),
    ("E", "6", "ABCXZ"),
    ("S", "1", "C"),
    ("S", "5", "IQX"),
    ("J", "1", "CSLXZ"),
    ("J", "2", "SLX"),
    ("J", "5", "IQXDPZ"),
    ("J", "6", "SLXEZ"),
    ("C", "2", "IQX"),
    ("C", "1", "DPXAN"),
    ("C", "5", "DPX"),
    ("C", "7", "IQXDPZ"),
    ("C", "8", "DPX"),
    ("C", "6", "IQXA"),
    ("I", "5", "ABCX"),
    ("I", "9", "ABCX"),
]
LATER = {("I", "1")}
"""Bands that RINEX 4 has added."""
RINEX2 = [letter + digit for letter in "CPLDS" for digit in "125678"]


def test_every_band_of_rinex_304_has_a_name():
    """The tables of the standard and ours list the same bands."""
    assert {(system, digit) for system, digit, _ in TRACKING} | LATER == {
        (system, digit) for system, bands in BANDS.items() for digit in bands
    }


@pytest.mark.parametrize(("system", "digit", "codes"), TRACKING)
def test_signals_are_those_of_canvod_readers(system, digit, codes):
    """Every code of RINEX 3.04 gets the name that the reference gives it."""
    reference = pytest.importorskip(
        "canvod.readers.gnss_specs.obs_codes", reason="canvod-readers not installed"
    )
    for code in codes:
        for kind in "CLDS":
            observed = f"{kind}{digit}{code}"
            assert f"{system}01|{signal(system, observed, 3.04)}" == reference.sid_for_obs_code(
                f"{system}01", observed
            )


@pytest.mark.parametrize("system", "GRES")
def test_signals_of_rinex_2_are_those_of_canvod_readers(system):
    """Every code of RINEX 2.11 gets the reference's name, or none where the system has no such band."""
    reference = pytest.importorskip(
        "canvod.readers.gnss_specs.obs_codes", reason="canvod-readers not installed"
    )
    for code in RINEX2:
        named = signal(system, code, 2.11)
        if named is None:
            with pytest.raises(ValueError, match="no band"):
                reference.sid_for_obs_code(f"{system}01", code)
        else:
            assert f"{system}01|{named}" == reference.sid_for_obs_code(f"{system}01", code)


@pytest.mark.parametrize(
    ("code", "expected"),
    [("S1C", "SNR"), ("C2W", "Pseudorange"), ("P2", "Pseudorange"), ("L5", "Phase"), ("D1", "Doppler")],
)
def test_first_letter_tells_the_variable(code, expected):
    """RINEX 2's P is a pseudorange like C; what is none of the four is no variable."""
    assert variable(code) == expected
    assert variable("X1") is None
    assert variable("I1C") is None


@pytest.mark.parametrize("code", ["", "S", "S9C", "S0C"])
def test_what_is_no_signal_has_no_name(code):
    """A code that is too short, or of a band that the system lacks, gives None, never a made-up name."""
    assert signal("G", code, 3.04) is None
