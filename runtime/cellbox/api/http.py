"""What a handler sees of HTTP: a request, and the two kinds of answer.

A :class:`Response` is sent and the connection goes on; a :class:`Hijack` takes the connection over,
as ``attach`` and ``exec`` do. Neither knows of sockets or of h11; ``connection`` does.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import parse_qs

from cellbox.errors import InvalidArgument
from cellbox.wire import filters as texts

if TYPE_CHECKING:
    from cellbox.api.sockets import Wire

Json = dict[str, Any]

MAX_JSON = 16 << 20
_MAX_FIELDS = 1000
_BUFFER = 1 << 16
_NOTHING: Any = object()


@dataclass
class Request:
    """One request. ``path`` is decoded and has no version; header names are lower case, ``params``
    are the names in the route's pattern, ``query`` holds every value of every key."""

    method: str
    path: str
    query_string: str
    version: tuple[int, int]
    headers: Mapping[str, str]
    params: Mapping[str, str]
    raw_body: io.RawIOBase
    gone: Callable[[], bool]
    """Has the client hung up? One system call; whoever follows something asks now and then."""

    @cached_property
    def query(self) -> dict[str, list[str]]:
        try:
            return parse_qs(self.query_string, keep_blank_values=True, max_num_fields=_MAX_FIELDS)
        except ValueError:
            raise InvalidArgument(f"more than {_MAX_FIELDS} query parameters") from None

    @cached_property
    def body(self) -> BinaryIO:
        """The body, read from the client as it is read here."""
        return io.BufferedReader(self.raw_body, _BUFFER)

    def one(self, name: str, default: str = "") -> str:
        """The first value of a query parameter."""
        return self.query.get(name, [default])[0]

    def flag(self, name: str, default: bool = False) -> bool:
        """A query parameter as Docker reads booleans: empty, ``0``, ``no``, ``false`` and ``none``
        are false."""
        values = self.query.get(name)
        return default if values is None else texts.flag(values[0])

    def number(self, name: str) -> int | None:
        """A query parameter that is a whole number; None where it is missing or empty. Raises
        InvalidArgument."""
        text = self.one(name)
        if not text:
            return None
        try:
            return int(text)
        except ValueError:
            raise InvalidArgument(f"invalid value for {name}: {text!r} is no number") from None

    def filters(self, name: str = "filters") -> dict[str, list[str]]:
        """A query parameter that holds filters, in either of Docker's forms."""
        return texts.parse_filters(self.one(name))

    def json(self) -> Json:
        """The body, an object; empty where there is none. Raises InvalidArgument as moby does."""
        found = self._value()
        if found is None:
            return {}
        if not isinstance(found, dict):
            raise InvalidArgument("invalid JSON: the request body must be an object")
        return found

    def json_list(self) -> list[Any]:
        """The body, a list; empty where there is none. Raises InvalidArgument."""
        found = self._value()
        if found is None:
            return []
        if not isinstance(found, list):
            raise InvalidArgument("invalid JSON: the request body must be a list")
        return found

    def _value(self) -> Any:
        """The body's JSON, None where there is none."""
        data = self.body.read(MAX_JSON + 1)
        kind = self.headers.get("content-type", "")
        if not data and not kind:
            return None
        if kind.partition(";")[0].strip().lower() != "application/json":
            raise InvalidArgument(
                f"unsupported Content-Type header ({kind}): must be 'application/json'"
            )
        if len(data) > MAX_JSON:
            raise InvalidArgument(f"the request body is larger than {MAX_JSON} bytes")
        return _parsed(data) if data.strip() else None


def _parsed(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        reason = "too deep" if isinstance(error, RecursionError) else error
        raise InvalidArgument(f"invalid JSON: {reason}") from None


Body = bytes | Iterable[bytes] | Callable[[BinaryIO], object]
"""All of it; or pieces, each sent as it comes; or a function that writes it to a file."""


@dataclass(frozen=True)
class Response:
    """An answer. ``json`` (also None, for null) goes before ``body``.

    Pieces are sent chunked, each at once; an iterator that has a ``close`` is closed when all is
    sent or the client has hung up. Status and headers go out with the first piece, so that what
    fails before becomes an error of its own; with ``eager`` they go out at once.
    """

    status: int = 200
    json: Any = _NOTHING
    body: Body = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    eager: bool = False

    def content(self) -> tuple[Body, Mapping[str, str]]:
        """The body and all headers that are its own."""
        if self.json is _NOTHING:
            return self.body, self.headers
        text = json.dumps(self.json, ensure_ascii=False, separators=(",", ":"))
        data = text.encode("utf-8", "replace") + b"\n"
        return data, {"Content-Type": "application/json", **self.headers}


@dataclass(frozen=True)
class Hijack:
    """The connection is taken over: after the answer's head, ``run`` has it, and it is closed when
    ``run`` returns.

    A client that asks for an upgrade is told ``101 UPGRADED``, another one ``200 OK``, and both the
    ``content_type``. ``head`` is sent in place of all this where the protocol has one of its own.
    """

    run: Callable[[Upgraded], None]
    content_type: str = "application/vnd.docker.raw-stream"
    head: bytes = b""


class Upgraded:
    """A connection after its takeover: raw bytes, both ways, for two threads."""

    def __init__(self, wire: Wire, early: bytes) -> None:
        self._wire = wire
        self._early = early
        self.send = wire.send
        self.dead = wire.dead
        self.cut = wire.cut
        self.end = wire.end

    def receive(self, size: int, timeout: float | None = None) -> bytes:
        """What has come, at most ``size`` bytes; empty at the end. Raises OSError, TimeoutError."""
        if self._early:
            data, self._early = self._early[:size], self._early[size:]
            return data
        return self._wire.receive(size, timeout)
