"""HTTP/1.1 with one client: requests in, responses out, in the thread that calls.

h11 knows the protocol and has no socket; here its events and the client's bytes meet. A connection
is kept from one request to the next; what was sent ahead waits its turn. A client that hangs up
ends its connection without a word.
"""

from __future__ import annotations

import contextlib
import io
import logging
import time
from collections.abc import Callable, Mapping
from email.utils import formatdate
from functools import lru_cache
from typing import TYPE_CHECKING, Any, BinaryIO, cast
from urllib.parse import unquote

import h11

from cellbox.api import authorization, guard, routing
from cellbox.api.http import Hijack, Request, Response, Upgraded
from cellbox.errors import CellboxError, InvalidArgument
from cellbox.wire.errors import error_json, status_of

if TYPE_CHECKING:
    from cellbox.api.server import Daemon
    from cellbox.api.sockets import Wire

log = logging.getLogger(__name__)

HEAD_TIME = 10.0
"""Seconds in which a request's head must have come, and a TLS handshake must be done."""
IDLE_TIME = 300.0
"""Seconds for which a connection is kept with no request on it."""
STALL_TIME = 300.0
"""Seconds for which a body may stand still."""
MAX_HEAD = 1 << 16
_CHUNK = 1 << 18
_LEFTOVER = 1 << 20
"""Bytes of an unwanted body that are read to keep its connection; a longer one costs it."""
_BODILESS = frozenset({204, 304})


class HungUp(ConnectionError):
    """The client is gone, or does not go on."""


class Connection:
    """One client. :meth:`serve` returns when it is gone; :meth:`stop` may be called meanwhile."""

    def __init__(self, wire: Wire, daemon: Daemon) -> None:
        self._wire = wire
        self._daemon = daemon
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
        self._started = False
        self._method = b""
        self.idle = True

    def serve(self) -> None:
        """Answer requests until either side ends it."""
        try:
            self._wire.handshake(HEAD_TIME)
            while self._exchange():
                self._h11.start_next_cycle()
        except OSError:
            pass
        finally:
            self._wire.close()

    def stop(self) -> None:
        """End it from another thread."""
        self._wire.cut()

    def _exchange(self) -> bool:
        """One request and its answer; whether another one may follow."""
        self._started = False
        try:
            head = self._head()
            if head is None:
                return False
            answer = self._handled(head)
            if isinstance(answer, Hijack):
                self._take_over(answer, head)
                return False
            self._respond(answer)
        except h11.RemoteProtocolError as error:
            self._refuse(error)
            return False
        if self._reusable():
            return True
        self._wire.linger()
        return False

    # Requests ------------------------------------------------------------------------------------

    def _head(self) -> h11.Request | None:
        """The next request's head; None where the client has none any more."""
        self.idle = True
        deadline = None if self._h11.trailing_data[0] else time.monotonic() + IDLE_TIME
        while (event := self._h11.next_event()) is h11.NEED_DATA:
            if self.idle and (deadline is None or self._h11.trailing_data[0]):
                self.idle, deadline = False, time.monotonic() + HEAD_TIME
            assert deadline is not None
            self._h11.receive_data(self._receive(deadline - time.monotonic()))
        self.idle = False
        if isinstance(event, h11.Request):
            self._method = event.method
            return event
        return None

    def _receive(self, timeout: float) -> bytes:
        if timeout <= 0:
            raise HungUp("too slow")
        try:
            return self._wire.receive(_CHUNK, timeout)
        except OSError as error:
            raise HungUp from error

    def _handled(self, head: h11.Request) -> Response | Hijack:
        try:
            request, handler = self._request(head)
            gate = self._daemon.gate
            if gate is None:
                return handler(self._daemon, request)
            asked = authorization.admit(gate, request, self._wire)
            answer = handler(self._daemon, request)
            if isinstance(answer, Response):
                authorization.release(gate, asked, answer)
            return answer
        except (HungUp, h11.RemoteProtocolError):
            raise
        except Exception as error:
            return self._failure(error)

    def _request(self, head: h11.Request) -> tuple[Request, routing.Handler]:
        headers = _headers(head)
        guard.admit(headers, encrypted=self._wire.encrypted)
        target, _, query = head.target.decode("ascii").partition("?")
        if not target.startswith("/"):
            raise InvalidArgument("the request's target must be a path")
        path = unquote(target)
        log.debug("%s %r", head.method.decode("ascii"), path)
        match = routing.find(head.method.decode("ascii"), path)
        request = Request(
            method=head.method.decode("ascii"),
            path=path,
            query_string=query,
            version=match.version,
            headers=headers,
            params=match.params,
            raw_body=_Body(self),
            gone=self._wire.gone,
        )
        return request, match.handler

    def _failure(self, error: Exception) -> Response:
        if not isinstance(error, CellboxError) and not self._wire.gone():
            log.error("a request failed unexpectedly", exc_info=error)
        return Response(status_of(error), json=error_json(error))

    def body_piece(self) -> bytes:
        """The next bytes of the request's body as they come, empty at its end."""
        if self._h11.they_are_waiting_for_100_continue:
            go_on = h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue")
            self._send(self._h11.send(go_on))
        while True:
            event = self._h11.next_event()
            if isinstance(event, h11.Data):
                return bytes(event.data)
            if event is not h11.NEED_DATA:
                return b""
            data = self._receive(STALL_TIME)
            if not data:
                raise HungUp("in the middle of a body")
            self._h11.receive_data(data)

    def _reusable(self) -> bool:
        """Read what is left of the request; is the connection good for another one?"""
        left = _LEFTOVER if self._h11.our_state is h11.DONE else 0
        while self._h11.their_state is h11.SEND_BODY and left > 0:
            left -= len(self.body_piece()) or left
        return self._h11.our_state is h11.DONE and self._h11.their_state is h11.DONE

    # Responses -----------------------------------------------------------------------------------

    def _respond(self, answer: Response) -> None:
        """Send an answer; where it fails before anything is sent, the failure is the answer."""
        try:
            self._send_answer(answer)
        except (HungUp, h11.RemoteProtocolError):
            raise
        except Exception as error:
            failure = self._failure(error)
            if self._started:  # the client knows by the end that does not come
                raise HungUp from error
            self._send_answer(failure)

    def _send_answer(self, answer: Response) -> None:
        body, headers = answer.content()
        if isinstance(body, bytes):
            self._send_whole(answer.status, headers, body)
            return
        try:
            if answer.eager:
                self._begin(answer.status, headers)
            if callable(body):
                body(cast(BinaryIO, _Sink(self, answer.status, headers)))
            else:
                for piece in body:
                    self.send_piece(answer.status, headers, piece)
        finally:
            getattr(body, "close", _nothing)()
        self._begin(answer.status, headers)
        self._send(self._h11.send(h11.EndOfMessage()))

    def _send_whole(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        fields = self._fields(headers)
        if status not in _BODILESS:
            fields.append(("Content-Length", str(len(body))))
        head = self._open_answer(status, fields)
        if body and self._method != b"HEAD" and status not in _BODILESS:
            head += self._h11.send(h11.Data(data=body)) or b""
        self._send(head + (self._h11.send(h11.EndOfMessage()) or b""))

    def _begin(self, status: int, headers: Mapping[str, str]) -> None:
        if not self._started:
            self._send(self._open_answer(status, self._fields(headers)))

    def _open_answer(self, status: int, fields: list[tuple[str, str]]) -> bytes:
        """The head. To a client that still waits for leave to send its body it says that there is
        none, so that nobody knows whether the next bytes are that body."""
        self._started = True
        if self._h11.they_are_waiting_for_100_continue:
            fields.append(("Connection", "close"))
        return self._h11.send(_response(status, fields)) or b""

    def send_piece(self, status: int, headers: Mapping[str, str], piece: bytes) -> None:
        """Send a piece of a body, and the head before the first one."""
        self._begin(status, headers)
        if piece and self._method != b"HEAD":
            self._send(*(self._h11.send_with_data_passthrough(h11.Data(data=piece)) or ()))

    def _fields(self, headers: Mapping[str, str]) -> list[tuple[str, str]]:
        return [*self._daemon.headers, ("Date", _date(int(time.time()))), *headers.items()]

    def _send(self, *pieces: bytes | None) -> None:
        try:
            self._wire.send(*(piece for piece in pieces if piece))
        except OSError as error:
            raise HungUp from error

    def _refuse(self, error: h11.RemoteProtocolError) -> None:
        """Answer what is no HTTP, if nothing was answered yet, and end the connection."""
        if self._h11.our_state in (h11.IDLE, h11.SEND_RESPONSE) and not self._started:
            message = {"message": f"malformed request: {error}"}
            headers = {"Connection": "close"}
            self._send_answer(Response(error.error_status_hint, json=message, headers=headers))
        self._wire.linger()

    # Takeover ------------------------------------------------------------------------------------

    def _take_over(self, hijack: Hijack, request: h11.Request) -> None:
        wants_upgrade = any(name == b"upgrade" for name, _ in request.headers)
        with contextlib.suppress(HungUp):  # then `run` finds out, and cleans up
            while self.body_piece():
                pass
            self._send(hijack.head or self._upgrade_head(hijack, wants_upgrade))
        stream = Upgraded(self._wire, self._h11.trailing_data[0])
        try:
            hijack.run(stream)
        except OSError:
            pass
        except Exception as error:
            self._failure(error)
        self._wire.linger()

    def _upgrade_head(self, hijack: Hijack, upgrade: bool) -> bytes:
        lines = ["HTTP/1.1 101 UPGRADED" if upgrade else "HTTP/1.1 200 OK"]
        lines.append(f"Content-Type: {hijack.content_type}")
        lines += ["Connection: Upgrade", "Upgrade: tcp"] if upgrade else []
        lines += [f"{name}: {value}" for name, value in self._daemon.headers]
        return "\r\n".join([*lines, "", ""]).encode("ascii")


class _Body(io.RawIOBase):
    """A request's body, read as the client sends it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._rest = b""
        self._over = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._rest and not self._over:
            self._rest = self._connection.body_piece()
            self._over = not self._rest
        piece = self._rest[: len(buffer)]
        self._rest = self._rest[len(piece) :]
        buffer[: len(piece)] = piece
        return len(piece)


class _Sink(io.RawIOBase):
    """A response's body, sent as it is written."""

    def __init__(self, connection: Connection, status: int, headers: Mapping[str, str]) -> None:
        self._send: Callable[[bytes], None] = lambda piece: connection.send_piece(
            status, headers, piece
        )

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._send(bytes(data))
        return len(data)


def _nothing() -> None:
    """The ``close`` of an iterable that has none."""


def _headers(head: h11.Request) -> dict[str, str]:
    found: dict[str, str] = {}
    for raw_name, raw_value in head.headers:
        name, value = raw_name.decode("ascii"), raw_value.decode("latin-1")
        found[name] = f"{found[name]}, {value}" if name in found else value
    return found


def _response(status: int, headers: list[tuple[str, str]]) -> h11.Response:
    return h11.Response(status_code=status, headers=headers, reason=_reason(status))


@lru_cache
def _reason(status: int) -> bytes:
    from http import HTTPStatus

    try:
        return HTTPStatus(status).phrase.encode("ascii")
    except ValueError:
        return b""


@lru_cache(maxsize=2)
def _date(second: int) -> str:
    return formatdate(second, usegmt=True)
