"""Observation files as arrays.

One protocol (`Reader`), a reader for RINEX (``canvod.launch.readers.rinex``), and an entry point by which
packages offer others. It runs inside the workers and imports nothing else of the project, and no package but
numpy, and hatanaka for what is compressed with it.
"""

from canvod.launch.readers.observations import (
    VARIABLES,
    NoReaderError,
    Observations,
    Reader,
    UnreadableFileError,
)
from canvod.launch.readers.registry import (
    DEFAULT,
    GROUP,
    find_reader,
    read_observations,
    reader_names,
    reader_version,
)

__all__ = [
    "DEFAULT",
    "GROUP",
    "VARIABLES",
    "NoReaderError",
    "Observations",
    "Reader",
    "UnreadableFileError",
    "find_reader",
    "read_observations",
    "reader_names",
    "reader_version",
]
