"""On which port of the loopback interface the dashboard of a cluster is."""

from __future__ import annotations

import socket


def choose_dashboard_port(wanted: int) -> int:
    """Choose the port of a dashboard: the one that is wanted, or 0 (any free one) where it is taken.

    Parameters
    ----------
    wanted : int
        ``launch.dashboard_port``; 0 for any free one.

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
