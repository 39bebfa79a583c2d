"""Where a receiver stands on the Earth, and what it sees of the satellites."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from canvod.launch.simulate.orbits import EARTH_ROTATION, J2000, Constellation

if TYPE_CHECKING:
    from numpy.typing import NDArray

SPEED_OF_LIGHT = 299_792_458.0
"""In m/s (exact, SI)."""
SEMI_MAJOR_AXIS_M = 6_378_137.0
"""Of the WGS 84 ellipsoid (NIMA TR8350.2, 3rd ed., table 3.1)."""
FLATTENING = 1 / 298.257223563
"""Of the WGS 84 ellipsoid (NIMA TR8350.2, 3rd ed., table 3.1)."""


@dataclass(frozen=True)
class Position:
    """A place on the WGS 84 ellipsoid: degrees north, degrees east, metres above the ellipsoid."""

    latitude: float
    longitude: float
    height_m: float

    def ecef(self, east_m: float = 0.0) -> NDArray[np.float64]:
        """Geocentric X, Y, Z in metres, moved ``east_m`` metres to the east (tangentially)."""
        latitude, longitude = np.radians([self.latitude, self.longitude])
        eccentricity2 = FLATTENING * (2 - FLATTENING)
        normal = SEMI_MAJOR_AXIS_M / np.sqrt(1 - eccentricity2 * np.sin(latitude) ** 2)
        across = (normal + self.height_m) * np.cos(latitude)
        point = np.array(
            [
                across * np.cos(longitude),
                across * np.sin(longitude),
                (normal * (1 - eccentricity2) + self.height_m) * np.sin(latitude),
            ]
        )
        return np.asarray(point + east_m * self.axes()[0])

    def axes(self) -> NDArray[np.float64]:
        """Unit vectors east, north and up as rows of a (3, 3) matrix."""
        latitude, longitude = np.radians([self.latitude, self.longitude])
        sin_lat, cos_lat, sin_lon, cos_lon = (
            np.sin(latitude),
            np.cos(latitude),
            np.sin(longitude),
            np.cos(longitude),
        )
        return np.array(
            [
                [-sin_lon, cos_lon, 0.0],
                [-sin_lat * cos_lon, -sin_lat * sin_lon, cos_lat],
                [cos_lat * cos_lon, cos_lat * sin_lon, sin_lat],
            ]
        )


@dataclass(frozen=True)
class Sight:
    """Lines of sight, all of the shape (n_epochs, n_satellites).

    Attributes
    ----------
    range_m : ndarray
        Distance that the signal travels, from the place of its emission.
    range_rate : ndarray
        Its change in m/s.
    direction : ndarray, shape (n_epochs, n_satellites, 3)
        Unit vectors to the satellites: east, north, up.
    """

    range_m: NDArray[np.float64]
    range_rate: NDArray[np.float64]
    direction: NDArray[np.float64]

    @property
    def sin_elevation(self) -> NDArray[np.float64]:
        """Sine of the elevation above the horizon."""
        return self.direction[..., 2]

    @property
    def elevation(self) -> NDArray[np.float64]:
        """Elevation above the horizon in degrees."""
        return np.asarray(np.degrees(np.arcsin(np.clip(self.sin_elevation, -1, 1))))


def look(
    constellation: Constellation,
    position: Position,
    receiver_m: NDArray[np.float64],
    epochs: NDArray[np.datetime64],
) -> Sight:
    """Compute the lines of sight from a receiver to all satellites, whether above the horizon or not.

    Parameters
    ----------
    constellation : Constellation
    position : Position
        Where the receiver's vertical is taken.
    receiver_m : ndarray, shape (3,)
        Geocentric position of the receiver in metres.
    epochs : ndarray of datetime64, shape (n_epochs,)

    Returns
    -------
    Sight

    Notes
    -----
    Light time and the Earth's rotation during it (up to 40 m for MEO) are accounted for by iteration:
    IS-GPS-200, section 20.3.3.4.3.4. The range rate is the central difference over one second.
    """
    ticks = (epochs.astype("datetime64[ns]") - J2000).astype(np.int64)
    seconds = ticks.astype(np.float64) * 1e-9
    before, line = (
        _path(constellation, receiver_m, seconds - 0.5),
        _vector(constellation, receiver_m, seconds),
    )
    after = _path(constellation, receiver_m, seconds + 0.5)
    distance = np.linalg.norm(line, axis=-1)
    return Sight(
        range_m=distance,
        range_rate=after - before,
        direction=(line / distance[..., np.newaxis]) @ position.axes().T,
    )


def _path(
    constellation: Constellation, receiver_m: NDArray[np.float64], seconds: NDArray[np.float64]
) -> NDArray[np.float64]:
    return np.asarray(np.linalg.norm(_vector(constellation, receiver_m, seconds), axis=-1))


def _vector(
    constellation: Constellation, receiver_m: NDArray[np.float64], seconds: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Vectors from the receiver to where each satellite emitted, in the frame of the reception."""
    vector = constellation.positions(seconds) - receiver_m
    for _ in range(2):
        light_s = np.linalg.norm(vector, axis=-1) / SPEED_OF_LIGHT
        emitted = constellation.positions(seconds[:, np.newaxis] - light_s)
        angle = EARTH_ROTATION * light_s
        turned = np.stack(
            [
                emitted[..., 0] * np.cos(angle) + emitted[..., 1] * np.sin(angle),
                emitted[..., 1] * np.cos(angle) - emitted[..., 0] * np.sin(angle),
                emitted[..., 2],
            ],
            axis=-1,
        )
        vector = turned - receiver_m
    return vector
