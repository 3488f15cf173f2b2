from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cellbox.api import connection, routing
from cellbox.api.connection import Connection
from cellbox.api.http import Hijack, Request, Response, Upgraded
from cellbox.api.routing import route
from cellbox.api.server import Daemon
from cellbox.api.sockets import Wire
from cellbox.errors import Conflict, InvalidArgument

CHUNKED = b"Transfer-Encoding: chunked\r\n"


def echo(daemon: Daemon, request: Request) -> Response:
    return Response(body=request.body.read())


def ignore(daemon: Daemon, request: Request) -> Response:
    return Response(204)


def pieces(daemon: Daemon, request: Request) -> Response:
    return Response(body=(piece for piece in (b"one", b"", b"two")))


def pieces_head(daemon: Daemon, request: Request) -> Response:
    return pieces(daemon, request)


def written(daemon: Daemon, request: Request) -> Response:
    return Response(body=lambda out: [out.write(b"a" * 10), out.write(b"b")])


def conflict(daemon: Daemon, request: Request) -> Response:
    raise Conflict("no")


def bug(daemon: Daemon, request: Request) -> Response:
    raise RuntimeError("a bug")


def late(daemon: Daemon, request: Request) -> Response:
    def body() -> Iterator[bytes]:
        if request.params["after"] == "something":
            yield b"something"
        raise InvalidArgument("late")

    return Response(body=body())


def raw_bytes(daemon: Daemon, request: Request) -> Hijack:
    def run(client: Upgraded) -> None:
        while data := client.receive(100):
            client.send(data.upper())
        client.end()

    return Hijack(run)


ROUTES = (
    ("POST", "/echo", echo),
    ("POST", "/ignore", ignore),
    ("GET", "/pieces", pieces),
    ("HEAD", "/pieces", pieces_head),
    ("GET", "/written", written),
    ("GET", "/conflict", conflict),
    ("GET", "/bug", bug),
    ("GET", "/late/{after}", late),
    ("POST", "/raw", raw_bytes),
)


@pytest.fixture(autouse=True)
def routes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Handlers of the test's own, beside the real ones."""
    monkeypatch.setattr(routing, "_literal", dict(routing._literal))
    monkeypatch.setattr(routing, "_patterns", dict(routing._patterns))
    for method, pattern, handler in ROUTES:
        route(method, pattern)(handler)


def ask(path: str, method: str = "GET", more: bytes = b"") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: d\r\n".encode() + more + b"\r\n"


# Requests and answers ----------------------------------------------------------------------------


def test_every_answer_says_who_answers(raw: Any) -> None:
    client = raw()
    client.send(ask("/conflict"))
    head = client.head().decode()
    assert head.startswith("HTTP/1.1 409 Conflict\r\n")
    for line in ("Api-Version: 1.45", "Docker-Experimental: false", "Ostype: linux"):
        assert f"{line}\r\n" in head
    assert "Server: Docker/" in head
    assert client.take(17) == b'{"message":"no"}\n'


def test_a_connection_is_kept(raw: Any) -> None:
    client = raw()
    for _ in range(3):
        client.send(ask("/conflict"))
        client.head()
        client.take(17)


def test_requests_sent_ahead_are_answered_in_turn(raw: Any) -> None:
    client = raw()
    body = b"Content-Length: 3\r\n"
    client.send(ask("/echo", "POST", body) + b"abc" + ask("/echo", "POST", body) + b"def")
    for expected in (b"abc", b"def"):
        client.head()
        assert client.take(3) == expected


def test_the_client_may_ask_to_close(raw: Any) -> None:
    client = raw()
    client.send(ask("/conflict", more=b"Connection: close\r\n"))
    assert client.rest().endswith(b'{"message":"no"}\n')


def test_a_client_that_has_shut_its_side_gets_its_answer(raw: Any) -> None:
    client = raw()
    client.send(ask("/conflict"))
    client.socket.shutdown(socket.SHUT_WR)
    assert client.rest().endswith(b'{"message":"no"}\n')


def test_http_1_0_gets_a_body_that_ends_with_the_connection(raw: Any) -> None:
    client = raw()
    client.send(b"GET /pieces HTTP/1.0\r\n\r\n")
    assert client.rest().endswith(b"\r\n\r\nonetwo")


def test_chunked_both_ways(raw: Any) -> None:
    client = raw()
    client.send(ask("/echo", "POST", CHUNKED) + b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n")
    assert b"Content-Length: 5\r\n" in client.head()
    assert client.take(5) == b"abcde"
    client.send(ask("/pieces"))
    assert b"Transfer-Encoding: chunked\r\n" in client.head()
    assert client.take(21) == b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"


def test_a_body_that_is_written(raw: Any) -> None:
    client = raw()
    client.send(ask("/written"))
    client.head()
    assert client.take(26) == b"a\r\naaaaaaaaaa\r\n1\r\nb\r\n0\r\n\r\n"


def test_head_has_no_body(raw: Any) -> None:
    client = raw()
    client.send(ask("/pieces", "HEAD") + ask("/conflict"))
    assert client.head().startswith(b"HTTP/1.1 200 ")
    assert client.head().startswith(b"HTTP/1.1 409 ")


def test_a_body_is_asked_for_when_it_is_wanted(raw: Any) -> None:
    client = raw()
    more = b"Content-Length: 3\r\nExpect: 100-continue\r\n"
    client.send(ask("/echo", "POST", more))
    assert client.head().startswith(b"HTTP/1.1 100 ")
    client.send(b"abc")
    assert client.head().startswith(b"HTTP/1.1 200 ")
    assert client.take(3) == b"abc"


def test_a_body_that_is_not_wanted_is_not_asked_for(raw: Any) -> None:
    client = raw()
    client.send(ask("/ignore", "POST", b"Content-Length: 3\r\nExpect: 100-continue\r\n"))
    assert client.rest().startswith(b"HTTP/1.1 204 ")


def test_an_unread_body_is_skipped(raw: Any) -> None:
    client = raw()
    client.send(ask("/ignore", "POST", b"Content-Length: 5\r\n") + b"GET /" + ask("/conflict"))
    assert client.head().startswith(b"HTTP/1.1 204 ")
    assert client.head().startswith(b"HTTP/1.1 409 ")


def test_a_long_unread_body_costs_the_connection_but_not_the_answer(raw: Any) -> None:
    client = raw()
    client.send(ask("/conflict", "POST", b"Content-Length: 99999999\r\n"))
    sending = threading.Thread(target=_pour, args=(client.socket,))
    sending.start()
    assert client.rest().endswith(b'{"message":"page not found"}\n')
    client.socket.close()
    sending.join()


def _pour(into: socket.socket) -> None:
    with contextlib.suppress(OSError):
        for _ in range(200):
            into.sendall(b"x" * 65536)


# Failures ----------------------------------------------------------------------------------------


def test_an_unexpected_error_is_logged_and_told_and_the_connection_goes_on(
    raw: Any, caplog: pytest.LogCaptureFixture
) -> None:
    client = raw()
    client.send(ask("/bug") + ask("/conflict"))
    assert client.head().startswith(b"HTTP/1.1 500 ")
    client.take(len(b'{"message":"a bug"}\n'))
    assert client.head().startswith(b"HTTP/1.1 409 ")
    (record,) = caplog.records
    assert record.exc_info is not None


def test_what_fails_before_the_first_piece_has_a_status(raw: Any) -> None:
    client = raw()
    client.send(ask("/late/nothing") + ask("/conflict"))
    assert client.head().startswith(b"HTTP/1.1 400 ")
    client.take(len(b'{"message":"late"}\n'))
    assert client.head().startswith(b"HTTP/1.1 409 ")


def test_what_fails_later_is_told_by_an_end_that_does_not_come(raw: Any) -> None:
    client = raw()
    client.send(ask("/late/something"))
    client.head()
    assert client.rest() == b"9\r\nsomething\r\n"


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: d\r\n folded\r\nX\r\n\r\n", 400),
        (b"GET http://d/_ping HTTP/1.1\r\nHost: d\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: d\r\nX: " + b"a" * 70_000, 431),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 20 + b"\r\n\r\n", 400),
        (ask("/echo", "POST", CHUNKED) + b"zz\r\n", 400),
        (ask("/echo", "POST", b"Content-Length: 1\r\nContent-Length: 2\r\n"), 400),
        (ask("/echo", "POST", b"Content-Length: -1\r\n"), 400),
        (ask("/echo", "POST", b"Transfer-Encoding: gzip\r\n"), 501),
        (ask("/v9.99/_ping"), 400),
        (ask("/\xff/%00/%zz"), 400),
        (b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n", 403),
    ],
)
def test_what_is_no_request_is_refused(raw: Any, data: bytes, status: int) -> None:
    client = raw()
    client.send(data)
    client.socket.shutdown(socket.SHUT_WR)
    answer = client.rest()
    assert answer.startswith(b"HTTP/1.1 %d " % status), answer
    assert b'{"message":"' in answer
    client.done()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"GET",
        ask("/echo", "POST", b"Content-Length: 5\r\n") + b"ab",
        ask("/echo", "POST", CHUNKED) + b"3\r\na",
        ask("/pieces"),
        ask("/raw", "POST"),
    ],
)
def test_a_client_that_hangs_up_is_no_news(
    raw: Any, caplog: pytest.LogCaptureFixture, data: bytes
) -> None:
    client = raw()
    client.send(data)
    client.socket.close()
    client.done()
    assert not caplog.records


def test_a_head_must_come_in_time(raw: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEAD_TIME", 0.05)
    client = raw()
    client.send(b"GET / HT")
    assert client.rest() == b""
    client.done()


def test_an_idle_connection_is_closed(raw: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "IDLE_TIME", 0.05)
    client = raw()
    assert client.rest() == b""
    client.done()


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=40),
            st.sampled_from(
                [
                    ask("/conflict"),
                    ask("/echo", "POST", CHUNKED),
                    ask("/echo", "POST", b"Content-Length: 4\r\n"),
                    ask("/v1.24/containers/json?filters=%7B"),
                    ask("/containers/x/attach/ws"),
                    ask("/exec/x/start", "POST"),
                    b"GET ",
                    b"\r\n",
                    b"\r\n\r\n",
                    b"0\r\n\r\n",
                    b"4\r\nabcd\r\n",
                    b"Host: d\r\n",
                    b"Expect: 100-continue\r\n",
                    b"Connection: Upgrade\r\nUpgrade: tcp\r\n",
                ]
            ),
        ),
        max_size=8,
    )
)
def test_whatever_is_sent_the_server_answers_or_closes(daemon: Daemon, pieces: list[bytes]) -> None:
    near, far = socket.socketpair()
    near.settimeout(10)
    thread = threading.Thread(target=Connection(Wire(far), daemon).serve, daemon=True)
    thread.start()
    with near:
        with contextlib.suppress(BrokenPipeError):
            near.sendall(b"".join(pieces))
            near.shutdown(socket.SHUT_WR)
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            answer = b"".join(iter(lambda: near.recv(65536), b""))
    thread.join(10)
    assert not thread.is_alive()
    assert answer == b"" or answer.startswith(b"HTTP/1.1 ")


# Takeover ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "first", "headers"),
    [
        (
            b"Connection: Upgrade\r\nUpgrade: tcp\r\n",
            b"HTTP/1.1 101 UPGRADED\r\n",
            [b"Connection: Upgrade", b"Upgrade: tcp"],
        ),
        (b"", b"HTTP/1.1 200 OK\r\n", []),
    ],
)
def test_a_connection_is_taken_over(
    raw: Any, more: bytes, first: bytes, headers: list[bytes]
) -> None:
    client = raw()
    client.send(ask("/raw", "POST", b"Content-Length: 2\r\n" + more) + b"{}early")
    head = client.head()
    assert head.startswith(first)
    lines = head.split(b"\r\n")
    assert {b"Content-Type: application/vnd.docker.raw-stream", *headers} <= set(lines)
    assert not any(line.startswith((b"Content-Length", b"Transfer")) for line in lines)
    assert client.take(5) == b"EARLY"
    client.send(b"late")
    assert client.take(4) == b"LATE"
    client.socket.shutdown(socket.SHUT_WR)
    assert client.rest() == b""
    client.done()


def test_a_ping_takes_less_than_a_millisecond(
    raw: Callable[[], Any], capsys: pytest.CaptureFixture[str]
) -> None:
    client = raw()
    took = []
    for _ in range(300):
        before = time.perf_counter()
        client.send(ask("/_ping", "HEAD"))
        assert client.socket.recv(4096).startswith(b"HTTP/1.1 200 ")
        took.append(time.perf_counter() - before)
    median = sorted(took)[len(took) // 2]
    with capsys.disabled():
        print(f"\n    HEAD /_ping: {median * 1e6:.0f} us in the median")
    assert median < 0.001
