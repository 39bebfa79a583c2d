"""Names of signals: from RINEX observation codes to ``sv|band|code``.

The names are those of canvod-readers, whichever library reads the file. Sources:

- RINEX 3.04 (IGS/RTCM, 2018), tables 4 to 10: frequency bands of GPS, GLONASS, Galileo, SBAS, QZSS, BeiDou
  and IRNSS and the digit that stands for each in an observation code. Bands are called as in the systems' own
  interface documents, so that BeiDou's B1-2 (digit 2) is ``B1I``, B1 (digit 1) ``B1C``, and so on.
- RINEX 2.11 (Gurtner and Estey, 2007), table A1 and section 10.1: a code of two characters says the band but,
  except for C1 and the P codes of GLONASS, not the tracking mode. What it leaves open is marked by a
  lowercase letter, which no RINEX 3 code uses: ``u`` nothing is known, ``p`` a P code of GPS (P, W, Y or D),
  ``l`` the civil code of GPS on L2 (C, S, L or X).
"""

from __future__ import annotations

from typing import Final

BANDS: Final[dict[str, dict[str, str]]] = {
    "G": {"1": "L1", "2": "L2", "5": "L5"},
    "R": {"1": "G1", "4": "G1a", "2": "G2", "6": "G2a", "3": "G3"},
    "E": {"1": "E1", "5": "E5a", "7": "E5b", "8": "E5", "6": "E6"},
    "S": {"1": "L1", "5": "L5"},
    "J": {"1": "L1", "2": "L2", "5": "L5", "6": "L6"},
    "C": {"2": "B1I", "1": "B1C", "5": "B2a", "7": "B2b", "8": "B2", "6": "B3I"},
    "I": {"5": "L5", "9": "S"},
}
"""Band names by system and by the digit of the observation code."""

LAST_SATELLITE: Final[dict[str, int]] = {"G": 32, "R": 24, "E": 36, "S": 99, "J": 10, "C": 63, "I": 14}
"""Highest satellite number of each system that canvod-readers knows; it leaves others out."""

VARIABLES: Final[dict[str, str]] = {"S": "SNR", "C": "Pseudorange", "L": "Phase", "D": "Doppler"}
"""Variables by the first letter of an observation code (RINEX 3.04, section 5.1)."""


def variable(code: str) -> str | None:
    """Variable that an observation code belongs to, or None.

    Parameters
    ----------
    code : str
        RINEX 3 code (``S1C``) or RINEX 2 code (``S1``, ``P2``); P is a pseudorange in RINEX 2.

    Examples
    --------
    >>> variable("D2W"), variable("P2"), variable("X1")
    ('Doppler', 'Pseudorange', None)
    """
    letter = "C" if len(code) == 2 and code[0] == "P" else code[:1]
    return VARIABLES.get(letter)


def signal(system: str, code: str) -> str | None:
    """Signal ``band|code`` of an observation code, or None where the system has no such band.

    Parameters
    ----------
    system : str
        Satellite system, one of ``G R E S J C I``.
    code : str
        RINEX 3 code of three characters or RINEX 2 code of two.

    Examples
    --------
    >>> signal("C", "S2I"), signal("R", "L1C"), signal("G", "S1"), signal("G", "P2"), signal("G", "S9C")
    ('B1I|I', 'G1|C', 'L1|u', 'L2|p', None)
    """
    if len(code) not in (2, 3):
        return None
    band = BANDS.get(system, {}).get(code[1])
    if band is None:
        return None
    tracking = code[2] if len(code) == 3 else _tracking_of_rinex2(system, code)
    return f"{band}|{tracking}"


def _tracking_of_rinex2(system: str, code: str) -> str:
    if system == "S" and code[1] == "1":
        return "C"
    if system == "G":
        if code == "C1":
            return "C"
        if code == "C2":
            return "l"
        if code[0] == "P":
            return "p"
    if system == "R" and code[0] in "CP":
        return code[0]
    return "u"


def is_known(sv: str) -> bool:
    """Whether a satellite such as ``G01`` is one that canvod-readers knows.

    Examples
    --------
    >>> is_known("R24"), is_known("R27"), is_known("X01")
    (True, False, False)
    """
    return sv[1:].isdigit() and 1 <= int(sv[1:]) <= LAST_SATELLITE.get(sv[:1], 0)
