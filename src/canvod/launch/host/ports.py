"""Ports of the loopback interface."""

from __future__ import annotations

import socket


def is_free(port: int) -> bool:
    """Whether nothing listens on a port of 127.0.0.1, or of all addresses.

    Parameters
    ----------
    port : int
        Port number.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def free_port(wanted: int) -> int:
    """Return the port that is wanted, or 0 (any free one) where it is taken.

    Parameters
    ----------
    wanted : int
        Port number to try.
    """
    return wanted if wanted and is_free(wanted) else 0
