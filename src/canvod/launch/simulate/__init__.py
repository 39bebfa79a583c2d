"""Simulated observation files, so that a machine without a receiver has something to process."""

from __future__ import annotations

from canvod.launch.simulate.campaign import SimulationReport, simulate
from canvod.launch.simulate.geometry import Position
from canvod.launch.simulate.header import PhaseShift, RinexHeader
from canvod.launch.simulate.observe import Observed, observe
from canvod.launch.simulate.rinex import render_rinex, write_rinex

__all__ = [
    "Observed",
    "PhaseShift",
    "Position",
    "RinexHeader",
    "SimulationReport",
    "observe",
    "render_rinex",
    "simulate",
    "write_rinex",
]
