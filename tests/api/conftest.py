"""A daemon over a scripted engine, and a client on the other end of a socket pair."""

from __future__ import annotations

import http.client
import json
import queue
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest

from cellbox.api.connection import Connection
from cellbox.api.server import Daemon
from cellbox.api.sockets import Wire
from cellbox.model.container import Container, RunSpec, Status

PATIENCE = 20.0


class Recorder:
    """Any collection: records calls, answers from ``answers``, raises what is an error there."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.answers: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)

        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls.append((name, *args, kwargs) if kwargs else (name, *args))
            answer = self.answers.get(name)
            answer = answer(*args, **kwargs) if callable(answer) else answer
            if isinstance(answer, BaseException):
                raise answer
            return answer

        return call


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def lines(self) -> list[Any]:
        """The JSON objects of a stream."""
        return [json.loads(line) for line in self.body.splitlines() if line.strip()]


@pytest.fixture
def scripted() -> SimpleNamespace:
    """An engine whose collections are recorders."""
    names = ("images", "containers", "networks", "volumes", "plugins", "files")
    made = SimpleNamespace(**{name: Recorder() for name in names})
    made.plugins.answers["list"] = []
    made.disk_usage = list
    made.events = lambda **asked: iter(())
    return made


@pytest.fixture
def daemon(scripted: SimpleNamespace) -> Daemon:
    return Daemon(scripted)


@pytest.fixture
def dial(daemon: Daemon) -> Iterator[Callable[[], http.client.HTTPConnection]]:
    """``dial()``: a new connection to the daemon; all are served until the test ends."""
    opened: list[tuple[http.client.HTTPConnection, threading.Thread]] = []

    def make() -> http.client.HTTPConnection:
        near, far = socket.socketpair()
        near.settimeout(PATIENCE)
        client = http.client.HTTPConnection("localhost")
        client.sock = near
        thread = threading.Thread(target=Connection(Wire(far), daemon).serve, daemon=True)
        thread.start()
        opened.append((client, thread))
        return client

    yield make
    for client, _ in opened:
        client.close()
    for _, thread in opened:
        thread.join(PATIENCE)
        assert not thread.is_alive(), "a connection outlives its client"


@pytest.fixture
def ask(dial: Callable[[], http.client.HTTPConnection]) -> Callable[..., Answer]:
    """``ask("POST", path, body, headers)``: one request and its whole answer. A body that is no
    bytes is sent as JSON."""

    def send(method: str, path: str, body: Any = None, **headers: str) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if body is not None and not isinstance(body, bytes):
            body, named["Content-Type"] = json.dumps(body), "application/json"
        client = dial()
        client.request(method, path, body, named)
        answer = client.getresponse()
        return Answer(answer.status, answer.headers, answer.read())

    return send


class Process:
    """A process as an engine's Stream tells it: what ``out`` is given is read, then the end."""

    def __init__(self) -> None:
        self.output: queue.Queue[tuple[str, bytes] | None] = queue.Queue()
        self.typed = b""
        self.input_ended = threading.Event()
        self.closed = threading.Event()
        self.sizes: list[tuple[int, int]] = []
        self.outcome: int | Exception = 0

    def out(self, data: bytes, name: str = "stdout") -> None:
        self.output.put((name, data))

    def end(self, outcome: int | Exception = 0) -> None:
        self.outcome = outcome
        self.output.put(None)

    def read(self, timeout: float | None = None) -> tuple[str, bytes] | None:
        try:
            piece = self.output.get(timeout=timeout)
        except queue.Empty:
            raise TimeoutError from None
        if piece is None:
            self.output.put(None)
        return piece

    def __iter__(self) -> Iterator[tuple[str, bytes]]:
        while (piece := self.read(PATIENCE)) is not None:
            yield piece

    def write(self, data: bytes) -> None:
        if self.input_ended.is_set():
            raise BrokenPipeError
        self.typed += data

    def close_stdin(self) -> None:
        self.input_ended.set()

    def resize(self, rows: int, columns: int) -> None:
        self.sizes.append((rows, columns))

    def wait(self, timeout: float | None = None) -> int:
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome

    def close(self) -> None:
        self.closed.set()
        self.output.put(None)

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


@pytest.fixture
def process() -> Process:
    """A process that a test is the program of."""
    return Process()


@dataclass
class Raw:
    """One side of a connection, byte by byte."""

    socket: socket.socket
    thread: threading.Thread

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def head(self) -> bytes:
        """Up to the empty line, and not a byte more."""
        data = b""
        while not data.endswith(b"\r\n\r\n"):
            byte = self.socket.recv(1)
            assert byte, data
            data += byte
        return data

    def take(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            piece = self.socket.recv(count - len(data))
            assert piece, data
            data += piece
        return data

    def rest(self) -> bytes:
        """All that comes until the other side ends."""
        return b"".join(iter(lambda: self.socket.recv(65536), b""))

    def done(self) -> None:
        """Hang up; then nothing waits for us any more."""
        self.socket.close()
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()


@pytest.fixture
def raw(daemon: Daemon) -> Iterator[Callable[[], Raw]]:
    """``raw()``: a connection to the daemon for requests that no library would send."""
    opened: list[Raw] = []

    def make() -> Raw:
        near, far = socket.socketpair()
        near.settimeout(PATIENCE)
        thread = threading.Thread(target=Connection(Wire(far), daemon).serve, daemon=True)
        thread.start()
        opened.append(Raw(near, thread))
        return opened[-1]

    yield make
    for one in opened:
        one.socket.close()
        one.done()


@pytest.fixture
def container() -> Callable[..., Container]:
    """``container(status, tty=True)``: facts of a container; further arguments are of its spec."""

    def make(status: Status = Status.RUNNING, **spec: Any) -> Container:
        return Container(
            id="c" * 64,
            name="web",
            image_id="sha256:" + "a" * 64,
            spec=RunSpec("busybox", **spec),
            command=("sh",),
            status=status,
            created=1_700_000_000.0,
            pid=4321 if status is Status.RUNNING else 0,
        )

    return make


@pytest.fixture
def attachable(scripted: Any, process: Any, container: Callable[..., Container]) -> Any:
    """``attachable(status, tty=True)``: the container that there is, with ``process`` in it."""

    def make(*args: Any, **spec: Any) -> None:
        scripted.containers.answers["get"] = container(*args, **spec)
        scripted.containers.answers["attach"] = process

    return make
