"""The one seam to the network: a request with its redirects, and the body that comes back.

urllib3 keeps the connections; redirects are followed here, since what may follow them is a matter
of security (``origins``). Encodings of the body are neither asked for nor undone: a digest is of
the bytes as they are.

Certificates: the system's, SSL_CERT_FILE and SSL_CERT_DIR, and ``/etc/docker/certs.d/HOST`` as
Docker has it (``*.crt`` authorities, ``*.cert`` with ``*.key`` for the client). Proxies:
HTTPS_PROXY, HTTP_PROXY, NO_PROXY; never for loopback.
"""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import threading
import urllib.request
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from http.client import IncompleteRead
from pathlib import Path
from typing import Any, NamedTuple

import urllib3
from urllib3 import exceptions as http
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.response import BaseHTTPResponse
from urllib3.util import Timeout, make_headers, parse_url

from cellbox.errors import Unavailable
from cellbox.registry.origins import (
    Origin,
    is_loopback,
    next_url,
    origin_of,
    reach,
    reach_of_address,
    reaches_of,
)
from cellbox.registry.retry import Pace, Policy, Transient

MAX_REDIRECTS = 5
CERTS = Path("/etc/docker/certs.d")
USER_AGENT = "cellbox"
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_PIECE = 1 << 18
_LEFTOVER = 1 << 16
"""Bytes of an unwanted body that are read to keep its connection; a longer one costs it."""


class Forbidden(Exception):
    """A name led to an address that the registry may not send us to."""


def _guarded(pool: type[HTTPConnectionPool], allowed: frozenset[str]) -> type[HTTPConnectionPool]:
    """``pool`` with connections that end where their far end is out of reach (see ``origins``)."""
    connection: Any = pool.ConnectionCls

    class Guarded(connection):  # type: ignore[misc]
        def connect(self) -> None:
            super().connect()
            if reach(self.sock.getpeername()[0]) not in allowed:
                self.close()
                raise Forbidden

    return type(f"Guarded{pool.__name__}", (pool,), {"ConnectionCls": Guarded})


class Response:
    """An answer: ``status``, ``headers``, and a body that is read piece by piece."""

    def __init__(self, raw: BaseHTTPResponse, origin: Origin, policy: Policy) -> None:
        self._raw = raw
        self._pace = Pace(policy)
        self.origin = origin
        self.status = raw.status
        self.headers = raw.headers

    def read(self) -> bytes:
        """The next piece as it comes, at most 256 KiB; empty at the end.

        Raises Transient where the connection breaks, stalls or crawls.
        """
        with _told(self.origin), self._pace:
            data = self._raw.read1(_PIECE, decode_content=False) or b""
        if self._pace.too_slow(len(data)):
            raise Transient(f"{self.origin.authority} sends too slowly")
        return data

    def read_all(self, limit: int) -> bytes:
        """The whole body. Raises Unavailable when it has over ``limit`` bytes."""
        pieces, size = [], 0
        while piece := self.read():
            pieces.append(piece)
            size += len(piece)
            if size > limit:
                self.close()
                raise Unavailable(f"{self.origin.authority} answers with over {limit} bytes")
        self._raw.release_conn()
        return b"".join(pieces)

    def discard(self) -> None:
        """Done with it; the connection is kept if that is cheap."""
        with contextlib.suppress(Unavailable):
            self.read_all(_LEFTOVER)

    def cut(self) -> None:
        """Make a thread that waits in :meth:`read` return; for use from another thread."""
        with contextlib.suppress(ValueError, RuntimeError, OSError):
            self._raw.shutdown()

    def close(self) -> None:
        """Give up the body and its connection."""
        self._raw.close()


class Body(NamedTuple):
    """What is sent: ``size`` bytes, made anew by ``pieces`` for each try."""

    size: int
    pieces: Callable[[], Iterable[bytes]]


class _Kind(NamedTuple):
    """Connections that may be shared: same proxy, certificates, checks and bounds."""

    proxy: str
    certs: str
    verify: bool
    allowed: frozenset[str] | None


class Transport:
    """Requests to any host; safe for any number of threads."""

    def __init__(self, policy: Policy, certs: Path = CERTS) -> None:
        self._policy = policy
        self._certs = certs
        self._lock = threading.Lock()
        self._managers: dict[_Kind, urllib3.PoolManager] = {}

    def close(self) -> None:
        """Close all connections that are not in use."""
        with self._lock:
            for manager in self._managers.values():
                manager.clear()

    def open(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        *,
        authorization: str = "",
        body: bytes | Body | None = None,
        asked_by: Origin | None = None,
        verify: bool = True,
    ) -> Response:
        """The answer to one request, after at most five redirects.

        ``authorization`` is sent to the origin of ``url`` only. ``asked_by`` is the registry that
        named ``url``, None for the registry itself. ``verify`` False accepts any certificate of the
        registry. Raises Transient, or Unavailable for what another try cannot help.
        """
        first = asked_by or origin_of(url)
        for _ in range(MAX_REDIRECTS + 1):
            origin = origin_of(url)
            manager = self._manager(origin, first, verify or origin != first)
            sent = {**headers, "Authorization": authorization} if authorization else headers
            response = self._send(manager, method, url, sent, body)
            location = response.headers.get("Location")
            if response.status not in _REDIRECTS or location is None:
                return response
            response.discard()
            if body is not None:  # it may hold a secret, and is for this origin only
                what = "an upload" if isinstance(body, Body) else "a request for a token"
                raise Unavailable(f"{origin.authority} redirects {what}; refused")
            url = next_url(url, location)
            if origin_of(url) != origin:
                authorization = ""
        raise Unavailable(f"{first.authority} redirects more than {MAX_REDIRECTS} times")

    def _send(
        self,
        manager: urllib3.PoolManager,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | Body | None,
    ) -> Response:
        origin = origin_of(url)
        identity = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity"}
        if isinstance(body, Body):
            identity["Content-Length"] = str(body.size)
        with _told(origin):
            raw = manager.request(
                method,
                url,
                body=body.pieces() if isinstance(body, Body) else body,
                headers={**identity, **headers},
                redirect=False,
                retries=False,
                preload_content=False,
                decode_content=False,
                timeout=Timeout(connect=self._policy.connect, read=self._policy.stall),
            )
        return Response(raw, origin, self._policy)

    def _manager(self, origin: Origin, first: Origin, verify: bool) -> urllib3.PoolManager:
        certs = origin.authority if (self._certs / origin.authority).is_dir() else ""
        proxy = _proxy_for(origin)
        allowed = None if proxy or origin == first else reaches_of(first.host) | {"wide"}
        if allowed and reach_of_address(origin.host, "wide") not in allowed:
            raise _forbidden(origin)
        kind = _Kind(proxy, certs, verify, allowed)
        with self._lock:
            if not verify:
                _hush(origin.host)
            if kind not in self._managers:
                self._managers[kind] = self._make(kind)
            return self._managers[kind]

    def _make(self, kind: _Kind) -> urllib3.PoolManager:
        context = _tls(self._certs / kind.certs if kind.certs else None, kind.verify)
        shared: dict[str, Any] = {"ssl_context": context, "maxsize": 8, "num_pools": 32}
        if kind.proxy:
            auth = parse_url(kind.proxy).auth
            if auth:
                shared["proxy_headers"] = make_headers(proxy_basic_auth=auth)
            return urllib3.ProxyManager(kind.proxy, **shared)
        manager = urllib3.PoolManager(**shared)
        if kind.allowed:
            manager.pool_classes_by_scheme = {
                "http": _guarded(HTTPConnectionPool, kind.allowed),
                "https": _guarded(HTTPSConnectionPool, kind.allowed),
            }
        return manager


def _hush(host: str) -> None:
    """No warning for what the user has asked for: urllib3 would print one for every request."""
    message = re.escape(f"Unverified HTTPS request is being made to host '{host}'")
    warnings.filterwarnings("ignore", message, http.InsecureRequestWarning)


def _forbidden(origin: Origin) -> Unavailable:
    return Unavailable(f"the registry leads to {origin.authority}, an address it may not use")


def _proxy_for(origin: Origin) -> str:
    host = origin.host.strip("[]")
    if is_loopback(host) or urllib.request.proxy_bypass(f"{host}:{origin.port}"):
        return ""
    proxy = urllib.request.getproxies().get(origin.scheme, "")
    return proxy if not proxy or "://" in proxy else f"http://{proxy}"


def _tls(certs: Path | None, verify: bool) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    try:
        for authority in sorted(certs.glob("*.crt")) if certs else ():
            context.load_verify_locations(authority)
        for certificate in sorted(certs.glob("*.cert")) if certs else ():
            context.load_cert_chain(certificate, certificate.with_suffix(".key"))
    except (OSError, ssl.SSLError) as error:
        raise Unavailable(f"a certificate in {certs} cannot be used: {error}") from error
    return context


@contextlib.contextmanager
def _told(origin: Origin) -> Iterator[None]:
    """Turns urllib3's failures into ours: host and cause, but no URL, which may be secret."""
    host = origin.authority
    try:
        yield
    except Forbidden:
        raise _forbidden(origin) from None
    except (http.HTTPError, OSError, ValueError) as error:
        permanent = isinstance(error, http.SSLError) or _unknown_name(error)
        message = f"{host}: {_cause(error)}"
        raise (Unavailable if permanent else Transient)(message) from None


_CAUSES: tuple[tuple[type[Exception], Callable[[Exception], str]], ...] = (
    (http.SSLError, lambda error: _tls_cause(str(error))),
    (http.NameResolutionError, lambda _: "no such host: the name cannot be resolved"),
    (http.NewConnectionError, lambda error: f"no connection: {_system_cause(error)}"),
    (http.ConnectTimeoutError, lambda _: "no connection within the time limit"),
    (http.ProxyError, lambda _: "the proxy of the environment cannot be used"),
    (http.ReadTimeoutError, lambda _: "it stopped answering"),
    (http.ProtocolError, lambda error: f"the connection {_broken(error)}"),
)


def _cause(error: Exception) -> str:
    return next((tell(error) for kind, tell in _CAUSES if isinstance(error, kind)), "no answer")


def _system_cause(error: BaseException) -> str:
    """The kernel's words at the bottom of a chain of exceptions."""
    for part in (error, error.__cause__, error.__context__, *error.args):
        if isinstance(part, OSError) and part.strerror:
            return part.strerror
    return "closed by the other side"


def _unknown_name(error: Exception) -> bool:
    """Whether there is no such name, as opposed to nobody who could be asked for it."""
    cause = error.__cause__
    return isinstance(cause, socket.gaierror) and cause.errno == socket.EAI_NONAME


def _broken(error: Exception) -> str:
    if any(isinstance(part, IncompleteRead) for part in error.args):
        return "ended too early"
    return f"broke: {_system_cause(error)}"


def _tls_cause(text: str) -> str:
    hint = "; is the clock of this machine right?" if "expired" in text or "not yet" in text else ""
    if "CERTIFICATE_VERIFY_FAILED" not in text:
        return "it does not speak TLS with us (for plain http it must be in registries.insecure)"
    reason = text.partition("certificate verify failed: ")[2].partition(" (_ssl")[0]
    return f"its certificate is not trusted: {reason or 'verification failed'}{hint}"
