"""What a simulated receiver observes: pseudorange, carrier phase, Doppler and signal strength (SNR).

The SNR is that of real receivers, as nearly as a reader of a plot can tell. The others are those of the
geometry alone: atmosphere, clocks and cycle ambiguities are left out. All satellites of a system transmit the
same signals.

Sources: frequencies from RINEX 3.04, tables 4 to 9; GLONASS channels from the allocation of 2025, in which
satellites opposite each other share one (GLONASS ICD L1/L2, ed. 5.1, 3.3.1.1). What describes the SNR was
read from a pair of Septentrio AsteRx SB3 receivers at the Rosalia site, Austria, on 2025-01-01 (doi
10.5281/zenodo.19708759): the medians under an open sky in bins of 10 degrees of elevation, the difference
below the canopy (GPS L1 C/A: 3 dB near the zenith, 5 dB at 45 degrees, 9 dB at 15 degrees of elevation), and
the noise from epoch to epoch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from canvod.launch.simulate.orbits import SATELLITES, Position, look

if TYPE_CHECKING:
    from numpy.typing import NDArray

SPEED_OF_LIGHT = 299_792_458.0  # m/s
RECEIVER_SPACING_M = 40.0
THRESHOLD_DBHZ = 18.0  # the weakest signal that is tracked
DB_PER_NEPER = 10 * np.log10(np.e)  # loss of power for an optical depth of one
# Mean optical depth of the canopy, standard deviation of its logarithm between directions, and the angular
# scales of that variation: crowns and branches.
CANOPY_VOD, CANOPY_SPREAD, CANOPY_SCALES_DEG = 0.8, 0.6, (14.0, 4.0)
# Standard deviations: SNR from epoch to epoch at the zenith of an open sky, what each decibel of attenuation
# adds to it, SNR between satellites (they are of several blocks and ages), pseudorange from epoch to epoch.
OPEN_NOISE_DB, CANOPY_NOISE, SATELLITE_SPREAD_DB, CODE_NOISE_M = 0.12, 0.1, 1.0, 0.3
# System, band and code, carrier frequency in MHz (GLONASS: of channel 0), SNR at the zenith of an open sky in
# dB-Hz, and how many decibels less it is at the horizon.
GNSS_SIGNALS = (
    ("G", "1C", 1575.42, 49.8, 15.0),
    ("G", "2W", 1227.60, 49.0, 30.0),
    ("G", "2L", 1227.60, 46.0, 12.5),
    ("R", "1C", 1602.0, 51.5, 11.0),
    ("R", "2C", 1246.0, 47.5, 10.5),
    ("E", "1C", 1575.42, 48.2, 13.5),
    ("E", "5Q", 1176.45, 50.6, 13.0),
    ("E", "7Q", 1207.14, 51.2, 13.0),
    ("C", "2I", 1561.098, 52.0, 13.0),
    ("C", "6I", 1268.52, 50.0, 11.5),
)
_CHANNELS = (1, -4, 5, 6, 1, -4, 5, 6, -2, -7, 0, -1, -2, -7, 0, -1, 4, -3, 3, 2, 4, -3, 3, 2)
GLONASS_CHANNELS = {f"R{slot:02d}": channel for slot, channel in enumerate(_CHANNELS, start=1)}

_LINKS = [
    # In both bands a GLONASS channel is 1/2848 of the frequency of channel 0 wide.
    (row, code, mhz * (1 + GLONASS_CHANNELS.get(name, 0) / 2848), zenith, drop)
    for row, name in enumerate(SATELLITES)
    for system, code, mhz, zenith, drop in GNSS_SIGNALS
    if system == name[0]
]
"""Each signal of each satellite, a column of the arrays below."""
_ROWS, _CODES, _MHZ, _ZENITH, _DROP = (np.array(values) for values in zip(*_LINKS, strict=True))
_FEATURES = 48


def observe(
    epochs: NDArray[np.datetime64], *, seed: int, receiver: int, position: Position, elevation_mask: float
) -> dict[str, dict[str, NDArray[np.float64]]]:
    """Simulate what a receiver observes.

    An observation depends on seed, receiver, position and its own epoch, not on the other epochs asked for.

    Parameters
    ----------
    epochs : ndarray of datetime64[ns], shape (n_epochs,)
        Epochs in GPS time.
    seed : int
        Seed of everything random.
    receiver : int
        Number of the receiver from 1 on; the first is in the open, all others are below the canopy.
    position : Position
        Position of the first receiver; the others are placed in steps of 40 m to the east.
    elevation_mask : float
        Elevation in degrees below which nothing is tracked.

    Returns
    -------
    dict of str to dict of str to ndarray of float64
        Satellite -> observation type -> values of shape (n_epochs,), NaN where there is none: metres, cycles,
        hertz, dB-Hz. A satellite or signal that is never observed is not there.

    Notes
    -----
    Under an open sky the SNR is ``zenith - drop * (1 - sin(elevation)) ** 1.5``, a form that was fitted to
    the medians of a real receiver and meets them within about 2 dB.
    """
    sight = look(position, epochs, east_m=RECEIVER_SPACING_M * (receiver - 1))
    visible = sight.direction[..., 2] >= np.sin(np.radians(elevation_mask))
    loss_db = np.zeros(visible.shape)
    if receiver > 1:
        loss_db[visible] = canopy_loss_db(sight.direction[visible], seed, receiver)
    # A generator for each epoch, so that an epoch is the same in every file that holds it.
    ticks = epochs.astype("datetime64[ns]").astype(np.int64).tolist()
    draws = [np.random.default_rng([seed, receiver, tick]).standard_normal((2, _ROWS.size)) for tick in ticks]
    noise, code_noise = np.stack(draws, axis=1)
    # Satellites differ for every receiver alike.
    satellite_db = SATELLITE_SPREAD_DB * np.random.default_rng(seed).standard_normal(_ROWS.size)
    low = 1 - sight.direction[:, _ROWS, 2].clip(0, 1)
    loss_db = loss_db[:, _ROWS]
    noise_db = (OPEN_NOISE_DB * (1 + 2 * low) + CANOPY_NOISE * loss_db) * noise
    snr = _ZENITH + satellite_db - _DROP * low**1.5 - loss_db + noise_db
    tracked = visible[:, _ROWS] & (snr >= THRESHOLD_DBHZ)
    wavelength_m = SPEED_OF_LIGHT / (_MHZ * 1e6)
    values = {
        "C": sight.range_m[:, _ROWS] + CODE_NOISE_M * code_noise,
        "L": sight.range_m[:, _ROWS] / wavelength_m,
        "D": -sight.range_rate[:, _ROWS] / wavelength_m,
        "S": snr,
    }
    observations: dict[str, dict[str, NDArray[np.float64]]] = {}
    for column in np.flatnonzero(tracked.any(axis=0)):
        types = observations.setdefault(SATELLITES[_ROWS[column]], {})
        for kind, array in values.items():
            types[f"{kind}{_CODES[column]}"] = np.where(tracked[:, column], array[:, column], np.nan)
    return observations


def canopy_loss_db(direction: NDArray[np.float64], seed: int, receiver: int) -> NDArray[np.float64]:
    """Compute the loss of power in the canopy above a receiver, which stays the same over time.

    Parameters
    ----------
    direction : ndarray of float64, shape (n, 3)
        Unit vectors (east, north, up).
    seed, receiver : int
        Which canopy.

    Returns
    -------
    ndarray of float64, shape (n,)
        Loss in decibels.

    Notes
    -----
    A plane layer: ``4.34 * VOD / cos(theta)`` with the angle from the zenith theta (the tau-omega model
    without scattering; Humphrey and Frankenberg, Biogeosciences 20, 2023, doi 10.5194/bg-20-1789-2023, eq.
    1). Below 5 degrees of elevation it grows no further, since a forest ends somewhere. The optical depth is
    log-normally distributed over the directions; its logarithm is a Gaussian random field of random Fourier
    features (Rahimi and Recht, "Random features for large-scale kernel machines", NIPS 2007).
    """
    random = np.random.default_rng([seed, receiver])
    scales = np.radians(np.repeat(CANOPY_SCALES_DEG, _FEATURES))
    waves = random.standard_normal((3, scales.size)) / scales
    phases = random.uniform(0, 2 * np.pi, scales.size)
    field = np.cos(direction @ waves + phases).sum(axis=-1) * np.sqrt(2 / scales.size)
    depth = CANOPY_VOD * np.exp(CANOPY_SPREAD * field - CANOPY_SPREAD**2 / 2)
    return np.asarray(DB_PER_NEPER * depth / direction[:, 2].clip(np.sin(np.radians(5.0))))
