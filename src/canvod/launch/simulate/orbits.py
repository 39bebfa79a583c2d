"""Nominal satellite orbits: circular Kepler orbits in Earth-fixed coordinates.

Real constellations keep their slots to within some degrees; perturbations (J2's nodal regression of 0.04
degrees a day among them), eccentricity and polar motion are left out, since they change neither which
satellites a receiver sees at a time nor how strongly in a way that the processing would notice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

GM = 3.986004418e14
"""Gravitational constant of the Earth in m^3/s^2 (WGS 84; IERS Conventions 2010, table 1.1)."""
EARTH_ROTATION = 7.2921151467e-5
"""Rotation rate of the Earth in rad/s (WGS 84; IS-GPS-200, table 20-IV)."""
J2000 = np.datetime64("2000-01-01T12:00:00", "ns")
"""Epoch at which the angles of the orbits hold."""
GMST_J2000 = np.radians(280.46061837)
"""Angle from the equinox to Greenwich at `J2000` (Meeus, Astronomical Algorithms, 2nd ed., eq. 12.4)."""

GEOSYNCHRONOUS_RADIUS_M = float((GM / EARTH_ROTATION**2) ** (1 / 3))
"""Radius of an orbit of one sidereal day: 42 164.17 km."""

_GLONASS_CHANNELS = (1, -4, 5, 6, 1, -4, 5, 6, -2, -7, 0, -1, -2, -7, 0, -1, 4, -3, 3, 2, 4, -3, 3, 2)
GLONASS_SLOTS = {f"R{slot:02d}": channel for slot, channel in enumerate(_GLONASS_CHANNELS, start=1)}
"""Frequency numbers: antipodal slots share one (GLONASS ICD L1/L2, edition 5.1, 3.3.1.1; the allocation of
2025)."""


@dataclass(frozen=True)
class Constellation:
    """Satellites on circular orbits.

    Attributes
    ----------
    satellites : tuple of str
        Names such as ``G01``, sorted.
    radius_m, inclination, node, argument : ndarray, shape (n_satellites,)
        Orbital radius in metres; inclination, right ascension of the ascending node and argument of latitude
        at `J2000` in radians.
    """

    satellites: tuple[str, ...]
    radius_m: NDArray[np.float64]
    inclination: NDArray[np.float64]
    node: NDArray[np.float64]
    argument: NDArray[np.float64]

    @property
    def mean_motion(self) -> NDArray[np.float64]:
        """Angular rate in rad/s, from Kepler's third law."""
        return np.asarray(np.sqrt(GM / self.radius_m**3))

    @property
    def period_s(self) -> NDArray[np.float64]:
        """Orbital period in seconds."""
        return 2 * np.pi / self.mean_motion

    def positions(self, seconds: NDArray[np.float64]) -> NDArray[np.float64]:
        """Earth-fixed positions in metres.

        Parameters
        ----------
        seconds : ndarray, shape (n_epochs,) or (n_epochs, n_satellites)
            Seconds since `J2000`; with two dimensions, a time of its own for each satellite.

        Returns
        -------
        ndarray, shape (n_epochs, n_satellites, 3)
        """
        time = seconds if seconds.ndim == 2 else seconds[:, np.newaxis]
        latitude_argument = self.argument + self.mean_motion * time
        longitude = self.node - GMST_J2000 - EARTH_ROTATION * time
        along, across = np.cos(latitude_argument), np.sin(latitude_argument)
        flat = across * np.cos(self.inclination)
        return np.stack(
            [
                self.radius_m * (along * np.cos(longitude) - flat * np.sin(longitude)),
                self.radius_m * (along * np.sin(longitude) + flat * np.cos(longitude)),
                self.radius_m * across * np.sin(self.inclination),
            ],
            axis=-1,
        )

    def select(self, mask: NDArray[np.bool_]) -> Constellation:
        """Keep the satellites where ``mask``, of the shape (n_satellites,), is true."""
        return Constellation(
            tuple(name for name, keep in zip(self.satellites, mask, strict=True) if keep),
            self.radius_m[mask],
            self.inclination[mask],
            self.node[mask],
            self.argument[mask],
        )


def gps() -> Constellation:
    """GPS: 32 satellites in 6 planes.

    Semi-major axis 26 559.7 km and inclination 55 degrees (GPS SPS Performance Standard, 5th ed. 2020,
    section 3.2, table 3.2-1), planes 60 degrees apart. Slots are evenly spread within a plane, unlike the
    real ones.
    """
    sizes = (6, 5, 5, 6, 5, 5)
    node = [60.0 * plane for plane, size in enumerate(sizes) for _ in range(size)]
    argument = [
        360.0 * slot / size + 15.0 * plane for plane, size in enumerate(sizes) for slot in range(size)
    ]
    return _build([f"G{prn:02d}" for prn in range(1, 33)], 26_559_700.0, 55.0, node, argument)


def galileo() -> Constellation:
    """Galileo: Walker 24/3/1, semi-major axis 29 600.318 km, 56 degrees (Galileo OS SDD 1.3, 2023)."""
    return _build([f"E{svid:02d}" for svid in range(1, 25)], 29_600_318.0, 56.0, *_walker(25.0, 30.0))


def glonass() -> Constellation:
    """GLONASS: Walker 24/3/1 of 11 h 15 min 44 s (25 508.2 km), 64.8 degrees (GLONASS ICD L1/L2, ed. 5.1)."""
    return _build(list(GLONASS_SLOTS), 25_508_200.0, 64.8, *_walker(80.0, 10.0))


def beidou() -> Constellation:
    """BeiDou: 24 MEO satellites, 5 GEO and 6 IGSO.

    MEO: Walker 24/3/1 at 21 528 km altitude and 55 degrees. GEO at 58.75, 80, 110.5, 140 and 160 degrees
    east, IGSO of 55 degrees that cross the equator around 95 and 118 degrees east (BDS-OS-PS 3.0, 2021,
    section 3.1; of BDS-2's IGSO satellites six).
    """
    meo = _build([f"C{prn:02d}" for prn in range(19, 43)], 27_906_137.0, 55.0, *_walker(40.0, 20.0))
    geo = _synchronous(
        ["C01", "C02", "C03", "C04", "C05"],
        0.0,
        [140.0, 80.0, 110.5, 160.0, 58.75],
        [0.0, 0.0, 0.0, 0.0, 0.0],
    )
    igso = _synchronous(
        ["C06", "C07", "C08", "C09", "C10", "C13"],
        55.0,
        [118.0, 118.0, 118.0, 95.0, 95.0, 95.0],
        [0.0, 120.0, 240.0, 60.0, 180.0, 300.0],
    )
    return join(geo, igso, meo)


def join(*parts: Constellation) -> Constellation:
    """Put constellations side by side, in the order given."""
    return Constellation(
        tuple(name for part in parts for name in part.satellites),
        np.concatenate([part.radius_m for part in parts]),
        np.concatenate([part.inclination for part in parts]),
        np.concatenate([part.node for part in parts]),
        np.concatenate([part.argument for part in parts]),
    )


def all_systems() -> Constellation:
    """GPS, GLONASS, Galileo and BeiDou: the order in which RINEX files list them here."""
    return join(gps(), glonass(), galileo(), beidou())


def _walker(first_node: float, first_argument: float) -> tuple[list[float], list[float]]:
    """Nodes and arguments in degrees of a Walker constellation 24/3/1, 8 slots a plane."""
    node = [first_node + 120.0 * plane for plane in range(3) for _ in range(8)]
    argument = [first_argument + 45.0 * slot + 15.0 * plane for plane in range(3) for slot in range(8)]
    return node, argument


def _build(
    names: list[str], radius_m: float, inclination: float, node: list[float], argument: list[float]
) -> Constellation:
    return Constellation(
        tuple(names),
        np.full(len(names), radius_m),
        np.full(len(names), np.radians(inclination)),
        np.radians(node),
        np.radians(argument),
    )


def _synchronous(
    names: list[str], inclination: float, east: list[float], argument: list[float]
) -> Constellation:
    """Orbits of one sidereal day; ``east`` is where they cross the equator northwards, in degrees."""
    node = [float(np.degrees(GMST_J2000)) + lon - arg for lon, arg in zip(east, argument, strict=True)]
    return _build(names, GEOSYNCHRONOUS_RADIUS_M, inclination, node, argument)
