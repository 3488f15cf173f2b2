"""Who a process in a container is: ``USER`` and ``--user`` against the image's own files.

The image's /etc/passwd and /etc/group are hostile input, read by the process that is about to
become the program, inside the container's root. So the parser is our own (the C library's would
load modules of the image, CVE-2019-14271), the files are read through :func:`read_file`, which a
FIFO cannot hang nor a large file fill, and one rule stands above all: **what cannot be understood
is an error, never uid 0**. All digits are a number, and a number is never looked up as a name
(CVE-2024-40635, CVE-2026-46680).

Formats: passwd(5) ``name:password:uid:gid:gecos:home:shell``, group(5)
``name:password:gid:members``.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from cellbox.linux import syscalls

MAX_ID = 2**31 - 1
"""The largest id that is accepted; the kernel's limit is higher, but 32-bit programs are not."""

MAX_FILE = 1 << 20
"""Bytes of /etc/passwd or /etc/group that are read at most."""

Read = Callable[[str], bytes | None]
"""The content of a file of the container, None where there is none."""


@dataclass(frozen=True)
class Identity:
    """Ids of a process as its container sees them. ``groups`` are all its groups, ``gid`` first;
    ``home`` is ``/`` and ``name`` empty where /etc/passwd does not know the user."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str
    name: str


@dataclass(frozen=True)
class _User:
    name: bytes
    uid: int
    gid: bytes
    home: bytes


def resolve(user: str, groups: Sequence[str], read: Read) -> Identity:
    """The identity of ``user`` (``""``, ``name``, ``uid``, each with ``:group`` or ``:gid``).

    Without a group it is the user's own, with all that /etc/group lists for the name; with one it
    is that group alone. ``groups`` come on top. Raises ValueError with Docker's sentence for a
    name that is not there and for an id out of range, OSError for a file that cannot be read.
    """
    wanted, _, group = user.partition(":")
    known = _find_user(wanted, read("/etc/passwd") or b"")
    lines = read("/etc/group") or b""
    uid = known.uid if known else _number(wanted) or 0
    if group:
        gid, members = _find_group(group, lines), []
    else:
        gid = _own_gid(known)
        members = _memberships(known.name, lines) if known else []
    extra = [_find_group(name, lines) for name in groups]
    return Identity(
        uid,
        gid,
        tuple(dict.fromkeys((gid, *members, *extra))),
        os.fsdecode(known.home) if known and known.home else "/",
        os.fsdecode(known.name) if known else "",
    )


def read_file(root: int, path: str) -> bytes | None:
    """The regular file ``path`` below the directory ``root``, None where there is none.

    Links are followed inside ``root`` only. Raises OSError: EINVAL for what is not a regular file,
    EFBIG above :data:`MAX_FILE`, else what openat2(2) says.
    """
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    resolve = syscalls.RESOLVE_IN_ROOT | syscalls.RESOLVE_NO_MAGICLINKS
    try:
        fd = syscalls.openat2(root, path, flags, resolve=resolve)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return None
        raise
    try:
        return _read_regular(fd, path)
    finally:
        os.close(fd)


def _read_regular(fd: int, path: str) -> bytes:
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        raise OSError(errno.EINVAL, "not a regular file", path)
    parts = []
    left = MAX_FILE + 1
    while left and (part := os.read(fd, left)):
        parts.append(part)
        left -= len(part)
    if not left:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), path)
    return b"".join(parts)


def _number(text: str | bytes) -> int | None:
    """An id, or None for what is a name. Raises ValueError for a number out of range."""
    digits = text[1:] if text[:1] in ("-", "+", b"-", b"+") else text
    if not (digits.isascii() and digits.isdigit()):
        return None
    # The length comes first: int() of a very long text is an error of its own.
    if digits is not text or len(text) > 32 or int(text) > MAX_ID:
        raise ValueError(f"uids and gids must be in range 0-{MAX_ID}")
    return int(text)


def _entries(content: bytes, least: int) -> Iterator[list[bytes]]:
    for line in content.split(b"\n"):
        fields = line.strip().split(b":")
        if len(fields) >= least and not fields[0].startswith(b"#"):
            yield fields


def _find_user(wanted: str, content: bytes) -> _User | None:
    """The first entry that matches; None for a number that has none."""
    number = _number(wanted) if wanted else 0
    name = os.fsencode(wanted)
    for fields in _entries(content, 4):
        if number is None and fields[0] == name:
            uid = _number(fields[2])
            if uid is None:
                raise ValueError(f"unable to find user {wanted}: its entry has no valid uid")
            return _user(fields, uid)
        if number is not None and _same(fields[2], number):
            return _user(fields, number)
    if number is None:
        raise ValueError(f"unable to find user {wanted}: no matching entries in passwd file")
    return None


def _user(fields: list[bytes], uid: int) -> _User:
    return _User(fields[0], uid, fields[3], fields[5] if len(fields) > 5 else b"")


def _own_gid(known: _User | None) -> int:
    gid = _number(known.gid) if known else 0
    if known and gid is None:
        name = os.fsdecode(known.name)
        raise ValueError(f"unable to find user {name}: its entry has no valid gid")
    return gid or 0


def _find_group(wanted: str, content: bytes) -> int:
    number = _number(wanted)
    if number is not None:
        return number
    name = os.fsencode(wanted)
    for fields in _entries(content, 3):
        if fields[0] == name:
            gid = _number(fields[2])
            if gid is None:
                raise ValueError(f"unable to find group {wanted}: its entry has no valid gid")
            return gid
    raise ValueError(f"unable to find group {wanted}: no matching entries in group file")


def _memberships(name: bytes, content: bytes) -> list[int]:
    """The groups that list ``name``; an entry whose gid is no valid number gives nothing."""
    return [
        int(fields[2])
        for fields in _entries(content, 4)
        if name in fields[3].split(b",") and _is_id(fields[2])
    ]


def _is_id(text: bytes) -> bool:
    try:
        return _number(text) is not None
    except ValueError:
        return False


def _same(text: bytes, number: int) -> bool:
    return _is_id(text) and int(text) == number
