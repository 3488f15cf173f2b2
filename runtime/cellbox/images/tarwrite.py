"""Writing tar: facts of one entry to the bytes of its header; pure, and the same bytes every time.

USTAR where the facts fit into it, one PAX header before it where they do not (POSIX.1-2024,
*pax*). Owners are numbers, names of users are never written; times are whole seconds. An archive
ends with two zero blocks and is not padded further.
"""

from __future__ import annotations

from collections.abc import Mapping

from cellbox.images.tar import BLOCK, FILE, XATTR

END = bytes(2 * BLOCK)
_OCTAL_SIZE = 8**11
_OCTAL_ID = 8**7
_PAX_NAME = b"././@PaxHeader"


def padding(size: int) -> bytes:
    """The zeros after ``size`` bytes of data."""
    return bytes(-size % BLOCK)


def header(
    name: bytes,
    kind: bytes = FILE,
    *,
    mode: int = 0o644,
    uid: int = 0,
    gid: int = 0,
    size: int = 0,
    mtime: int = 0,
    link: bytes = b"",
    major: int = 0,
    minor: int = 0,
    xattrs: Mapping[bytes, bytes] | None = None,
) -> bytes:
    """The header blocks of one entry; ``size`` bytes of data and :func:`padding` follow.

    ``name`` of a directory ends with a slash; ``mtime`` is in seconds.
    """
    records: dict[bytes, bytes] = {}
    prefix, base = _split(name)
    if base is None:
        records[b"path"] = name
        prefix, base = b"", name[:100]
    if len(link) > 100:
        records[b"linkpath"] = link
    for key, value, limit in (
        (b"uid", uid, _OCTAL_ID),
        (b"gid", gid, _OCTAL_ID),
        (b"size", size, _OCTAL_SIZE),
        (b"mtime", mtime, _OCTAL_SIZE),
    ):
        if not 0 <= value < limit:
            records[key] = b"%d" % value
    for attribute, content in (xattrs or {}).items():
        records[XATTR + attribute] = content
    main = _block(base, kind, mode, uid, gid, size, mtime, link[:100], major, minor, prefix)
    return _pax(records, mtime) + main if records else main


def _split(name: bytes) -> tuple[bytes, bytes | None]:
    """``name`` as USTAR's prefix and name fields; no name when it does not fit."""
    if len(name) <= 100:
        return b"", name
    at = name.rfind(b"/", 0, 156)
    base = name[at + 1 :]
    if at <= 0 or not base or len(base) > 100:
        # The last slash may be too late or too early: any one that leaves both parts short will do.
        at = name.find(b"/", max(len(name) - 101, 1))
        base = name[at + 1 :]
    if at <= 0 or at > 155 or not base:
        return b"", None
    return name[:at], base


def _block(
    name: bytes,
    kind: bytes,
    mode: int,
    uid: int,
    gid: int,
    size: int,
    mtime: int,
    link: bytes,
    major: int,
    minor: int,
    prefix: bytes,
) -> bytes:
    start = b"%b%07o\0%07o\0%07o\0%011o\0%011o\0" % (
        name.ljust(100, b"\0"),
        mode,
        uid if 0 <= uid < _OCTAL_ID else 0,
        gid if 0 <= gid < _OCTAL_ID else 0,
        size if size < _OCTAL_SIZE else 0,
        mtime if 0 <= mtime < _OCTAL_SIZE else 0,
    )
    end = b"%b%bustar\x0000%b%07o\0%07o\0%b" % (
        kind,
        link.ljust(100, b"\0"),
        bytes(64),
        major,
        minor,
        prefix.ljust(155, b"\0"),
    )
    checksum = sum(start) + sum(end) + 8 * 32
    return (start + b"%06o\0 " % checksum + end).ljust(BLOCK, b"\0")


def _pax(records: dict[bytes, bytes], mtime: int) -> bytes:
    data = b"".join(_record(key, records[key]) for key in sorted(records))
    block = _block(_PAX_NAME, b"x", 0o644, 0, 0, len(data), max(mtime, 0), b"", 0, 0, b"")
    return block + data + padding(len(data))


def _record(key: bytes, value: bytes) -> bytes:
    """``"%d %s=%s\\n"``, where the number counts itself."""
    bare = len(key) + len(value) + 3
    length = bare + len(str(bare))
    length = bare + len(str(length))
    return b"%d %b=%b\n" % (length, key, value)
