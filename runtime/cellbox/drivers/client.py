"""One program that speaks Docker's plugin protocol, and calls to it.

A call has a connection of its own, and ends when its time is over whatever the program does: then
the connection is shut below whoever reads or writes. Only a program that is not there yet is tried
again, and only a few times.
"""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from http.client import HTTPException
from typing import Any
from urllib.parse import urlsplit

from cellbox.drivers.places import Place
from cellbox.errors import EngineError, InvalidArgument, NotSupported, Unavailable

Json = dict[str, Any]

MEDIA_TYPE = "application/vnd.docker.plugins.v1.1+json"
PATIENCE = 30.0
"""Seconds that a program has for one answer."""

LARGEST = 4 << 20
"""Bytes of an answer, at most."""

PAUSES = (0.1, 0.2, 0.4, 0.8)
"""Seconds after which a program that refuses the connection is tried again."""

_TOLD = 300


class Client:
    """The program at ``place``; for any thread."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self._lock = threading.Lock()
        self._implements: frozenset[str] | None = None

    def implements(self, *, patience: float = PATIENCE) -> frozenset[str]:
        """The interfaces that it has (``VolumeDriver``, ...); asked once. Raises as
        :meth:`call`."""
        with self._lock:
            if self._implements is None:
                told = self.call("Plugin.Activate", patience=patience).get("Implements")
                if not isinstance(told, list) or not all(isinstance(one, str) for one in told):
                    raise self._lie("Plugin.Activate", "a list of what it implements")
                self._implements = frozenset(told)
            return self._implements

    def call(
        self, method: str, body: Mapping[str, Any] | None = None, *, patience: float = PATIENCE
    ) -> Json:
        """What it answers. Raises EngineError with its own words where it fails, NotSupported where
        it has no such method, Unavailable where none comes in ``patience`` seconds."""
        deadline = time.monotonic() + patience
        status, data = self._tried(method, json.dumps(body or {}).encode(), deadline, patience)
        if status == 404:
            raise NotSupported(f"the plugin {self.place.name} has no {method}")
        if status != 200:
            raise EngineError(f"the plugin {self.place.name}: {method}: {_complaint(data, status)}")
        return self._understood(method, data)

    def _understood(self, method: str, data: bytes) -> Json:
        try:
            told = json.loads(data) if data.strip() else {}
        except (ValueError, RecursionError):
            raise self._lie(method, "JSON") from None
        if not isinstance(told, dict):
            raise self._lie(method, "an object")
        failure = told.get("Err") or told.get("Error")
        if failure:
            raise EngineError(f"the plugin {self.place.name}: {method}: {printable(failure)}")
        return told

    def _lie(self, method: str, wanted: str) -> EngineError:
        return EngineError(f"the plugin {self.place.name} does not answer {method} with {wanted}")

    def _tried(
        self, method: str, body: bytes, deadline: float, patience: float
    ) -> tuple[int, bytes]:
        for pause in (*PAUSES, None):
            try:
                return self._once(method, body, deadline)
            except (ConnectionRefusedError, FileNotFoundError) as error:
                if pause is None or time.monotonic() + pause >= deadline:
                    raise self._absent(error) from error
                time.sleep(pause)
            except TimeoutError as error:
                raise Unavailable(
                    f"the plugin {self.place.name} has not answered {method} in {patience:g} s"
                ) from error
            except OSError as error:
                raise self._absent(error) from error
        raise AssertionError("the last one has no pause")

    def _absent(self, error: OSError) -> Unavailable:
        why = error.strerror or error
        return Unavailable(
            f"the plugin {self.place.name} cannot be reached at {self.place.address} ({why}): "
            "does it run?"
        )

    def _once(self, method: str, body: bytes, deadline: float) -> tuple[int, bytes]:
        """Status and body of one exchange. Raises OSError, TimeoutError; EngineError for what is no
        HTTP."""
        from urllib3.exceptions import HTTPError  # when the first program is spoken to

        headers = {
            "Accept": MEDIA_TYPE,
            "Content-Type": MEDIA_TYPE,
            "Host": "plugin",
            "Connection": "close",
        }
        with self._connection(deadline) as connection:
            try:
                connection.request("POST", f"/{method}", body, headers, preload_content=False)
                answer = connection.getresponse()
                data = answer.read(LARGEST + 1)
            except (HTTPError, HTTPException, ValueError) as error:
                raise EngineError(
                    f"the plugin {self.place.name} gives no HTTP answer: {printable(error)}"
                ) from error
        if len(data) > LARGEST:
            raise EngineError(
                f"the plugin {self.place.name} answers {method} with over {LARGEST} bytes"
            )
        return int(answer.status), bytes(data)

    @contextlib.contextmanager
    def _connection(self, deadline: float) -> Iterator[Any]:
        """A connection that is shut at the deadline. Raises OSError, TimeoutError then."""
        raw = self._dialled(deadline)
        watch = _Watch(raw, deadline)
        try:
            connection = _http(self._secured(raw, deadline))
            try:
                yield connection
            finally:
                connection.close()
        finally:
            watch.end()
            raw.close()
            if watch.rang:  # whatever it came to: an answer that was cut off may look like a whole
                raise TimeoutError

    def _dialled(self, deadline: float) -> socket.socket:
        parts = urlsplit(self.place.address)
        left = max(0.01, deadline - time.monotonic())
        if parts.scheme != "unix":
            default = 443 if parts.scheme == "https" else 80
            return socket.create_connection((str(parts.hostname), parts.port or default), left)
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        made.settimeout(left)
        try:
            made.connect(parts.path)
        except BaseException:
            made.close()
            raise
        return made

    def _secured(self, raw: socket.socket, deadline: float) -> socket.socket:
        parts = urlsplit(self.place.address)
        if parts.scheme == "unix" or (parts.scheme != "https" and self.place.tls is None):
            return raw
        return self._context().wrap_socket(raw, server_hostname=parts.hostname)

    def _context(self) -> ssl.SSLContext:
        tls = self.place.tls
        try:
            context = ssl.create_default_context(cafile=tls.ca or None if tls else None)
            if tls and tls.cert:
                context.load_cert_chain(tls.cert, tls.key or None)
        except OSError as error:
            raise InvalidArgument(
                f"the certificates in {self.place.source} cannot be used: {error}"
            ) from error
        if tls and not tls.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


class _Watch:
    """Shuts a socket down at the deadline, under whoever uses it."""

    def __init__(self, raw: socket.socket, deadline: float) -> None:
        self._own = raw.dup()  # TLS takes the descriptor of the other one away
        self._lock = threading.Lock()
        self.rang = False
        self._timer = threading.Timer(max(0.0, deadline - time.monotonic()), self._ring)
        self._timer.daemon = True
        self._timer.start()

    def _ring(self) -> None:
        with self._lock:
            self.rang = True
            with contextlib.suppress(OSError):
                self._own.shutdown(socket.SHUT_RDWR)

    def end(self) -> None:
        self._timer.cancel()
        with self._lock:
            self._own.close()


def _http(connected: socket.socket) -> Any:
    """urllib3's connection over a socket that is connected already."""
    from urllib3.connection import HTTPConnection

    connection = HTTPConnection("plugin")
    connection.sock = connected
    return connection


def _complaint(data: bytes, status: int) -> str:
    """What a program says of its failure: ``Err`` of an object, else the text itself."""
    try:
        told = json.loads(data)
        text = told.get("Err") or told.get("message") or "" if isinstance(told, dict) else ""
    except (ValueError, RecursionError):
        text = data[: _TOLD * 4].decode(errors="replace")
    return printable(text) or f"HTTP status {status}"


def printable(text: object) -> str:
    """What a stranger says, as a part of a sentence."""
    one_line = " ".join(str(text).split())
    return "".join(letter for letter in one_line if letter.isprintable())[:_TOLD]
