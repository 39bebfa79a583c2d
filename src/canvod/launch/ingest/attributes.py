"""Attributes of the arrays of a group, and the coordinates of its signals.

Names, dtypes and units are those of canVODpy 1.0.0, so that it reads our groups.
"""

from __future__ import annotations

import base64
import struct
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from canvod.launch.ingest.frequencies import frequencies

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    Coordinate = npt.NDArray[Any]

_NAN: Final = base64.standard_b64encode(struct.pack("<d", np.nan)).decode()
"""NaN as xarray writes the ``_FillValue`` of a Zarr 3 array, by whatever number of bytes."""

_OF_VARIABLES: Final[dict[str, dict[str, str]]] = {
    "SNR": {"long_name": "Signal-to-noise ratio (carrier-to-noise density)", "units": "dB-Hz"},
    "Pseudorange": {"long_name": "Pseudorange", "units": "meters"},
    "Phase": {"long_name": "Carrier phase", "units": "cycles"},
    "Doppler": {"long_name": "Doppler shift", "units": "Hz"},
}

EPOCH_ATTRIBUTES: Final = {
    "units": "nanoseconds since 1970-01-01",
    "calendar": "proleptic_gregorian",
    "standard_name": "time",
    "axis": "T",
    "long_name": "Epoch of the observation",
    "time_system": "GPS",
    "comment": "GPS time as in the files, without leap seconds: it is not UTC",
}
"""Attributes of ``epoch``."""

_OF_BANDS: Final = {
    "units": "MHz",
    "comment": "of the whole band: of GLONASS's FDMA bands G1 and G2 that of all channels",
}

SIGNAL_ATTRIBUTES: Final[dict[str, dict[str, str]]] = {
    "sid": {"long_name": "Signal: satellite, band and tracking code, as sv|band|code"},
    "sv": {"long_name": "Satellite, as in RINEX (G01)"},
    "system": {
        "long_name": "System: G GPS, R GLONASS, E Galileo, C BeiDou, J QZSS, I NavIC, S SBAS",
    },
    "band": {"long_name": "Frequency band (L1)"},
    "code": {"long_name": "Tracking code of RINEX (C)"},
    "freq_center": {"long_name": "Centre frequency", **_OF_BANDS},
    "freq_min": {"long_name": "Lowest frequency", **_OF_BANDS},
    "freq_max": {"long_name": "Highest frequency", **_OF_BANDS},
}
"""Attributes of ``sid`` and of the coordinates along it."""


def variable_attributes(name: str) -> Mapping[str, str]:
    """Attributes of a variable.

    Parameters
    ----------
    name : str
        Its name.

    Returns
    -------
    mapping of str to str
        CF attributes; also the names of its coordinates, which xarray takes from here.
    """
    coordinates = " ".join(name for name in SIGNAL_ATTRIBUTES if name != "sid")
    return {**_OF_VARIABLES[name], "_FillValue": _NAN, "coordinates": coordinates}


def signal_coordinates(sid: Sequence[str]) -> dict[str, Coordinate]:
    """``sid`` and the coordinates along it.

    Parameters
    ----------
    sid : sequence of str
        Signals, ``sv|band|code``.

    Returns
    -------
    dict of str to numpy.ndarray
        Shape (n_sid,) each, by name: text; frequencies in MHz as float32, NaN where they are not known.
    """
    text = np.dtypes.StringDType()
    sv, band, code = zip(*(name.split("|") for name in sid), strict=True) if sid else ((), (), ())
    names = {"sid": sid, "sv": sv, "system": [name[:1] for name in sv], "band": band, "code": code}
    mhz = np.array([frequencies(name) for name in sid], np.float32).reshape(-1, 3)
    return {
        **{name: np.array(values, text) for name, values in names.items()},
        **dict(zip(("freq_center", "freq_min", "freq_max"), mhz.T, strict=True)),
    }
