"""Frequencies of signals, by system and band: centre and bandwidth, the values that canVODpy 1.0.0 uses.

Centres are those of RINEX 3.04 (2018), tables 4 to 10, and of RINEX 4.02 (2024) for NavIC's L1. Bandwidths:

- GPS: IS-GPS-200N, 3.3.1.1 (L1, L2; that of Block III, older ones have 20.46 MHz) and IS-GPS-705J, 3.3.1.1
  (L5); the same for SBAS.
- GLONASS: G1 and G2 are FDMA: each satellite has a channel of its own, which its signal's name does not tell.
  They have the middle of the 14 channels from -7 to 6 (ICD L1, L2, edition 5.1, 3.3.1.1: 1602 + 0.5625 k and
  1246 + 0.4375 k MHz), and the width from the lowest to the highest with 0.511 MHz on either side. G1a, G2a
  and G3: 7.875 MHz, which canVODpy gives without a source.
- Galileo: OS SIS ICD 2.1, tables 2 and 3, receiver reference bandwidths.
- BeiDou: the ICDs of B1I 3.0, B1C 1.0, B2a 1.0, B2b 1.0 and B3I 1.0. For B2 there is none: canVODpy takes the
  width of Galileo's E5.
- QZSS: IS-QZSS-PNT-006, table 3.1.2-1, and for L6 Navipedia's signal plan.
- NavIC: SPS ICD 1.1, table 1 (L5), and for S Navipedia's signal plan. That of L1 is left open; canVODpy does
  not have the band.
"""

from __future__ import annotations

from math import nan
from typing import Final

BANDS_MHZ: Final[dict[str, dict[str, tuple[float, float]]]] = {
    "G": {"L1": (1575.42, 30.69), "L2": (1227.6, 30.69), "L5": (1176.45, 24.0)},
    "R": {
        "G1": (1601.71875, 8.3345),
        "G2": (1245.78125, 6.7095),
        "G1a": (1600.995, 7.875),
        "G2a": (1248.06, 7.875),
        "G3": (1202.025, 7.875),
    },
    "E": {
        "E1": (1575.42, 24.552),
        "E5a": (1176.45, 20.46),
        "E5b": (1207.14, 20.46),
        "E5": (1191.795, 51.15),
        "E6": (1278.75, 40.92),
    },
    "C": {
        "B1I": (1561.098, 4.092),
        "B1C": (1575.42, 32.736),
        "B2a": (1176.45, 20.46),
        "B2b": (1207.14, 20.46),
        "B2": (1191.795, 51.15),
        "B3I": (1268.52, 20.46),
    },
    "J": {"L1": (1575.42, 30.69), "L2": (1227.6, 30.69), "L5": (1176.45, 24.0), "L6": (1278.75, 42.0)},
    "I": {"L1": (1575.42, nan), "L5": (1176.45, 24.0), "S": (2492.028, 16.5)},
    "S": {"L1": (1575.42, 30.69), "L5": (1176.45, 24.0)},
}
"""Centre and bandwidth in MHz, by system and name of the band."""


def frequencies(sid: str) -> tuple[float, float, float]:
    """Frequencies of a signal.

    Parameters
    ----------
    sid : str
        Signal, ``sv|band|code``.

    Returns
    -------
    tuple of (float, float, float)
        Centre, lowest and highest frequency of its band in MHz; NaN where they are not known.

    Examples
    --------
    >>> frequencies("E03|E5a|Q")
    (1176.45, 1166.22, 1186.68)
    """
    sv, band, _ = sid.split("|")
    center, width = BANDS_MHZ.get(sv[:1], {}).get(band, (nan, nan))
    return center, center - width / 2, center + width / 2
