"""The sound epochs of a RINEX file, for readers that do not look, or do not say.

canvod-readers checks every epoch of a RINEX 3 file and leaves out those that fail; georinex checks nothing,
and reads a damaged line as numbers or stops. Here the same checks are made for georinex, and for RINEX 2.11
for both, so that a file gives the same epochs whichever library reads it. What is left out is told with its
line.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from canvod.launch.runtime import rinex2_records, rinex3_records
from canvod.launch.runtime.signals import variable

if TYPE_CHECKING:
    from canvod.launch.runtime.rinex_header import RinexHeader
    from canvod.launch.runtime.rinex_records import Records


def screen(path: str, header: RinexHeader, variables: Collection[str]) -> Records:
    """Check the records of a plain file.

    Parameters
    ----------
    path : str
        The file.
    header : RinexHeader
        Its header.
    variables : collection of str
        Variables whose observations are checked; a bad one of another variable costs nothing.

    Returns
    -------
    Records
    """
    # Lines end where they end for canvod-readers.
    lines = Path(path).read_bytes().decode("utf-8", errors="replace").splitlines()
    wanted = {
        system: [i for i, code in enumerate(codes) if variable(code) in variables]
        for system, codes in header.codes.items()
    }
    if header.is_rinex2:
        n_codes = len(next(iter(header.codes.values())))
        return rinex2_records.screen(lines, wanted, header.n_lines, n_codes, header.span_ns)
    return rinex3_records.screen(lines, wanted, header.span_ns)
