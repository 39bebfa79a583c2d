"""Simulated observation files, so that a machine without a receiver has something to process."""

from __future__ import annotations

from canvod.launch.simulate.header import PhaseShift, RinexHeader
from canvod.launch.simulate.rinex import render_rinex, write_rinex

__all__ = ["PhaseShift", "RinexHeader", "render_rinex", "write_rinex"]
