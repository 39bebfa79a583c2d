"""Orbits, lines of sight and random numbers of the simulation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from canvod.launch.simulate import Position, noise
from canvod.launch.simulate.geometry import FLATTENING, SEMI_MAJOR_AXIS_M, look
from canvod.launch.simulate.orbits import (
    EARTH_ROTATION,
    GLONASS_SLOTS,
    all_systems,
    beidou,
    galileo,
    glonass,
    gps,
)

SITE = Position(47.7027, 16.3017, 751.3)
DAY = np.datetime64("2025-01-01", "ns") + np.arange(0, 86_400, 300) * np.timedelta64(1, "s")


@pytest.mark.parametrize(
    ("constellation", "count", "radius_km", "period_s"),
    [
        (gps(), 32, 26_560, 43_082),  # half a sidereal day
        (galileo(), 24, 29_600, 50_682),  # 14 h 4 min 42 s
        (glonass(), 24, 25_508, 40_544),  # 11 h 15 min 44 s
    ],
    ids=["gps", "galileo", "glonass"],
)
def test_orbits_have_the_radius_and_period_of_their_system(constellation, count, radius_km, period_s):
    """Radius and period of each system are those of its interface document, within 0.02 %."""
    assert len(set(constellation.satellites)) == count
    distance = np.linalg.norm(constellation.positions(np.arange(0.0, 86_400.0, 600.0)), axis=-1)
    np.testing.assert_allclose(distance, radius_km * 1000, rtol=2e-4)
    np.testing.assert_allclose(constellation.period_s, period_s, rtol=2e-4)


def test_beidou_has_medium_and_geosynchronous_orbits():
    """24 satellites circle at 27 906 km in 12 h 53 min, 11 at 42 164 km in a sidereal day."""
    constellation = beidou()
    high = constellation.radius_m > 40e6
    assert (int((~high).sum()), int(high.sum())) == (24, 11)
    np.testing.assert_allclose(constellation.radius_m[high], 42_164_170, rtol=1e-5)
    np.testing.assert_allclose(constellation.period_s[high], 86_164.1, rtol=1e-5)
    np.testing.assert_allclose(constellation.radius_m[~high], 27_906_137, rtol=1e-5)
    np.testing.assert_allclose(constellation.period_s[~high], 46_394, rtol=1e-3)


def test_geostationary_satellites_stand_still():
    """Satellites of BeiDou in geostationary orbit keep their longitude for a year."""
    constellation = beidou()
    fixed = constellation.select(constellation.inclination == 0)
    seconds = np.array([0.0, 1e4, 86_400.0 * 365])
    x, y, _ = np.moveaxis(fixed.positions(seconds), -1, 0)
    longitude = np.degrees(np.arctan2(y, x))
    np.testing.assert_allclose(longitude, [[140.0, 80.0, 110.5, 160.0, 58.75]] * 3, atol=1e-3)


def test_latitudes_reach_the_inclination():
    """Over a day every satellite comes as far north as its inclination, and no farther."""
    constellation = all_systems()
    positions = constellation.positions(np.arange(0.0, 2 * 86_400.0, 120.0))
    latitude = np.arcsin(positions[..., 2] / constellation.radius_m).max(axis=0)
    np.testing.assert_allclose(np.degrees(latitude), np.degrees(constellation.inclination), atol=0.1)


def test_glonass_slots_opposite_each_other_share_a_frequency():
    """Antipodal satellites have the same frequency number, and all numbers are in -7..6."""
    assert all(
        GLONASS_SLOTS[f"R{s:02d}"] == GLONASS_SLOTS[f"R{s + 4:02d}"] for s in (1, 2, 3, 4, 9, 10, 17, 20)
    )
    assert all(-7 <= channel <= 6 for channel in GLONASS_SLOTS.values())


def test_a_plausible_number_of_satellites_is_in_view():
    """Between 8 and 45 satellites are above 5 degrees at any time of a day, at least 4 of each system."""
    sight = look(all_systems(), SITE, SITE.ecef(), DAY)
    up = sight.elevation >= 5
    assert up.sum(axis=1).min() >= 8
    assert up.sum(axis=1).max() <= 45
    for system in "GREC":
        columns = [name.startswith(system) for name in all_systems().satellites]
        assert up[:, columns].sum(axis=1).min() >= 4


def test_the_range_is_the_light_path_and_its_rate_the_derivative():
    """Ranges solve the light-time equation in a frame that does not turn, and rates are their differences."""
    constellation = all_systems()
    epochs = (
        DAY[:3]
        + np.array([0, 1, 2]) * np.timedelta64(1, "s")
        - np.array([0, 300, 600]) * np.timedelta64(1, "s")
    )
    receiver = SITE.ecef()
    sight = look(constellation, SITE, receiver, epochs)
    np.testing.assert_allclose((sight.range_m[2] - sight.range_m[0]) / 2, sight.range_rate[1], atol=0.02)
    # The Sagnac effect by its closed formula (Ashby, Living Reviews in Relativity 6, 2003, eq. 34).
    seconds = (epochs - np.datetime64("2000-01-01T12:00:00", "ns")).astype(np.int64) / 1e9
    light = sight.range_m / 299_792_458.0
    emitted = constellation.positions(seconds[:, np.newaxis] - light)
    sagnac = EARTH_ROTATION / 299_792_458.0 * (emitted[..., 0] * receiver[1] - emitted[..., 1] * receiver[0])
    plain = np.linalg.norm(emitted - receiver, axis=-1)
    np.testing.assert_allclose(sight.range_m, plain + sagnac, atol=0.01)
    assert np.abs(sagnac).max() < 60


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


@given(st.integers(0, 2**63 - 1), st.lists(st.integers(-(2**40), 2**40), min_size=1, max_size=20))
def test_random_numbers_depend_on_their_keys_alone(seed, keys):
    """A draw is the same alone and among others, in the open interval (0, 1), and finite."""
    together = noise.uniform(seed, 3, np.array(keys))
    assert all(0 < value < 1 for value in together)
    assert [float(noise.uniform(seed, 3, key)) for key in keys] == together.tolist()
    assert np.isfinite(noise.normal(seed, np.array(keys))).all()


def test_random_numbers_are_distributed_as_they_say():
    """Uniform and normal draws have the mean, variance and independence of their distributions."""
    flat = noise.uniform(1, np.arange(200_000))
    assert flat.mean() == pytest.approx(0.5, abs=0.005)
    assert flat.var() == pytest.approx(1 / 12, abs=0.002)
    bell = noise.normal(1, np.arange(200_000))
    assert bell.mean() == pytest.approx(0, abs=0.01)
    assert bell.std() == pytest.approx(1, abs=0.01)
    assert np.corrcoef(bell[1:], bell[:-1])[0, 1] == pytest.approx(0, abs=0.01)
    assert np.corrcoef(noise.normal(2, np.arange(200_000)), bell)[0, 1] == pytest.approx(0, abs=0.01)
