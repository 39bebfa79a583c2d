"""What stands around a receiver: reflecting ground, and for all but the first a canopy above it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from canvod.launch.simulate import noise
from canvod.launch.simulate.geometry import SPEED_OF_LIGHT

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

DB_PER_NEPER = 10 * np.log10(np.e)
"""Decibels of power for an optical depth of one: 4.34."""
CANOPY_VOD = 0.8
"""Mean vegetation optical depth of the simulated canopy.

At the Rosalia site the pair of receivers differs by 3 dB near the zenith, 5 dB at 45 degrees and 9 dB at 15
degrees of elevation (GPS L1 C/A, 2025-01-01), which this value reproduces. What the difference means:
Humphrey and Frankenberg, Biogeosciences 20, 2023, doi 10.5194/bg-20-1789-2023.
"""
CANOPY_SPREAD = 0.6
"""Standard deviation of the logarithm of the optical depth between directions.

Trunks and gaps: together with `CANOPY_SCATTER_DB` it gives the spread of 4 to 5 dB within 10 degrees of
elevation that the Rosalia receivers differ by.
"""
CANOPY_SCALES_DEG = (14.0, 4.0)
"""Angular scales of that spread: crowns and branches."""
CANOPY_SCATTER_DB, CANOPY_SCATTER_SCALE_DEG = 2.2, 1.5
"""Standard deviation and angular scale of what waves scattered by branches add or take away.

It is why the strength below a canopy exceeds that of the open sky at times, by up to 4 dB at the Rosalia
site.
"""
CANOPY_FADING_DB = 0.5
"""Standard deviation of the strength from epoch to epoch, below the canopy, at the zenith.

It grows with the attenuation: 0.5 dB at the zenith and 1.2 dB at 15 degrees at the Rosalia site (GPS L1 C/A).
"""
OPEN_FADING_DB = 0.12
"""The same under an open sky: 0.12 dB at the zenith and 0.36 dB near the horizon at the Rosalia site."""
ANTENNA_HEIGHT_M = 1.8
"""Height of the antenna above the reflecting ground, a usual tripod or pole."""
MULTIPATH_DB = 2.5
"""Amplitude at the horizon of the strength's oscillation by ground reflection.

It falls off by 1/e in 15 degrees of elevation. Both numbers are a choice, not a measurement: antennas
suppress reflections the better, the higher the satellite.
"""
LOSS_RATE_OPEN, LOSS_RATE_CANOPY = 0.0005, 0.02
"""Probability that tracking of a satellite is interrupted in a minute: a choice, not a measurement."""

# Streams of random numbers, so that no two quantities share draws.
_FIELD, _PHASE, FADING, LOSS, AMBIGUITY, CODE, CARRIER, DOPPLER, CLOCK, SATELLITE = range(10)
_FEATURES = 48


@dataclass(frozen=True)
class Scene:
    """Surroundings of one receiver.

    Attributes
    ----------
    seed : int
        Seed of the whole campaign.
    receiver : int
        Number of the receiver from 1 on. The first stands in the open, all others below the canopy.
    """

    seed: int
    receiver: int

    @property
    def below_canopy(self) -> bool:
        """Whether there is a canopy above the receiver."""
        return self.receiver > 1

    @property
    def loss_rate(self) -> float:
        """Probability that tracking of a satellite is interrupted in a minute."""
        return LOSS_RATE_CANOPY if self.below_canopy else LOSS_RATE_OPEN

    def optical_depth(self, direction: NDArray[np.float64]) -> NDArray[np.float64]:
        """Vegetation optical depth in a direction, referred to the vertical; it stays the same over time.

        Parameters
        ----------
        direction : ndarray, shape (..., 3)
            Unit vectors (east, north, up).

        Returns
        -------
        ndarray, shape (...)
            Log-normally distributed over the directions, with the mean `CANOPY_VOD`; 0 in the open.

        Notes
        -----
        The logarithm is a Gaussian random field made of random Fourier features (Rahimi and Recht, "Random
        features for large-scale kernel machines", NIPS 2007), the sum of one for each of `CANOPY_SCALES_DEG`.
        """
        if not self.below_canopy:
            return np.zeros(direction.shape[:-1])
        parts = [self._field(direction, index, scale) for index, scale in enumerate(CANOPY_SCALES_DEG)]
        field = np.sum(parts, axis=0) / np.sqrt(len(parts))
        return np.asarray(CANOPY_VOD * np.exp(CANOPY_SPREAD * field - CANOPY_SPREAD**2 / 2))

    def attenuation_db(self, direction: NDArray[np.float64]) -> NDArray[np.float64]:
        """Loss of power in the canopy in decibels.

        A plane layer: ``4.34 * VOD / cos(theta)`` with the angle from the zenith theta (the tau-omega model
        without scattering; Humphrey and Frankenberg, Biogeosciences 20, 2023, eq. 1). Below 5 degrees of
        elevation the path through the canopy grows no further, since a forest ends somewhere.
        """
        cosine = np.clip(direction[..., 2], np.sin(np.radians(5.0)), 1)
        return np.asarray(DB_PER_NEPER * self.optical_depth(direction) / cosine)

    def scatter_db(self, direction: NDArray[np.float64]) -> NDArray[np.float64]:
        """What waves scattered in the canopy add to the strength, in decibels; 0 in the open."""
        if not self.below_canopy:
            return np.zeros(direction.shape[:-1])
        return CANOPY_SCATTER_DB * self._field(direction, len(CANOPY_SCALES_DEG), CANOPY_SCATTER_SCALE_DEG)

    def multipath_db(
        self, sin_elevation: NDArray[np.float64], frequency_hz: ArrayLike, keys: tuple[ArrayLike, ...]
    ) -> NDArray[np.float64]:
        """Oscillation of the strength by reflection from the ground in decibels.

        The interference of both paths has the phase ``4 pi h sin(elevation) / wavelength`` (Larson and
        Nievinski, GPS Solutions 17, 2013, eq. 3), plus one that the satellite and signal, given by ``keys``,
        have of their own.
        """
        elevation = np.degrees(np.arcsin(np.clip(sin_elevation, -1, 1)))
        own = 2 * np.pi * noise.uniform(self.seed, _PHASE, self.receiver, *keys)
        wavelength = SPEED_OF_LIGHT / np.asarray(frequency_hz)
        phase = 4 * np.pi * ANTENNA_HEIGHT_M * sin_elevation / wavelength + own
        return np.asarray(MULTIPATH_DB * np.exp(-np.clip(elevation, 0, 90) / 15) * np.cos(phase))

    def fading_db(
        self,
        sin_elevation: NDArray[np.float64],
        attenuation_db: NDArray[np.float64],
        keys: tuple[ArrayLike, ...],
    ) -> NDArray[np.float64]:
        """Random change of the strength from epoch to epoch in decibels."""
        spread = OPEN_FADING_DB * (1 + 2.2 * (1 - sin_elevation))
        if self.below_canopy:
            spread = np.hypot(spread, CANOPY_FADING_DB * np.clip(attenuation_db / 3, 0.4, 2.5))
        return np.asarray(spread * noise.normal(self.seed, FADING, self.receiver, *keys))

    def _field(self, direction: NDArray[np.float64], index: int, scale_deg: float) -> NDArray[np.float64]:
        """Gaussian random field over the directions, of mean 0 and variance 1."""
        features, axes = np.arange(_FEATURES), np.arange(3)[:, np.newaxis]
        waves = noise.normal(self.seed, _FIELD, self.receiver, index, features, axes) / np.radians(scale_deg)
        phases = 2 * np.pi * noise.uniform(self.seed, _PHASE, self.receiver, index, features)
        return np.asarray(np.cos(direction @ waves + phases).sum(axis=-1) * np.sqrt(2 / _FEATURES))
