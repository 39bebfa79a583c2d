"""Dask's TLS settings, with connections that cannot break each other.

OpenSSL keeps what went wrong in a queue of the thread, and looks there for the state of whichever connection
is used next. CPython leaves errors of the operating system in it
(https://github.com/python/cpython/issues/148594), and so does OpenSSL itself where a client closes its
connection before it has read its session tickets (https://github.com/openssl/openssl/pull/6944). With Dask's
own settings and Python 3.14 a client that leaves makes the scheduler lose workers that have nothing to do
with it.
"""

from __future__ import annotations

import ssl
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from distributed.security import Security

if TYPE_CHECKING:
    from collections.abc import Callable


def _clear_errors() -> None:
    """Empty OpenSSL's queue of errors of this thread, which refusing a cipher does."""
    with suppress(ssl.SSLError):
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).set_ciphers("none of that name")


def _alone[R](operation: Callable[..., R]) -> Callable[..., R]:
    """Make an operation of a connection leave none of its errors to others."""

    def run(*arguments: Any, **keywords: Any) -> R:
        try:
            return operation(*arguments, **keywords)
        except ssl.SSLError:
            raise  # CPython has emptied the queue
        except OSError:
            _clear_errors()
            raise

    return run


class IndependentSocket(ssl.SSLSocket):
    """A TLS connection whose errors do not reach the others of its thread."""

    send = _alone(ssl.SSLSocket.send)
    recv_into = _alone(ssl.SSLSocket.recv_into)
    do_handshake = _alone(ssl.SSLSocket.do_handshake)


class IndependentSecurity(Security):
    """As `distributed.security.Security`, with connections that cannot break each other."""

    def get_connection_args(self, role: str) -> dict[str, Any]:
        """Return what a connection in a role needs.

        Parameters
        ----------
        role : {"scheduler", "worker", "client"}
            Who connects.

        Returns
        -------
        dict
            Keyword arguments of `distributed.comm.connect`, with the ``ssl.SSLContext`` among them.
        """
        arguments: dict[str, Any] = super().get_connection_args(role)
        if arguments["ssl_context"] is not None:
            arguments["ssl_context"].sslsocket_class = IndependentSocket
        return arguments

    def get_listen_args(self, role: str) -> dict[str, Any]:
        """Return what a server in a role needs; it sends no session tickets, since Dask resumes no sessions.

        Parameters
        ----------
        role : {"scheduler", "worker", "client"}
            Whose server.

        Returns
        -------
        dict
            Keyword arguments of `distributed.comm.listen`, with the ``ssl.SSLContext`` among them.
        """
        arguments: dict[str, Any] = super().get_listen_args(role)
        if arguments["ssl_context"] is not None:
            arguments["ssl_context"].sslsocket_class = IndependentSocket
            arguments["ssl_context"].num_tickets = 0
        return arguments
