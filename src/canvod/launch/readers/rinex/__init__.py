"""RINEX observation files 2.10 to 2.12, 3.00 to 3.05 and 4.0x."""

from canvod.launch.readers.rinex.file import read, read_times

__all__ = ["read", "read_times"]
