"""Bytes to and from one client.

The socket does not block; whoever has to wait polls. So one thread may read while another writes,
over TLS too (an SSL object is not for two threads at once: each call of it is made under a lock),
and shutting the socket down from a third thread wakes both.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import ssl
import threading
import time
from typing import Any

_LINGER = 2.0
_PIECE = 1 << 16
_NOT_PLAIN = (
    b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server: "
    b"this address takes TLS only, with a client's certificate (DOCKER_TLS_VERIFY=1).\n"
)


class Wire:
    """One connected stream socket, which it owns. Everything it raises is an OSError."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self._socket = connection
        self._tls = isinstance(connection, ssl.SSLSocket)
        self._lock = threading.Lock()

    def fileno(self) -> int:
        return self._socket.fileno()

    @property
    def encrypted(self) -> bool:
        """Is it TLS?"""
        return self._tls

    def peer(self) -> tuple[str, bytes]:
        """The name in the client's certificate, and that itself (DER); empty without TLS."""
        if not isinstance(self._socket, ssl.SSLSocket):
            return "", b""
        with self._lock:
            facts: Any = self._socket.getpeercert() or {}
            whole = self._socket.getpeercert(binary_form=True) or b""
        names = [value for group in facts.get("subject", ()) for key, value in group
                 if key == "commonName"]  # fmt: skip
        return (names[0] if names else ""), whole

    def handshake(self, timeout: float) -> None:
        """Agree on keys, where it is TLS."""
        deadline = time.monotonic() + timeout
        while isinstance(self._socket, ssl.SSLSocket):
            try:
                self._socket.do_handshake()
                return
            except ssl.SSLWantReadError:
                self._wait(select.POLLIN, deadline)
            except ssl.SSLWantWriteError:
                self._wait(select.POLLOUT, deadline)
            except ssl.SSLError as error:
                if error.reason == "HTTP_REQUEST":
                    self._answer_in_plain()
                raise

    def _answer_in_plain(self) -> None:
        """Tell who has sent a request where a handshake was to be, as Go's server does. What it has
        sent is read, else the kernel would reset the connection instead (RFC 9112, section 9.6)."""
        os.write(self.fileno(), _NOT_PLAIN)
        os.read(self.fileno(), _PIECE)

    def receive(self, size: int, timeout: float | None = None) -> bytes:
        """What has come, at most ``size`` bytes; empty at the end. Raises TimeoutError."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            try:
                return self._recv(size)
            except (BlockingIOError, ssl.SSLWantReadError):
                self._wait(select.POLLIN, deadline)
            except ssl.SSLWantWriteError:
                self._wait(select.POLLOUT, deadline)

    def _recv(self, size: int) -> bytes:
        if not self._tls:
            return self._socket.recv(size)
        with self._lock:
            try:
                return self._socket.recv(size)
            except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
                return b""

    def send(self, *pieces: bytes) -> None:
        """Send all of them, in one packet where they are small; blocks while nobody reads."""
        views = [memoryview(piece) for piece in pieces if piece]
        while views:
            try:
                sent = self._send(views)
            except (BlockingIOError, ssl.SSLWantWriteError):
                self._wait(select.POLLOUT, None)
                continue
            except ssl.SSLWantReadError:
                self._wait(select.POLLIN, None)
                continue
            while views and sent >= len(views[0]):
                sent -= len(views.pop(0))
            if sent:
                views[0] = views[0][sent:]

    def _send(self, views: list[memoryview]) -> int:
        if not self._tls:
            return self._socket.sendmsg(views)
        with self._lock:
            return self._socket.send(views[0])

    def _wait(self, events: int, deadline: float | None) -> None:
        poll = select.poll()
        poll.register(self._socket.fileno(), events)
        left = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000
        if not poll.poll(left):
            raise TimeoutError

    def gone(self) -> bool:
        """Has the client said that it sends nothing more, or hung up? Costs one system call."""
        return self._has(select.POLLRDHUP)

    def dead(self) -> bool:
        """Has the client hung up altogether, so that nothing can be sent to it? A TCP connection
        tells that only when something is sent."""
        return self._has(0)

    def _has(self, events: int) -> bool:
        poll = select.poll()
        try:
            poll.register(self._socket.fileno(), events)
        except ValueError:  # closed
            return True
        return bool(poll.poll(0))

    def end(self) -> None:
        """Say that nothing more is sent; what comes can still be read."""
        with contextlib.suppress(OSError), self._lock:
            if isinstance(self._socket, ssl.SSLSocket):
                self._socket.unwrap()  # tells the end; does not wait for the answer
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def linger(self) -> None:
        """Say the end and throw away what still comes for a moment: a close with bytes unread would
        take from the client the answer that it has not read yet."""
        self.end()
        deadline = time.monotonic() + _LINGER
        with contextlib.suppress(OSError):
            while (left := deadline - time.monotonic()) > 0 and self.receive(_PIECE, left):
                pass

    def cut(self) -> None:
        """Wake whoever waits here, in any thread, with the end."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._socket.close()
