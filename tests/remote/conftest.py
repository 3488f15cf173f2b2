"""A daemon that is a few lines of Python: it answers on a unix socket as a test tells it to."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path

import h11
import pytest

from cellbox.remote.address import Address
from cellbox.remote.engine import RemoteEngine
from cellbox.remote.transport import Transport

Answer = Callable[["Asked"], None]


class Asked:
    """One request that came in: what it says, and ways to answer it."""

    def __init__(self, connection: socket.socket, request: h11.Request, body: bytes) -> None:
        self.connection = connection
        self.method = request.method.decode()
        self.target = request.target.decode()
        self.headers = {name.decode(): value.decode() for name, value in request.headers}
        self.body = body

    def reply(self, status: int = 200, body: bytes = b"", **headers: str) -> None:
        """A whole answer."""
        lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.send("\r\n".join(lines).encode() + b"\r\n\r\n" + body)

    def begin(self) -> None:
        """The head of a chunked answer."""
        self.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")

    def chunk(self, data: bytes) -> None:
        """One piece of it; an empty one ends it."""
        self.send(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    def switch(self, first: bytes = b"") -> None:
        """Make a raw stream of the connection; ``first`` comes in the same breath."""
        head = b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
        self.send(head + first)

    def send(self, data: bytes) -> None:
        """Bytes as they are."""
        self.connection.sendall(data)


class Daemon:
    """Listens at ``path``; ``answers`` maps ``"GET /info"`` (without version and query) to what is
    done about it, ``asked`` holds every request but pings."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.answers: dict[str, Answer] = {}
        self.asked: list[Asked] = []
        self.version = "1.41"
        self.connections = 0
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections += 1
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, raw: socket.socket) -> None:
        self._open.append(raw)
        with contextlib.suppress(OSError, h11.ProtocolError), raw as connection:
            while (asked := _hear(connection)) is not None:
                self._answer(asked)

    def _answer(self, asked: Asked) -> None:
        path = asked.target.partition("?")[0]
        if path == "/_ping":
            asked.reply(200, b"OK", **({"Api-Version": self.version} if self.version else {}))
            return
        self.asked.append(asked)
        short = path.removeprefix(f"/v{min(self.version, '1.45')}")
        answer = self.answers.get(f"{asked.method} {short}")
        if answer is None:
            asked.reply(404, b'{"message": "page not found"}')
        else:
            answer(asked)

    def close(self) -> None:
        self._listener.close()
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


def _hear(connection: socket.socket) -> Asked | None:
    http = h11.Connection(h11.SERVER)
    request, body = None, b""
    while True:
        event = http.next_event()
        if event is h11.NEED_DATA:
            http.receive_data(connection.recv(65536))
        elif isinstance(event, h11.Request):
            request = event
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            assert request is not None
            return Asked(connection, request, body)
        else:
            return None


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """A daemon at ``daemon.path`` that knows no request yet."""
    made = Daemon(tmp_path / "daemon.sock")
    yield made
    made.close()


@pytest.fixture
def transport(daemon: Daemon) -> Iterator[Transport]:
    """Requests to ``daemon``."""
    made = Transport(Address("unix", path=str(daemon.path)))
    yield made
    made.close()


@pytest.fixture
def engine(daemon: Daemon) -> Iterator[RemoteEngine]:
    """The engine that ``daemon`` is."""
    made = RemoteEngine(Address("unix", path=str(daemon.path)))
    yield made
    made.close()


@pytest.fixture
def tells(daemon: Daemon) -> Callable[..., None]:
    """``tells("GET /info", {...}, status=200)``: what the daemon answers from now on, as JSON."""

    def set_answer(request: str, body: object = None, status: int = 200) -> None:
        data = b"" if body is None else json.dumps(body).encode()
        daemon.answers[request] = lambda asked: asked.reply(status, data)

    return set_answer


@pytest.fixture
def told(daemon: Daemon) -> Callable[[], tuple[str, dict[str, list[str]], object]]:
    """``told()``: the last request's method and path, its query, and its body's JSON."""

    def last() -> tuple[str, dict[str, list[str]], object]:
        asked = daemon.asked[-1]
        path, _, query = asked.target.partition("?")
        body = json.loads(asked.body) if asked.body else None
        path = path.removeprefix(f"/v{daemon.version}")
        return f"{asked.method} {path}", urllib.parse.parse_qs(query), body

    return last
