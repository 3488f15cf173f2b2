"""Requests and answers: the Docker SDK's low-level client over our own connections.

The SDK's own connections know neither ``cellbox system dial-stdio`` nor a limit of time for
connecting alone, and cannot be half closed through TLS; ``dial`` makes ours, the same for all.
"""

from __future__ import annotations

import contextlib
import json as codec
import threading
import urllib.parse
from collections.abc import Callable, Generator, Iterator, Mapping
from typing import Any, BinaryIO

import docker
import requests
import requests.adapters
import urllib3
import urllib3.connection

import cellbox
from cellbox.errors import CellboxError, InvalidArgument, NotSupported, Unavailable
from cellbox.remote.address import Address
from cellbox.remote.channel import Channel, PlainChannel, TlsChannel
from cellbox.remote.dial import CONNECT_TIMEOUT, Dialer
from cellbox.remote.exchange import Documents, Exchange, Lines, Stop
from cellbox.wire.errors import error_from
from cellbox.wire.filters import filters_text

Query = Mapping[str, Any]
"""Of a URL: None is left out, a truth is 1 or 0, a sequence is repeated, a mapping are filters."""

NEWEST = (1, 45)
"""The API version that ``wire`` is written for; older daemons are spoken to in their own."""
OLDEST = (1, 24)
"""What the first daemons understand that answer as ``wire`` expects."""

_BASE = "http://engine:2375"  # never resolved: every connection is dialled
_CHUNK = 65536
_ALREADY_SO = 304


class Transport:
    """All requests to one daemon. Nothing is sent before the first of them."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self._dialer = Dialer(address)
        self._client = _client(self._dialer)
        self._lock = threading.Lock()
        self._negotiated = False

    # Versions ----------------------------------------------------------------------------------

    def api_version(self) -> tuple[int, int]:
        """The version that both sides speak; asks the daemon the first time."""
        with self._lock:
            if not self._negotiated:
                answer = self._send("GET", f"{_BASE}/_ping", timeout=(None, 3 * CONNECT_TIMEOUT))
                self._client._version = _text(_agreed(answer.headers.get("Api-Version", "")))
                self._negotiated = True
        return _version(self._client.api_version)

    def _url(self, path: str, query: Query | None) -> str:
        """``path`` is quoted by who makes it: only they know which slashes are part of a name."""
        version = self.api_version()
        words = _encoded(query or {})
        return f"{_BASE}/v{_text(version)}{path}" + (f"?{words}" if words else "")

    # One answer --------------------------------------------------------------------------------

    def request(
        self,
        method: str,
        path: str,
        query: Query | None = None,
        *,
        json: Any = None,
        body: BinaryIO | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> requests.Response:
        """The whole answer. ``json`` or ``body`` (streamed) is sent. Raises what the daemon says,
        by :func:`cellbox.wire.errors.error_from`."""
        more = _payload(json, body, headers)
        return self._send(method, self._url(path, query), **more)

    def json(self, method: str, path: str, query: Query | None = None, **more: Any) -> Any:
        """The answer's JSON; None for an empty one."""
        answer = self.request(method, path, query, **more)
        return _decoded(answer) if answer.content else None

    @contextlib.contextmanager
    def download(
        self, path: str, query: Query | None = None, *, method: str = "GET"
    ) -> Iterator[Download]:
        """An answer that is too large to hold."""
        answer = self._send(method, self._url(path, query), stream=True)
        with contextlib.closing(answer):
            yield Download(answer, self._failed)

    def steps(
        self,
        method: str,
        path: str,
        query: Query | None = None,
        *,
        json: Any = None,
        body: BinaryIO | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Generator[Any, None, None]:
        """The JSON documents of a long task, as they come. An ``error`` among them is raised."""
        more = _payload(json, body, headers)
        answer = self._send(method, self._url(path, query), **more, stream=True)
        lines = Lines()
        with contextlib.closing(answer):
            for piece in Download(answer, self._failed).pieces():
                for step in lines.feed(piece):
                    yield _checked(step)
            for step in lines.feed(b"\n"):
                yield _checked(step)

    def _send(self, method: str, url: str, **more: Any) -> requests.Response:
        more.setdefault("timeout", None)
        try:
            answer: requests.Response = self._client.request(
                method, url, allow_redirects=False, **more
            )
        except requests.exceptions.RequestException as error:
            raise self._failed(error) from error
        if answer.status_code >= 300 and answer.status_code != _ALREADY_SO:
            with contextlib.closing(answer):
                raise _refused(answer.status_code, self._content(answer))
        return answer

    def _content(self, answer: requests.Response) -> bytes:
        try:
            return answer.content
        except requests.exceptions.RequestException as error:
            raise self._failed(error) from error

    def _failed(self, error: BaseException) -> CellboxError:
        """The reason below what urllib3 and requests have wrapped around it."""
        cause = error
        while not isinstance(cause, OSError) or isinstance(cause, requests.RequestException):
            wrapped = (getattr(cause, "reason", None), *cause.args)
            below = next((one for one in wrapped if isinstance(one, BaseException)), None)
            if below is None:
                break
            cause = below
        return self._dialer.explain(cause)

    # What goes on for long -----------------------------------------------------------------------

    def open(
        self,
        method: str,
        path: str,
        query: Query | None = None,
        *,
        json: Any = None,
        switch: bool = False,
    ) -> Exchange:
        """A request on a connection of its own; ``switch`` makes a raw stream of that."""
        target = self._url(path, query).removeprefix(_BASE)
        way = {"Connection": "Upgrade", "Upgrade": "tcp"} if switch else {"Connection": "close"}
        more = _payload(json, None, way)
        headers = {"Host": self.address.host or "engine", **self._client.headers, **more["headers"]}
        exchange = Exchange(self._channel(), self._dialer.explain, _refused)
        return exchange.open(method, target, headers, more["data"] or b"")

    def documents(
        self, method: str, path: str, query: Query | None = None, *, stop: Stop = None
    ) -> Documents:
        """The JSON documents that the daemon goes on sending."""
        return Documents(self.open(method, path, query), stop)

    def _channel(self) -> Channel:
        raw = self._dialer.dial_plain()
        try:
            context = self._dialer.tls_context()
            if context is None:
                return PlainChannel(raw)
            channel = TlsChannel(raw, context, self.address.host)
            channel.handshake(CONNECT_TIMEOUT)
            return channel
        except BaseException as error:
            raw.close()
            if isinstance(error, OSError):
                raise self._dialer.explain(error) from error
            raise

    def close(self) -> None:
        """Let go of the connections."""
        self._client.close()
        self._dialer.close()


class Download:
    """The body of an answer, to be read once."""

    def __init__(self, answer: requests.Response, failed: Callable[[BaseException], CellboxError]):
        self.headers: Mapping[str, str] = answer.headers
        self._answer = answer
        self._failed = failed

    def pieces(self) -> Iterator[bytes]:
        """As they come."""
        try:
            yield from self._answer.iter_content(_CHUNK if not _chunked(self._answer) else None)
        except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError) as error:
            raise self._failed(error) from error

    def write_to(self, out: BinaryIO) -> None:
        """Copy all of it."""
        for piece in self.pieces():
            out.write(piece)


class _Connection(urllib3.connection.HTTPConnection):
    """A connection that the dialer makes."""

    dialer: Dialer

    def connect(self) -> None:
        self.sock = self.dialer.dial()


class _Pool(urllib3.HTTPConnectionPool):
    def __init__(self, dialer: Dialer) -> None:
        super().__init__("engine", maxsize=10)
        self._dialer = dialer

    def _new_conn(self) -> Any:
        made = _Connection("engine", timeout=None)
        made.dialer = self._dialer
        return made


class _Adapter(requests.adapters.HTTPAdapter):
    """Every request goes to the one daemon."""

    def __init__(self, dialer: Dialer) -> None:
        super().__init__()
        self._dialer = dialer
        self._pool = _Pool(dialer)

    def get_connection_with_tls_context(self, *args: Any, **more: Any) -> Any:
        return self._pool

    get_connection = get_connection_with_tls_context  # what requests before 2.32 asks

    def close(self) -> None:
        """Later requests find a new pool."""
        super().close()
        old, self._pool = self._pool, _Pool(self._dialer)
        old.close()


def _client(dialer: Dialer) -> docker.APIClient:
    agent = f"cellbox/{cellbox.__version__}"
    try:
        client = docker.APIClient(_BASE, version=_text(NEWEST), user_agent=agent)
    except Exception as error:  # it reads config.json, and fails as it happens
        raise InvalidArgument(f"Docker's config.json is not as it should be: {error}") from error
    client.trust_env = False  # a proxy or .netrc of the web is none of the daemon's
    client.headers["Accept-Encoding"] = "identity"  # tars are packed where it pays
    client.mount(_BASE, _Adapter(dialer))
    return client


def _payload(json: Any, body: BinaryIO | None, headers: Mapping[str, str] | None) -> dict[str, Any]:
    """``data`` and ``headers`` of a request."""
    if body is not None:
        data: Any = iter(lambda: body.read(_CHUNK), b"")
        return {"data": data, "headers": {"Content-Type": "application/x-tar", **(headers or {})}}
    if json is not None:
        data = codec.dumps(json).encode()
        return {"data": data, "headers": {"Content-Type": "application/json", **(headers or {})}}
    return {"data": None, "headers": dict(headers or {})}


def _encoded(query: Query) -> str:
    pairs: list[tuple[str, str]] = []
    for name, value in query.items():
        values = value if isinstance(value, (list, tuple)) else [value]
        pairs += [(name, _word(one)) for one in values if one is not None]
    return urllib.parse.urlencode(pairs)


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, Mapping):
        return filters_text(value)
    return str(value)


def _chunked(answer: requests.Response) -> bool:
    return "chunked" in answer.headers.get("Transfer-Encoding", "")


def _decoded(answer: requests.Response) -> Any:
    try:
        return answer.json()
    except ValueError as error:
        raise Unavailable(f"what answers at {answer.url} is no container engine") from error


def _refused(status: int, body: bytes) -> CellboxError:
    """What the daemon refuses, in its words."""
    text = body.decode(errors="replace").strip()
    with contextlib.suppress(ValueError, AttributeError):
        text = codec.loads(text).get("message") or text
    return error_from(status, text or f"the engine answered with status {status}")


def _checked(step: Any) -> Any:
    if isinstance(step, dict) and (error := step.get("error") or step.get("errorDetail")):
        detail = step.get("errorDetail") or {}
        text = error if isinstance(error, str) else str(detail.get("message", ""))
        raise error_from(int(detail.get("code") or 500), text)
    return step


def _agreed(offered: str) -> tuple[int, int]:
    if not offered:
        raise Unavailable("what answers there is no container engine: it tells no Api-Version")
    theirs = _version(offered)
    if theirs < OLDEST:
        raise NotSupported(f"the engine speaks API {offered}; {_text(OLDEST)} is the oldest for us")
    return min(theirs, NEWEST)


def _version(text: str) -> tuple[int, int]:
    major, _, minor = text.partition(".")
    try:
        return int(major), int(minor)
    except ValueError:
        raise InvalidArgument(f"{text!r} is no API version") from None


def _text(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"
