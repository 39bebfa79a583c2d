"""Random numbers that are a function of their keys, not of the order in which they are drawn.

A draw for one satellite, signal and epoch is always the same, however a campaign is cut into files. The
mixing function is the finaliser of SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number
generators", OOPSLA 2014).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)


def bits(*keys: ArrayLike) -> NDArray[np.uint64]:
    """Hash integer keys, which broadcast against each other, to 64 random bits each."""
    state = np.zeros((), dtype=np.uint64)
    # The arithmetic is meant to wrap around; NumPy warns of that for scalars only.
    with np.errstate(over="ignore"):
        for key in keys:
            state = _mix(state + _GOLDEN + np.asarray(key, dtype=np.int64).astype(np.uint64))
    return state


def uniform(*keys: ArrayLike) -> NDArray[np.float64]:
    """Draw from the open interval (0, 1) for integer keys, which broadcast against each other."""
    return ((bits(*keys) >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53


def normal(*keys: ArrayLike) -> NDArray[np.float64]:
    """Draw from the standard normal distribution for integer keys (Box and Muller, 1958)."""
    radius = np.sqrt(-2.0 * np.log(uniform(*keys, 1)))
    return radius * np.cos(2.0 * np.pi * uniform(*keys, 2))


def _mix(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    state = (state ^ (state >> np.uint64(30))) * _FIRST
    state = (state ^ (state >> np.uint64(27))) * _SECOND
    return np.asarray(state ^ (state >> np.uint64(31)))
