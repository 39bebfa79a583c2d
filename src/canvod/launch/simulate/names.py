"""Names of the folders and files of a campaign."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

_HOUR_MINUTES = 60
_DAY_MINUTES = 1440


def folder_name(receiver: int) -> str:
    """Name of a receiver's folder: ``01_reference``, ``02_canopy``, ``03_canopy`` and so on."""
    return f"{receiver:02d}_{'reference' if receiver == 1 else 'canopy'}"


def station(receiver: int) -> str:
    """Name of a receiver's station: four letters, two digits and the country, which is unknown."""
    return "SIMR01XXX" if receiver == 1 else f"SIMA{receiver - 1:02d}XXX"


def file_name(receiver: int, start: np.datetime64, minutes: int, interval_s: float) -> str:
    """Long file name of RINEX 3.04 (appendix A1), such as ``SIMR01XXX_R_20250010000_15M_05S_MO.rnx``."""
    if minutes % _DAY_MINUTES == 0:
        period = f"{minutes // _DAY_MINUTES:02d}D"
    elif minutes % _HOUR_MINUTES == 0:
        period = f"{minutes // _HOUR_MINUTES:02d}H"
    else:
        period = f"{minutes:02d}M"
    if interval_s < 1:
        frequency = f"{round(1 / interval_s):02d}Z"
    elif interval_s % 60:
        frequency = f"{round(interval_s):02d}S"
    else:
        frequency = f"{round(interval_s / 60):02d}M"
    clock = str(start.astype("datetime64[m]"))[11:].replace(":", "")
    return f"{station(receiver)}_R_{year_day(start, 4)}{clock}_{period}_{frequency}_MO.rnx"


def year_day(start: np.datetime64, digits: int) -> str:
    """Year, of which ``digits`` are kept, and three-digit day of the year."""
    year = start.astype("datetime64[Y]")
    day = (start.astype("datetime64[D]") - year.astype("datetime64[D]")).astype(int) + 1
    return f"{str(year)[-digits:]}{day:03d}"
