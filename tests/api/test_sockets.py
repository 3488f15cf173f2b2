from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.remote.certificates import Authority

from cellbox.api import sockets
from cellbox.api.sockets import Wire

BIG = b"0123456789abcdef" * 200_000


@pytest.fixture(params=["plain", "tls"])
def both(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Wire, socket.socket]]:
    """A wire, and its client: over a bare socket, and over TLS."""
    far, near = socket.socketpair()
    near.settimeout(20)
    wire, client = Wire(far), near
    if request.param == "tls":
        authority = Authority(tmp_path / "certs")
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(*authority.sign("server"))
        trusting = ssl.create_default_context(cafile=str(tmp_path / "certs" / "ca.pem"))
        far.setblocking(False)
        wire = Wire(server.wrap_socket(far, server_side=True, do_handshake_on_connect=False))
        agreeing = threading.Thread(target=wire.handshake, args=(20,))
        agreeing.start()
        client = trusting.wrap_socket(near, server_hostname="127.0.0.1")
        agreeing.join()
    yield wire, client
    wire.close()
    client.close()


def test_bytes_both_ways(both: tuple[Wire, socket.socket]) -> None:
    wire, client = both
    client.sendall(b"ping")
    assert wire.receive(100) == b"ping"
    wire.send(b"po", b"", b"ng")
    received = b""
    while len(received) < 4:
        received += client.recv(100)
    assert received == b"pong"


def test_two_threads_at_once(both: tuple[Wire, socket.socket]) -> None:
    wire, client = both
    got: dict[str, bytes] = {}

    def read(name: str, receive: object, size: int) -> None:
        data = b""
        while len(data) < size:
            data += receive(65536)  # type: ignore[operator]
        got[name] = data

    threads = [
        threading.Thread(target=wire.send, args=(BIG, BIG)),
        threading.Thread(target=read, args=("wire", wire.receive, len(BIG))),
    ]
    if not wire.encrypted:  # Python's own TLS is not for two threads: there they take turns
        threads.append(threading.Thread(target=client.sendall, args=(BIG,)))
    for thread in threads:
        thread.start()
    read("client", client.recv, 2 * len(BIG))
    if wire.encrypted:
        client.sendall(BIG)
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    assert got == {"wire": BIG, "client": BIG + BIG}


def test_silence_is_a_timeout(both: tuple[Wire, socket.socket]) -> None:
    with pytest.raises(TimeoutError):
        both[0].receive(1, 0.01)


def test_the_end(both: tuple[Wire, socket.socket]) -> None:
    wire, client = both
    assert not wire.gone()
    client.close()
    assert wire.receive(1, 20) == b""
    assert wire.gone()
    assert wire.dead()
    with pytest.raises(OSError):
        for _ in range(100):
            wire.send(BIG)


def test_half_an_end() -> None:
    far, near = socket.socketpair()
    wire = Wire(far)
    near.shutdown(socket.SHUT_WR)
    assert wire.gone()
    assert not wire.dead()
    wire.send(b"still heard")
    assert near.recv(100) == b"still heard"
    near.close()
    assert wire.dead()
    wire.close()
    assert wire.gone()


def test_a_cut_wakes_who_waits(both: tuple[Wire, socket.socket]) -> None:
    wire, _ = both
    received: list[bytes] = []

    def wait() -> None:
        with contextlib.suppress(OSError):
            received.append(wire.receive(1))

    waiting = threading.Thread(target=wait)
    waiting.start()
    wire.cut()
    waiting.join(20)
    assert received in ([b""], [])


def test_who_speaks_plainly_is_told(tmp_path: Path) -> None:
    """By an answer that he can read, whatever of his request is unread."""
    authority = Authority(tmp_path / "certs")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(*authority.sign("server"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
    client.settimeout(20)
    client.sendall(b"GET /_ping HTTP/1.1\r\nHost: d\r\n\r\n")
    far.setblocking(False)
    wire = Wire(server.wrap_socket(far, server_side=True, do_handshake_on_connect=False))
    with pytest.raises(OSError):
        wire.handshake(20)
    wire.close()
    with client, client.makefile("rb") as answer:
        assert answer.readline() == b"HTTP/1.0 400 Bad Request\r\n"
        assert b"Client sent an HTTP request to an HTTPS server" in answer.read()


def test_who_lingers_lets_the_client_read_its_answer() -> None:
    far, near = socket.socketpair()
    wire = Wire(far)
    near.sendall(b"what nobody reads")
    wire.send(b"answer")
    lingering = threading.Thread(target=lambda: (wire.linger(), wire.close()))
    lingering.start()
    assert near.recv(100) == b"answer"
    assert near.recv(100) == b""
    near.close()
    lingering.join(20)


def test_nobody_lingers_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "_LINGER", 0.05)
    far, near = socket.socketpair()
    before = time.monotonic()
    Wire(far).linger()
    assert time.monotonic() - before < 5
    near.close()
