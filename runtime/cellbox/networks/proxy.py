"""Bytes between published ports of the host and a container, without the help of a firewall.

A process of its own for each container serves all its ports. The listening sockets were opened in
the host's network namespace and stay there; the process itself enters the container's, so that the
sockets it makes from then on are in there.

Bytes of TCP go from one socket to the other through a pipe by splice(2), so they are never copied
into this process. A pipe is lent for one movement, and kept only by a direction whose receiver does
not keep up: then nothing more is read from its sender. A datagram of UDP opens a session for its
sender, by which answers find their way back until nothing has passed for a while.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import select
import socket
import struct
import time
from collections.abc import Sequence
from functools import partial
from itertools import takewhile
from typing import Any

from cellbox.linux import process as processes
from cellbox.linux import syscalls
from cellbox.networks.loop import Loop
from cellbox.networks.ports import Bound

UDP_SECONDS = 90.0
"""How long a session of UDP is kept when nothing passes."""
MAX_SESSIONS = 1024
"""Sessions of UDP a port; a further one ends the one that has been silent for longest."""

_PIPE = 1 << 18
_SPARE_PIPES = 8
_ROUNDS = 8
"""Movements of a direction until others have their turn."""
_BATCH = 64
"""Connections or datagrams taken until others have their turn."""
_FLAGS = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK
_DATAGRAM = 1 << 16
_RESET = struct.pack("ii", 1, 0)
_IP_PKTINFO = 8
_PKTINFO_ROOM = socket.CMSG_SPACE(20)

Target = tuple[str, int]
Pipe = tuple[int, int]


def serve(bound: Sequence[Bound], netns: int, address: str, stop: int) -> None:
    """Pass on what comes to ``bound`` to ``address`` of the network namespace ``netns``, and what
    it answers, until ``stop`` is readable or hung up.

    For a process of one thread that does nothing else, since it enters ``netns`` and stays there.
    ``address`` is the container's, or 127.0.0.1. Raises OSError when it may not enter.
    """
    syscalls.setns(netns, syscalls.CLONE_NEWNET)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    processes.give_up_rights()
    loop = Loop(stop)
    streams = _Streams(loop)
    try:
        for one in bound:
            target = (address, one.spec.port)
            for listener in one.sockets:
                if one.spec.protocol == "tcp":
                    streams.listen(listener, target)
                else:
                    _Datagrams(loop, listener, target)
        loop.run()
    finally:
        loop.close()


def _socket(address: str, kind: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return socket.socket(family, kind | socket.SOCK_NONBLOCK)


# TCP --------------------------------------------------------------------------------------------


class _Streams:
    """All listeners of TCP, and what their connections share."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self._listeners: list[tuple[socket.socket, Target]] = []
        self._paused = False
        self._pipes = [_pipe()]  # one at least, however many descriptors connections take

    def listen(self, listener: socket.socket, target: Target) -> None:
        """Connect who comes to ``listener`` with ``target``."""
        self._listeners.append((listener, target))
        self._watch(listener, target)

    def _watch(self, listener: socket.socket, target: Target) -> None:
        listener.setblocking(False)
        self.loop.watch(listener.fileno(), select.EPOLLIN, partial(self._accept, listener, target))

    def _accept(self, listener: socket.socket, target: Target, _events: int) -> None:
        for _ in range(_BATCH):
            with contextlib.ExitStack() as undo:
                try:  # whoever is taken has a way on
                    server = undo.enter_context(_socket(target[0], socket.SOCK_STREAM))
                    client, _ = listener.accept()
                except (BlockingIOError, ConnectionAbortedError):
                    return
                except OSError:  # out of descriptors: until a connection ends, the others wait
                    self._pause()
                    return
                undo.pop_all()
            client.setblocking(False)
            _connect(self, client, server, target)

    def _pause(self) -> None:
        self._paused = True
        for listener, _ in self._listeners:
            self.loop.forget(listener.fileno())
        self.loop.later(self, 1.0, self.resume)

    def resume(self) -> None:
        """Take further connections, where that has been out of the question for a while."""
        if self._paused:
            self._paused = False
            for listener, target in self._listeners:
                self._watch(listener, target)

    def lend(self) -> Pipe:
        """An empty pipe. Raises OSError."""
        if self._pipes:
            return self._pipes.pop()
        return _pipe()

    def take_back(self, pipe: Pipe, *, empty: bool) -> None:
        """A pipe that was lent."""
        if empty and len(self._pipes) < _SPARE_PIPES:
            self._pipes.append(pipe)
        else:
            os.close(pipe[0])
            os.close(pipe[1])


def _pipe() -> Pipe:
    pipe = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    with contextlib.suppress(OSError):  # more than this user may have: then it is a small one
        fcntl.fcntl(pipe[1], fcntl.F_SETPIPE_SZ, _PIPE)
    return pipe


def _connect(
    streams: _Streams, client: socket.socket, server: socket.socket, target: Target
) -> None:
    """Begin a connection to ``target``, by ``server``, for ``client``, who is turned away where
    that fails."""
    try:
        with contextlib.suppress(BlockingIOError):
            server.connect(target)
    except OSError:
        _hang_up(server, client)
        return

    def connected(_events: int) -> None:
        streams.loop.forget(server.fileno())
        if server.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            _hang_up(server, client)
            streams.resume()
        else:
            _Connection(streams, client, server)

    streams.loop.watch(server.fileno(), select.EPOLLOUT, connected)


def _hang_up(*sockets: socket.socket) -> None:
    """Close so that the other side learns that this is no regular end."""
    for one in sockets:
        with contextlib.suppress(OSError):
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        one.close()


class _Flow:
    """One direction of a connection; ``held`` bytes are in ``pipe``, on their way."""

    def __init__(self, streams: _Streams, source: socket.socket, target: socket.socket) -> None:
        self.source, self.target = source, target
        self.pipe: Pipe | None = None
        self.held = 0
        self.ended = self.done = False
        self._streams = streams

    def move(self) -> None:
        """Move bytes as far as both sides allow. Raises OSError when one of them is broken."""
        if self.done:
            return
        pipe = self.pipe = self.pipe or self._streams.lend()
        for _ in range(_ROUNDS):
            if not (self.held or self._fill(pipe)) or not self._drain(pipe):
                break
        if not self.held:
            self.release()
            if self.ended:
                self.target.shutdown(socket.SHUT_WR)
                self.done = True

    def _fill(self, pipe: Pipe) -> bool:
        if self.ended:
            return False
        try:
            self.held = os.splice(self.source.fileno(), pipe[1], _PIPE, flags=_FLAGS)
        except BlockingIOError:
            return False
        self.ended = not self.held
        return not self.ended

    def _drain(self, pipe: Pipe) -> bool:
        try:
            while self.held:
                self.held -= os.splice(pipe[0], self.target.fileno(), self.held, flags=_FLAGS)
        except BlockingIOError:
            return False
        return True

    def release(self) -> None:
        """Give the pipe back, and what is in it up."""
        if self.pipe:
            self._streams.take_back(self.pipe, empty=not self.held)
        self.pipe = None


class _Connection:
    """Two sockets, each of which is told what the other one is told, its end too."""

    def __init__(self, streams: _Streams, client: socket.socket, server: socket.socket) -> None:
        self._streams = streams
        self._flows = (_Flow(streams, client, server), _Flow(streams, server, client))
        self._wishes = {client: -1, server: -1}
        for one in self._wishes:
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._watch()

    def _ready(self, one: socket.socket, events: int) -> None:
        if events & select.EPOLLERR:
            self._break()
            return
        if events & select.EPOLLHUP and not self._wishes[one]:
            # It is told again and again that both directions ended, while bytes are still held.
            self._streams.loop.forget(one.fileno())
        try:
            for flow in self._flows:
                if (flow.source if flow.held == 0 else flow.target) is one:
                    flow.move()
        except OSError:
            self._break()
            return
        if all(flow.done for flow in self._flows):
            self._close()
        else:
            self._watch()

    def _watch(self) -> None:
        """Wait for those who send to have something, and for those who lag behind to take it."""
        for one, wish in self._wishes.items():
            events = 0
            for flow in self._flows:
                if flow.source is one and not flow.held and not flow.ended:
                    events |= select.EPOLLIN
                elif flow.target is one and flow.held:
                    events |= select.EPOLLOUT
            if events != wish:
                self._wishes[one] = events
                self._streams.loop.watch(one.fileno(), events, partial(self._ready, one))

    def _release(self) -> None:
        for flow in self._flows:
            flow.release()
        for one in self._wishes:
            self._streams.loop.forget(one.fileno())

    def _break(self) -> None:
        """One side has reset the connection, so the other one hears the same."""
        self._release()
        _hang_up(*self._wishes)
        self._streams.resume()

    def _close(self) -> None:
        self._release()
        for one in self._wishes:
            one.close()
        self._streams.resume()


# UDP --------------------------------------------------------------------------------------------

_Sender = tuple[Any, bytes]
"""Who has sent a datagram, and the control message that makes an answer come from the address that
it was sent to."""


class _Datagrams:
    """One socket of UDP, and the sessions of those who send to it, the longest silent first."""

    def __init__(self, loop: Loop, listener: socket.socket, target: Target) -> None:
        self._loop, self._listener, self._target = loop, listener, target
        self._sessions: dict[_Sender, tuple[socket.socket, float]] = {}
        self._level, self._type = socket.IPPROTO_IP, _IP_PKTINFO
        if listener.family == socket.AF_INET6:
            self._level, self._type = socket.IPPROTO_IPV6, socket.IPV6_PKTINFO
        listener.setblocking(False)
        loop.watch(listener.fileno(), select.EPOLLIN, self._receive)

    def _receive(self, _events: int) -> None:
        for _ in range(_BATCH):
            try:
                data, control, _, address = self._listener.recvmsg(_DATAGRAM, _PKTINFO_ROOM)
            except OSError:  # nothing more, or word that an answer did not arrive
                return
            session = self._session((address, self._source(control)))
            if session:
                _send(session, data)

    def _source(self, control: list[tuple[int, int, bytes]]) -> bytes:
        """ip(7), ipv6(7): the same addresses, and no interface, since the route knows better."""
        for _, _, info in control:
            if self._level == socket.IPPROTO_IP:
                return bytes(4) + info[4:8] + bytes(4)
            return info[:16] + bytes(4)
        return b""

    def _session(self, sender: _Sender) -> socket.socket | None:
        known = self._sessions.pop(sender, None)
        session = known[0] if known else self._open(sender)
        if session:
            self._sessions[sender] = session, time.monotonic()
        return session

    def _open(self, sender: _Sender) -> socket.socket | None:
        if not self._sessions:
            self._loop.later(self, UDP_SECONDS / 8, self._sweep)
        if len(self._sessions) >= MAX_SESSIONS:
            self._end(next(iter(self._sessions)))
        try:
            session = _socket(self._target[0], socket.SOCK_DGRAM)
        except OSError:  # out of descriptors: this one is lost, as datagrams are
            return None
        try:
            session.connect(self._target)
        except OSError:
            session.close()
            return None
        self._loop.watch(session.fileno(), select.EPOLLIN, partial(self._answer, sender, session))
        return session

    def _sweep(self) -> None:
        """End the sessions in which nothing has passed for long."""
        oldest = time.monotonic() - UDP_SECONDS
        silent = takewhile(lambda sender: self._sessions[sender][1] < oldest, self._sessions)
        for sender in list(silent):
            self._end(sender)
        if self._sessions:
            self._loop.later(self, UDP_SECONDS / 8, self._sweep)

    def _end(self, sender: _Sender) -> None:
        session, _ = self._sessions.pop(sender)
        self._loop.forget(session.fileno())
        session.close()

    def _answer(self, sender: _Sender, session: socket.socket, _events: int) -> None:
        address, source = sender
        control = [(self._level, self._type, source)] if source else []
        for _ in range(_BATCH):
            try:
                data = session.recv(_DATAGRAM)
            except OSError:  # nothing more, or nobody listens in there yet
                return
            self._session(sender)
            with contextlib.suppress(OSError):
                self._listener.sendmsg([data], control, 0, address)


def _send(session: socket.socket, data: bytes) -> None:
    """Send, once more where all that came of it is the error of an earlier datagram."""
    for _ in range(2):
        try:
            session.send(data)
            return
        except OSError:
            continue
