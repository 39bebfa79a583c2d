"""The command ``canvod-launch``: its subcommands, and all tables, trees and pictures.

One module for each subcommand, which imports what it needs when it runs, so that ``--help`` is quick.
Modules named ``*_view``, `plot` and ``*progress`` draw. Below it: every package that a command needs.
Nothing imports it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command ``canvod-launch``.

    Parameters
    ----------
    arguments : sequence of str, optional
        Arguments after the command's name; those of this process where None.

    Returns
    -------
    int
        The exit status, see :class:`canvod.launch.errors.ExitStatus`.
    """
    from canvod.launch.cli.app import run

    return run(arguments)
