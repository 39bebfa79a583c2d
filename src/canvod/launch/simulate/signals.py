"""Signals of the satellites: frequency, who sends them, and how strongly they arrive under an open sky."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from canvod.launch.simulate.orbits import GLONASS_SLOTS

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

_MHZ = 1e6


def _every(_: int) -> bool:
    return True


@dataclass(frozen=True)
class Signal:
    """One signal of one system.

    Attributes
    ----------
    system : str
        System letter.
    code : str
        Band and code of its observation types, such as ``1C``.
    frequency_hz : float
        Carrier frequency; for GLONASS that of channel 0.
    channel_hz : float
        Frequency step of a GLONASS channel, else 0.
    zenith_dbhz, drop_db : float
        Signal strength at the zenith, and how much less of it arrives at the horizon.
    threshold_dbhz : float
        The weakest signal that the receiver tracks.
    loss_factor : float
        How many decibels of strength one decibel of attenuation costs.
    spread_db : float
        Standard deviation of the strength between satellites, which are of several blocks and ages.
    sent_by : callable
        Whether a satellite, given by its number, sends the signal.
    """

    system: str
    code: str
    frequency_hz: float
    zenith_dbhz: float
    drop_db: float
    threshold_dbhz: float = 18.0
    channel_hz: float = 0.0
    loss_factor: float = 1.0
    spread_db: float = 1.0
    sent_by: Callable[[int], bool] = _every

    def types(self) -> tuple[str, str, str, str]:
        """Observation types in the order of the columns: pseudorange, phase, Doppler, strength."""
        return f"C{self.code}", f"L{self.code}", f"D{self.code}", f"S{self.code}"

    def frequencies(self, satellites: tuple[str, ...]) -> NDArray[np.float64]:
        """Carrier frequency in Hz for each satellite, of the shape (n_satellites,)."""
        channels = np.array([GLONASS_SLOTS.get(name, 0) for name in satellites], dtype=np.float64)
        return self.frequency_hz + self.channel_hz * channels

    def senders(self, satellites: tuple[str, ...]) -> NDArray[np.bool_]:
        """Whether each satellite sends the signal, of the shape (n_satellites,)."""
        return np.array(
            [name[0] == self.system and self.sent_by(int(name[1:])) for name in satellites], dtype=bool
        )

    def open_sky(self, sin_elevation: NDArray[np.float64]) -> NDArray[np.float64]:
        """Signal strength in dB-Hz under an open sky, without multipath and noise.

        The form ``zenith - drop * (1 - sin(elevation)) ** 1.5`` was fitted to the medians of a geodetic
        receiver (Septentrio AsteRx SB3, Rosalia site, 2025-01-01; doi 10.5281/zenodo.19708759) in bins of 10
        degrees of elevation, which it meets within about 2 dB. Signals that this receiver did not track (L5,
        E5 AltBOC) take the difference of their specified minimum power to a neighbour's: see `SIGNALS`.
        """
        return np.asarray(self.zenith_dbhz - self.drop_db * np.clip(1 - sin_elevation, 0, 1) ** 1.5)


def _l2c(number: int) -> bool:
    return number % 4 != 0


def _l5(number: int) -> bool:
    return number % 5 not in (0, 1)


def _beidou_2(number: int) -> bool:
    return number <= 16


SIGNALS = (
    Signal("G", "1C", 1575.42 * _MHZ, 49.8, 15.0),
    # Semi-codeless tracking correlates two noisy signals (Woo, Navigation 47, 2000): the strength falls twice
    # as fast as the power, which the Rosalia receivers show too (20 dB where L1 C/A loses 10), L1 aids it
    # down to 2 dB-Hz, and the blocks of satellites differ by up to 10 dB.
    Signal("G", "2W", 1227.60 * _MHZ, 49.0, 30.0, threshold_dbhz=2.0, loss_factor=2.0, spread_db=4.0),
    Signal("G", "2L", 1227.60 * _MHZ, 46.0, 12.5, sent_by=_l2c),
    Signal("G", "5Q", 1176.45 * _MHZ, 50.4, 13.0, sent_by=_l5),
    Signal("R", "1C", 1602.0 * _MHZ, 51.5, 11.0, spread_db=2.0, channel_hz=0.5625 * _MHZ),
    Signal("R", "2C", 1246.0 * _MHZ, 47.5, 10.5, channel_hz=0.4375 * _MHZ),
    Signal("E", "1C", 1575.42 * _MHZ, 48.2, 13.5),
    Signal("E", "5Q", 1176.45 * _MHZ, 50.6, 13.0),
    Signal("E", "7Q", 1207.14 * _MHZ, 51.2, 13.0),
    Signal("E", "8Q", 1191.795 * _MHZ, 53.6, 13.0),
    Signal("C", "2I", 1561.098 * _MHZ, 52.0, 13.0),
    Signal("C", "7I", 1207.14 * _MHZ, 51.0, 12.0, sent_by=_beidou_2),
    Signal("C", "6I", 1268.52 * _MHZ, 50.0, 11.5),
)
"""Frequencies: RINEX 3.04, tables 4, 5, 6 and 9 (IS-GPS-200/705, Galileo OS SIS ICD, GLONASS ICD,
BDS-SIS-ICD).

L2C is sent by 24 and L5 by 19 of 32 GPS satellites, about as many as in 2023 (25 and 18, gps.gov); which is
arbitrary. B2I (7I) comes from BDS-2 alone (BDS-SIS-ICD B1I 3.0; B2I is no signal of BDS-3). L5-Q is specified
0.6 dB above L1 C/A (-157.9 against -158.5 dBW, IS-GPS-705 and IS-GPS-200), E5 AltBOC carries E5a and E5b
together: 3 dB above either.
"""
