"""Nominal satellite orbits, and the lines of sight from a receiver on the ground.

Orbits are circular, and each system is a Walker constellation: evenly spaced planes with evenly spaced
satellites (Walker, "Satellite constellations", J. Brit. Interplanet. Soc. 37, 1984). The real GPS fills its
planes unevenly; perturbations, eccentricity and BeiDou's geosynchronous satellites are left out.

Sources: WGS 84 (NIMA TR8350.2, 3rd ed., tables 3.1 and 3.3) for the constants; radii and inclinations from
GPS SPS Performance Standard, 5th ed. 2020, table 3.2-1; GLONASS ICD L1/L2, ed. 5.1; Galileo OS SDD 1.3, 2023;
BDS-OS-PS 3.0, 2021, section 3.1. All but GPS are Walker 24/3/1 there, too. The longitudes of the nodes are a
choice, so that the planes of the systems do not coincide.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, NamedTuple

import numpy as np
from pydantic import Field

if TYPE_CHECKING:
    from numpy.typing import NDArray

GM = 3.986004418e14  # m^3/s^2
EARTH_ROTATION = 7.292115e-5  # rad/s
SEMI_MAJOR_AXIS_M, FLATTENING = 6_378_137.0, 1 / 298.257223563
REFERENCE_EPOCH = np.datetime64("2000-01-01T12:00:00", "ns")


# First satellite, planes, satellites in each, radius (m), inclination and node of the first plane (degrees).
CONSTELLATIONS = {
    "G": (1, 6, 5, 26_559_700.0, 55.0, 0.0),
    "R": (1, 3, 8, 25_508_200.0, 64.8, 80.0),
    "E": (1, 3, 8, 29_600_318.0, 56.0, 25.0),
    "C": (19, 3, 8, 27_906_137.0, 55.0, 40.0),
}
SATELLITES = tuple(
    f"{system}{first + number:02d}"
    for system, (first, planes, per_plane, *_) in CONSTELLATIONS.items()
    for number in range(planes * per_plane)
)
"""Names of all satellites, in the order of all arrays."""


def _elements() -> NDArray[np.float64]:
    """Return radius (m), inclination, node and argument of latitude (rad), shape (4, n_satellites)."""
    parts = []
    for _, planes, per_plane, radius_m, inclination, first_node in CONSTELLATIONS.values():
        plane, slot = np.divmod(np.arange(planes * per_plane), per_plane)
        node = first_node + 360 * plane / planes
        argument = 360 * slot / per_plane + 360 * plane / plane.size
        angles = np.radians([np.full(plane.size, inclination), node, argument])
        parts.append([np.full(plane.size, radius_m), *angles])
    return np.concatenate(parts, axis=1)


RADIUS_M, INCLINATION, NODE, ARGUMENT = _elements()


@dataclass(frozen=True)
class Position:
    """A place on the WGS 84 ellipsoid: degrees north, degrees east, metres above the ellipsoid."""

    latitude: Annotated[float, Field(ge=-90, le=90)]
    """Degrees north, -90 to 90."""
    longitude: Annotated[float, Field(ge=-180, le=360)]
    """Degrees east, -180 to 360."""
    height_m: Annotated[float, Field(ge=-500, le=9000)]
    """Metres above the ellipsoid, -500 to 9000."""

    def axes(self) -> NDArray[np.float64]:
        """Compute the local axes, Earth-fixed.

        Returns
        -------
        ndarray of float64, shape (3, 3)
            The unit vectors east, north and up as rows.
        """
        latitude, longitude = np.radians([self.latitude, self.longitude])
        east = np.array([-np.sin(longitude), np.cos(longitude), 0.0])
        outward = np.array([np.cos(longitude), np.sin(longitude), 0.0])
        up = np.cos(latitude) * outward + np.array([0.0, 0.0, np.sin(latitude)])
        return np.array([east, np.cross(up, east), up])

    def ecef(self, east_m: float = 0.0) -> NDArray[np.float64]:
        """Compute geocentric coordinates.

        Parameters
        ----------
        east_m : float
            How far the place is moved to the east, tangentially, in metres.

        Returns
        -------
        ndarray of float64, shape (3,)
            X, Y, Z in metres.
        """
        east, _, up = self.axes()
        eccentricity2 = FLATTENING * (2 - FLATTENING)
        normal = SEMI_MAJOR_AXIS_M / np.sqrt(1 - eccentricity2 * up[2] ** 2)
        polar = np.array([0.0, 0.0, eccentricity2 * normal * up[2]])
        return np.asarray((normal + self.height_m) * up - polar + east_m * east)


class Sight(NamedTuple):
    """Lines of sight to all satellites, whether above the horizon or not.

    Attributes
    ----------
    range_m, range_rate : ndarray of float64, shape (n_epochs, n_satellites)
        Geometric distance in metres (the travel time of light is left out), and its change in m/s.
    direction : ndarray of float64, shape (n_epochs, n_satellites, 3)
        Unit vectors to the satellites: east, north, up.
    """

    range_m: NDArray[np.float64]
    range_rate: NDArray[np.float64]
    direction: NDArray[np.float64]


def look(position: Position, epochs: NDArray[np.datetime64], *, east_m: float = 0.0) -> Sight:
    """Compute the lines of sight from a place.

    Parameters
    ----------
    position : Position
        The place.
    epochs : ndarray of datetime64, shape (n_epochs,)
        Epochs in GPS time.
    east_m : float
        How far to the east of the position the receiver is, in metres.

    Returns
    -------
    Sight
        Distances, their change, and directions, for each epoch and satellite.
    """
    seconds = (epochs - REFERENCE_EPOCH) / np.timedelta64(1, "s")
    receiver_m = position.ecef(east_m)
    before, vector, after = (positions(seconds + shift) - receiver_m for shift in (-0.5, 0.0, 0.5))
    range_m = np.linalg.norm(vector, axis=-1)
    range_rate = np.linalg.norm(after, axis=-1) - np.linalg.norm(before, axis=-1)
    return Sight(range_m, range_rate, vector / range_m[..., np.newaxis] @ position.axes().T)


def positions(seconds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute where all satellites are.

    Parameters
    ----------
    seconds : ndarray of float64, shape (n_epochs,)
        Seconds since `REFERENCE_EPOCH`.

    Returns
    -------
    ndarray of float64, shape (n_epochs, n_satellites, 3)
        Earth-fixed X, Y, Z in metres.
    """
    time = seconds[:, np.newaxis]
    # The mean motion is that of Kepler's third law.
    argument = ARGUMENT + np.sqrt(GM / RADIUS_M**3) * time
    longitude = NODE - EARTH_ROTATION * time
    along, across = np.cos(argument), np.sin(argument) * np.cos(INCLINATION)
    x = along * np.cos(longitude) - across * np.sin(longitude)
    y = along * np.sin(longitude) + across * np.cos(longitude)
    z = np.sin(argument) * np.sin(INCLINATION)
    return np.asarray(RADIUS_M[:, np.newaxis] * np.stack([x, y, z], axis=-1))
