"""What COPY and ADD bring: which files, under which names, and the tar that holds them.

Sources are found in a tree, patterns are Go's ``filepath.Match``, and a link that is named itself
is followed. A digest over names, owners, modes and contents, without times, is the key by which a
step is found again, so that a touched file changes nothing.
"""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import BinaryIO, cast

from cellbox.build import tree
from cellbox.build.archives import plain, spooled
from cellbox.build.ignore import Ignore
from cellbox.build.modes import Modes
from cellbox.build.tree import Kind, Node
from cellbox.errors import InvalidArgument

_MAGIC = frozenset("*?[\\")
_CHUNK = 1 << 18
_END = bytes(2 * tarfile.BLOCKSIZE)


@dataclass(frozen=True)
class Source:
    """One thing to be copied, under its own ``name``. What is ``unpacked`` came out of an archive:
    it goes into the destination as it is, with its owners."""

    name: str
    node: Node
    unpacked: bool = False

    @property
    def spread(self) -> bool:
        """Is it the content of a directory that is copied, not the thing itself?"""
        return self.node.kind is Kind.DIRECTORY


@dataclass(frozen=True)
class Placed:
    """A file with the path it will have below the base of the copy."""

    path: str
    node: Node
    uid: int
    gid: int
    mode: int


# Finding -----------------------------------------------------------------------------------------


def is_pattern(path: str) -> bool:
    """Does a source name several files?"""
    return not _MAGIC.isdisjoint(path)


def select(root: Node, source: str) -> list[Source]:
    """What ``source`` names in a tree: one thing, or all that its pattern matches. Nothing that a
    plain path names is an error, InvalidArgument; so is a path with ``..`` at its end's side."""
    if not is_pattern(source):
        node = tree.find(root, source)
        if node is None:
            raise InvalidArgument(missing(source))
        return [Source(_last_name(source), node)]
    found = []
    for path in matching(root, source):
        node = tree.find(root, path)
        if node is not None:  # a link that leads nowhere matches nothing
            found.append(Source(_last_name(path), node))
    return found


def with_parents(root: Node, source: str) -> Source:
    """What ``source`` names, below the directories that lead to it from ``/./`` on (from the root
    where there is none), as COPY --parents has it. Raises InvalidArgument."""
    above, pivot, below = source.partition("/./")
    top = tree.find(root, above) if pivot else root
    wanted = below if pivot else source
    if top is None or (not is_pattern(wanted) and tree.find(top, wanted, follow=False) is None):
        raise InvalidArgument(missing(source))
    kept = replace(top, entries={})
    for path in matching(top, wanted):
        if not _keep(top, kept, tree.parts_of(path)):
            raise InvalidArgument(missing(source))
    return Source("", kept)


def _keep(node: Node, kept: Node, names: list[str]) -> bool:
    """Put what is at ``names`` below ``node`` there below ``kept``; links on the way lead nowhere,
    since there are no parents to keep behind one. Was it there?"""
    for name in names[:-1]:
        node = node.entries[name]
        if node.kind is not Kind.DIRECTORY:
            return False
        kept = kept.entries.setdefault(name, replace(node, entries={}))
    chosen = {name: node.entries[name] for name in names[-1:]}
    kept.entries.update(chosen if names else node.entries)
    return True


def excluding(source: Source, ignore: Ignore) -> Source | None:
    """The source without what --exclude matches: its own name, or paths below a directory."""
    if not source.spread:
        return None if ignore.matches(source.name) else source
    return replace(source, node=_excluding(source.node, "", ignore))


def _excluding(node: Node, prefix: str, ignore: Ignore) -> Node:
    entries = {}
    for name, child in node.entries.items():
        path = f"{prefix}{name}"
        left_out = ignore.matches(path)
        if child.kind is Kind.DIRECTORY and (ignore.takes_back or not left_out):
            child = _excluding(child, f"{path}/", ignore)
            left_out = left_out and not child.entries
        if not left_out:
            entries[name] = child
    return replace(node, entries=entries)


def matching(root: Node, pattern: str) -> list[str]:
    """The paths of a tree that a pattern matches, sorted. Raises InvalidArgument."""
    return sorted(set(_matching(root, tree.parts_of(pattern), "")))


def missing(source: str) -> str:
    """Docker's sentence for a source that is not there."""
    return (
        "COPY failed: file not found in build context or excluded by .dockerignore: "
        f"stat {source.lstrip('/')}: file does not exist"
    )


def _last_name(path: str) -> str:
    names = tree.parts_of(path)
    return names[-1] if names and names[-1] != ".." else ""


def _matching(root: Node, names: list[str], prefix: str) -> Iterator[str]:
    if not names:
        yield prefix
        return
    if names[0] == "**":
        yield from _anywhere(root, names, prefix)
        return
    pattern = _name_pattern(names[0])
    here = tree.find(root, prefix)
    for name in here.entries if here else ():
        if pattern.fullmatch(name):
            yield from _matching(root, names[1:], f"{prefix}/{name}" if prefix else name)


def _anywhere(root: Node, names: list[str], prefix: str) -> Iterator[str]:
    """``**``: this directory, and every one below that is no link."""
    here = tree.find(root, prefix, follow=False)
    if here is None or here.kind is not Kind.DIRECTORY:
        return
    yield from _matching(root, names[1:], prefix)
    for name in here.entries:
        yield from _anywhere(root, names, f"{prefix}/{name}" if prefix else name)


def _name_pattern(text: str) -> re.Pattern[str]:
    """Go's ``filepath.Match`` for one name."""
    out, at = "", 0
    while at < len(text):
        char = text[at]
        at += 1
        if char == "\\" and at < len(text):
            out += re.escape(text[at])
            at += 1
        elif char == "[" and (end := text.find("]", at + 1)) > 0:
            out += f"[{text[at:end]}]"
            at = end + 1
        else:
            out += {"*": "[^/]*", "?": "[^/]"}.get(char, re.escape(char))
    try:
        return re.compile(out, re.DOTALL)
    except re.error:
        raise InvalidArgument(f"syntax error in pattern: {text}") from None


# Archives ----------------------------------------------------------------------------------------


def unpacked(source: Source, held: ExitStack) -> Source:
    """What ADD makes of a source: a tar, compressed or not, is what it holds. Its file is kept
    until ``held`` ends."""
    if source.node.kind is not Kind.FILE or not _holds_tar(source.node):
        return source
    archive = held.enter_context(source.node.open())
    root = tree.of_tar(held.enter_context(spooled(archive)))
    return Source(source.name, root, unpacked=True)


def _holds_tar(node: Node) -> bool:
    """Is there an entry of a tar at its beginning?"""
    with node.open() as file:
        try:
            head = plain(file).read(tarfile.BLOCKSIZE)
            tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape")
        except Exception:  # whatever a decompressor or tarfile has against it, it is no tar
            return False
    return True


# Placing -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Wish:
    """How the files are to be in the image: their owner, and how their modes change. None is the
    source's own, or root's for what comes from the context."""

    owner: tuple[int, int] | None = None
    modes: Modes | None = None
    keeps_owners: bool = False

    def placed(self, path: str, node: Node, *, unpacked: bool) -> Placed:
        """The node at ``path``, with the owner and mode it gets."""
        keeps = self.keeps_owners or unpacked
        uid, gid = self.owner or ((node.uid, node.gid) if keeps else (0, 0))
        mode = node.mode
        if self.modes and node.kind in (Kind.FILE, Kind.DIRECTORY):
            mode = self.modes.apply(mode, node.kind is Kind.DIRECTORY)
        return Placed(path, node, uid, gid, mode)


def place(sources: Sequence[Source], name: str, into: str, wish: Wish) -> Iterator[Placed]:
    """The files with their paths: content of directories goes below ``into``, a single file is
    ``into/name``, or ``into/`` and its own name where ``name`` is empty."""
    for source in sources:
        own = "" if source.spread else _joined(into, name or source.name)
        top = into if source.spread else own
        for path, node in tree.walk(source.node, top):
            if source.spread and node is source.node:
                continue
            yield wish.placed(path, node, unpacked=source.unpacked)


def _joined(into: str, name: str) -> str:
    return f"{into}/{name}" if into else name


# Digest ------------------------------------------------------------------------------------------


def digest(sources: Iterable[Source], keeps_owners: bool) -> str:
    """64 hex digits that stand for names, kinds, modes, links and contents, and for owners where
    they are kept."""
    total = hashlib.sha256()
    for source in sources:
        keeps = keeps_owners or source.unpacked
        for path, node in tree.walk(source.node, "" if source.spread else source.name):
            root = source.spread and node is source.node
            total.update(repr(_facts(path, node, keeps, root)).encode("utf-8", "surrogateescape"))
    return total.hexdigest()


def _facts(path: str, node: Node, keeps_owners: bool, root: bool) -> tuple[object, ...]:
    if root:  # the directory itself is not copied, only what is in it
        return ("root",)
    owner = (node.uid, node.gid) if keeps_owners else ()
    member = node.member if node.kind is Kind.OTHER else None
    device = (member.type, member.devmajor, member.devminor) if member else ()
    content = _content_digest(node) if node.kind is Kind.FILE else ""
    facts = (path, str(node.kind), node.mode, node.target, owner, device, content)
    return (*facts, *sorted(node.xattrs.items()))


def _content_digest(node: Node) -> str:
    with node.open() as file:
        found = hashlib.sha256()
        while block := file.read(_CHUNK):
            found.update(block)
    return found.hexdigest()


# Packing -----------------------------------------------------------------------------------------


def packed(files: Iterable[Placed]) -> Iterator[bytes]:
    """The files as a tar, in pieces. Raises InvalidArgument for a file that changes meanwhile."""
    names: dict[int, str] = {}
    for one in files:
        first = names.setdefault(id(one.node), one.path)
        linked = first != one.path and one.node.kind is Kind.FILE
        header = _header(one, first if linked else "")
        yield header.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
        if header.size:
            yield from _content(one)
            yield bytes(-header.size % tarfile.BLOCKSIZE)
    yield _END


def _header(one: Placed, first: str) -> tarfile.TarInfo:
    node = one.node
    header = tarfile.TarInfo(one.path)
    header.mode, header.mtime = one.mode, node.mtime
    header.uid, header.gid = one.uid, one.gid
    header.pax_headers = dict(node.xattrs)
    if first:
        header.type, header.linkname = tarfile.LNKTYPE, first
    elif node.kind is Kind.FILE:
        header.size = node.size
    elif node.kind is Kind.LINK:
        header.type, header.linkname = tarfile.SYMTYPE, node.target
    elif node.kind is Kind.DIRECTORY:
        header.type = tarfile.DIRTYPE
    elif node.member is not None:
        header.type = node.member.type
        header.devmajor, header.devminor = node.member.devmajor, node.member.devminor
    return header


def _content(one: Placed) -> Iterator[bytes]:
    left = one.node.size
    with one.node.open() as file:
        while left and (block := file.read(min(left, _CHUNK))):
            left -= len(block)
            yield block
    if left:
        raise InvalidArgument(f"{one.path} has become shorter while it was being copied")


def directories(path: str, uid: int, gid: int, mtime: float) -> Iterator[Placed]:
    """Every directory of the relative ``path``, from the top, as COPY and WORKDIR make them."""
    names = tree.parts_of(path)
    for count in range(1, len(names) + 1):
        yield Placed("/".join(names[:count]), Node(Kind.DIRECTORY, mtime=mtime), uid, gid, 0o755)


class _Pieces(io.RawIOBase):
    """A file whose content comes in pieces."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._rest = piece
        taken = self._rest[: len(buffer)]
        self._rest = self._rest[len(taken) :]
        buffer[: len(taken)] = taken
        return len(taken)


def reader(pieces: Iterable[bytes]) -> BinaryIO:
    """A file whose content are these pieces."""
    return cast(BinaryIO, io.BufferedReader(_Pieces(pieces), 1 << 18))
