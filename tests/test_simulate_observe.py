"""What the simulated receivers observe is plausible, and consistent in itself."""

from __future__ import annotations

import numpy as np
import pytest

from canvod.launch.simulate import observe
from canvod.launch.simulate.campaign import DEFAULT_POSITION
from canvod.launch.simulate.orbits import GLONASS_SLOTS
from canvod.launch.simulate.scene import CANOPY_VOD, Scene
from canvod.launch.simulate.signals import SIGNALS

START = np.datetime64("2025-01-01", "ns")
WAVELENGTH = {signal.system + signal.code: 299_792_458.0 / signal.frequency_hz for signal in SIGNALS}


def look(epochs, receiver=1, seed=0):
    """Observe from the default position."""
    return observe(epochs, seed=seed, receiver=receiver, position=DEFAULT_POSITION, elevation_mask=5.0)


def span(hours, interval_s):
    """Make epochs from the start of 2025."""
    return START + np.arange(0, round(hours * 3600), interval_s) * np.timedelta64(1, "s")


@pytest.fixture(scope="module")
def half_day():
    """Both receivers over 12 hours, an epoch a minute."""
    return look(span(12, 60), 1), look(span(12, 60), 2)


def strengths(observed, system, name):
    """Elevations and strengths of all satellites of a system, where there are any."""
    pairs = [
        np.stack([observed.elevation[satellite], columns[name]])
        for satellite, columns in observed.observations.items()
        if satellite[0] == system and name in columns
    ]
    joined = np.concatenate(pairs, axis=1)
    return joined[:, np.isfinite(joined[1])]


def rank_correlation(one, other):
    """Spearman's coefficient."""
    return np.corrcoef(np.argsort(np.argsort(one)), np.argsort(np.argsort(other)))[0, 1]


@pytest.mark.parametrize("signal", SIGNALS, ids=lambda signal: signal.system + signal.code)
def test_strength_grows_with_elevation(half_day, signal):
    """For both receivers and every signal the strength rises with elevation, more clearly in the open."""
    for observed, at_least in zip(half_day, (0.7, 0.3), strict=True):
        satellites = [s for s in observed.observations if s[0] == signal.system]
        if signal.code == "7I" and signal.system == "C":
            # The satellites that send it hardly move in the sky: each has its own strength, none has an arc.
            assert any(f"S{signal.code}" in observed.observations[s] for s in satellites)
            continue
        elevation, snr = strengths(observed, signal.system, f"S{signal.code}")
        assert rank_correlation(elevation, snr) > at_least


def test_every_strength_is_one_that_receivers_report(half_day):
    """Strengths lie between the tracking threshold and 60 dB-Hz, and nothing is tracked below the mask."""
    for observed in half_day:
        for signal in SIGNALS:
            elevation, snr = strengths(observed, signal.system, f"S{signal.code}")
            assert snr.min() >= signal.threshold_dbhz
            assert snr.max() < 60
            assert elevation.min() >= 5


def test_the_canopy_takes_a_plausible_amount(half_day):
    """Below the canopy GPS L1 is 3 to 10 dB weaker on average, and weaker by more at low elevations."""
    reference, canopy = half_day
    losses, elevations, seen, lost = [], [], 0, 0
    for satellite, columns in reference.observations.items():
        if satellite[0] != "G":
            continue
        open_sky, below = columns["S1C"], canopy.observations[satellite]["S1C"]
        both = np.isfinite(open_sky) & np.isfinite(below)
        losses.append((open_sky - below)[both])
        elevations.append(reference.elevation[satellite][both])
        seen += int(np.isfinite(open_sky).sum())
        lost += int((np.isfinite(open_sky) & np.isnan(below)).sum())
    loss, elevation = np.concatenate(losses), np.concatenate(elevations)
    assert 3 < loss.mean() < 10
    assert loss[elevation < 20].mean() > loss[elevation > 45].mean() + 2
    assert 0.005 < lost / seen < 0.3


def test_levels_are_those_of_the_real_receivers(half_day, rosalia):
    """Medians of strength over the signals that both have differ by less than 4 dB from the real ones."""
    for observed, folder in zip(half_day, ("01_reference", "02_canopy"), strict=True):
        real = real_strengths(sorted((rosalia / folder).glob("*/*.rnx"))[::6])
        for system, name in (
            ("G", "S1C"),
            ("G", "S2L"),
            ("E", "S1C"),
            ("E", "S5Q"),
            ("R", "S2C"),
            ("C", "S6I"),
        ):
            simulated = np.median(strengths(observed, system, name)[1])
            assert simulated == pytest.approx(np.median(real[system, name]), abs=4), (folder, system, name)


def real_strengths(paths):
    """Read the strengths of a few real files, by system and type; every tenth satellite record is enough."""
    result = {}
    for path in paths:
        types, system = {}, ""
        lines = path.read_text(encoding="ascii").splitlines()
        end = next(number for number, line in enumerate(lines) if line[60:].startswith("END OF HEADER"))
        for line in lines[:end]:
            if line[60:].startswith("SYS / # / OBS TYPES"):
                system = line[0].strip() or system
                types.setdefault(system, []).extend(line[6:60].split())
        for line in [line for line in lines[end + 1 :] if line[0] in "GREC"][::10]:
            for position, name in enumerate(types[line[0]]):
                text = line[3 + 16 * position : 17 + 16 * position].strip()
                if name[0] == "S" and text:
                    result.setdefault((line[0], name), []).append(float(text))
    return result


@pytest.mark.parametrize("receiver", [1, 2])
def test_an_observation_depends_on_its_own_epoch_alone(receiver):
    """A quarter of an hour is the same alone as in the middle of an hour: all values and indicators."""
    whole, part = look(span(1, 5), receiver), look(span(1, 5)[180:360], receiver)
    for satellite, columns in part.observations.items():
        for name, values in columns.items():
            np.testing.assert_array_equal(values, whole.observations[satellite][name][180:360])
            if name[0] == "L":
                np.testing.assert_array_equal(part.lli[satellite][name], whole.lli[satellite][name][180:360])
    missing = set(whole.observations) - set(part.observations)
    assert all(np.isnan(v[180:360]).all() for s in missing for v in whole.observations[s].values())


def test_seed_and_receiver_change_everything_random():
    """Another seed or receiver gives other strengths for the same satellites."""
    epochs = span(0.25, 60)
    base = look(epochs, 2)
    for other in (look(epochs, 2, seed=1), look(epochs, 3)):
        shared = set(base.observations) & set(other.observations)
        assert not any(
            np.array_equal(base.observations[s]["S1C"], other.observations[s]["S1C"])
            for s in shared
            if s[0] == "G" and np.isfinite(base.observations[s]["S1C"]).any()
        )


@pytest.mark.parametrize("receiver", [1, 2])
def test_code_phase_and_doppler_tell_of_the_same_motion(receiver):
    """Phase advances by Doppler, code by Doppler, except where the loss-of-lock indicator warns."""
    observed = look(span(1, 5), receiver)
    checked, slips = 0, 0
    for satellite, columns in observed.observations.items():
        for name, phase in columns.items():
            if name[0] != "L":
                continue
            wavelength = WAVELENGTH[satellite[0] + name[1:]]
            if satellite[0] == "R":
                step = 0.5625 if name[1] == "1" else 0.4375
                base = 299.792458 / wavelength
                wavelength = 299.792458 / (base + step * GLONASS_SLOTS[satellite])
            doppler = columns["D" + name[1:]]
            moved = -(doppler[1:] + doppler[:-1]) / 2 * 5
            kept = (observed.lli[satellite][name][1:] == 0) & np.isfinite(phase[1:])
            assert np.isfinite(phase[:-1][kept]).all()
            # Noise: Doppler of 0.02 Hz at 45 dB-Hz grows by the square root of 10 for 10 dB less.
            weak = 10 ** ((45 - np.fmin(columns["S" + name[1:]][1:], columns["S" + name[1:]][:-1])) / 20)
            assert (np.abs(np.diff(phase) - moved)[kept] < 0.7 * weak[kept] + 0.1).all()
            code = np.diff(columns["C" + name[1:]])
            assert (np.abs(code - moved * wavelength)[kept] < 3 * weak[kept]).all()
            slipped = (observed.lli[satellite][name][1:] == 1) & np.isfinite(phase[1:])
            checked, slips = checked + int(kept.sum()), slips + int(slipped.sum())
    assert checked > 10_000
    assert slips > 10


def test_pseudoranges_are_distances_to_satellites():
    """Satellites of medium height are 19 000 to 29 000 km away, geosynchronous ones 35 700 to 42 000 km."""
    for satellite, columns in look(span(0.5, 60)).observations.items():
        high = satellite[0] == "C" and int(satellite[1:]) < 17
        low_km, high_km = (35_700, 42_000) if high else (19_000, 29_000)
        for name, values in columns.items():
            if name[0] == "C" and np.isfinite(values).any():
                assert low_km * 1e3 < np.nanmin(values)
                assert np.nanmax(values) < high_km * 1e3


def test_the_optical_depth_of_the_canopy_varies_around_its_mean():
    """Over the upper half of the sky, many canopies have the mean that was set, and vary by direction."""
    random = np.random.default_rng(0)
    directions = random.normal(size=(2000, 3))
    directions[:, 2] = np.abs(directions[:, 2])
    directions /= np.linalg.norm(directions, axis=1)[:, np.newaxis]
    depths = np.array([Scene(seed, 2).optical_depth(directions) for seed in range(30)])
    assert depths.min() > 0
    assert depths.mean() == pytest.approx(CANOPY_VOD, rel=0.1)
    assert (depths.std(axis=1) > 0.15).all()
    assert not Scene(0, 1).optical_depth(directions).any()
