"""Compressed streams to blocks of bytes, and back.

What a stream is, its first bytes say (as they do for Docker); a media type only promises. gzip goes
through isal where it is installed (2.4 times as fast as zlib), zstd through zstandard with windows
of 128 MiB at most. A stream that ends too early, or has garbage after its end, is an error: what
was hashed and what was read are the same bytes.
"""

from __future__ import annotations

import bz2
import io
import lzma
import os
import zlib
from collections.abc import Callable, Iterator
from typing import IO, Any, cast

import zstandard

from cellbox.errors import InvalidArgument, NotSupported

gzip_engine: Any
try:
    from isal import isal_zlib

    gzip_engine = isal_zlib
except ImportError:
    gzip_engine = zlib

BLOCK = 1 << 20
ZSTD_WINDOW = 128 << 20
XZ_MEMORY = 256 << 20
_GZIP_WBITS = 31
STREAM_ERRORS: tuple[type[Exception], ...] = (
    zlib.error,
    gzip_engine.error,
    zstandard.ZstdError,
    lzma.LZMAError,
    OSError,
    EOFError,
)


Reader = Callable[[int], bytes]
"""Gives the next bytes of a stream, at most as many as asked for; none at its end."""


def fd_reader(fd: int) -> Reader:
    """Reads a descriptor: file, pipe or socket."""
    return lambda size: os.read(fd, size)


def part_reader(fd: int, offset: int, length: int) -> Reader:
    """Reads ``length`` bytes of a file from ``offset``, whoever else reads it (pread(2))."""
    at, end = offset, offset + length

    def read(size: int) -> bytes:
        nonlocal at
        data = os.pread(fd, min(size, end - at), at)
        at += len(data)
        return data

    return read


class Input(io.RawIOBase):
    """The bytes of a stream, counted; ``head`` of them can be looked at first."""

    def __init__(self, read: Reader) -> None:
        self._read = read
        self._head = b""
        self.count = 0

    def readable(self) -> bool:
        return True

    def head(self, size: int) -> bytes:
        """The first ``size`` bytes (fewer at the end of the stream); they will be read again."""
        while len(self._head) < size and (data := self._read(BLOCK)):
            self._head += data
        return self._head[:size]

    def next(self) -> bytes:
        """The next block, empty at the end."""
        data, self._head = self._head or self._read(BLOCK), b""
        self.count += len(data)
        return data

    def readinto(self, buffer: Any) -> int:
        data = self.next()
        size = min(len(data), len(buffer))
        buffer[:size] = data[:size]
        self._head = data[size:]
        self.count -= len(self._head)
        return size

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.next, b"")


def decompress(source: Input) -> Iterator[bytes]:
    """The uncompressed bytes of ``source``, in blocks of at most 1 MiB.

    gzip (any number of members), zstd (any number of frames), bzip2, xz, or none of these. Raises
    InvalidArgument for a damaged or truncated stream.
    """
    head = source.head(6)
    opener = next((make for magic, make in _FORMATS.items() if head.startswith(magic)), None)
    if opener is None:
        return iter(source)
    return _guarded(opener(source))


def check_media_type(media_type: str) -> None:
    """Raise NotSupported for a layer media type that no tar can be read from (encrypted, ...)."""
    base = media_type.partition(";")[0]
    if not base.endswith((".tar", ".tar.gzip", "+gzip", "+zstd", ".tar.zstd")):
        raise NotSupported(f"layers of type {media_type} cannot be unpacked")


def _guarded(blocks: Iterator[bytes]) -> Iterator[bytes]:
    try:
        yield from blocks
    except STREAM_ERRORS as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise InvalidArgument(f"the compressed stream is damaged: {error}") from error


def _gunzip(source: Input) -> Iterator[bytes]:
    engine, between = gzip_engine.decompressobj(_GZIP_WBITS), True
    for data in source:
        while data:
            if between and not (data := data.lstrip(b"\0")):
                break  # zeros between and after members are padding, as gzip(1) has it
            between = False
            if block := engine.decompress(data, BLOCK):
                yield block
            data = engine.unconsumed_tail
            if engine.eof:
                data = engine.unused_data
                engine, between = gzip_engine.decompressobj(_GZIP_WBITS), True
    while not between and (block := engine.decompress(b"", BLOCK)):
        yield block
    if not between and not engine.eof:
        raise EOFError("it ends too early")


def _unzstd(source: Input) -> Iterator[bytes]:
    decompressor = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW)
    with decompressor.stream_reader(
        cast(IO[bytes], source), read_across_frames=True, closefd=False
    ) as reader:
        while block := reader.read(BLOCK):
            yield block


def _bunzip(source: Input) -> Iterator[bytes]:
    with bz2.open(io.BufferedReader(source)) as reader:
        while block := reader.read(BLOCK):
            yield block


def _unxz(source: Input) -> Iterator[bytes]:
    engine = lzma.LZMADecompressor(memlimit=XZ_MEMORY)
    for data in source:
        while data or not engine.needs_input:
            if engine.eof:
                raise EOFError("there is something after its end")
            if block := engine.decompress(data, BLOCK):
                yield block
            data = b""
            if engine.eof:
                break
    if not engine.eof:
        raise EOFError("it ends too early")


_FORMATS: dict[bytes, Callable[[Input], Iterator[bytes]]] = {
    b"\x1f\x8b": _gunzip,
    b"\x28\xb5\x2f\xfd": _unzstd,
    b"\x50\x2a\x4d\x18": _unzstd,  # a skippable frame may come first
    b"BZh": _bunzip,
    b"\xfd7zXZ\0": _unxz,
}


class Compressor:
    """Makes a ``gzip``, ``zstd`` or ``none`` stream whose bytes depend on the input alone.

    isal's output depends on how it is fed, so it is fed blocks of exactly 1 MiB. ``name`` says
    which encoder made it, for a lock file: another version may give other bytes.
    """

    def __init__(self, kind: str) -> None:
        self._pending = bytearray()
        self._compress: Callable[[bytes], bytes] = bytes
        self._flush: Callable[[], bytes] = bytes
        self.name = "none"
        self.media_suffix = {"gzip": "+gzip", "zstd": "+zstd", "none": ""}[kind]
        if kind == "gzip":
            engine = gzip_engine.compressobj(2, 8, _GZIP_WBITS)
            self._compress, self._flush = engine.compress, engine.flush
            self.name = f"gzip/{gzip_engine.__name__}2/1MiB"
        elif kind == "zstd":
            stream = zstandard.ZstdCompressor(level=3).compressobj()
            self._compress, self._flush = stream.compress, stream.flush
            self.name = "zstd/3/" + ".".join(map(str, zstandard.ZSTD_VERSION)) + "/stream"

    def feed(self, data: bytes | memoryview) -> bytes:
        """The next compressed bytes, maybe none yet."""
        self._pending += data
        out = []
        while len(self._pending) >= BLOCK:
            out.append(self._compress(bytes(self._pending[:BLOCK])))
            del self._pending[:BLOCK]
        return b"".join(out)

    def finish(self) -> bytes:
        """The last compressed bytes."""
        return self._compress(bytes(self._pending)) + self._flush()
