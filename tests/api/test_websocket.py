from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong, TextMessage

Until = Callable[..., None]
OPENING = (
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


def opening(path: str, more: bytes = b"") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: d\r\n".encode() + OPENING + more + b"\r\n"


class Browser:
    """A websocket's client."""

    def __init__(self, client: Any, path: str) -> None:
        self.client = client
        client.send(opening(path))
        head = client.head()
        assert head.startswith(b"HTTP/1.1 101 ")
        assert b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in head
        self.protocol = Connection(ConnectionType.CLIENT)

    def send(self, event: Any) -> None:
        self.client.send(self.protocol.send(event))

    def hear(self) -> Any:
        while not (events := list(self.protocol.events())):
            self.protocol.receive_data(self.client.socket.recv(65536) or None)
        (event,) = events
        return event


@pytest.mark.parametrize(("version", "kind"), [("1.45", BytesMessage), ("1.27", TextMessage)])
def test_a_websocket_carries_bare_output(
    attachable: Any, raw: Any, process: Any, version: str, kind: type
) -> None:
    attachable()
    browser = Browser(raw(), f"/v{version}/containers/web/attach/ws?stream=1&stdout=1")
    process.out(b"hello")
    event = browser.hear()
    assert isinstance(event, kind)
    assert bytes(event.data) == b"hello" if kind is BytesMessage else event.data == "hello"
    process.end()
    assert isinstance(browser.hear(), CloseConnection)


@pytest.mark.parametrize("event", [BytesMessage(b"typed"), TextMessage("typed")])
def test_a_websocket_carries_input(
    attachable: Any, raw: Any, process: Any, until: Until, event: Any
) -> None:
    attachable(interactive=True)
    browser = Browser(raw(), "/containers/web/attach/ws?stream=1&stdin=1&stdout=1")
    browser.send(Ping(b"there?"))
    answer = browser.hear()
    assert isinstance(answer, Pong) and bytes(answer.payload) == b"there?"
    browser.send(event)
    until(lambda: process.typed == b"typed")
    browser.send(CloseConnection(code=1000))
    assert isinstance(browser.hear(), CloseConnection)
    browser.client.rest()
    browser.client.done()


def test_a_websocket_that_talks_nonsense_is_left(attachable: Any, raw: Any, process: Any) -> None:
    attachable(interactive=True)
    browser = Browser(raw(), "/containers/web/attach/ws?stream=1&stdin=1&stdout=1")
    browser.client.send(b"\xff" * 100)
    browser.client.rest()
    browser.client.done()


def test_what_is_no_websocket_is_refused(attachable: Any, ask: Any) -> None:
    attachable()
    answer = ask("GET", "/containers/web/attach/ws?stream=1&stdout=1")
    assert answer.status == 400
    assert answer.json["message"].startswith("not a websocket")


def test_a_websocket_from_another_page_is_refused(attachable: Any, raw: Any) -> None:
    attachable()
    client = raw()
    more = b"Origin: http://evil.example\r\n"
    client.send(opening("/containers/web/attach/ws?stream=1&stdout=1", more))
    assert client.head().startswith(b"HTTP/1.1 403 ")


def test_a_websocket_from_the_same_page_is_served(attachable: Any, raw: Any, process: Any) -> None:
    attachable()
    client = raw()
    more = b"Origin: http://d\r\n"
    client.send(opening("/containers/web/attach/ws?stream=1&stdout=1", more))
    assert client.head().startswith(b"HTTP/1.1 101 ")
    process.end()
    client.rest()
