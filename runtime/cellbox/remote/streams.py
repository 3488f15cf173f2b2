"""The streams of a process over there: what ``attach`` and ``exec`` return, and logs."""

from __future__ import annotations

import contextlib
import errno
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Protocol

from cellbox.errors import CellboxError, StartError
from cellbox.model.times import instant
from cellbox.remote.deadline import Deadline
from cellbox.remote.exchange import Exchange
from cellbox.wire.errors import error_from
from cellbox.wire.streams import Deframer

Piece = tuple[str, bytes]

_NOT_EXECUTED = b"OCI runtime exec failed"
"""How a daemon begins what it writes in place of the output of a program that it cannot start."""
_LONGEST_FAILURE = 4096


class Process(Protocol):
    """What a stream asks of the process that it belongs to."""

    def resize(self, rows: int, columns: int) -> None: ...

    def signal(self, name: str) -> None: ...

    def exit_code(self, timeout: float | None) -> int:
        """Block until it has ended. Raises TimeoutError."""
        ...

    def close(self) -> None:
        """Nobody will ask for the exit code any more."""
        ...


class RemoteStream:
    """See :class:`cellbox.engine.Stream`. ``exchange`` is a connection that was switched to a
    stream, in frames unless it is a terminal's."""

    def __init__(
        self,
        exchange: Exchange,
        process: Process,
        *,
        tty: bool,
        stdin: bool,
        executed: bool = False,
    ) -> None:
        self._exchange = exchange
        self._process = process
        self._frames = None if tty else Deframer()
        self._pieces: deque[Piece] = deque()
        self._stdin = stdin
        self._tty = tty
        self._suspect = executed
        self._failure: StartError | None = None
        self._code: int | None = None
        self._over = False
        self._closed = False
        self._lock = threading.RLock()

    def __iter__(self) -> Iterator[Piece]:
        while (piece := self.read()) is not None:
            yield piece

    def read(self, timeout: float | None = None) -> Piece | None:
        deadline = Deadline(timeout)
        while not self._pieces and not self._over:
            self._take(self._exchange.read(deadline.left))
        return self._pieces.popleft() if self._pieces else None

    def _take(self, data: bytes) -> None:
        pieces = self._split(data)
        if self._suspect and pieces and pieces[0][1].startswith(_NOT_EXECUTED):
            pieces = self._rest_of_failure(pieces)
        self._suspect = self._suspect and not pieces
        self._pieces += pieces
        if not data:
            self._over = True

    def _split(self, data: bytes) -> list[Piece]:
        if self._frames is None:
            return [("stdout", data)] if data else []
        return [(name, part) for name, part in self._frames.feed(data) if part]

    def _rest_of_failure(self, pieces: list[Piece]) -> list[Piece]:
        """The program was not started, and what came are the daemon's words; else they are some
        program's, and are returned."""
        while sum(len(part) for _, part in pieces) < _LONGEST_FAILURE:
            if not (data := self._exchange.read()):
                break
            pieces += self._split(data)
        else:
            return pieces
        self._over = True
        self._code = self._process.exit_code(None)
        if self._code not in (126, 127):
            return pieces
        words = b"".join(part for _, part in pieces).decode(errors="replace").strip()
        self._failure = not_started(words, self._code)
        return []

    def write(self, data: bytes) -> None:
        if not self._stdin or self._over:
            raise BrokenPipeError("nobody reads it")
        self._exchange.write(data)

    def close_stdin(self) -> None:
        if self._stdin and self._tty and not self._closed:
            with contextlib.suppress(BrokenPipeError):
                self._exchange.write(b"\x04")  # what a terminal takes for the end of input
        elif self._stdin and not self._over:
            self._exchange.end()
        self._stdin = False

    def resize(self, rows: int, columns: int) -> None:
        if self._tty:
            with contextlib.suppress(CellboxError):  # it has not started, or has ended
                self._process.resize(rows, columns)

    def signal(self, name: str) -> None:
        self._process.signal(name)

    def wait(self, timeout: float | None = None) -> int:
        deadline = Deadline(timeout)
        while not self._over:
            self.read(deadline.left)
        if self._failure:
            raise self._failure
        with self._lock:
            if self._code is None:
                self._code = self._process.exit_code(deadline.left)
        return self._code

    def close(self) -> None:
        self._closed = self._over = True
        self._exchange.close()
        self._process.close()

    def __enter__(self) -> RemoteStream:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def not_started(words: str, code: int) -> StartError:
    """What a daemon says of a program that it could not start. Its words are surer than its exit
    code: dockerd 20.10 has 126 for what is not there."""
    error = error_from(500, words)
    if isinstance(error, StartError):
        return error
    return StartError("start", errno.EIO, words, code or 125)


def log_entries(
    exchange: Exchange, *, tty: bool, stop: Callable[[], bool] | None
) -> Iterator[tuple[float, str, bytes]]:
    """Logs that were asked for with timestamps: ``(time, stream, data)``; a terminal's are not in
    frames but lines."""
    split = _TerminalLines() if tty else Deframer()
    with exchange:
        for piece in exchange.pieces(stop):
            for name, data in split.feed(piece):
                when, _, text = data.partition(b" ")
                yield instant(when.decode()) or 0.0, name, text


class _TerminalLines:
    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[Piece]:
        """The lines that ``data`` completes."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [("stdout", line + b"\n") for line in lines]
