"""Directory trees under descriptors: walk them, add them up, tell damage.

A tree may be a stranger's, so no symbolic link is ever followed, nothing is opened that is not a
directory, and neither depth nor number of entries costs more than time: paths are resolved below
one root descriptor.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from cellbox.linux import syscalls

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
INSIDE = syscalls.RESOLVE_IN_ROOT | syscalls.RESOLVE_NO_SYMLINKS | syscalls.RESOLVE_NO_MAGICLINKS


def is_whiteout(facts: os.stat_result) -> bool:
    """Is this overlayfs's mark of a deleted name (a character device 0/0)?"""
    return stat.S_ISCHR(facts.st_mode) and facts.st_rdev == 0


def open_directory(path: str | bytes) -> int:
    """A descriptor of the directory ``path`` itself."""
    return os.open(path, _DIRECTORY)


def open_inside(root: int, path: bytes, flags: int) -> int:
    """Open ``path`` below ``root`` without following any link."""
    return syscalls.openat2(root, path or b".", flags | os.O_NOFOLLOW, 0, INSIDE)


def listing(root: int, path: bytes) -> list[tuple[bytes, os.stat_result]]:
    """The entries of the directory ``path`` below ``root``: full paths and facts, by name."""
    fd = open_inside(root, path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with os.scandir(fd) as entries:
            found = [(os.fsencode(item.name), item.stat(follow_symlinks=False)) for item in entries]
    finally:
        os.close(fd)
    found.sort()
    return [(path + b"/" + name, facts) for name, facts in found] if path else found


def walk(
    root: int, start: bytes = b"", *, one_device: bool = False
) -> Iterator[tuple[bytes, os.stat_result]]:
    """Everything below ``start``, which is below ``root``: a directory before what it holds.

    Names of one directory come in the order of their bytes. With ``one_device``, directories on
    other file systems are told but not entered.
    """
    device = os.fstat(root).st_dev
    if start:
        fd = open_inside(root, start, os.O_PATH)
        device = os.fstat(fd).st_dev
        os.close(fd)
    levels = [iter(listing(root, start))]
    while levels:
        for path, facts in levels[-1]:
            yield path, facts
            if stat.S_ISDIR(facts.st_mode) and not (one_device and facts.st_dev != device):
                levels.append(iter(listing(root, path)))
                break
        else:
            levels.pop()


@dataclass
class Usage:
    """What a tree holds: bytes of its files (each inode once), entries, and ``check``, a digest
    over every path, kind, mode, size and time, by which later damage is told."""

    size: int = 0
    entries: int = 0
    check: str = ""


def usage(root: int) -> Usage:
    """Add up the tree below ``root``."""
    total = Usage()
    seen: set[tuple[int, int]] = set()
    hasher = hashlib.sha256()
    for path, facts in walk(root):
        total.entries += 1
        size = 0 if stat.S_ISDIR(facts.st_mode) else facts.st_size
        hasher.update(b"%b\0%o %d %d\n" % (path, facts.st_mode, size, facts.st_mtime_ns))
        if facts.st_nlink > 1 and not stat.S_ISDIR(facts.st_mode):
            if (facts.st_dev, facts.st_ino) in seen:
                continue
            seen.add((facts.st_dev, facts.st_ino))
        total.size += size
    total.check = "sha256:" + hasher.hexdigest()
    return total
