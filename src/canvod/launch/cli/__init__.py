"""The command ``canvod-launch``: its subcommands, and all tables, trees and pictures.

One module for each subcommand, which imports what it needs when it runs, so that ``--help`` is quick.
`plan_view`, `plot` and `progress_bars` draw what needs more than a table. Below it: every package that a
command needs. Nothing imports it.
"""

from __future__ import annotations

from canvod.launch.cli.app import main

__all__ = ["main"]
