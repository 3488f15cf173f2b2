"""Reading tar: a stream of blocks to entries, whose data are copied on in large pieces.

Formats: V7, USTAR and PAX (POSIX.1-2024, *pax*), GNU (tar(5): long names, base-256 numbers, sparse
files in all four encodings). Names are bytes throughout. The input is hostile: what is bounded here
is memory and time per entry; what an entry may do to a file system is ``extract``'s business.

Where implementations differ we do as Go's archive/tar, which judges the same bytes for Docker:
entries of kinds without data have none whatever their size says; global PAX headers are passed
over; the archive ends at two zero blocks or at the end of the stream, and one zero block before
anything else is damage.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache

from cellbox.errors import InvalidArgument

BLOCK = 512
EXTENDED_LIMIT = 1 << 20
SPARSE_LIMIT = 1 << 17
SIZE_LIMIT = 1 << 62
FILE, LINK, SYMLINK, CHARACTER, DEVICE, DIRECTORY, FIFO = b"0", b"1", b"2", b"3", b"4", b"5", b"6"
XATTR = b"SCHILY.xattr."
_HEADER = struct.Struct("100s8s8s8s12s12s8sc100s8s32s32s8s8s155s12x")
_PAIR = struct.Struct("12s12s")
_ZERO = bytes(BLOCK)
_FILE_KINDS = frozenset({b"0", b"\0", b"7", b"S"})
_BARE_KINDS = frozenset({LINK, SYMLINK, CHARACTER, DEVICE, DIRECTORY, FIFO})


@dataclass(slots=True)
class Entry:
    """One member. ``size`` is that of the file, ``stored`` of its data in the archive, which differ
    for a ``sparse`` one: (offset, length) of its data, in order. ``mtime`` is in nanoseconds."""

    name: bytes
    kind: bytes
    mode: int
    uid: int
    gid: int
    size: int
    mtime: int
    link: bytes
    major: int
    minor: int
    stored: int
    xattrs: dict[bytes, bytes] = field(default_factory=dict)
    sparse: list[tuple[int, int]] | None = None


class Stream:
    """Exact reads from blocks of any size; no byte is copied that need not be."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = filter(None, blocks)  # an empty one is not the end
        self._block = b""
        self._at = 0
        self._before = 0

    @property
    def position(self) -> int:
        """How many bytes have been read."""
        return self._before + self._at

    def _more(self) -> bool:
        self._before += len(self._block)
        self._block, self._at = next(self._blocks, b""), 0
        return bool(self._block)

    def take(self, size: int) -> bytes:
        """``size`` bytes; fewer (and then none) at the end of the stream. For small sizes."""
        end = self._at + size
        data = self._block[self._at : end]
        self._at = min(end, len(self._block))
        while len(data) < size and self._more():
            self._at = min(size - len(data), len(self._block))
            data += self._block[: self._at]
        return data

    def pieces(self, size: int) -> Iterator[memoryview]:
        """``size`` bytes as views of the blocks they came in. An early end is InvalidArgument."""
        while size:
            if self._at >= len(self._block) and not self._more():
                raise InvalidArgument("the archive is cut short")
            view = memoryview(self._block)[self._at : self._at + size]
            self._at += len(view)
            size -= len(view)
            yield view

    def copy(self, size: int, fd: int) -> None:
        """Write ``size`` bytes to ``fd``."""
        end = self._at + size
        if end <= len(self._block):  # most files lie within one block
            write_all(fd, memoryview(self._block)[self._at : end])
            self._at = end
            return
        for view in self.pieces(size):
            write_all(fd, view)

    def skip(self, size: int) -> None:
        """Pass over ``size`` bytes."""
        end = self._at + size
        if end <= len(self._block):
            self._at = end
            return
        for _ in self.pieces(size):
            pass

    def drain(self) -> None:
        """Read to the end of the stream, so that what hashes it has seen all."""
        while self._more():
            pass


def write_all(fd: int, data: bytes | bytearray | memoryview) -> None:
    """write(2) until all is written."""
    done = os.write(fd, data)
    while done < len(data):
        done += os.write(fd, memoryview(data)[done:])


def read(stream: Stream) -> Iterator[Entry]:
    """The entries of an archive.

    Before the next one is asked for, the caller must take exactly the entry's ``stored`` bytes from
    ``stream`` (``copy`` or ``skip``). Raises InvalidArgument, and OSError of the stream itself.
    """
    while (header := _next_header(stream)) is not None:
        records, header = _extensions(stream, header)
        entry = _entry(header)
        if records:
            _apply_records(entry, records)
        if entry.kind in _FILE_KINDS:
            _finish_file(stream, entry, header, records)
        elif entry.kind in _BARE_KINDS:
            entry.size = entry.stored = 0
        _check(entry)
        yield entry
        stream.skip(-entry.stored % BLOCK)


def _next_header(stream: Stream) -> bytes | None:
    block = stream.take(BLOCK)
    if not block:
        return None
    if len(block) < BLOCK:
        raise InvalidArgument("the archive is cut short")
    if block == _ZERO:
        if stream.take(BLOCK) not in (b"", _ZERO):
            raise InvalidArgument("there is something after the archive's end")
        return None
    _check_sum(block)
    return block


def _check_sum(block: bytes) -> None:
    # The low half of Adler-32 is one more than the sum of all bytes modulo 65521, and many times as
    # fast as sum(). The field itself counts as eight blanks.
    total = (zlib.adler32(block) & 0xFFFF) - 1 - sum(block[148:156]) + 8 * 32
    stated = _number(block[148:156])
    if (total - stated) % 65521 == 0:
        return
    signed = sum(byte - 256 if byte > 127 else byte for byte in block[:148] + block[156:])
    if signed + 8 * 32 != stated:
        raise InvalidArgument("not a tar archive, or a damaged one: a header's checksum is wrong")


@lru_cache(maxsize=4096)  # modes, owners and times repeat from entry to entry
def _number(field: bytes) -> int:
    """A numeric header field: octal digits, or base 256 when the first bit is set (tar(5))."""
    digits = field.strip(b"\0 ")
    if digits.isdigit():
        return _integer(digits, 8)
    if not digits:
        return 0
    if field[0] == 0xFF:
        return int.from_bytes(field, "big", signed=True)
    if field[0] & 0x80:
        return int.from_bytes(field, "big") - (0x80 << 8 * (len(field) - 1))
    return _integer(digits.partition(b"\0")[0].rstrip(), 8)


def _integer(digits: bytes, base: int) -> int:
    if not digits.isdigit() or len(digits) > 24:
        raise InvalidArgument(f"not a number in the archive: {digits[:24]!r}")
    try:
        return int(digits, base)
    except ValueError:
        raise InvalidArgument(f"not a number in the archive: {digits!r}") from None


def _extensions(stream: Stream, header: bytes) -> tuple[dict[bytes, bytes], bytes]:
    """What the headers before an entry say about it, and the entry's own header."""
    records: dict[bytes, bytes] = {}
    longs: dict[bytes, bytes] = {}
    total = 0
    while (kind := header[156:157]) in (b"x", b"g", b"L", b"K"):
        size = _number(header[124:136])
        total += size + BLOCK
        if not 0 <= size <= total <= EXTENDED_LIMIT:
            raise InvalidArgument(f"an extended header is larger than {EXTENDED_LIMIT} bytes")
        data = b"".join(stream.pieces(size))
        stream.skip(-size % BLOCK)
        if kind == b"x":
            records = parse_records(data)
        elif kind != b"g":
            longs[b"path" if kind == b"L" else b"linkpath"] = data.partition(b"\0")[0]
        following = _next_header(stream)
        if following is None:
            raise InvalidArgument("the archive ends after an extended header")
        header = following
    return records | longs, header


def parse_records(data: bytes) -> dict[bytes, bytes]:
    """PAX records (``"%d %s=%s\\n"``) as a table; sparse 0.0 pairs are gathered as a 0.1 map."""
    records: dict[bytes, bytes] = {}
    pairs: list[bytes] = []
    at = 0
    while at < len(data):
        blank = data.find(b" ", at, at + 9)
        length = _integer(data[at:blank], 10) if blank > at else 0
        key, equals, value = data[blank + 1 : at + length - 1].partition(b"=")
        if not equals or not key or data[at + length - 1 : at + length] != b"\n":
            raise InvalidArgument("a PAX record is malformed")
        at += length
        if key in (b"GNU.sparse.offset", b"GNU.sparse.numbytes"):
            pairs.append(value)
        records[key] = value
    if pairs:
        records[b"GNU.sparse.map"] = b",".join(pairs)
    return records


def _entry(header: bytes) -> Entry:
    (name, mode, uid, gid, size, mtime, _sum, kind, link, magic, *_names, major, minor, prefix) = (
        _HEADER.unpack(header)
    )
    name = name.partition(b"\0")[0]
    if magic == b"ustar\x0000" and prefix[0]:
        name = prefix.partition(b"\0")[0] + b"/" + name
    stored = _number(size)
    return Entry(
        name,
        kind,
        _number(mode) & 0o7777,
        _number(uid),
        _number(gid),
        stored,
        _number(mtime) * 1_000_000_000,
        link.partition(b"\0")[0],
        _number(major) if kind in (CHARACTER, DEVICE) else 0,
        _number(minor) if kind in (CHARACTER, DEVICE) else 0,
        stored,
    )


def _apply_records(entry: Entry, records: dict[bytes, bytes]) -> None:
    for key, value in records.items():
        if key.startswith(XATTR):
            entry.xattrs[key[len(XATTR) :]] = value
        elif not value:
            continue
        elif key == b"path":
            entry.name = value
        elif key == b"linkpath":
            entry.link = value
        elif key == b"size":
            entry.size = entry.stored = _integer(value, 10)
        elif key == b"uid":
            entry.uid = _integer(value, 10)
        elif key == b"gid":
            entry.gid = _integer(value, 10)
        elif key == b"mtime":
            entry.mtime = _nanoseconds(value)


def _nanoseconds(value: bytes) -> int:
    whole, _, part = value.removeprefix(b"-").partition(b".")
    instant = _integer(whole, 10) * 1_000_000_000 + _integer(part[:9].ljust(9, b"0"), 10)
    return -instant if value.startswith(b"-") else instant


def _finish_file(stream: Stream, entry: Entry, header: bytes, records: dict[bytes, bytes]) -> None:
    if entry.kind == b"\0" and entry.name.endswith(b"/"):  # how V7 told a directory
        entry.kind, entry.size, entry.stored = DIRECTORY, 0, 0
        return
    if entry.stored < 0 or entry.stored > SIZE_LIMIT:
        raise InvalidArgument("the size of a file is out of range")
    if entry.kind == b"S":
        _old_sparse(stream, entry, header)
    elif b"GNU.sparse.map" in records or records.get(b"GNU.sparse.major") == b"1":
        _pax_sparse(stream, entry, records)
    entry.kind = FILE
    if entry.sparse is not None:
        _check_sparse(entry, entry.sparse)


def _old_sparse(stream: Stream, entry: Entry, header: bytes) -> None:
    entry.size = _number(header[483:495])
    entry.sparse = _pairs(header[386:482])
    more = header[482]
    while more:
        block = b"".join(stream.pieces(BLOCK))
        entry.sparse += _pairs(block[:504])
        more = block[504]
        if len(entry.sparse) > SPARSE_LIMIT:
            raise InvalidArgument("a sparse file has too many pieces")


def _pairs(data: bytes) -> list[tuple[int, int]]:
    pairs = _PAIR.iter_unpack(data)
    return [(_number(offset), _number(size)) for offset, size in pairs if offset[0]]


def _pax_sparse(stream: Stream, entry: Entry, records: dict[bytes, bytes]) -> None:
    entry.name = records.get(b"GNU.sparse.name") or entry.name
    real = records.get(b"GNU.sparse.realsize") or records.get(b"GNU.sparse.size") or b"0"
    entry.size = _integer(real, 10)
    if records.get(b"GNU.sparse.major") == b"1":
        numbers = _sparse_map(stream, entry)
    else:
        text = records[b"GNU.sparse.map"]
        numbers = [_integer(item, 10) for item in text.split(b",")] if text else []
    if len(numbers) % 2 or len(numbers) > 2 * SPARSE_LIMIT:
        raise InvalidArgument("the map of a sparse file is malformed")
    entry.sparse = list(zip(numbers[::2], numbers[1::2], strict=True))


def _sparse_map(stream: Stream, entry: Entry) -> list[int]:
    """The map at the start of the data (PAX sparse 1.0): a count and pairs, a line each."""
    lines: list[bytes] = []
    rest, wanted = b"", 1
    while len(lines) < wanted:
        if entry.stored < BLOCK:
            raise InvalidArgument("the map of a sparse file is cut short")
        *complete, rest = (rest + b"".join(stream.pieces(BLOCK))).split(b"\n")
        entry.stored -= BLOCK
        lines += complete
        if lines and wanted == 1:
            wanted = 1 + 2 * _integer(lines[0], 10)
        if wanted > 2 * SPARSE_LIMIT or len(rest) > BLOCK:
            raise InvalidArgument("the map of a sparse file is malformed")
    return [_integer(line, 10) for line in lines[1:wanted]]


def _check_sparse(entry: Entry, pieces: list[tuple[int, int]]) -> None:
    end = total = 0
    for offset, size in pieces:
        if offset < end or size < 0:
            raise InvalidArgument("the map of a sparse file is out of order")
        end = offset + size
        total += size
    if end > entry.size or total != entry.stored:
        raise InvalidArgument("the map of a sparse file does not fit its data")


def _check(entry: Entry) -> None:
    if b"\0" in entry.name or b"\0" in entry.link:
        raise InvalidArgument("a name in the archive holds a NUL")
    if not 0 <= entry.size <= SIZE_LIMIT or not 0 <= entry.stored <= SIZE_LIMIT:
        raise InvalidArgument("a size in the archive is out of range")
    if not (0 <= entry.uid < 1 << 32 and 0 <= entry.gid < 1 << 32):
        raise InvalidArgument("an owner in the archive is out of range")
