"""Directory trees to tar, as blocks of bytes: the other direction of ``extract``.

The bytes depend on the tree alone: names in the order of their bytes with a directory before what
it holds, hard links to the first of their names, owners as numbers, whole seconds, the same
extended attributes that may come in. What changes while it is read is cut or filled with zeros to
the size that its header tells. Sockets have no place in a tar and are passed over.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass

from cellbox.errors import InvalidArgument
from cellbox.images import tar, tarwrite
from cellbox.images.extract import OPAQUE, OPAQUE_XATTR, PREFIX, allowed_attribute
from cellbox.images.trees import is_whiteout, open_inside, walk

_PIECE = 1 << 20
_OPEN = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY
DEFAULT_LIMIT = 1 << 36
_KINDS = {
    stat.S_IFREG: tar.FILE,
    stat.S_IFDIR: tar.DIRECTORY,
    stat.S_IFLNK: tar.SYMLINK,
    stat.S_IFCHR: tar.CHARACTER,
    stat.S_IFBLK: tar.DEVICE,
    stat.S_IFIFO: tar.FIFO,
}
Found = tuple[bytes, os.stat_result]


@dataclass(frozen=True)
class Options:
    """How a tree becomes a tar: ``overlay`` marks become ``.wh.`` names; no time is later than
    ``latest`` (seconds); ``excluded`` paths are left out, with what is below them; files may have
    ``limit`` bytes in all; ``prefix`` is put before every name."""

    overlay: bool = False
    latest: int | None = None
    excluded: Container[bytes] = ()
    limit: int = DEFAULT_LIMIT
    prefix: bytes = b""

    def leaves_out(self, path: bytes) -> bool:
        """Is ``path`` excluded, or something above it?"""
        while path and self.excluded:
            if path in self.excluded:
                return True
            path = path.rpartition(b"/")[0]
        return False


class Packer:
    """Turns entries below the directory descriptor ``root`` into blocks of tar."""

    def __init__(self, root: int, options: Options) -> None:
        self._root = root
        self._options = options
        self._links: dict[tuple[int, int], bytes] = {}
        self.size = 0

    def tree(self, start: bytes = b"") -> Iterator[bytes]:
        """All below ``start``, without an entry for itself, and the archive's end."""
        if self._options.overlay and _attributes(self._root)[1]:
            yield tarwrite.header(self._name(OPAQUE), mode=0)
        yield from self.entries(walk(self._root, start, one_device=True))

    def entries(self, found: Iterable[Found]) -> Iterator[bytes]:
        """The entries of ``found``, and the archive's end."""
        for path, facts in found:
            if not self._options.leaves_out(path):
                yield from self.entry(path, facts)
        yield tarwrite.END

    def entry(self, path: bytes, facts: os.stat_result) -> Iterator[bytes]:
        """The blocks of one entry. Raises InvalidArgument when files grow over the limit."""
        kind = _KINDS.get(stat.S_IFMT(facts.st_mode))
        if kind is None:
            return
        if self._options.overlay and is_whiteout(facts):
            yield self.whiteout(path)
        elif kind == tar.DIRECTORY:
            yield from self._directory(path, facts)
        elif (first := self._links.get((facts.st_dev, facts.st_ino))) is not None:
            yield self._header(path, tar.LINK, facts, link=first)
        else:
            if facts.st_nlink > 1:
                self._links[facts.st_dev, facts.st_ino] = self._name(path)
            yield from self._contents(path, kind, facts)

    def whiteout(self, path: bytes) -> bytes:
        """The entry that deletes ``path`` of the layers below."""
        parent, slash, base = self._name(path).rpartition(b"/")
        return tarwrite.header(parent + slash + PREFIX + base, mode=0)

    def _name(self, path: bytes) -> bytes:
        return self._options.prefix + path

    def _header(
        self,
        path: bytes,
        kind: bytes,
        facts: os.stat_result,
        *,
        size: int = 0,
        link: bytes = b"",
        xattrs: dict[bytes, bytes] | None = None,
    ) -> bytes:
        mtime = facts.st_mtime_ns // 1_000_000_000
        if self._options.latest is not None:
            mtime = min(mtime, self._options.latest)
        device = facts.st_rdev if kind in (tar.CHARACTER, tar.DEVICE) else 0
        return tarwrite.header(
            self._name(path) + (b"/" if kind == tar.DIRECTORY else b""),
            kind,
            mode=stat.S_IMODE(facts.st_mode),
            uid=facts.st_uid,
            gid=facts.st_gid,
            size=size,
            mtime=mtime,
            link=link,
            major=os.major(device),
            minor=os.minor(device),
            xattrs=xattrs,
        )

    def _directory(self, path: bytes, facts: os.stat_result) -> Iterator[bytes]:
        fd = open_inside(self._root, path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            xattrs, opaque = _attributes(fd)
        finally:
            os.close(fd)
        yield self._header(path, tar.DIRECTORY, facts, xattrs=xattrs)
        if opaque and self._options.overlay:
            yield tarwrite.header(self._name(path) + b"/" + OPAQUE, mode=0)

    def _contents(self, path: bytes, kind: bytes, facts: os.stat_result) -> Iterator[bytes]:
        if kind == tar.FILE:
            yield from self._file(path, facts)
        elif kind == tar.SYMLINK:
            fd = open_inside(self._root, path, os.O_PATH)
            try:
                target = os.readlink(b"", dir_fd=fd)
            finally:
                os.close(fd)
            yield self._header(path, kind, facts, link=target)
        else:
            yield self._header(path, kind, facts)

    def _file(self, path: bytes, facts: os.stat_result) -> Iterator[bytes]:
        fd = open_inside(self._root, path, _OPEN)
        try:
            now = os.fstat(fd)
            if not stat.S_ISREG(now.st_mode):  # exchanged since it was listed
                return
            self.size += now.st_size
            if self.size > self._options.limit:
                name = os.fsdecode(path)
                raise InvalidArgument(f"more than {self._options.limit} bytes of files, at {name}")
            xattrs, _ = _attributes(fd)
            yield self._header(path, tar.FILE, facts, size=now.st_size, xattrs=xattrs)
            yield from _data(fd, now.st_size)
            yield tarwrite.padding(now.st_size)
        finally:
            os.close(fd)


def _data(fd: int, size: int) -> Iterator[bytes]:
    while size:
        block = os.read(fd, min(size, _PIECE)) or bytes(min(size, _PIECE))
        size -= len(block)
        yield block


def _attributes(fd: int) -> tuple[dict[bytes, bytes], bool]:
    """The extended attributes that travel, and whether overlayfs's mark of opaqueness is set."""
    found: dict[bytes, bytes] = {}
    opaque = False
    try:
        names = os.listxattr(fd)
    except OSError as error:
        if error.errno == errno.ENOTSUP:
            return {}, False
        raise
    for name in map(os.fsencode, names):
        try:
            value = os.getxattr(fd, name)
        except OSError:
            continue  # gone since it was listed, or not for us to see
        opaque |= name == OPAQUE_XATTR and value == b"y"
        if (allowed := allowed_attribute(name, value)) is not None:
            found[name] = allowed
    return found, opaque
