"""What a reader gives back, and how it refuses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class UnreadableFileError(Exception):
    """A file that cannot be read, with the reason in one line.

    The reason is the only argument, so that the error crosses processes of different Python versions.

    Parameters
    ----------
    reason : str
        What is wrong with the file: the line where it is known, what was expected and what was found.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class NoReaderError(Exception):
    """The reader that was asked for cannot be imported here; the message says how to install it."""


@dataclass(frozen=True, eq=False)
class Reading:
    """What a reader took from a file, before it is sorted and reduced to what was observed.

    Attributes
    ----------
    epoch : numpy.ndarray
        Shape (n_epoch,), int64, ns since 1970-01-01, in the order of the file.
    sid : list of str
        Names of the columns, each once, in any order.
    variables : dict of str to numpy.ndarray
        Shape (n_epoch, n_sid) each, NaN = missing.
    notes : list of str
        What was left out, in words.
    """

    epoch: npt.NDArray[np.int64]
    sid: list[str]
    variables: dict[str, npt.NDArray[np.floating[Any]]]
    notes: list[str]


def one_line(text: str, limit: int = 200) -> str:
    """Return ``text`` on one line of printable characters, cut at ``limit``."""
    flat = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return flat if len(flat) <= limit else flat[: limit - 3] + "..."
