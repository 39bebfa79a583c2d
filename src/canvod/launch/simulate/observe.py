"""Observations of one receiver: pseudorange, carrier phase, Doppler and signal strength."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from canvod.launch.simulate import noise, scene
from canvod.launch.simulate.geometry import SPEED_OF_LIGHT, Position, Sight, look
from canvod.launch.simulate.orbits import Constellation, all_systems
from canvod.launch.simulate.scene import Scene
from canvod.launch.simulate.signals import SIGNALS, Signal

if TYPE_CHECKING:
    from numpy.typing import NDArray

IONOSPHERE = 40.3
"""Delay in metres is ``40.3 * TEC / f**2`` (IERS Conventions 2010, eq. 9.1)."""
VERTICAL_TEC = 15e16
"""Electrons per square metre: 15 TECU, a mid-latitude daily mean."""
ZENITH_TROPOSPHERE_M = 2.4
"""Delay at the zenith, near sea level (IERS Conventions 2010, section 9.1)."""
RECEIVER_SPACING_M = 40.0
"""Each further receiver stands this much farther to the east."""

_DAY_NS, _MINUTE_NS = 86_400_000_000_000, 60_000_000_000
_MINUTES = np.arange(1440)
_LOOK = np.timedelta64(4, "m")
# The receiver's oscillator is steered: a slow oscillation of 20 microseconds, without the jumps of free ones.
_CLOCK_S, _CLOCK_PERIOD_S = 20e-6, 21_600.0
_CODE_NOISE_M, _PHASE_NOISE_M, _DOPPLER_NOISE = 0.25, 0.002, 0.02
_PHASE_LOCK_DBHZ, _PHASE_LOCK_SPREAD = 26.0, 1.5


@dataclass(frozen=True)
class Observed:
    """Observations of one receiver, in the form that `canvod.launch.simulate.write_rinex` takes.

    Attributes
    ----------
    epochs : ndarray of datetime64[ns], shape (n_epochs,)
    observations : dict of str to dict of str to ndarray
        Satellite -> type -> values of shape (n_epochs,), NaN where there is none: metres, cycles, hertz,
        dB-Hz.
    lli : dict of str to dict of str to ndarray
        Loss-of-lock indicators of the carrier phases in the same form.
    elevation : dict of str to ndarray
        Satellite -> elevation in degrees, of shape (n_epochs,).
    """

    epochs: NDArray[np.datetime64]
    observations: dict[str, dict[str, NDArray[np.float64]]]
    lli: dict[str, dict[str, NDArray[np.float64]]]
    elevation: dict[str, NDArray[np.float64]]


def observe(
    epochs: NDArray[np.datetime64], *, seed: int, receiver: int, position: Position, elevation_mask: float
) -> Observed:
    """Simulate what a receiver observes.

    An observation depends on seed, receiver, position and its own epoch, not on the other epochs asked for.
    Only the loss-of-lock indicators look back, to the epoch one interval earlier.

    Parameters
    ----------
    epochs : ndarray of datetime64[ns], shape (n_epochs,)
        Equidistant epochs in GPS time, at least two.
    seed : int
    receiver : int
        Number of the receiver from 1 on; the first stands in the open, all others below the canopy.
    position : Position
        Position of the first receiver; the others stand in steps of 40 m to the east.
    elevation_mask : float
        Elevation in degrees below which nothing is tracked.

    Returns
    -------
    Observed
    """
    times = np.concatenate([epochs[:1] - (epochs[1] - epochs[0]), epochs])
    place = Scene(seed, receiver)
    antenna = position.ecef(east_m=RECEIVER_SPACING_M * (receiver - 1))
    satellites = _risen(position, antenna, times, elevation_mask)
    sight = look(satellites, position, antenna, times)
    track = _Track(place, times, satellites.satellites, sight, elevation_mask)
    observations: dict[str, dict[str, NDArray[np.float64]]] = {name: {} for name in satellites.satellites}
    lli: dict[str, dict[str, NDArray[np.float64]]] = {name: {} for name in satellites.satellites}
    for number, signal in enumerate(SIGNALS):
        columns = np.flatnonzero(signal.senders(satellites.satellites))
        if not columns.size:
            continue
        code, phase, doppler, strength, indicator = track.signal(number, signal, columns)
        for position_in, column in enumerate(columns):
            name = satellites.satellites[column]
            values = (code, phase, doppler, strength)
            for kind, array in zip(signal.types(), values, strict=True):
                observations[name][kind] = array[1:, position_in]
            lli[name][f"L{signal.code}"] = indicator[:, position_in]
    elevation = {name: sight.elevation[1:, index] for index, name in enumerate(satellites.satellites)}
    return Observed(epochs, observations, lli, elevation)


def _risen(
    position: Position,
    antenna: NDArray[np.float64],
    times: NDArray[np.datetime64],
    elevation_mask: float,
) -> Constellation:
    """Keep the satellites that can be above the mask at any time, judged by a look every four minutes."""
    every = max(1, int(_LOOK / (times[1] - times[0])))
    rows = np.append(np.arange(0, times.size, every), times.size - 1)
    satellites = all_systems()
    elevation = look(satellites, position, antenna, times[rows]).elevation
    # No satellite of medium height rises faster than 0.6 degrees a minute.
    return satellites.select((elevation >= elevation_mask - 3.0).any(axis=0))


class _Track:
    """What all signals of a receiver share, and the observables of one: (n_epochs, n_columns) each."""

    def __init__(
        self,
        place: Scene,
        times: NDArray[np.datetime64],
        satellites: tuple[str, ...],
        sight: Sight,
        elevation_mask: float,
    ) -> None:
        self.place = place
        self.satellites = satellites
        self.sight = sight
        self.ticks = times.astype(np.int64)
        self.identity = np.array([ord(name[0]) * 100 + int(name[1:]) for name in satellites])
        self.attenuation = place.attenuation_db(sight.direction)
        self.scatter = place.scatter_db(sight.direction)
        self.interrupted, self.arc = self._interruptions()
        self.usable = (sight.elevation >= elevation_mask) & ~self.interrupted
        sin = np.clip(sight.sin_elevation, 0.05, 1)
        # Black and Eisner's mapping function (J. Geophys. Res. 89, 1984), good for both delays at this
        # accuracy.
        mapping = 1.001 / np.sqrt(0.002001 + sin**2)
        clock_phase = (
            2
            * np.pi
            * ((self.ticks * 1e-9) / _CLOCK_PERIOD_S + noise.uniform(place.seed, scene.CLOCK, place.receiver))
        )
        clock_rate = _CLOCK_S * 2 * np.pi / _CLOCK_PERIOD_S * np.cos(clock_phase)
        clock = SPEED_OF_LIGHT * _CLOCK_S * np.sin(clock_phase)
        self.path = sight.range_m + ZENITH_TROPOSPHERE_M * mapping + clock[:, np.newaxis]
        self.rate = sight.range_rate + SPEED_OF_LIGHT * clock_rate[:, np.newaxis]
        self.electrons = VERTICAL_TEC * np.minimum(mapping, 3.0)

    def _interruptions(self) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
        """Find where tracking is interrupted, and number the unbroken arcs; the count starts anew every day.

        An interruption begins with a minute and lasts up to half of it. Arcs carry the day in their number,
        so that those of two days never have the same.
        """
        day, within = np.divmod(self.ticks, _DAY_NS)
        minute, rest = np.divmod(within, _MINUTE_NS)
        place = self.place
        lost = np.zeros((self.ticks.size, self.identity.size), dtype=bool)
        arc = np.zeros(lost.shape, dtype=np.int64)
        for one in np.unique(day):
            rows = np.flatnonzero(day == one)
            keys = (one * 1440 + _MINUTES[:, np.newaxis], self.identity)
            events = noise.uniform(place.seed, scene.LOSS, place.receiver, *keys) < place.loss_rate
            length = 30e9 * noise.uniform(place.seed, scene.LOSS, place.receiver, *keys, 1)
            lost[rows] = events[minute[rows]] & (rest[rows, np.newaxis] < length[minute[rows]])
            arc[rows] = one * 1440 + np.cumsum(events, axis=0)[minute[rows]]
        return lost, arc

    def signal(
        self, number: int, signal: Signal, columns: NDArray[np.intp]
    ) -> tuple[
        NDArray[np.float64],
        NDArray[np.float64],
        NDArray[np.float64],
        NDArray[np.float64],
        NDArray[np.float64],
    ]:
        """Compute pseudorange, phase, Doppler, strength, and the loss-of-lock indicator, one row shorter."""
        place, identity = self.place, self.identity[columns]
        keys = (number, identity, self.ticks[:, np.newaxis])
        names = tuple(self.satellites[column] for column in columns)
        frequency = signal.frequencies(names)
        wavelength = SPEED_OF_LIGHT / frequency
        sin = self.sight.sin_elevation[:, columns]
        attenuation = self.attenuation[:, columns]
        strength = signal.open_sky(sin) + signal.loss_factor * (self.scatter[:, columns] - attenuation)
        # Satellites differ for every receiver alike, so the receiver is no part of this key.
        strength += signal.spread_db * noise.normal(place.seed, scene.SATELLITE, number, identity).clip(
            -1.5, 1.5
        )
        strength += place.multipath_db(sin, frequency, (number, identity))
        strength += place.fading_db(sin, attenuation, keys)
        strength = np.where(self.usable[:, columns] & (strength >= signal.threshold_dbhz), strength, np.nan)
        tracked = np.isfinite(strength)
        # Thermal noise grows as the signal weakens: by the root of 10 for each 10 dB.
        weaker = 10 ** ((45 - np.nan_to_num(strength, nan=45.0)) / 20)
        ionosphere = IONOSPHERE * self.electrons[:, columns] / frequency**2
        path = self.path[:, columns]
        code = path + ionosphere + _CODE_NOISE_M * weaker * self._normal(scene.CODE, keys)
        ambiguity = noise.bits(
            place.seed, scene.AMBIGUITY, place.receiver, number, identity, self.arc[:, columns]
        )
        cycles = (ambiguity >> np.uint64(44)).astype(np.float64)
        phase = (path - ionosphere + _PHASE_NOISE_M * weaker * self._normal(scene.CARRIER, keys)) / wavelength
        doppler = -self.rate[:, columns] / wavelength + _DOPPLER_NOISE * weaker * self._normal(
            scene.DOPPLER, keys
        )
        # A phase loop needs more signal than a code loop; semi-codeless tracking is aided by L1.
        margin = _PHASE_LOCK_DBHZ - 18.0 + signal.threshold_dbhz
        lock = margin + _PHASE_LOCK_SPREAD * self._normal(scene.LOSS, keys)
        locked = tracked & (strength > lock)
        slipped = ~locked[:-1] | (cycles[1:] != cycles[:-1])
        return (
            np.where(tracked, code, np.nan),
            np.where(locked, phase + cycles, np.nan),
            np.where(tracked, doppler, np.nan),
            strength,
            slipped.astype(np.float64),
        )

    def _normal(self, stream: int, keys: tuple[NDArray[np.int64] | int, ...]) -> NDArray[np.float64]:
        return noise.normal(self.place.seed, stream, self.place.receiver, *keys)
