"""What the simulated receivers observe is plausible, and consistent in itself."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from canvod.launch.simulate import DEFAULT_POSITION, Position, observe
from canvod.launch.simulate.orbits import (
    FLATTENING,
    INCLINATION,
    RADIUS_M,
    SATELLITES,
    SEMI_MAJOR_AXIS_M,
    look,
    positions,
)
from canvod.launch.simulate.receiver import (
    CANOPY_VOD,
    DB_PER_NEPER,
    GLONASS_CHANNELS,
    GNSS_SIGNALS,
    THRESHOLD_DBHZ,
    canopy_loss_db,
)

START = np.datetime64("2025-01-01", "ns")
MHZ = {system + code: mhz for system, code, mhz, _, _ in GNSS_SIGNALS}


def observed(epochs, receiver=1, seed=0):
    """Observe from the default position."""
    return observe(epochs, seed=seed, receiver=receiver, position=DEFAULT_POSITION, elevation_mask=5.0)


def span(hours, interval_s):
    """Make epochs from the start of 2025."""
    return START + np.arange(0, round(hours * 3600), interval_s) * np.timedelta64(1, "s")


@pytest.fixture(scope="module")
def half_day():
    """Both receivers over 12 hours, an epoch a minute."""
    return observed(span(12, 60), 1), observed(span(12, 60), 2)


@pytest.fixture(scope="module")
def elevations():
    """Elevation in degrees of each satellite over the same time."""
    degrees = np.degrees(np.arcsin(look(DEFAULT_POSITION, span(12, 60)).direction[..., 2]))
    return dict(zip(SATELLITES, degrees.T, strict=True))


def strengths(observations, elevations, system, name):
    """Elevations and strengths of all satellites of a system, where there are any."""
    pairs = [
        np.stack([elevations[satellite], columns[name]])
        for satellite, columns in observations.items()
        if satellite[0] == system and name in columns
    ]
    joined = np.concatenate(pairs, axis=1)
    return joined[:, np.isfinite(joined[1])]


def rank_correlation(one, other):
    """Spearman's coefficient."""
    return np.corrcoef(np.argsort(np.argsort(one)), np.argsort(np.argsort(other)))[0, 1]


@pytest.mark.parametrize("signal", GNSS_SIGNALS, ids=lambda signal: signal[0] + signal[1])
def test_strength_grows_with_elevation(half_day, elevations, signal):
    """For both receivers and every signal the strength rises with elevation, more clearly in the open."""
    for observations, at_least in zip(half_day, (0.7, 0.3), strict=True):
        elevation, snr = strengths(observations, elevations, signal[0], f"S{signal[1]}")
        assert rank_correlation(elevation, snr) > at_least


def test_every_strength_is_one_that_receivers_report(half_day, elevations):
    """Strengths lie between the tracking threshold and 60 dB-Hz, and nothing is tracked below the mask."""
    for observations in half_day:
        for system, code, *_ in GNSS_SIGNALS:
            elevation, snr = strengths(observations, elevations, system, f"S{code}")
            assert snr.min() >= THRESHOLD_DBHZ
            assert snr.max() < 60
            assert elevation.min() >= 5


def test_the_canopy_takes_a_plausible_amount(half_day, elevations):
    """Below the canopy GPS L1 is 3 to 10 dB weaker on average, and weaker by more at low elevations."""
    reference, canopy = half_day
    losses, heights, seen, lost = [], [], 0, 0
    for satellite, columns in reference.items():
        if satellite[0] != "G":
            continue
        open_sky, below = columns["S1C"], canopy[satellite]["S1C"]
        both = np.isfinite(open_sky) & np.isfinite(below)
        losses.append((open_sky - below)[both])
        heights.append(elevations[satellite][both])
        seen += int(np.isfinite(open_sky).sum())
        lost += int((np.isfinite(open_sky) & np.isnan(below)).sum())
    loss, elevation = np.concatenate(losses), np.concatenate(heights)
    assert 3 < loss.mean() < 10
    assert loss[elevation < 20].mean() > loss[elevation > 45].mean() + 2
    assert 0.005 < lost / seen < 0.3


def test_strength_is_noisier_below_the_canopy(half_day):
    """From minute to minute GPS L1 changes by more below the canopy than in the open."""
    open_sky, below = (
        np.nanmedian(
            np.concatenate(
                [np.abs(np.diff(columns["S1C"])) for name, columns in observations.items() if name[0] == "G"]
            )
        )
        for observations in half_day
    )
    assert below > 2 * open_sky


def test_levels_are_those_of_the_real_receivers(half_day, elevations, rosalia):
    """Medians of strength over the signals that both have differ by less than 4 dB from the real ones."""
    for observations, folder in zip(half_day, ("01_reference", "02_canopy"), strict=True):
        real = real_strengths(sorted((rosalia / folder).glob("*/*.rnx"))[::6])
        for system, name in (
            ("G", "S1C"),
            ("G", "S2L"),
            ("E", "S1C"),
            ("E", "S5Q"),
            ("R", "S2C"),
            ("C", "S6I"),
        ):
            simulated = np.median(strengths(observations, elevations, system, name)[1])
            assert simulated == pytest.approx(np.median(real[system, name]), abs=4), (folder, system, name)


def real_strengths(paths):
    """Read the strengths of a few real files, by system and type; every tenth satellite record is enough.

    BeiDou's satellites in medium orbit are C19 to C37, and C41 on.
    """
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
            if line[0] == "C" and int(line[1:3]) not in {*range(19, 38), *range(41, 47)}:
                continue
            for position, name in enumerate(types[line[0]]):
                text = line[3 + 16 * position : 17 + 16 * position].strip()
                if name[0] == "S" and text:
                    result.setdefault((line[0], name), []).append(float(text))
    return result


@pytest.mark.parametrize("receiver", [1, 2])
def test_an_observation_depends_on_its_own_epoch_alone(receiver):
    """A quarter of an hour is the same alone as in the middle of an hour."""
    hour, part = observed(span(1, 5), receiver), observed(span(1, 5)[180:360], receiver)
    for satellite, columns in part.items():
        for name, values in columns.items():
            np.testing.assert_array_equal(values, hour[satellite][name][180:360])
    for satellite, columns in hour.items():
        for name, values in columns.items():
            if name not in part.get(satellite, {}):
                assert np.isnan(values[180:360]).all()


def test_seed_and_receiver_change_everything_random():
    """Another seed or receiver gives other strengths for the same satellites."""
    epochs = span(0.25, 60)
    base = observed(epochs, 2)
    for other in (observed(epochs, 2, seed=1), observed(epochs, 3)):
        shared = [name for name in base if name[0] == "G" and name in other]
        assert len(shared) > 5
        assert not any(np.array_equal(base[name]["S1C"], other[name]["S1C"]) for name in shared)


def test_code_phase_and_doppler_tell_of_the_same_motion():
    """Phase advances by Doppler, and code by the phase, up to noise."""
    checked = 0
    for satellite, columns in observed(span(1, 5)).items():
        for name, phase in columns.items():
            if name[0] != "L":
                continue
            step = {"L1C": 0.5625, "L2C": 0.4375}.get(name, 0) * GLONASS_CHANNELS.get(satellite, 0)
            wavelength = 299.792458 / (MHZ[satellite[0] + name[1:]] + step)
            doppler = columns["D" + name[1:]]
            moved = -(doppler[1:] + doppler[:-1]) / 2 * 5
            known = np.isfinite(phase[1:]) & np.isfinite(phase[:-1])
            assert (np.abs(np.diff(phase) - moved)[known] < 0.1).all()
            distance = columns["C" + name[1:]] - phase * wavelength
            assert (np.abs(distance[np.isfinite(phase)]) < 3).all()
            checked += int(known.sum())
    assert checked > 10_000


def test_pseudoranges_are_distances_to_satellites():
    """Satellites of medium height are 19 000 to 29 000 km away from where they are seen."""
    for columns in observed(span(0.5, 60)).values():
        for name, values in columns.items():
            if name[0] == "C":
                assert np.nanmin(values) > 19e6
                assert np.nanmax(values) < 29e6


def test_the_optical_depth_of_the_canopy_varies_around_its_mean():
    """Over the upper half of the sky, many canopies have the mean that was set, and vary by direction."""
    random = np.random.default_rng(0)
    directions = random.normal(size=(2000, 3))
    directions[:, 2] = np.abs(directions[:, 2])
    directions /= np.linalg.norm(directions, axis=1)[:, np.newaxis]
    directions = directions[directions[:, 2] > 0.1]
    losses = np.array([canopy_loss_db(directions, seed, 2) for seed in range(30)])
    depths = losses / DB_PER_NEPER * directions[:, 2]
    assert depths.min() > 0
    assert depths.mean() == pytest.approx(CANOPY_VOD, rel=0.1)
    assert (depths.std(axis=1) > 0.15).all()


@pytest.mark.parametrize(
    ("system", "count", "radius_km", "period_s"),
    [
        ("G", 30, 26_560, 43_082),  # half a sidereal day
        ("E", 24, 29_600, 50_682),  # 14 h 4 min 42 s
        ("R", 24, 25_508, 40_544),  # 11 h 15 min 44 s
        ("C", 24, 27_906, 46_394),  # 12 h 53 min 14 s
    ],
)
def test_orbits_have_the_radius_and_period_of_their_system(system, count, radius_km, period_s):
    """Radius and period of each system are those of its interface document, within 0.02 %."""
    columns = [number for number, name in enumerate(SATELLITES) if name[0] == system]
    assert len(columns) == count
    np.testing.assert_allclose(RADIUS_M[columns], radius_km * 1000, rtol=2e-4)
    # After one period a satellite is where it was, but for what the Earth has turned.
    before, after = positions(np.array([0.0, period_s]))[:, columns]
    turned = np.radians(360 * period_s / 86_164.1)
    x = after[:, 0] * np.cos(turned) - after[:, 1] * np.sin(turned)
    y = after[:, 0] * np.sin(turned) + after[:, 1] * np.cos(turned)
    np.testing.assert_allclose(np.stack([x, y, after[:, 2]], axis=1), before, atol=radius_km * 10)


def test_latitudes_reach_the_inclination():
    """Over two days every satellite comes as far north as its inclination, and no farther."""
    everywhere = positions(np.arange(0.0, 2 * 86_400.0, 120.0))
    np.testing.assert_allclose(
        np.linalg.norm(everywhere, axis=-1), np.broadcast_to(RADIUS_M, everywhere.shape[:2])
    )
    latitude = np.arcsin(everywhere[..., 2] / RADIUS_M).max(axis=0)
    np.testing.assert_allclose(np.degrees(latitude), np.degrees(INCLINATION), atol=0.1)


def test_a_plausible_number_of_satellites_is_in_view():
    """Between 8 and 45 satellites are above 5 degrees at any time of a day, at least 4 of each system."""
    up = look(DEFAULT_POSITION, span(24, 300)).direction[..., 2] >= np.sin(np.radians(5))
    assert up.sum(axis=1).min() >= 8
    assert up.sum(axis=1).max() <= 45
    for system in "GREC":
        columns = [name.startswith(system) for name in SATELLITES]
        assert up[:, columns].sum(axis=1).min() >= 4


def test_the_geometry_of_gps_repeats_after_a_sidereal_day():
    """A satellite of GPS is in the same direction again after 23 h 56 min 4 s; that of others is not."""
    start, end = look(DEFAULT_POSITION, START + np.array([0, 86_164]) * np.timedelta64(1, "s")).direction
    angles = np.degrees(np.arccos((start * end).sum(axis=-1).clip(-1, 1)))
    gps = np.array([name[0] == "G" for name in SATELLITES])
    assert angles[gps].max() < 0.2
    assert angles[~gps].min() > 5


def test_glonass_slots_opposite_each_other_share_a_frequency():
    """Antipodal satellites have the same frequency number, and all numbers are in -7..6."""
    assert all(
        GLONASS_CHANNELS[f"R{s:02d}"] == GLONASS_CHANNELS[f"R{s + 4:02d}"]
        for s in (1, 2, 3, 4, 9, 10, 17, 20)
    )
    assert all(-7 <= channel <= 6 for channel in GLONASS_CHANNELS.values())


@given(st.floats(-90, 90), st.floats(-180, 180), st.floats(-400, 9000))
def test_positions_lie_on_the_ellipsoid(latitude, longitude, height):
    """A position at height h is h above the ellipsoid along its vertical, and its axes are orthonormal."""
    position = Position(latitude, longitude, height)
    axes = position.axes()
    np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-12)
    x, y, z = position.ecef() - height * axes[2]
    polar = SEMI_MAJOR_AXIS_M * (1 - FLATTENING)
    assert (x**2 + y**2) / SEMI_MAJOR_AXIS_M**2 + z**2 / polar**2 == pytest.approx(1, abs=1e-12)
    np.testing.assert_allclose(position.ecef(east_m=40.0) - position.ecef(), 40 * axes[0], atol=1e-6)


def test_the_site_has_its_surveyed_coordinates():
    """Latitude, longitude and height of the reference station give its published geocentric position."""
    station = Position(47.702668058743, 16.30167291906489, 751.2754269670695)
    np.testing.assert_allclose(station.ecef(), [4127831.9488, 1207193.3655, 4695247.2003], atol=1e-3)
