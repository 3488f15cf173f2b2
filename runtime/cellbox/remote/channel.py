"""Bytes both ways over one connection, each way with an end of its own.

A reader and a writer may be in different threads; :meth:`close` wakes both. TLS needs more than
:mod:`ssl`'s socket has: that one cannot be half closed, and Docker's streams end their input so.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import threading
from collections import deque
from typing import Protocol

from cellbox.remote.deadline import Deadline

_CHUNK = 65536


class Channel(Protocol):
    """A connection to the daemon."""

    def receive(self, timeout: float | None = None) -> bytes:
        """The next bytes, empty at the end. Raises TimeoutError, OSError."""
        ...

    def send(self, data: bytes) -> None:
        """Send all of it. Raises OSError."""
        ...

    def end(self) -> None:
        """Nothing more will be sent; what comes goes on. Raises OSError."""
        ...

    def close(self) -> None:
        """Let go of the connection; repeating it does nothing."""
        ...


class PlainChannel:
    """A connected socket."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection

    def receive(self, timeout: float | None = None) -> bytes:
        _await(self._socket, timeout)
        return self._socket.recv(_CHUNK)

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def end(self) -> None:
        self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        _close(self._socket)


class TlsChannel:
    """TLS by memory over a connected socket. Two locks: who waits for room to send must not keep
    the other from reading, or both ends would wait for each other."""

    def __init__(self, connection: socket.socket, context: ssl.SSLContext, hostname: str) -> None:
        self._socket = connection
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = self._agree(context, hostname)
        self._ready: deque[bytes] = deque()
        self._state = threading.Lock()
        self._sending = threading.Lock()

    def _agree(self, context: ssl.SSLContext, hostname: str) -> ssl.SSLObject:
        return context.wrap_bio(self._in, self._out, server_hostname=hostname)

    def handshake(self, timeout: float) -> None:
        """Agree on keys and look at each other's certificates. Raises ssl.SSLError, OSError."""
        deadline = Deadline(timeout)
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self._flush()
                self._fill(deadline.left)
            finally:
                with contextlib.suppress(OSError):  # an alert tells the other side why
                    self._flush()

    def receive(self, timeout: float | None = None) -> bytes:
        deadline = Deadline(timeout)
        while True:
            try:
                with self._state:
                    return self._ready.popleft() if self._ready else self._tls.read(_CHUNK)
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return b""
            except ssl.SSLWantReadError:
                self._fill(deadline.left)

    def send(self, data: bytes) -> None:
        with self._sending:
            for start in range(0, len(data), _CHUNK):
                with self._state:
                    self._tls.write(data[start : start + _CHUNK])
                self._send_pending()

    def end(self) -> None:
        with self._sending:
            with self._state:
                self._end()
            self._send_pending()

    def _end(self) -> None:
        """Say close_notify. OpenSSL looks for the other side's at once, and takes data in its place
        for a fault: what is here already is read first."""
        with contextlib.suppress(ssl.SSLError):
            while data := self._tls.read(_CHUNK):
                self._ready.append(data)
        with contextlib.suppress(ssl.SSLError):
            self._tls.unwrap()

    def close(self) -> None:
        _close(self._socket)

    def _fill(self, timeout: float | None) -> None:
        """Wait for more of what was encrypted."""
        _await(self._socket, timeout)
        data = self._socket.recv(_CHUNK)
        with self._state:
            if data:
                self._in.write(data)
            else:
                self._in.write_eof()

    def _flush(self) -> None:
        with self._sending:
            self._send_pending()

    def _send_pending(self) -> None:
        with self._state:
            data = self._out.read()
        if data:
            self._socket.sendall(data)


def _await(connection: socket.socket, timeout: float | None) -> None:
    """Wait by poll(2), so that a writer in another thread is not bound by the reader's deadline."""
    if timeout is None:
        return
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    if not poll.poll(timeout * 1000):
        raise TimeoutError


def _close(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)  # wakes a reader in another thread
    connection.close()
