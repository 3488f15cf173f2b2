"""A container's name server on 127.0.0.11: names of its networks, and all others from elsewhere.

The shim holds the sockets that listen in the container's network namespace and forks a process for
this at the first query; it ends when nobody has asked for a while, and the shim waits for the next
one. What is asked upstream goes out from the namespace that the process was started in, the host's,
unless the servers are those that the container itself can reach.

A query that is not answered here is one socket with a port of its own (RFC 5452) per server that is
asked, one server after the other. All of them and their clients share one thread that never waits
for one of them.
"""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial

from cellbox.linux import process as processes
from cellbox.linux import syscalls
from cellbox.networks import dns
from cellbox.networks.loop import Loop
from cellbox.networks.names import Names
from cellbox.networks.wiring import RESOLVER

IDLE_SECONDS = 60.0
"""How long a resolver waits for the next query."""
UPSTREAM_SECONDS = 2.0
"""How long it waits for one server."""
CLIENT_SECONDS = 10.0
"""How long a connection of TCP may be silent."""

MAX_PENDING = 256
"""Queries that are on their way at once; one more is answered by SERVFAIL."""
MAX_CLIENTS = 64
"""Connections of TCP at once; one more ends the oldest."""

_PORT = 53
_MAX_QUERY = 4096
_MAX_MESSAGE = 65535
_MAX_UNREAD = 4 * _MAX_MESSAGE
_BATCH = 32
"""Queries taken from one socket until others have their turn."""

Learned = Callable[[str, Sequence[str], int], None]
"""Told (name, addresses, seconds) before the asker is."""
Respond = Callable[[bytes], None]


@dataclass(frozen=True)
class Settings:
    """What one container may ask.

    ``networks`` maps the names of its networks to their directories, ``aliases`` its private names
    to addresses or containers (see ``names``). ``upstreams`` are addresses of name servers, in the
    order in which they are asked. ``allow`` restricts what they are asked to names and
    ``*.DOMAIN``; None for no restriction. What may not be asked does not exist (NXDOMAIN), which
    every client believes at once.
    """

    networks: Mapping[str, str] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    upstreams: tuple[str, ...] = ()
    allow: tuple[str, ...] | None = None


def serve(
    udp: int,
    tcp: int,
    settings: Settings,
    stop: int,
    *,
    netns: int | None = None,
    learned: Learned | None = None,
) -> None:
    """Answer what comes to the descriptors ``udp``, a datagram socket, and ``tcp``, a listener,
    until ``stop`` is readable or hung up, or nobody has asked for IDLE_SECONDS.

    For a process of one thread. ``netns`` is the network namespace to ask the upstream servers
    from, which it then enters; None for the one it is in. Where ``settings`` restrict what is
    asked, ``learned`` is called with what was found before the asker hears of it; if it raises
    OSError the answer is SERVFAIL.
    """
    if netns is not None:
        syscalls.setns(netns, syscalls.CLONE_NEWNET)
        others = tuple(one for one in settings.upstreams if one != RESOLVER)
        settings = replace(settings, upstreams=others)  # in there that is this very resolver
    processes.give_up_rights()
    loop = Loop(stop)
    with socket.socket(fileno=os.dup(udp)) as asked, socket.socket(fileno=os.dup(tcp)) as listener:
        try:
            _Resolver(loop, settings, learned).listen(asked, listener)
            loop.run()
        finally:
            loop.close()


class _Resolver:
    """Decides about each query, and keeps count of those that are on their way."""

    def __init__(self, loop: Loop, settings: Settings, learned: Learned | None) -> None:
        self.loop, self.settings = loop, settings
        self._learned = learned
        self._names = Names(settings.networks, settings.aliases)
        self._clients: dict[_Client, None] = {}
        self.pending = 0

    def listen(self, asked: socket.socket, listener: socket.socket) -> None:
        """Hear queries from now on, those that wait already first."""
        for one, handler in ((asked, self._receive), (listener, self._accept)):
            one.setblocking(False)
            self.loop.watch(one.fileno(), select.EPOLLIN, partial(handler, one))
        self._stay()

    def _stay(self) -> None:
        self.loop.later(self, IDLE_SECONDS, self.loop.end)

    def _receive(self, asked: socket.socket, _events: int) -> None:
        for _ in range(_BATCH):
            try:
                data, sender = asked.recvfrom(_MAX_QUERY)
            except OSError:  # nothing more, or word that an answer did not arrive
                return
            self.ask(data, partial(_send_to, asked, sender), datagram=True)

    def _accept(self, listener: socket.socket, _events: int) -> None:
        with suppress(OSError):
            connection, _ = listener.accept()
            while len(self._clients) >= MAX_CLIENTS:
                next(iter(self._clients)).close()
            self._clients[_Client(self, connection, self._clients)] = None

    def ask(self, data: bytes, respond: Respond, *, datagram: bool) -> None:
        """Call ``respond`` with the answer to the query in ``data``, now or later; or not at all,
        where nothing can be said to it."""
        self._stay()
        try:
            query = dns.parse(data)
        except dns.Malformed as error:
            if error.reply:
                respond(error.reply)
            return
        reply = dns.answer(query, self._names, datagram=datagram)
        if reply is None and not self._may_ask(query):
            reply = dns.refuse(query, dns.NXDOMAIN)
        if reply is None and self.pending >= MAX_PENDING:
            reply = dns.refuse(query, dns.SERVFAIL)
        if reply is not None:
            respond(reply)
        else:
            _Forward(self, query, respond, datagram).next()

    def _may_ask(self, query: dns.Query) -> bool:
        allow = self.settings.allow
        return bool(self.settings.upstreams) and (allow is None or dns.matches(query.name, allow))

    def learn(self, query: dns.Query, message: bytes) -> bool:
        """Tell what was found for a name that the container may reach; False when that failed."""
        if self._learned is None or self.settings.allow is None:
            return True
        addresses, seconds = dns.resolved(query, message)
        try:
            if addresses:
                self._learned(query.name, addresses, seconds)
            return True
        except OSError:
            return False


def _send_to(asked: socket.socket, sender: object, data: bytes) -> None:
    with suppress(OSError):  # a client that does not read loses answers, as on any network
        asked.sendto(data, sender)  # type: ignore[call-overload]


class _Forward:
    """One query on its way to upstream servers, one after the other, each by UDP; by TCP too where
    its asker takes more than a datagram has."""

    def __init__(
        self, resolver: _Resolver, query: dns.Query, respond: Respond, datagram: bool
    ) -> None:
        self._resolver, self._query, self._respond = resolver, query, respond
        self._datagram = datagram
        self._servers = iter(resolver.settings.upstreams)
        self._server = ""
        self._socket: socket.socket | None = None
        self._number = b""
        self._received = bytearray()
        self._failure = dns.refuse(query, dns.SERVFAIL)
        resolver.pending += 1

    def next(self) -> None:
        """Ask the next server; when all were asked, pass on the failure that the last one told."""
        self._close()
        for server in self._servers:
            self._server = server
            if self._begin(socket.SOCK_DGRAM, self._ask, self._hear):
                return
        self._finish(self._failure)

    def _begin(
        self, kind: int, ready: Callable[[socket.socket], None], hear: Callable[[int], None]
    ) -> bool:
        """Make a socket connected to the server and go on with ``ready``; False when it cannot be
        reached from here."""
        self._number = os.urandom(2)
        family = socket.AF_INET6 if ":" in self._server else socket.AF_INET
        try:
            made = self._socket = socket.socket(family, kind | socket.SOCK_NONBLOCK)
            with suppress(BlockingIOError):
                made.connect(_address(self._server))
            ready(made)
        except OSError:
            self._close()
            return False
        events = select.EPOLLIN if kind == socket.SOCK_DGRAM else select.EPOLLOUT
        self._resolver.loop.watch(made.fileno(), events, hear)
        self._resolver.loop.later(self, UPSTREAM_SECONDS, self.next)
        return True

    def _ask(self, made: socket.socket) -> None:
        made.send(dns.with_id(self._query.data, self._number))

    def _hear(self, _events: int) -> None:
        assert self._socket is not None
        for _ in range(_BATCH):
            try:
                message = self._socket.recv(_MAX_MESSAGE)
            except BlockingIOError:
                return
            except OSError:  # nobody listens there
                self.next()
                return
            if dns.answers(self._query, self._number, message):
                self._judge(message)
                return

    def _judge(self, message: bytes) -> None:
        answer = dns.with_id(message, self._query.data[:2])
        if dns.failed(message):
            self._failure = answer
            self.next()
        elif dns.truncated(message) and not self._datagram and not self._is_stream():
            self._close()
            if not self._begin(socket.SOCK_STREAM, lambda _: None, self._ask_stream):
                self.next()
        elif self._resolver.learn(self._query, message):
            self._finish(answer)
        else:
            self._finish(dns.refuse(self._query, dns.SERVFAIL))

    def _is_stream(self) -> bool:
        return self._socket is not None and self._socket.type == socket.SOCK_STREAM

    def _ask_stream(self, _events: int) -> None:
        """The connection is there, or has failed; a small message always fits into a new one."""
        assert self._socket is not None
        message = dns.with_id(self._query.data, self._number)
        try:
            self._socket.send(_framed(message))
        except OSError:
            self.next()
            return
        self._received.clear()
        fd = self._socket.fileno()
        self._resolver.loop.watch(fd, select.EPOLLIN, self._hear_stream)

    def _hear_stream(self, _events: int) -> None:
        assert self._socket is not None
        try:
            data = self._socket.recv(_MAX_MESSAGE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._received += data
        messages = _unframed(self._received)
        if messages and dns.answers(self._query, self._number, messages[0]):
            self._judge(messages[0])
        elif messages or not data:
            self.next()

    def _close(self) -> None:
        self._resolver.loop.cancel(self)
        if self._socket is not None:
            self._resolver.loop.forget(self._socket.fileno())
            self._socket.close()
            self._socket = None

    def _finish(self, answer: bytes) -> None:
        self._close()
        self._resolver.pending -= 1
        self._respond(answer)


class _Client:
    """A connection of TCP: queries, each behind its length, and answers in the order in which they
    are found (RFC 7766)."""

    def __init__(
        self, resolver: _Resolver, connection: socket.socket, known: dict[_Client, None]
    ) -> None:
        self._resolver, self._connection, self._known = resolver, connection, known
        self._received = bytearray()
        self._unsent = bytearray()
        self._waiting = 0
        self._open, self._ended = True, False
        connection.setblocking(False)
        self._watch()

    def close(self) -> None:
        """End it; answers that are still on their way are dropped."""
        if self._open:
            self._open = False
            self._known.pop(self, None)
            self._resolver.loop.cancel(self)
            self._resolver.loop.forget(self._connection.fileno())
            self._connection.close()

    def _watch(self) -> None:
        events = (0 if self._ended else select.EPOLLIN) | (select.EPOLLOUT if self._unsent else 0)
        self._resolver.loop.watch(self._connection.fileno(), events, self._ready)
        self._resolver.loop.later(self, CLIENT_SECONDS, self.close)

    def _ready(self, events: int) -> None:
        if events & (select.EPOLLERR | select.EPOLLHUP):
            self.close()
            return
        if events & select.EPOLLOUT:
            self._flush()
        if self._open and events & select.EPOLLIN:
            self._receive()

    def _receive(self) -> None:
        try:
            data = self._connection.recv(_MAX_QUERY)
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        self._ended = not data
        self._received += data
        for query in _unframed(self._received):
            self._waiting += 1
            self._resolver.ask(query, self._respond, datagram=False)
        if _length(self._received) > _MAX_QUERY:
            self.close()
        elif self._open and (self._waiting or not data):
            self._go_on()

    def _respond(self, answer: bytes) -> None:
        self._waiting -= 1
        if self._open:
            self._unsent += _framed(answer)
            self._flush()

    def _flush(self) -> None:
        try:
            del self._unsent[: self._connection.send(self._unsent)]
        except BlockingIOError:
            pass
        except OSError:
            self.close()
            return
        self._go_on()

    def _go_on(self) -> None:
        finished = self._ended and not self._waiting and not self._unsent
        if finished or len(self._unsent) > _MAX_UNREAD:
            self.close()
        else:
            self._watch()


def _address(server: str) -> tuple[str, int] | tuple[str, int, int, int]:
    """What to connect to; ``fe80::1%eth0`` is on the link of that interface. Raises OSError."""
    address, _, link = server.partition("%")
    if link:
        return address, _PORT, 0, socket.if_nametoindex(link)
    return address, _PORT


def _framed(message: bytes) -> bytes:
    """RFC 1035, section 4.2.2."""
    return len(message).to_bytes(2, "big") + message


def _length(received: bytearray) -> int:
    return int.from_bytes(received[:2], "big") if len(received) >= 2 else 0


def _unframed(received: bytearray) -> list[bytes]:
    """Take the messages out of ``received`` that are there as a whole."""
    found = []
    while len(received) >= 2 and len(received) >= 2 + _length(received):
        end = 2 + _length(received)
        found.append(bytes(received[2:end]))
        del received[:end]
    return found
