"""A websocket as a client of a process's streams (RFC 6455): messages are bytes, their borders mean
nothing."""

from __future__ import annotations

import contextlib
import threading

from wsproto.connection import Connection, ConnectionType
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Message,
    Ping,
)
from wsproto.events import Request as Opening
from wsproto.handshake import H11Handshake
from wsproto.utilities import ProtocolError

from cellbox.api.http import Request, Upgraded
from cellbox.errors import InvalidArgument

_NORMAL = 1000


def accept(request: Request) -> bytes:
    """The answer that opens a websocket. Raises InvalidArgument for a request that is none."""
    handshake = H11Handshake(ConnectionType.SERVER)
    headers = [(key.encode(), value.encode("latin-1")) for key, value in request.headers.items()]
    try:
        handshake.initiate_upgrade_connection(headers, "/")
        if not any(isinstance(event, Opening) for event in handshake.events()):
            raise ProtocolError("no opening")
        return handshake.send(AcceptConnection())
    except ProtocolError as error:
        raise InvalidArgument(f"not a websocket: {error}") from None


class WebSocket:
    """Speaks it over an upgraded connection. Output goes in ``text`` messages or binary ones."""

    def __init__(self, client: Upgraded, *, text: bool) -> None:
        self._client = client
        self._text = text
        self._protocol = Connection(ConnectionType.SERVER)
        self._lock = threading.Lock()
        self._typed = b""
        self._over = False
        self.dead = client.dead
        self.cut = client.cut

    def send(self, *pieces: bytes) -> None:
        """Send one message. Raises OSError."""
        data = b"".join(pieces)
        event: Event = BytesMessage(data)
        if self._text:
            event = Message(data=data.decode("utf-8", "replace"))
        self._tell(event)

    def _tell(self, event: Event) -> None:
        with self._lock:
            try:
                data = self._protocol.send(event)
            except ProtocolError as error:  # it is closed
                raise BrokenPipeError("the websocket is closed") from error
            self._client.send(data)

    def receive(self, size: int, timeout: float | None = None) -> bytes:
        """What has been typed, at most ``size`` bytes; empty at the end. Raises OSError."""
        while not self._typed and not self._over:
            data = self._client.receive(size, timeout)
            try:
                with self._lock:
                    self._protocol.receive_data(data or None)
                    events = list(self._protocol.events())
            except ProtocolError as error:
                raise ConnectionError("not a websocket") from error
            for event in events:
                self._hear(event)
            self._over = self._over or not data
        typed, self._typed = self._typed[:size], self._typed[size:]
        return typed

    def _hear(self, event: Event) -> None:
        if isinstance(event, Message):
            data = event.data
            self._typed += data.encode() if isinstance(data, str) else bytes(data)
        elif isinstance(event, Ping):
            self._tell(event.response())
        elif isinstance(event, CloseConnection):
            self._over = True
            self._tell(event.response())

    def end(self) -> None:
        """Close it from this side."""
        with contextlib.suppress(OSError):
            self._tell(CloseConnection(code=_NORMAL))
        self._client.end()
