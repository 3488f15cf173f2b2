"""A tree of files in memory, whose contents stay where they are: in a tar, or in a directory.

What a build copies from is never unpacked on this machine: names, modes and links of a stranger's
tar are facts here, and a link leads to where it does inside the tree.
"""

from __future__ import annotations

import io
import os
import stat
import tarfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO

from cellbox.build.ignore import Ignore
from cellbox.errors import InvalidArgument

MAX_ENTRIES = 1 << 20
_MAX_LINKS = 40
_XATTR = "SCHILY.xattr."


class Kind(StrEnum):
    """What a node is. ``OTHER`` are devices and pipes."""

    FILE = "file"
    DIRECTORY = "dir"
    LINK = "link"
    OTHER = "other"


def _nothing() -> BinaryIO:
    return io.BytesIO()


@dataclass(eq=False)
class Node:
    """One file; ``open`` gives the ``size`` bytes of its content, ``target`` is where a link leads.
    ``mode`` are the permission bits, ``mtime`` seconds; two names of one node are hard links."""

    kind: Kind
    mode: int = 0o755
    uid: int = 0
    gid: int = 0
    mtime: float = 0.0
    size: int = 0
    target: str = ""
    open: Callable[[], BinaryIO] = _nothing
    xattrs: Mapping[str, str] = field(default_factory=dict)
    entries: dict[str, Node] = field(default_factory=dict)
    member: tarfile.TarInfo | None = None
    """What a device is, for an ``OTHER``."""


def file(data: bytes, mtime: float = 0.0) -> Node:
    """A file with this content."""
    return Node(Kind.FILE, 0o644, mtime=mtime, size=len(data), open=lambda: io.BytesIO(data))


# Looking -----------------------------------------------------------------------------------------


def parts_of(path: str) -> list[str]:
    """The names of a path, without empty ones and ``.``."""
    return [name for name in path.split("/") if name not in ("", ".")]


def find(root: Node, path: str, *, follow: bool = True) -> Node | None:
    """What is at ``path``; None where nothing is. Links on the way lead inside the tree, and with
    ``follow`` so does one at the end. Raises InvalidArgument for links without end."""
    return _Walk(root).to(path, follow)


class _Walk:
    """One way through a tree."""

    def __init__(self, root: Node) -> None:
        self._root = root
        self._links = 0

    def to(self, path: str, follow: bool) -> Node | None:
        way, left = [self._root], parts_of(path)[::-1]
        while left:
            name = left.pop()
            if name == "..":
                way = way[:-1] or [self._root]
                continue
            found = way[-1].entries.get(name)
            if found is None:
                return None
            if found.kind is Kind.LINK and (left or follow):
                self._count(path)
                if found.target.startswith("/"):
                    way = [self._root]
                left += parts_of(found.target)[::-1]
                continue
            way.append(found)
        return way[-1]

    def _count(self, path: str) -> None:
        self._links += 1
        if self._links > _MAX_LINKS:
            raise InvalidArgument(f"{path}: too many levels of symbolic links")


def walk(node: Node, name: str) -> Iterator[tuple[str, Node]]:
    """``node`` under ``name`` and all below it, parents first, by name."""
    yield name, node
    for child in sorted(node.entries):
        yield from walk(node.entries[child], f"{name}/{child}" if name else child)


# Tars --------------------------------------------------------------------------------------------


def of_tar(archive: BinaryIO) -> Node:
    """The tree in a plain tar, a file of our own that is open as long as its contents are wanted.

    Raises InvalidArgument for what is no tar, and for names that lead out of the tree.
    """
    root = Node(Kind.DIRECTORY)
    length = archive.seek(0, io.SEEK_END)
    # The docker command line ends its tars right after the last byte of the last file.
    archive.write(bytes(-length % tarfile.BLOCKSIZE + 2 * tarfile.BLOCKSIZE))
    archive.seek(0)
    try:
        opened = tarfile.open(fileobj=archive, mode="r:")  # noqa: SIM115 (see above)
        for count, member in enumerate(opened):
            if count >= MAX_ENTRIES:
                raise InvalidArgument(f"the archive has more than {MAX_ENTRIES} entries")
            if member.isreg() and member.sparse is None:
                _check_length(member, length)
            _add(root, member, _node(opened, member))
        archive.seek(opened.offset)
        if any(archive.read(tarfile.BLOCKSIZE)):  # which tarfile takes for the end
            raise InvalidArgument("the archive is damaged: a header's checksum is wrong")
    except (tarfile.TarError, OSError, ValueError, OverflowError) as error:
        raise InvalidArgument(f"cannot read the archive: {error}") from None
    return root


def _check_length(member: tarfile.TarInfo, length: int) -> None:
    if member.offset_data + member.size > length:
        raise InvalidArgument(f"the archive ends in the middle of {member.name}")


def _node(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Node:
    def content() -> BinaryIO:
        found = archive.extractfile(member)
        return io.BytesIO() if found is None else found  # type: ignore[return-value]

    xattrs = {key: value for key, value in member.pax_headers.items() if key.startswith(_XATTR)}
    return Node(
        _kind(member),
        stat.S_IMODE(member.mode),
        member.uid,
        member.gid,
        member.mtime,
        member.size if member.isreg() else 0,
        member.linkname if member.issym() else "",
        content,
        xattrs,
        member=member,
    )


def _kind(member: tarfile.TarInfo) -> Kind:
    if member.isreg():
        return Kind.FILE
    if member.isdir():
        return Kind.DIRECTORY
    return Kind.LINK if member.issym() else Kind.OTHER


def _add(root: Node, member: tarfile.TarInfo, node: Node) -> None:
    names = _safe(member.name)
    if not names:  # the root itself
        root.mode, root.uid, root.gid, root.mtime = node.mode, node.uid, node.gid, node.mtime
        return
    parent = _parent(root, names, member.name)
    if member.islnk():
        first = _parent(root, linked := _safe(member.linkname), member.linkname)
        found = first.entries.get(linked[-1]) if linked else None
        if found is None or found.kind is Kind.DIRECTORY:
            raise InvalidArgument(f"{member.name}: a hard link to nothing: {member.linkname}")
        node = found
    before = parent.entries.get(names[-1])
    if before is not None and before.kind is node.kind is Kind.DIRECTORY:
        node.entries = before.entries
    parent.entries[names[-1]] = node


def _safe(name: str) -> list[str]:
    names = parts_of(name)
    if ".." in names or "\0" in name:
        raise InvalidArgument(f"{name!r} leads out of the archive")
    return names


def _parent(root: Node, names: list[str], told: str) -> Node:
    """The directory of a name; what is missing is made. A link is no directory here: what an
    archive writes through one would be somewhere else."""
    node = root
    for name in names[:-1]:
        node = node.entries.setdefault(name, Node(Kind.DIRECTORY))
        if node.kind is not Kind.DIRECTORY:
            raise InvalidArgument(f"{told!r} is below something that is no directory")
    return node


# Directories -------------------------------------------------------------------------------------


def of_directory(path: Path, ignore: Ignore) -> Node:
    """The tree of a directory of this machine, without what ``ignore`` leaves out, sockets, and
    owners: all belongs to root. Raises OSError."""
    return _directory(str(path), "", os.stat(path), ignore)


def _directory(path: str, prefix: str, facts: os.stat_result, ignore: Ignore) -> Node:
    node = _facts(Kind.DIRECTORY, facts)
    with os.scandir(path) as entries:
        for entry in entries:
            name = prefix + entry.name
            left_out = bool(ignore) and ignore.matches(name)
            is_directory = entry.is_dir(follow_symlinks=False)
            if left_out and not (is_directory and ignore.takes_back):
                continue
            found = entry.stat(follow_symlinks=False)
            if is_directory:
                child = _directory(entry.path, f"{name}/", found, ignore)
                if left_out and not child.entries:
                    continue
                node.entries[entry.name] = child
            elif entry.is_symlink():
                node.entries[entry.name] = _facts(Kind.LINK, found, target=os.readlink(entry.path))
            elif stat.S_ISREG(found.st_mode):
                node.entries[entry.name] = _file(entry.path, found)
    return node


def _file(path: str, facts: os.stat_result) -> Node:
    def content() -> BinaryIO:
        return open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb")

    node = _facts(Kind.FILE, facts)
    node.size, node.open = facts.st_size, content
    return node


def _facts(kind: Kind, facts: os.stat_result, target: str = "") -> Node:
    mode = 0o777 if kind is Kind.LINK else stat.S_IMODE(facts.st_mode)
    return Node(kind, mode, mtime=facts.st_mtime, target=target)
