from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import pytest

from cellbox.model.container import Status
from cellbox.wire.streams import frame

Until = Callable[..., None]
UPGRADE = b"Connection: Upgrade\r\nUpgrade: tcp\r\n"


def post(path: str, more: bytes = UPGRADE, method: str = "POST") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: d\r\n".encode() + more + b"\r\n"


def test_an_attach_before_the_start_sees_all(attachable: Any, raw: Any, process: Any) -> None:
    attachable(Status.CREATED)
    client = raw()
    client.send(post("/containers/web/attach?stream=1&stdout=1&stderr=1"))
    head = client.head()
    assert head.startswith(b"HTTP/1.1 101 UPGRADED\r\n")
    assert b"Content-Type: application/vnd.docker.multiplexed-stream\r\n" in head
    process.out(b"hello")
    process.end()
    assert client.rest() == frame("stdout", b"hello")
    client.done()
    assert process.closed.is_set()


@pytest.mark.parametrize(
    ("query", "spec", "asked"),
    [
        ("stdin=1", {"interactive": True}, {"stdin": True, "logs": False}),
        ("stdin=1", {"interactive": False}, {"stdin": False, "logs": False}),
        ("stdin=0&logs=1", {"interactive": True}, {"stdin": False, "logs": True}),
    ],
)
def test_what_is_asked_of_the_engine(
    attachable: Any,
    raw: Any,
    process: Any,
    scripted: Any,
    query: str,
    spec: dict[str, Any],
    asked: dict[str, bool],
) -> None:
    attachable(**spec)
    client = raw()
    client.send(post(f"/containers/web/attach?stream=1&stdout=1&{query}"))
    client.head()
    process.end()
    client.rest()
    assert scripted.containers.calls[-1] == ("attach", "c" * 64, asked)


@pytest.mark.parametrize("once", [True, False])
def test_half_closing_ends_the_input_of_one_that_is_run_for_this(
    attachable: Any, raw: Any, process: Any, once: bool
) -> None:
    attachable(interactive=True, stdin_once=once)
    client = raw()
    client.send(post("/containers/web/attach?stream=1&stdin=1&stdout=1"))
    client.head()
    client.send(b"typed")
    client.socket.shutdown(socket.SHUT_WR)
    if once:
        assert process.input_ended.wait(20)
        process.out(b"after")
        process.end()
        assert client.rest() == frame("stdout", b"after")
    else:
        assert client.rest() == b""
        assert not process.input_ended.is_set()
    assert process.typed == b"typed"


def test_detach_keys_leave_it_running(attachable: Any, raw: Any, process: Any) -> None:
    attachable(interactive=True, tty=True)
    client = raw()
    client.send(post("/containers/web/attach?stream=1&stdin=1&stdout=1&detachKeys=ctrl-a,x"))
    assert b"Content-Type: application/vnd.docker.raw-stream\r\n" in client.head()
    client.send(b"ls\x01x")
    assert client.rest() == b""
    assert process.typed == b"ls"


def test_without_stream_there_is_only_what_was_written(
    attachable: Any, raw: Any, scripted: Any
) -> None:
    attachable(Status.EXITED)
    entries = [(1.0, "stdout", b"old\n"), (2.0, "stderr", b"no\n")]
    scripted.containers.answers["logs"] = lambda *_, **__: iter(entries)
    client = raw()
    client.send(post("/containers/web/attach?logs=1&stdout=1", b""))
    assert client.head().startswith(b"HTTP/1.1 200 OK\r\n")
    assert client.rest() == frame("stdout", b"old\n")


@pytest.mark.parametrize("status", [Status.PAUSED, Status.RESTARTING])
def test_some_states_do_not_allow_it(attachable: Any, ask: Any, status: Status) -> None:
    attachable(status)
    answer = ask("POST", "/containers/web/attach?stream=1&stdout=1")
    assert answer.status == 409
    assert str(status) in answer.json["message"]


def test_wrong_keys_are_refused(attachable: Any, ask: Any) -> None:
    attachable()
    answer = ask("POST", "/containers/web/attach?stream=1&detachKeys=ctrl-")
    assert (answer.status, answer.json) == (
        400,
        {"message": "Invalid detach keys (ctrl-) provided"},
    )


def test_two_may_attach_and_the_size_goes_to_the_last(
    attachable: Any, raw: Any, ask: Any, process: Any, daemon: Any
) -> None:
    attachable(tty=True)
    clients = [raw(), raw()]
    for client in clients:
        client.send(post("/containers/web/attach?stream=1&stdout=1"))
        client.head()
    assert ask("POST", "/containers/web/resize?h=33&w=99").status == 200
    assert process.sizes == [(33, 99)]
    process.end()
    for client in clients:
        client.rest()
        client.done()
    assert not daemon.attached.resize("c" * 64, 1, 1)


def test_where_nobody_is_attached_the_daemon_does_it(
    attachable: Any, ask: Any, process: Any
) -> None:
    attachable(tty=True)
    assert ask("POST", "/containers/web/resize?h=3&w=9").status == 200
    assert process.sizes == [(3, 9)]


@pytest.mark.parametrize("query", ["", "h=1", "h=x&w=1", "h=-1&w=1", "h=1&w=65536"])
def test_a_size_that_is_none(attachable: Any, ask: Any, query: str) -> None:
    attachable(tty=True)
    assert ask("POST", f"/containers/web/resize?{query}").status == 400


def test_one_that_does_not_run_has_no_size(attachable: Any, ask: Any) -> None:
    attachable(Status.EXITED)
    answer = ask("POST", "/containers/web/resize?h=3&w=9")
    assert (answer.status, answer.json) == (
        409,
        {"message": f"Container {'c' * 64} is not running"},
    )
