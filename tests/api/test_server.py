from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.remote.certificates import Authority

from cellbox.api import routing, server
from cellbox.api.http import Request, Response
from cellbox.api.listeners import Listener, tcp_listener, unix_listener
from cellbox.api.routing import route
from cellbox.api.server import Daemon, Server, serve

PATIENCE = 20.0
Until = Callable[..., None]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "d.sock"


@pytest.fixture
def serving(daemon: Daemon) -> Iterator[Callable[..., Server]]:
    """``serving(listener)``: a server at work; it is stopped when the test ends."""
    running: list[tuple[Server, threading.Thread]] = []

    def make(*listeners: Listener) -> Server:
        made = Server(daemon, listeners)
        thread = threading.Thread(target=made.run, daemon=True)
        thread.start()
        running.append((made, thread))
        return made

    stack = threading.stack_size()
    yield make
    for one, thread in running:
        one.stop()
        thread.join(PATIENCE)
        assert not thread.is_alive(), "the server does not stop"
    threading.stack_size(stack)


def dial(path: Path) -> socket.socket:
    made = socket.socket(socket.AF_UNIX)
    made.settimeout(PATIENCE)
    made.connect(str(path))
    return made


def ping(client: socket.socket) -> bytes:
    client.sendall(b"HEAD /_ping HTTP/1.1\r\nHost: d\r\n\r\n")
    return client.recv(4096)


def test_clients_are_served_side_by_side(path: Path, serving: Any) -> None:
    serving(unix_listener(path))
    clients = [dial(path) for _ in range(20)]
    for client in reversed(clients):
        assert ping(client).startswith(b"HTTP/1.1 200 ")
        client.close()


def test_more_clients_than_there_may_be_are_told_so(
    path: Path, serving: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 2)
    serving(unix_listener(path))
    first, second = dial(path), dial(path)
    assert ping(first) and ping(second)
    third = dial(path)
    answer = b"".join(iter(lambda: third.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2]) == {"message": "too many connections"}
    for client in (first, second, third):
        client.close()


def test_what_is_nested_deeply_does_not_kill_it(path: Path, serving: Any, scripted: Any) -> None:
    """A thread's stack is small, and C code that recurses on it must stop in time."""
    serving(unix_listener(path))
    for body in (b'{"a":' * 50_000, b"[" * 200_000, b'{"a":[' * 900 + b"1" + b"]}" * 900):
        client = http.client.HTTPConnection("localhost")
        client.sock = dial(path)
        headers = {"Content-Type": "application/json"}
        client.request("POST", "/containers/create", body, headers)
        assert client.getresponse().status in (400, 201, 500)
        client.close()
    alive = dial(path)
    assert ping(alive)
    alive.close()


def test_a_stop_ends_idle_connections_at_once_and_busy_ones_after_a_moment(
    path: Path, serving: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routing, "_literal", dict(routing._literal))
    monkeypatch.setattr(server, "GRACE", 0.3)
    finish = threading.Event()

    @route("GET", "/busy")
    def busy(daemon: Daemon, request: Request) -> Response:
        def body() -> Iterator[bytes]:
            yield b"a"
            finish.wait(PATIENCE)
            yield b"b"

        return Response(body=body())

    made = serving(unix_listener(path))
    idle, one, other = dial(path), dial(path), dial(path)
    ping(idle)
    for client in (one, other):
        client.sendall(b"GET /busy HTTP/1.1\r\nHost: d\r\n\r\n")
        assert client.recv(4096).startswith(b"HTTP/1.1 200 ")
    made.stop()
    assert idle.recv(100) == b""
    assert not path.exists()
    assert b"b" not in b"".join(iter(lambda: one.recv(100), b""))
    finish.set()
    for client in (idle, one, other):
        client.close()


def test_a_request_that_goes_on_may_end(
    path: Path, serving: Any, monkeypatch: pytest.MonkeyPatch, until: Until
) -> None:
    monkeypatch.setattr(routing, "_literal", dict(routing._literal))
    began, finish = threading.Event(), threading.Event()

    @route("GET", "/slow")
    def slow(daemon: Daemon, request: Request) -> Response:
        began.set()
        finish.wait(PATIENCE)
        return Response(body=b"done")

    made = serving(unix_listener(path))
    client = dial(path)
    client.sendall(b"GET /slow HTTP/1.1\r\nHost: d\r\n\r\n")
    assert began.wait(PATIENCE)
    made.stop()
    until(lambda: not path.exists())
    finish.set()
    assert client.recv(4096).endswith(b"done")
    client.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_stop_it(daemon: Daemon, path: Path, number: signal.Signals) -> None:
    before = signal.getsignal(number)
    listener = unix_listener(path)
    stack = threading.stack_size()

    def send() -> None:
        with dial(path) as client:
            ping(client)
        os.kill(os.getpid(), number)

    sender = threading.Thread(target=send)
    sender.start()
    serve(daemon, [listener])
    sender.join(PATIENCE)
    threading.stack_size(stack)
    assert signal.getsignal(number) is before


def test_over_tcp_who_has_no_certificate_is_not_served(tmp_path: Path, serving: Any) -> None:
    authority = Authority(tmp_path / "certs")
    root = str(tmp_path / "certs" / "ca.pem")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=root)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(*authority.sign("server"))
    listener = tcp_listener("127.0.0.1", 0, context)
    port = listener.socket.getsockname()[1]
    serving(listener)

    known = ssl.create_default_context(cafile=root)
    known.load_cert_chain(*authority.sign("client"))
    client = http.client.HTTPSConnection("127.0.0.1", port, context=known, timeout=PATIENCE)
    for _ in range(2):
        client.request("GET", "/_ping", headers={"Host": "docker.example"})
        assert client.getresponse().read() == b"OK"
    client.close()

    stranger = http.client.HTTPSConnection(
        "127.0.0.1", port, context=ssl.create_default_context(cafile=root), timeout=PATIENCE
    )
    with pytest.raises((ssl.SSLError, ConnectionError, http.client.HTTPException)):
        stranger.request("GET", "/_ping")
        stranger.getresponse()
    stranger.close()

    with socket.create_connection(("127.0.0.1", port), PATIENCE) as plain:
        plain.sendall(b"GET /_ping HTTP/1.1\r\nHost: d\r\n\r\n")
        with contextlib.suppress(ConnectionResetError):
            assert b"400 Bad Request" in plain.recv(4096)


def test_a_thousand_who_wait_cost_little(
    path: Path, serving: Any, scripted: Any, container: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    scripted.containers.answers["get"] = container()
    ended = threading.Event()

    def logs(*_: Any, **__: Any) -> Iterator[Any]:
        ended.wait(PATIENCE)
        yield from ()

    scripted.containers.answers["logs"] = logs
    serving(unix_listener(path))
    before = _memory()
    clients = [dial(path) for _ in range(1000)]
    for client in clients:
        client.sendall(b"GET /containers/web/logs?follow=1&stdout=1 HTTP/1.1\r\nHost: d\r\n\r\n")
    for client in clients:
        assert client.recv(4096).startswith(b"HTTP/1.1 200 ")
    each = (_memory() - before) / len(clients)
    with capsys.disabled():
        print(f"\n    a client that follows: {each / 1024:.0f} KiB")
    alive = dial(path)
    assert ping(alive)
    ended.set()
    for client in (*clients, alive):
        client.close()
    assert each < 100 * 1024


def _memory() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_left_alone_it_ends(path: Path, daemon: Daemon, until: Until) -> None:
    stack = threading.stack_size()
    thread = threading.Thread(target=Server(daemon, [unix_listener(path)], idle=0.2).run)
    thread.start()
    with dial(path) as client:
        assert ping(client)
        thread.join(0.6)
        assert thread.is_alive()
    thread.join(PATIENCE)
    threading.stack_size(stack)
    assert not thread.is_alive() and not path.exists()


def test_a_signal_right_after_it_is_ready_is_an_orderly_end(path: Path, daemon: Daemon) -> None:
    stack = threading.stack_size()
    serve(daemon, [unix_listener(path)], ready=lambda: os.kill(os.getpid(), signal.SIGTERM))
    threading.stack_size(stack)
    assert not path.exists()
