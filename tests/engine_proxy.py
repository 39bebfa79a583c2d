"""A socket between a launcher and the real engine, where a fault can be put before or after any request."""

from __future__ import annotations

import json
import re
import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from canvod.launch.docker.engine import engine_address

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

REQUEST = re.compile(rb"^(GET|POST|DELETE|HEAD) (?:/v[0-9.]+)?(/\S*) HTTP/1\.1\r\n")


def spell_answer(status: str, content: object) -> bytes:
    """Spell an answer as the engine does."""
    body = json.dumps(content).encode()
    head = f"Content-Type: application/json\r\nContent-Length: {len(body)}"
    return f"HTTP/1.1 {status}\r\n{head}\r\n\r\n".encode() + body


def request_name(request: str) -> str:
    """Name a request without what differs from run to run: its query, and the IDs of objects."""
    path = request.split("?", maxsplit=1)[0]
    return re.sub(r"/[0-9a-f]{64}(?=/|$)", "/id", path)


class AtRequest:
    """A fault: do something once, when a request comes for the nth time.

    Parameters
    ----------
    moment : {"before", "after"}
        Before the engine has the request, or right after that.
    stage : str
        Name of the request and its number, such as ``POST /containers/id/start#2``.
    action : callable
        What to do.

    Attributes
    ----------
    reached : bool
        Whether it was done: a test of a stage that was never reached has shown nothing.
    """

    def __init__(self, moment: str, stage: str, action: Callable[[], object]) -> None:
        self._moment = moment
        self._request, _, number = stage.partition("#")
        self._left = int(number)
        self._action = action
        self.reached = False

    def __call__(self, moment: str, request: str) -> None:
        if moment == self._moment and request_name(request) == self._request:
            self._left -= 1
            if self._left == 0:
                self.reached = True
                self._action()


class EngineProxy:
    """Passes everything on to the engine, and tells each request before and after it is passed on.

    Parameters
    ----------
    path : pathlib.Path or None
        Where to listen; None means a port of 127.0.0.1.
    fault : callable
        Called with the moment (``before``, ``after``) and the request (``POST /containers/create``) in the
        order in which they come; what it does happens before anything else does. If it returns True, the
        engine has stopped answering: nothing more is passed on, either way. If it returns a text before a
        request that has no body, that is answered with status 500 and this message; if it returns a
        dictionary, with status 200 and that.
    """

    def __init__(self, path: Path | None, fault: Callable[[str, str], object]) -> None:
        self.requests: list[str] = []
        self._fault = fault
        self._turn = threading.Lock()
        self._stopped = threading.Event()
        self._engine = engine_address().removeprefix("unix://")
        if path is None:
            self._listener = socket.create_server(("127.0.0.1", 0))
            self.address = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        else:
            self._listener = socket.socket(socket.AF_UNIX)
            self._listener.bind(str(path))
            self.address = f"unix://{path}"
        self._listener.listen(64)
        self._open: set[socket.socket] = set()
        self._requests: dict[socket.socket, str] = {}
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop listening, and close every connection."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join()
        self._listener.close()
        for connection in list(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()

    def break_off(self, request: str) -> int:
        """Close the connections whose last request this was, and return their number."""
        found = [
            each for each, last in list(self._requests.items()) if last == request and each in self._open
        ]
        for connection in found:
            connection.shutdown(socket.SHUT_RDWR)
        return len(found)

    def _accept(self) -> None:
        while True:
            try:
                launcher, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(launcher,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, launcher: socket.socket) -> None:
        with launcher, socket.socket(socket.AF_UNIX) as engine:
            engine.connect(self._engine)
            self._open |= {launcher, engine}
            back = threading.Thread(target=self._pass_on, args=(engine, launcher))
            back.start()
            self._pass_on(launcher, engine, watch=True)
            back.join()
            self._open -= {launcher, engine}

    def _pass_on(self, source: socket.socket, target: socket.socket, *, watch: bool = False) -> None:
        try:
            while piece := source.recv(65536):
                match = REQUEST.match(piece) if watch else None
                request = b" ".join(match.groups()).decode() if match else None
                if request is not None:
                    self.requests.append(request)
                    self._requests[source] = request
                    told = self._tell("before", request)
                    if isinstance(told, str):
                        source.sendall(spell_answer("500 Internal Server Error", {"message": told}))
                        continue
                    if isinstance(told, dict):
                        source.sendall(spell_answer("200 OK", told))
                        continue
                if self._stopped.is_set():
                    continue
                target.sendall(piece)
                if request is not None:
                    self._tell("after", request)
        except OSError:
            pass
        finally:
            with suppress(OSError):
                target.shutdown(socket.SHUT_WR)

    def _tell(self, moment: str, request: str) -> object:
        with self._turn:
            result = self._fault(moment, request)
            if result is True:
                self._stopped.set()
            return result
