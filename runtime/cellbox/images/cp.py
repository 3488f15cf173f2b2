"""What ``docker cp`` and ``export`` do inside a root directory that is not to be trusted.

A path is the container's: links in it, absolute ones too, end inside ``root`` (CVE-2018-15664), and
nothing is imported or looked up on the way (CVE-2019-14271). The last component is not followed
unless the path ends with ``/`` or ``/.``, as with Docker.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace

from cellbox.errors import InvalidArgument, NotFound
from cellbox.images import tar, tarwrite
from cellbox.images.compression import Input, decompress, fd_reader
from cellbox.images.extract import OPAQUE, Extractor, Outcome, Whiteouts
from cellbox.images.layers import Limits, extract_all, write
from cellbox.images.pack import Options, Packer
from cellbox.images.trees import walk
from cellbox.linux import syscalls

_IN_ROOT = syscalls.RESOLVE_IN_ROOT | syscalls.RESOLVE_NO_MAGICLINKS
_ABSENT = (errno.ENOENT, errno.ENOTDIR)


@dataclass(frozen=True)
class Found:
    """What is at a path: its last name, st_mode, size in bytes, mtime in seconds, link target."""

    name: str
    mode: int
    size: int
    mtime: float
    target: str = ""


def find(root: int, path: bytes) -> Found:
    """What is at ``path`` below ``root``. Raises NotFound."""
    fd = _open(root, path, os.O_PATH)
    try:
        facts = os.fstat(fd)
        link = os.readlink(b"", dir_fd=fd) if stat.S_ISLNK(facts.st_mode) else b""
    finally:
        os.close(fd)
    return Found(
        name=os.fsdecode(_name(path)),
        mode=facts.st_mode,
        size=facts.st_size,
        mtime=facts.st_mtime,
        target=os.fsdecode(link),
    )


def open_directory(root: int, path: bytes) -> int:
    """A descriptor of the directory ``path`` below ``root``, of whatever it is a link to. Raises
    NotFound, InvalidArgument."""
    return _open(root, path.rstrip(b"/") + b"/", os.O_RDONLY | os.O_DIRECTORY)


def pack_tree(root: int, path: bytes, out: int, options: Options | None = None) -> None:
    """Write ``path`` and all below it to ``out`` as a tar whose names start with its last name.

    With ``/.`` at the end they start with ``./``, as Docker has it; those of the root have nothing
    before them. Directories where another file system is mounted are told but not entered. Raises
    NotFound.
    """
    fd = _open(root, path, os.O_PATH)
    try:
        facts = os.fstat(fd)
        write(_blocks(root, fd, facts, path, options or Options()), out)
    finally:
        os.close(fd)


def _blocks(
    root: int, fd: int, facts: os.stat_result, path: bytes, options: Options
) -> Iterator[bytes]:
    name = _name(path)
    if not stat.S_ISDIR(facts.st_mode):
        above = _open(root, path.rpartition(b"/")[0] or b"/", os.O_RDONLY | os.O_DIRECTORY)
        try:
            yield from Packer(above, options).entries([(name, facts)])
        finally:
            os.close(above)
        return
    top = os.open(b".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
    try:
        prefix = b"./" if path.endswith(b"/.") else name + b"/" if name else b""
        if prefix:
            yield _header(prefix, facts)
        inner = replace(options, prefix=prefix)
        yield from Packer(top, inner).entries(walk(top, one_device=True))
    finally:
        os.close(top)


def _header(name: bytes, facts: os.stat_result) -> bytes:
    return tarwrite.header(
        name,
        tar.DIRECTORY,
        mode=stat.S_IMODE(facts.st_mode),
        uid=facts.st_uid,
        gid=facts.st_gid,
        mtime=int(facts.st_mtime),
    )


def layer_of(directory: int, path: bytes) -> Iterator[bytes]:
    """The entries of a layer in which ``path`` is as ``directory``, whatever the layers below have
    there, without the archive's end."""
    prefix = path.strip(b"/") + b"/"
    yield _header(prefix, os.fstat(directory))
    yield tarwrite.header(prefix + OPAQUE, mode=0)
    packer = Packer(directory, Options(prefix=prefix))
    for name, facts in walk(directory, one_device=True):
        yield from packer.entry(name, facts)


def unpack_tree(
    root: int,
    path: bytes,
    stream: int,
    *,
    owner: tuple[int, int] | None = None,
    keep_kinds: bool = False,
) -> Outcome:
    """Extract the (maybe compressed) tar in ``stream`` into the directory ``path`` below ``root``.

    Links in the tar's names are followed inside ``root``. ``owner`` replaces the tar's owners;
    ``keep_kinds`` refuses to replace a directory by something else, or the other way. Raises
    NotFound, and InvalidArgument when ``path`` is not a directory.
    """
    fd = _open(root, path.rstrip(b"/") + b"/", os.O_PATH)
    is_directory = stat.S_ISDIR(os.fstat(fd).st_mode)
    os.close(fd)
    if not is_directory:
        raise InvalidArgument(f"{os.fsdecode(path)} is not a directory")
    blocks = tar.Stream(decompress(Input(fd_reader(stream))))
    with Extractor(
        root,
        base=path.strip(b"/"),
        whiteouts=Whiteouts.LITERAL,
        owner=owner,
        keep_kinds=keep_kinds,
    ) as extractor:
        return extract_all(blocks, extractor, Limits())


def _open(root: int, path: bytes, flags: int) -> int:
    if b"\0" in path:
        raise InvalidArgument("a path holds a NUL")
    follow = path.endswith((b"/", b"/.")) or not path.strip(b"/")
    try:
        return syscalls.openat2(
            root, path or b"/", flags if follow else flags | os.O_NOFOLLOW, 0, _IN_ROOT
        )
    except OSError as error:
        if error.errno == errno.ENOTDIR and follow:
            raise InvalidArgument(f"{os.fsdecode(path)} is not a directory") from error
        if error.errno in _ABSENT:
            raise NotFound("path in the container", os.fsdecode(path)) from error
        raise


def _name(path: bytes) -> bytes:
    """The last name of ``path``; empty for the root and for what ends with ``/.``."""
    name = b"" if path.endswith(b"/.") else path.rstrip(b"/").rpartition(b"/")[2]
    return b"" if name in (b".", b"..") else name
