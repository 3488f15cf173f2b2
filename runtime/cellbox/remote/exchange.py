"""One request on a connection of its own, and its answer as it comes: what goes on for long.

Attached streams, events, logs that are followed and waits can each be given up at any time, from
any thread, by :meth:`Exchange.close`; a connection that others share could not be.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any

import h11

from cellbox.errors import CellboxError
from cellbox.remote.channel import Channel
from cellbox.remote.deadline import Deadline

Explain = Callable[[BaseException], CellboxError]
Refused = Callable[[int, bytes], CellboxError]

Stop = Callable[[], bool] | None

_SWITCHED = 101
_NOW_AND_THEN = 0.25
"""Seconds between two questions whether to stop."""


class Exchange:
    """``explain`` turns a failure of the connection, ``refused`` a status of 400 and more with its
    body, into an error of the engine."""

    def __init__(self, channel: Channel, explain: Explain, refused: Refused) -> None:
        self._channel = channel
        self._explain = explain
        self._refused = refused
        self._http = h11.Connection(h11.CLIENT)
        self._switched = False
        self._rest = b""
        self._closed = False

    def open(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes = b""
    ) -> Exchange:
        """Send the request, and wait for the head of the answer: what is told of from then on is
        not missed. Returns itself. Raises what the daemon answers."""
        length = {"Content-Length": str(len(body))} if body or method == "POST" else {}
        request = h11.Request(
            method=method, target=target, headers=[*{**headers, **length}.items()]
        )
        try:
            parts = [request, h11.Data(data=body), h11.EndOfMessage()]
            self._channel.send(b"".join(self._http.send(part) or b"" for part in parts))
            self._hear_head()
        except BaseException as error:
            self.close()
            if isinstance(error, (OSError, h11.ProtocolError)):
                raise self._explain(error) from error
            raise
        return self

    def _hear_head(self) -> None:
        while True:
            event = self._event(Deadline(None))
            if isinstance(event, h11.InformationalResponse) and event.status_code == _SWITCHED:
                self._switched = True
                self._rest = self._http.trailing_data[0]
                return
            if isinstance(event, h11.Response):
                if event.status_code >= 400:
                    raise self._refused(event.status_code, b"".join(self))
                return
            if isinstance(event, (h11.ConnectionClosed, h11.EndOfMessage)):
                raise ConnectionResetError("it ended without an answer")

    def read(self, timeout: float | None = None) -> bytes:
        """The next piece of the body, or, where the connection was switched to a stream, of that;
        empty at the end and after :meth:`close`. Raises TimeoutError."""
        try:
            return self._read_stream(timeout) if self._switched else self._read_body(timeout)
        except TimeoutError:
            raise
        except (OSError, ValueError, h11.ProtocolError) as error:
            if self._closed or self._switched:  # by us in another thread; a reset is an end too
                return b""
            raise self._explain(error) from error

    def _read_stream(self, timeout: float | None) -> bytes:
        rest, self._rest = self._rest, b""
        return rest or self._channel.receive(timeout)

    def _read_body(self, timeout: float | None) -> bytes:
        deadline = Deadline(timeout)
        while True:
            event = self._event(deadline)
            if isinstance(event, h11.Data):
                if event.data:
                    return bytes(event.data)
            else:
                return b""

    def _event(self, deadline: Deadline) -> Any:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            self._http.receive_data(self._channel.receive(deadline.left))
        return event

    def write(self, data: bytes) -> None:
        """Send more, where the connection was switched. Raises BrokenPipeError."""
        try:
            self._channel.send(data)
        except (OSError, ValueError) as error:
            raise BrokenPipeError("nobody reads it any more") from error

    def end(self) -> None:
        """Send nothing more; repeating it does nothing."""
        with contextlib.suppress(OSError, ValueError):
            self._channel.end()

    def close(self) -> None:
        """Give it up; who reads it reads its end."""
        self._closed = True
        self._channel.close()

    def __iter__(self) -> Iterator[bytes]:
        return self.pieces()

    def pieces(self, stop: Stop = None) -> Iterator[bytes]:
        """All that comes, to the end or until ``stop`` says true, which is asked now and then; what
        is on its way by then still comes."""
        last: Deadline | None = None
        while last is None or last.left:
            if last is None and stop and stop():
                last = Deadline(_NOW_AND_THEN)
            try:
                piece = self.read(last.left if last else _NOW_AND_THEN if stop else None)
            except TimeoutError:
                continue
            if not piece:
                return
            yield piece

    def __enter__(self) -> Exchange:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class Documents:
    """The JSON documents of an answer that go on coming, one after the other. It is an iterator
    that can be closed, also from another thread; it closes itself at the end, and when ``stop``
    says true."""

    def __init__(self, exchange: Exchange, stop: Stop = None) -> None:
        self._exchange = exchange
        self._pieces = exchange.pieces(stop)
        self._decoder = Lines()
        self._ready: list[Any] = []

    def __iter__(self) -> Documents:
        return self

    def __next__(self) -> Any:
        while not self._ready:
            piece = next(self._pieces, b"")
            if not piece:
                self.close()
                raise StopIteration
            self._ready = self._decoder.feed(piece)
        return self._ready.pop(0)

    def close(self) -> None:
        """Stop listening."""
        self._exchange.close()


class Lines:
    """Pieces of newline-separated JSON into documents."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[Any]:
        """The documents that ``data`` completes."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [json.loads(line) for line in lines if line.strip()]
