"""The daemon: an engine, what belongs to its server alone, and the clients that it serves.

One thread accepts, and every connection has one of its own; its stack is small, since most of them
wait for a client, a container or an event.
"""

from __future__ import annotations

import contextlib
import logging
import select
import signal
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from types import ModuleType
from typing import Any

import cellbox
from cellbox.api import (
    archive,
    attach,
    build,
    containers,
    distribution,
    events,
    execs,
    images,
    logs,
    networks,
    plugins,
    swarm,
    system,
    volumes,
)
from cellbox.api.attach import Attached
from cellbox.api.connection import Connection
from cellbox.api.events import Feed
from cellbox.api.execs import Sessions
from cellbox.api.listeners import Listener
from cellbox.api.routing import NEWEST
from cellbox.api.sockets import Wire
from cellbox.drivers.authorization import Gate
from cellbox.engine import Engine
from cellbox.model.system import Info

log = logging.getLogger(__name__)

HANDLERS: tuple[ModuleType, ...] = (
    archive,
    attach,
    build,
    containers,
    distribution,
    events,
    execs,
    images,
    logs,
    networks,
    plugins,
    swarm,
    system,
    volumes,
)
"""The modules whose routes are served; importing them has registered those."""

MAX_CONNECTIONS = 2000
GRACE = 2.0
"""Seconds in which what goes on may come to its end when the server stops."""
STACK = 512 << 10
"""Bytes of address space for a thread's stack; memory is used as far as it grows."""
_PAUSE = 0.1
_WORDS = 64
_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_BODY = b'{"message":"too many connections"}\n'
_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n"
    b"Connection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(_BODY), _BODY)
)


class Daemon:
    """What handlers work with: the ``engine``, the exec ``sessions``, who is ``attached``, and the
    ``events`` as they come. ``gate``, where there is one, decides who may do what."""

    def __init__(self, engine: Engine, gate: Gate | None = None) -> None:
        self.engine = engine
        self.gate = gate
        self.sessions = Sessions(engine)
        self.attached = Attached()
        self.events = Feed(engine)
        self.headers: tuple[tuple[str, str], ...] = (
            ("Api-Version", "{}.{}".format(*NEWEST)),
            ("Docker-Experimental", "false"),
            ("Ostype", "linux"),
            ("Server", f"Docker/{cellbox.__version__} (linux)"),
        )

    @cached_property
    def about(self) -> Info:
        """The engine as it was when first asked, for what of it does not change."""
        return self.engine.info()


class Server:
    """Serves a daemon on ``listeners``, which it owns; with ``idle``, until nobody has been
    connected for so many seconds."""

    def __init__(
        self, daemon: Daemon, listeners: Sequence[Listener], *, idle: float | None = None
    ) -> None:
        self._daemon = daemon
        self._idle = idle
        self._left = time.monotonic()
        self._listeners = {listener.socket.fileno(): listener for listener in listeners}
        self._lock = threading.Lock()
        self._connections: dict[Connection, threading.Thread] = {}
        self._wake, self._woken = socket.socketpair()
        self._wake.setblocking(False)
        self._stopping = False

    def run(self) -> None:
        """Serve until :meth:`stop`; then all connections are closed, those where something goes on
        after a moment."""
        threading.stack_size(STACK)
        poll = select.poll()
        for fd, listener in self._listeners.items():
            listener.socket.setblocking(False)
            poll.register(fd, select.POLLIN)
        poll.register(self._woken, select.POLLIN)
        patience = None if self._idle is None else self._idle * 500
        try:
            while True:
                ready = [fd for fd, _ in poll.poll(patience)]
                if self._stopping or (not ready and self._forsaken()):
                    return
                for fd in ready:
                    if fd == self._woken.fileno():
                        self._woken.recv(_WORDS)
                    else:
                        self._accept(self._listeners[fd])
        finally:
            self._close()

    def _forsaken(self) -> bool:
        with self._lock:
            gone_for = time.monotonic() - self._left
            return self._idle is not None and not self._connections and gone_for >= self._idle

    def stop(self) -> None:
        """Let :meth:`run` come to its end; from any thread, or a signal's handler."""
        self._stopping = True
        with contextlib.suppress(OSError):
            self._wake.send(b"\0")

    @contextlib.contextmanager
    def woken_by_signals(self) -> Iterator[None]:
        """Without this a signal that comes right before a wait would be heard after it only."""
        with self._wake.dup() as own:  # which is still open when the server has closed
            before = signal.set_wakeup_fd(own.fileno(), warn_on_full_buffer=False)
            try:
                yield
            finally:
                signal.set_wakeup_fd(before)

    def _accept(self, listener: Listener) -> None:
        try:
            client, _ = listener.socket.accept()
        except BlockingIOError:  # it has changed its mind
            return
        except OSError as error:  # no descriptors left, or a client that is gone already
            log.warning("cannot accept a connection: %s", error)
            time.sleep(_PAUSE)
            return
        try:
            self._take(listener, client)
        except (OSError, RuntimeError) as error:  # no more threads, or gone
            log.warning("cannot serve a connection: %s", error)
            client.close()

    def _take(self, listener: Listener, client: socket.socket) -> None:
        if len(self._connections) >= MAX_CONNECTIONS:
            with client:
                client.send(b"" if listener.tls else _FULL, socket.MSG_DONTWAIT)
            return
        if client.family != socket.AF_UNIX:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if listener.tls is not None:
            client = _wrapped(client, listener.tls)
        connection = Connection(Wire(client), self._daemon)
        thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
        with self._lock:
            self._connections[connection] = thread
        try:
            thread.start()
        except RuntimeError:
            self._forget(connection)
            raise

    def _serve(self, connection: Connection) -> None:
        try:
            connection.serve()
        except Exception:
            log.exception("a connection failed unexpectedly")
        finally:
            self._forget(connection)

    def _forget(self, connection: Connection) -> None:
        with self._lock:
            self._connections.pop(connection, None)
            self._left = time.monotonic()

    def _close(self) -> None:
        for listener in self._listeners.values():
            listener.close()
        deadline = time.monotonic() + GRACE
        for connection, _ in self._open():
            if connection.idle:
                connection.stop()
        for _, thread in self._open():
            thread.join(max(0.0, deadline - time.monotonic()))
        for connection, thread in self._open():
            connection.stop()
            thread.join(_PAUSE)
        self._wake.close()
        self._woken.close()

    def _open(self) -> list[tuple[Connection, threading.Thread]]:
        with self._lock:
            return list(self._connections.items())


def serve(
    daemon: Daemon,
    listeners: Sequence[Listener],
    *,
    idle: float | None = None,
    ready: Callable[[], None] = lambda: None,
) -> None:
    """Serve until SIGTERM or SIGINT, or until ``idle``; for the main thread. ``ready`` is called
    when a signal would find us prepared."""
    server = Server(daemon, listeners, idle=idle)

    def stop(*_: Any) -> None:
        server.stop()

    before = {number: signal.signal(number, stop) for number in _SIGNALS}
    try:
        with server.woken_by_signals():
            ready()
            server.run()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _wrapped(client: socket.socket, tls: ssl.SSLContext) -> ssl.SSLSocket:
    client.setblocking(False)
    return tls.wrap_socket(client, server_side=True, do_handshake_on_connect=False)
