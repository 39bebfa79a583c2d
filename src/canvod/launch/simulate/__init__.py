"""Simulated observation files, so that a machine without a receiver has something to process.

`campaign` makes the folders and files of several receivers, `receiver` what each of them observes,
`orbits` the satellites that it sees, and `rinex_writer` the text of a file. Below it:
`canvod.launch.errors`. Above it: `cli`.
"""

from __future__ import annotations

from canvod.launch.simulate.campaign import DEFAULT_POSITION, SimulationReport, simulate
from canvod.launch.simulate.orbits import Position
from canvod.launch.simulate.receiver import observe
from canvod.launch.simulate.rinex_writer import RinexHeader, render_rinex, write_rinex

__all__ = [
    "DEFAULT_POSITION",
    "Position",
    "RinexHeader",
    "SimulationReport",
    "observe",
    "render_rinex",
    "simulate",
    "write_rinex",
]
