"""Names of signals: from RINEX observation codes to ``sv|band|code``.

The names are those of canvod-readers. Sources:

- RINEX 3.04 (IGS/RTCM, 2018), tables 4 to 10, and RINEX 4.02 (2024), tables 9 to 15: frequency bands of GPS,
  GLONASS, Galileo, SBAS, QZSS, BeiDou and NavIC and the digit that stands for each in an observation code.
  Bands are called as in the systems' own interface documents, so that BeiDou's B1-2 (digit 2) is ``B1I``, B1
  (digit 1) ``B1C``, and so on.
- RINEX 3.04, note below table 9: in a 3.02 file BeiDou's digit 1 means what digit 2 means in all others.
- RINEX 2.11 (Gurtner and Estey, 2007), table A1 and section 10.1: a code of two characters says the band but,
  except for C1 and the P codes of GLONASS, not the tracking mode. What it leaves open is marked by a
  lowercase letter, which no RINEX 3 code uses: ``u`` nothing is known, ``p`` a P code of GPS (P, W, Y or D),
  ``l`` the civil code of GPS or QZSS on L2 (C, S, L or X), or the new one on L1 (S, L or X).
- RINEX 2.12 (Gurtner and Estey, 2009): letters in place of the digit name the C/A code on L1 (A), L1C (B),
  L2C (C), and the C/A code of GLONASS on G2 (D); digits 1 and 2 are then P codes of GPS and GLONASS.
"""

from __future__ import annotations

from functools import cache
from typing import Final

BANDS: Final[dict[str, dict[str, str]]] = {
    "G": {"1": "L1", "2": "L2", "5": "L5"},
    "R": {"1": "G1", "4": "G1a", "2": "G2", "6": "G2a", "3": "G3"},
    "E": {"1": "E1", "5": "E5a", "7": "E5b", "8": "E5", "6": "E6"},
    "S": {"1": "L1", "5": "L5"},
    "J": {"1": "L1", "2": "L2", "5": "L5", "6": "L6"},
    "C": {"2": "B1I", "1": "B1C", "5": "B2a", "7": "B2b", "8": "B2", "6": "B3I"},
    "I": {"1": "L1", "5": "L5", "9": "S"},
}
"""Band names by system and by the digit of the observation code."""

VARIABLES: Final[dict[str, str]] = {"S": "SNR", "C": "Pseudorange", "L": "Phase", "D": "Doppler"}
"""Variables by the first letter of an observation code (RINEX 3.04, section 5.1)."""


VERSION_2_12: Final = 2.12
VERSION_3_02: Final = 3.02

_LETTERS_2_12: Final[dict[str, dict[str, str]]] = {
    "A": {"G": "L1|C", "R": "G1|C", "S": "L1|C", "J": "L1|C"},
    "B": {"G": "L1|l", "J": "L1|l"},
    "C": {"G": "L2|l", "J": "L2|l"},
    "D": {"R": "G2|C"},
}

_P_CODES: Final = {"G": "p", "R": "P"}


def systems_of(version: float) -> str:
    """Name the satellite systems that files of a version have.

    Parameters
    ----------
    version : float
        Version of RINEX.

    Returns
    -------
    str
        Their letters, such as ``GRES``.
    """
    return "GRESJCI" if version >= 3 else "GRESJC" if version >= VERSION_2_12 else "GRES"


@cache
def variable(code: str) -> str | None:
    """Return the variable that an observation code belongs to.

    Parameters
    ----------
    code : str
        RINEX 3 code (``S1C``) or RINEX 2 code (``S1``, ``P2``); P is a pseudorange in RINEX 2.

    Returns
    -------
    str or None
        One of the values of `VARIABLES`; None for any other code.

    Examples
    --------
    >>> variable("D2W"), variable("P2"), variable("X1")
    ('Doppler', 'Pseudorange', None)
    """
    letter = "C" if len(code) == 2 and code[0] == "P" else code[:1]
    return VARIABLES.get(letter)


@cache
def signal(system: str, code: str, version: float) -> str | None:
    """Return the signal of an observation code.

    Parameters
    ----------
    system : str
        Satellite system, one of ``G R E S J C I``.
    code : str
        Observation code, of three characters in RINEX 3 and 4 (two where the tracking mode is not known), of
        two in RINEX 2.
    version : float
        Version of the file.

    Returns
    -------
    str or None
        Such as ``B1I|I``: band and tracking code; None where RINEX defines no such band for the system.

    Examples
    --------
    >>> signal("C", "S2I", 3.04), signal("C", "S1I", 3.02), signal("R", "L1C", 3.04), signal("G", "S9C", 3.04)
    ('B1I|I', 'B1I|I', 'G1|C', None)
    >>> signal("G", "S1", 2.11), signal("G", "P2", 2.11), signal("G", "SA", 2.12)
    ('L1|u', 'L2|p', 'L1|C')
    """
    if version < 3:
        return _signal_of_rinex2(system, code, version)
    digit, tracking = code[1:2], code[2:] or "u"
    if system == "C" and digit == "1" and version == VERSION_3_02:
        digit = "2"
    band = BANDS.get(system, {}).get(digit)
    return None if band is None else f"{band}|{tracking}"


def _signal_of_rinex2(system: str, code: str, version: float) -> str | None:
    if len(code) != 2:
        return None
    if version >= VERSION_2_12 and code[1] in _LETTERS_2_12:
        return _LETTERS_2_12[code[1]].get(system)
    # BeiDou came with 2.12, which has its B1 as band 1 or 2.
    digit = "2" if system == "C" and code[1] == "1" else code[1]
    band = BANDS.get(system, {}).get(digit)
    return None if band is None else f"{band}|{_tracking_of_rinex2(system, code, version)}"


def _tracking_of_rinex2(system: str, code: str, version: float) -> str:
    if system == "S" and code[1] == "1":
        return "C"
    if version >= VERSION_2_12 and system in _P_CODES and code[1] in "12":
        return _P_CODES[system]
    if system == "G":
        return {"C1": "C", "C2": "l"}.get(code, "p" if code[0] == "P" else "u")
    return code[0] if system == "R" and code[0] in "CP" else "u"
