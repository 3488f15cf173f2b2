"""The shim's end of the standard streams of one process: pipes or a terminal on one side, whoever
is attached on the other.

A client that does not read holds up the program, as a full pipe would: nothing is dropped and
memory is bounded. A client that goes away is forgotten.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import struct
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from cellbox.containers import console
from cellbox.containers.messages import Kind, packet, unpack

_CHUNK = 65536
_DRAIN = 64
"""Reads at most, when a process has ended: more than a pipe holds, while somebody else may go on
writing to it."""
_QUEUE = 32
"""Packets that may wait for one client before the program is held up."""

Sink = Callable[[str, bytes], None]
"""Told every piece of output: (``stdout`` or ``stderr``, data)."""


@dataclass
class Client:
    """One who is attached: a socket, and what could not be sent yet. ``stdin`` says whether its
    input is the program's, None that it wants to hear of the end only."""

    socket: socket.socket
    stdin: bool | None
    waiting: deque[bytes] = field(default_factory=deque)

    def send(self, data: bytes) -> bool:
        """Send or queue one packet; False when the client is gone."""
        self.waiting.append(data)
        return self.flush()

    def flush(self) -> bool:
        """Send what waits as far as it goes; False when the client is gone."""
        while self.waiting:
            try:
                self.socket.send(self.waiting[0])
            except BlockingIOError:
                return True
            except OSError:
                return False
            self.waiting.popleft()
        return True


class Streams:
    """The streams of one process.

    ``fds`` maps a descriptor of output to its stream's name; a terminal is one descriptor for both
    directions. The owner polls ``fds``, ``stdin`` (when ``pending``) and each client's socket, and
    calls the method for what is ready.
    """

    def __init__(self, sink: Sink) -> None:
        self.fds: dict[int, str] = {}
        self.stdin = -1
        self.terminal = -1
        self.clients: list[Client] = []
        self.pending: deque[bytes] = deque()
        self._sink = sink
        self._ends_stdin = False
        self._takes_input = True
        self._size: tuple[int, int] | None = None

    def use_terminal(self, master: int) -> None:
        """All three streams are the terminal ``master``."""
        os.set_blocking(master, False)
        self.fds[master] = "stdout"
        self.stdin = self.terminal = master
        if self._size:
            console.set_size(master, *self._size)

    def use_pipes(self, stdin: int, stdout: int, stderr: int) -> None:
        """Separate pipes; ``stdin`` -1 for none."""
        for fd in (stdin, stdout, stderr):
            if fd >= 0:
                os.set_blocking(fd, False)
        self.fds.update({stdout: "stdout", stderr: "stderr"})
        self.stdin = stdin
        self._takes_input = stdin >= 0

    @property
    def held_up(self) -> bool:
        """Does a client lag so far behind that no more output is to be read?"""
        return any(len(client.waiting) >= _QUEUE for client in self.clients)

    @property
    def full(self) -> bool:
        """Does so much input wait that no more is to be taken from clients?"""
        return len(self.pending) >= _QUEUE

    def add(self, client: Client) -> None:
        """Let ``client`` see what comes from now on."""
        client.socket.setblocking(False)
        self.clients.append(client)

    def drop(self, client: Client) -> None:
        """Forget ``client``."""
        if client in self.clients:
            self.clients.remove(client)
        client.socket.close()

    def read(self, fd: int) -> None:
        """``fd`` has output, or has ended."""
        try:
            data = os.read(fd, _CHUNK)
        except BlockingIOError:
            return
        except OSError:  # EIO: the last process has closed its end of the terminal
            data = b""
        if not data:
            self._close(fd)
            return
        name = self.fds[fd]
        self._sink(name, data)
        piece = packet(Kind.STDOUT if name == "stdout" else Kind.STDERR, data)
        self._send([client for client in self.clients if client.stdin is not None], piece)

    def broadcast(self, data: bytes) -> None:
        """Send one packet to all clients."""
        self._send(list(self.clients), data)

    def _send(self, clients: list[Client], data: bytes) -> None:
        for client in clients:
            if not client.send(data):
                self.drop(client)

    def drain(self) -> None:
        """Read what is there now, without waiting for more."""
        for fd in list(self.fds):
            for _ in range(_DRAIN):
                if fd in self.fds and _readable(fd):
                    self.read(fd)

    def receive(self, client: Client) -> int:
        """``client`` has sent a packet, or is gone; the number of a signal it asks for, else 0."""
        try:
            kind, payload = unpack(client.socket.recv(_CHUNK + 1))
        except BlockingIOError:
            return 0
        except (OSError, ValueError):
            self.drop(client)
            return 0
        if kind in (Kind.STDIN, Kind.STDIN_END):
            if client.stdin and self._takes_input:
                self._input(kind, payload)
        elif kind is Kind.RESIZE and len(payload) == 4:
            self._resize(*struct.unpack("!HH", payload))
        elif kind is Kind.SIGNAL and payload and payload[0] in signal.valid_signals():
            return payload[0]
        return 0

    def _input(self, kind: Kind, payload: bytes) -> None:
        if kind is Kind.STDIN:
            self.pending.append(payload)
        else:
            self._ends_stdin = True
        self.write()

    def write(self) -> None:
        """Pass waiting input on as far as the program takes it."""
        if self._ends_stdin and self.terminal >= 0:
            self.pending.append(b"\x04")  # what a terminal takes for the end of input
            self._ends_stdin = False
        while self.pending and self.stdin >= 0:
            try:
                count = os.write(self.stdin, self.pending[0])
            except BlockingIOError:
                return
            except OSError:
                self.pending.clear()
                self._end_stdin()
                return
            if count < len(self.pending[0]):
                self.pending[0] = self.pending[0][count:]
                return
            self.pending.popleft()
        if self._ends_stdin and not self.pending:
            self._end_stdin()

    def _end_stdin(self) -> None:
        if self.stdin >= 0 and self.stdin != self.terminal:
            os.close(self.stdin)
            self.stdin = -1
            self._takes_input = False
        self._ends_stdin = False

    def _resize(self, rows: int, columns: int) -> None:
        self._size = (rows, columns)
        if self.terminal >= 0:
            console.set_size(self.terminal, rows, columns)

    def _close(self, fd: int) -> None:
        del self.fds[fd]
        if fd == self.terminal:
            self.stdin = self.terminal = -1
            self._takes_input = False
        os.close(fd)

    def close(self) -> None:
        """Let go of the process's side; clients stay until they were told the end."""
        for fd in list(self.fds):
            self._close(fd)
        if self.stdin >= 0:
            os.close(self.stdin)
            self.stdin = -1


def _readable(fd: int) -> bool:
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    return bool(poller.poll(0))
