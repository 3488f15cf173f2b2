"""A file of lines that is rotated while others read it: event logs and the logs of containers.

``PATH`` is written, ``PATH.1`` is the file before it, ``PATH.2`` the one before that. A file that
was rotated away is never written again, so a reader that has reached its end may go on to the next
one: :func:`lines` reads across rotations and misses and repeats nothing, unless it sleeps through
more rotations than there are files.

:func:`append` serves any number of writers: each writes under a shared flock, whole lines with one
write(2); only who gets the exclusive one at once may rotate, so nobody waits for a stopped process.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping

EVENTS_LIMIT = 1 << 20
"""Bytes at which the engine's event log is rotated, whoever appends to it."""

CHUNK = 1 << 16
POLL = 0.02
"""Seconds between two looks at a file that is followed."""

MAX_LINE = 1 << 20
"""Bytes of a line; what is longer was not written by us, and is skipped."""


def append(path: str, line: bytes, *, limit: int, keep: int = 1) -> bool:
    """Add a line (without newline) and rotate at ``limit`` bytes, ``keep`` old files at most.

    False when it could not be written (a full or read-only disk): what was to be told has happened
    all the same, so this never raises OSError.
    """
    try:
        fd = _open_shared(path)
        try:
            written = os.write(fd, line + b"\n")
            if os.fstat(fd).st_size > limit:
                _rotate_if_free(fd, path, keep)
            return written == len(line) + 1
        finally:
            os.close(fd)
    except OSError:
        return False


def note(path: str, kind: str, action: str, id: str, attributes: Mapping[str, str]) -> bool:
    """Append what has just happened to the engine's event log at ``path``, as :func:`append`."""
    event = {"time": time.time(), "kind": kind, "action": action, "id": id}
    line = json.dumps({**event, "attributes": attributes}).encode()
    return append(path, line, limit=EVENTS_LIMIT)


def rotate(path: str, keep: int) -> None:
    """Let ``PATH`` become ``PATH.1``, that ``PATH.2``, and so on up to ``keep``."""
    for number in range(keep, 1, -1):
        with contextlib.suppress(FileNotFoundError):
            os.rename(f"{path}.{number - 1}", f"{path}.{number}")
    if keep:
        os.rename(path, f"{path}.1")
    else:
        os.unlink(path)


def lines(
    path: str,
    *,
    tail: int | None = None,
    follow: bool = False,
    ended: Callable[[], bool] = lambda: False,
    wait: Callable[[float], None] = time.sleep,
) -> Iterator[bytes]:
    """Complete lines without their newline, the oldest first.

    ``tail`` starts at the last so many lines (0: at the end). Without ``follow`` it ends with the
    last line there is. With it, it goes on until ``ended`` says true and all that was written
    before is read. A file that is not there is an empty one, which may come. Where it starts is
    settled by this call, whenever the first line is asked for.
    """
    chain = _open_chain(path)
    _seek_tail(chain, tail)
    return _lines(path, chain, follow, ended, wait)


def _lines(
    path: str,
    chain: list[_File],
    follow: bool,
    ended: Callable[[], bool],
    wait: Callable[[float], None],
) -> Iterator[bytes]:
    try:
        while True:
            last = not follow or ended()
            for file in chain:
                yield from file
            following = _following(path, chain) if follow else []
            if following:
                for file in chain[-1:]:
                    yield from file  # what was written between its end and its rotation
                _close(chain)
                chain = following
            elif last:
                return
            else:
                _close(chain[:-1])
                del chain[:-1]
                wait(POLL)
    finally:
        _close(chain)


class _File:
    """One open file of a chain; iterating gives the complete lines that were not read yet."""

    def __init__(self, path: str) -> None:
        self._file = io.FileIO(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW))
        self.fd = self._file.fileno()
        self.inode = os.fstat(self.fd).st_ino
        self.offset = 0
        self._rest = b""

    def __iter__(self) -> Iterator[bytes]:
        while chunk := os.pread(self.fd, CHUNK, self.offset):
            self.offset += len(chunk)
            *whole, self._rest = (self._rest + chunk).split(b"\n")
            yield from whole
            if len(self._rest) > MAX_LINE:
                self._rest = b""

    def close(self) -> None:
        """Let go of it; the last reference's end would do so too."""
        self._file.close()

    def seek_tail(self, count: int) -> int:
        """Go to the last ``count`` lines; how many there are of them."""
        found, self.offset = 0, os.fstat(self.fd).st_size
        position = self.offset
        while position and found <= count:
            start = max(0, position - CHUNK)
            chunk = os.pread(self.fd, position - start, start)
            newline = len(chunk)
            while found <= count and (newline := chunk.rfind(b"\n", 0, newline)) >= 0:
                self.offset, found = start + newline + 1, found + 1
            position = start
        if found <= count:
            self.offset = 0
        return min(found, count)


def _open_shared(path: str) -> int:
    """``path`` for appending, under a shared flock, and not rotated away meanwhile."""
    while True:
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_SH)
            if _inode(path) == os.fstat(fd).st_ino:
                return fd
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)


def _rotate_if_free(fd: int, path: str, keep: int) -> None:
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _inode(path) == os.fstat(fd).st_ino:
            rotate(path, keep)


def _inode(path: str) -> int:
    try:
        return os.stat(path).st_ino
    except FileNotFoundError:
        return 0


def _open_chain(path: str) -> list[_File]:
    """All files there are, the oldest first.

    A rotation moves each file up by one, the last one first, with one gap between them; so going up
    meets every file, perhaps twice, and may meet the gap of every rotation that goes on meanwhile.
    """
    chain: dict[int, _File] = {}
    number = 0
    while number <= _highest(path):
        with contextlib.suppress(FileNotFoundError):
            file = _File(f"{path}.{number}" if number else path)
            if chain.setdefault(file.inode, file) is not file:
                _close([file])
        number += 1
    return list(chain.values())[::-1]


def _highest(path: str) -> int:
    """The number of the oldest file, 0 where none was rotated."""
    folder, name = os.path.split(path)
    with contextlib.suppress(FileNotFoundError):
        names = [entry.rpartition(".") for entry in os.listdir(folder or ".")]
        return max(
            (int(number) for base, _, number in names if base == name and number.isdecimal()),
            default=0,
        )
    return 0


def _following(path: str, chain: list[_File]) -> list[_File]:
    """The files after the last one that was read; empty while there are none."""
    if chain and _inode(path) in (0, chain[-1].inode):
        return []
    files = _open_chain(path)
    if not chain:
        return files
    inodes = [file.inode for file in files]
    known = inodes.index(chain[-1].inode) + 1 if chain[-1].inode in inodes else 0
    _close(files[:known])
    return files[known:]


def _seek_tail(chain: list[_File], tail: int | None) -> None:
    if tail is None:
        return
    for file in reversed(chain):
        tail -= file.seek_tail(tail)


def _close(chain: list[_File]) -> None:
    for file in chain:
        file.close()
