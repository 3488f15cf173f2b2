"""The frames in which output without a terminal travels: standard output and error in one stream.

A frame is a header of eight bytes, the number of the stream, three zeros and the length as a
big-endian 32-bit number, and then as many bytes::

    [1 0 0 0 0 0 0 5] h e l l o

Source: Engine API 1.45, ``ContainerAttach`` (*Stream format*); moby ``pkg/stdcopy``.
"""

from __future__ import annotations

import struct
import time

from cellbox.errors import EngineError

MAX_PIECE = 1 << 20
"""The longest frame that :class:`Deframer` gives in one piece, in bytes."""

_HEADER = struct.Struct(">BxxxI")
_NAMES = ("stdin", "stdout", "stderr", "error")
_NUMBERS = {name: number for number, name in enumerate(_NAMES)}


def frame(stream: str, data: bytes) -> bytes:
    """One frame; ``stream`` is ``stdin``, ``stdout``, ``stderr``, or ``error`` for what goes wrong
    on the way."""
    return _HEADER.pack(_NUMBERS[stream], len(data)) + data


def stamp(written: float) -> bytes:
    """An instant in RFC 3339 with nine digits, and a space: what is before a line of a log. All
    that the float holds is told, so that what a client reads off a line finds that line again as
    ``since``."""
    seconds = int(written)
    digits = int((written - seconds) * 1e9)
    return b"%b.%09dZ " % (time.strftime("%FT%T", time.gmtime(seconds)).encode(), digits)


class Deframer:
    """Takes a stream of frames apart, however it was cut on the way. A frame comes out whole, but
    one of over 1 MiB in pieces of that size; an empty one does not come out."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._stream = ""
        self._left = 0

    @property
    def whole(self) -> bool:
        """Has every frame that has begun come out? At the end of a stream it should have."""
        return not self._buffer and not self._left

    def feed(self, data: bytes) -> list[tuple[str, bytes]]:
        """What ``data`` completes: ``("stdout" | "stderr" | ..., payload)``.

        Raises EngineError where this is no stream of frames.
        """
        self._buffer += data
        pieces = []
        while (piece := self._next()) is not None:
            pieces.append(piece)
        return pieces

    def _next(self) -> tuple[str, bytes] | None:
        while not self._left:
            if len(self._buffer) < _HEADER.size:
                return None
            self._open()
        size = min(self._left, MAX_PIECE)
        if len(self._buffer) < size:
            return None
        payload = bytes(self._buffer[:size])
        del self._buffer[:size]
        self._left -= size
        return self._stream, payload

    def _open(self) -> None:
        number, self._left = _HEADER.unpack_from(self._buffer)
        if number >= len(_NAMES) or any(self._buffer[1:4]):
            raise EngineError("the engine's output is not in frames, as it should be")
        self._stream = _NAMES[number]
        del self._buffer[: _HEADER.size]
