"""Observation files as arrays: one protocol, a reader of RINEX, and by name the readers of other packages.

`observations` holds the protocol (`Reader`), ``canvod.launch.readers.rinex`` our reader, `registry` the
entry point by which packages offer others. It runs inside the workers: it imports nothing else of the
project, and no package but numpy, and hatanaka for files that are packed with it. Above it:
`canvod.launch.runtime`, whose tasks read files, and `ingest`.
"""

from canvod.launch.readers.content import plain_size
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
    "plain_size",
    "read_observations",
    "reader_names",
    "reader_version",
]
