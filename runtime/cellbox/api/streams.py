"""Between a client that has taken its connection over and the streams of a process.

The thread that runs a :class:`Carrier` brings output to the client; where input is wanted, a second
one brings that to the process. Output goes in frames, or bare where there is a terminal.
"""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass
from typing import Protocol

from cellbox.api.http import Request
from cellbox.api.keys import Escape
from cellbox.engine import Stream
from cellbox.errors import InvalidArgument
from cellbox.wire.streams import frame

RAW = "application/vnd.docker.raw-stream"
MULTIPLEXED = "application/vnd.docker.multiplexed-stream"
BOTH = frozenset({"stdout", "stderr"})
_CHUNK = 1 << 16
_LOOK = 1.0
"""Seconds of silence after which is looked whether the client is still there."""
_LAST_WORDS = 2.0
"""Seconds that a client has to hang up too, when all is said."""


class Client(Protocol):
    """The other side: bytes both ways, for one thread that sends and one that receives."""

    def receive(self, size: int, timeout: float | None = None) -> bytes:
        """What has come; empty at the end. Raises OSError."""
        ...

    def send(self, *pieces: bytes) -> None:
        """Send; blocks while nobody reads. Raises OSError."""
        ...

    def dead(self) -> bool:
        """Is nobody there to read any more?"""
        ...

    def end(self) -> None:
        """Nothing more will be sent."""
        ...

    def cut(self) -> None:
        """Wake whoever waits for this client with the end."""
        ...


def size_of(request: Request) -> tuple[int, int]:
    """The size of a terminal that a request tells: rows and columns. Raises InvalidArgument."""
    rows, columns = request.number("h"), request.number("w")
    if rows is None or columns is None or not 0 <= min(rows, columns) <= max(rows, columns) < 65536:
        raise InvalidArgument("the size of a terminal is two numbers, h and w, below 65536")
    return rows, columns


def content_type(version: tuple[int, int], *, framed: bool, upgrade: bool) -> str:
    """What a stream is called, as moby does by the version asked for."""
    return MULTIPLEXED if framed and upgrade and version >= (1, 42) else RAW


@dataclass(frozen=True)
class Terms:
    """What a client wants of a process.

    ``wanted`` are the streams it sees, ``framed`` or bare. With ``stdin`` it types; when it has no
    more to say, the process's input ends too (``ends_stdin``), or the client leaves. ``keys`` are
    those with which it leaves; ``owns`` says that the process's streams are closed when it does.
    """

    wanted: frozenset[str] = BOTH
    framed: bool = True
    stdin: bool = False
    ends_stdin: bool = True
    keys: bytes = b""
    owns: bool = True


class Carrier:
    """Carries between ``client`` and ``stream`` until one of them ends."""

    def __init__(self, client: Client, stream: Stream, terms: Terms) -> None:
        self._client = client
        self._stream = stream
        self._terms = terms
        self._left = threading.Event()
        self._feeder: threading.Thread | None = None

    def run(self) -> bool:
        """Returns when the process has ended and its last byte is sent (True), or when the client
        has left (False)."""
        if self._terms.stdin:
            self._feeder = threading.Thread(target=self._feed, daemon=True)
            self._feeder.start()
        try:
            return self._deliver()
        except OSError:  # the client is gone
            return False

    def say(self, stream: str, data: bytes) -> None:
        """Tell the client something; one that is gone is no error."""
        with contextlib.suppress(OSError):
            self._send(stream, data)

    def close(self) -> None:
        """Let the client see the end, and wait for the thread that listens to it."""
        self._client.end()
        if self._feeder is not None:
            self._feeder.join(_LAST_WORDS)
            self._client.cut()
            self._feeder.join()

    def _deliver(self) -> bool:
        read, wanted, framed = self._stream.read, self._terms.wanted, self._terms.framed
        send = self._client.send
        while True:
            try:
                piece = read(_LOOK)
            except TimeoutError:
                if self._left.is_set() or self._client.dead():
                    return False
                continue
            if piece is None or self._left.is_set():
                return not self._left.is_set()
            name, data = piece
            if name in wanted:
                send(frame(name, data) if framed else data)

    def _send(self, stream: str, data: bytes) -> None:
        self._client.send(frame(stream, data) if self._terms.framed else data)

    def _feed(self) -> None:
        """Bring what the client types to the process, and throw away what that does not take."""
        escape = Escape(self._terms.keys) if self._terms.keys else None
        taken = True
        try:
            while data := self._client.receive(_CHUNK):
                left = False
                if escape is not None:
                    data, left = escape.feed(data)
                taken = taken and self._write(data)
                if left:
                    self._leave()
                    return
        except OSError:
            pass
        if self._terms.ends_stdin:
            self._stream.close_stdin()
        else:
            self._leave()

    def _write(self, data: bytes) -> bool:
        try:
            self._stream.write(data)
        except BrokenPipeError:
            return False
        return True

    def _leave(self) -> None:
        self._left.set()
        self._client.end()
        if self._terms.owns:
            self._stream.close()
