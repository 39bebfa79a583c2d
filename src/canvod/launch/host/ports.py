"""Ports of the loopback interface."""

from __future__ import annotations

import socket


def free_port(wanted: int) -> int:
    """Return the port that is wanted, or 0 (any free one) where it is taken.

    Parameters
    ----------
    wanted : int
        Port number to try.

    Returns
    -------
    int
        The same where nothing listens on that port of 127.0.0.1, or of all addresses; else 0.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            return 0
    return wanted
