"""Compressed archives: what they hold, and a file of no name to keep it in.

Source: RFC 1952 (gzip), RFC 8878 (zstd), the magic numbers of bzip2 and xz.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import BinaryIO, cast

from cellbox.errors import InvalidArgument

_CHUNK = 1 << 18
_HEAD = 8


def _zstd(source: BinaryIO) -> BinaryIO:
    import zstandard  # 20 ms, which only those pay who have such an archive

    stream = zstandard.ZstdDecompressor().stream_reader(source, read_across_frames=True)
    return cast(BinaryIO, stream)


_MAGIC: tuple[tuple[bytes, Callable[[BinaryIO], BinaryIO]], ...] = (
    (b"\x1f\x8b\x08", lambda source: cast(BinaryIO, gzip.GzipFile(fileobj=source))),
    (b"BZh", lambda source: cast(BinaryIO, bz2.BZ2File(source))),
    (b"\xfd7zXZ\0", lambda source: cast(BinaryIO, lzma.LZMAFile(source))),
    (b"\x28\xb5\x2f\xfd", _zstd),
)


def plain(source: BinaryIO) -> BinaryIO:
    """What ``source`` holds when it is decompressed: gzip, bzip2, xz, zstd, or as it is."""
    buffered = source if hasattr(source, "peek") else io.BufferedReader(cast(io.RawIOBase, source))
    head = cast(io.BufferedReader, buffered).peek(_HEAD)[:_HEAD]
    for magic, decompress in _MAGIC:
        if head.startswith(magic):
            return decompress(buffered)
    return buffered


@contextmanager
def spooled(source: BinaryIO) -> Iterator[BinaryIO]:
    """A file of no name with the decompressed content of ``source``. Raises InvalidArgument."""
    with tempfile.TemporaryFile(prefix="cellbox-build-") as file:
        try:
            shutil.copyfileobj(plain(source), file, _CHUNK)
        except Exception as error:
            if not _is_damage(error):
                raise
            raise InvalidArgument(f"the archive is damaged: {error}") from None
        yield cast(BinaryIO, file)


def _is_damage(error: Exception) -> bool:
    """Is it the bytes that are wrong? What the system or a connection fails with has a number or
    is a class of its own."""
    if isinstance(error, OSError):
        return error.errno is None and not isinstance(error, ConnectionError)
    known = isinstance(error, (EOFError, zlib.error, lzma.LZMAError))
    return known or type(error).__name__ == "ZstdError"
