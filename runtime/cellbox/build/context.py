"""The context of a build: the files that COPY and ADD copy from, and the Dockerfile among them.

It comes as a tar, compressed or not, or as a directory. A tar is kept in a file of no name for as
long as the build goes on, and is not unpacked.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from cellbox.build import copying, ignore, tree
from cellbox.build.archives import spooled
from cellbox.build.tree import Kind, Node
from cellbox.errors import InvalidArgument

DOCKERFILE = "Dockerfile"
IGNORE = ".dockerignore"
_UNSEEN = ".dockerfile.cellbox"
MAX_DOCKERFILE = 1 << 24


@dataclass(frozen=True)
class Context:
    """The files, and the text of the Dockerfile."""

    root: Node
    dockerfile: str


@contextmanager
def opened(source: BinaryIO | Path, dockerfile: str = "") -> Iterator[Context]:
    """The context in a tar or a directory, for as long as the block goes on. Raises
    InvalidArgument, and OSError of the source."""
    name = dockerfile or DOCKERFILE
    if isinstance(source, Path):
        root, found = _of_directory(source, name)
        yield Context(root, found)
        return
    with ExitStack() as held:
        root = tree.of_tar(held.enter_context(spooled(source)))
        text = _text(tree.find(root, _relative(name)), name, root, dockerfile)
        _leave_out(root, name)
        yield Context(root, text)


def _of_directory(path: Path, name: str) -> tuple[Node, str]:
    """A directory of this machine. A Dockerfile may be outside of it, and may have an ignore file
    of its own beside it."""
    if not path.is_dir():
        raise InvalidArgument(f"unable to prepare context: {path} is no directory")
    place = path / name
    if not place.is_file() and name == DOCKERFILE:
        place = next((one for one in [path / "dockerfile"] if one.is_file()), place)
    try:
        text = place.read_bytes()
    except OSError as error:
        raise InvalidArgument(
            f"failed to read dockerfile: open {place}: {(error.strerror or '').lower()}"
        ) from None
    patterns = next(
        (one for one in (Path(f"{place}{IGNORE}"), path / IGNORE) if one.is_file()), None
    )
    told = ignore.parse(patterns.read_text("utf-8", "replace")) if patterns else []
    return tree.of_directory(path, ignore.Ignore(told)), _decoded(text)


def _text(node: Node | None, name: str, root: Node, asked: str) -> str:
    if node is None and not asked:
        node = tree.find(root, "dockerfile")
    if node is None or node.kind is not Kind.FILE:
        raise InvalidArgument(f"Cannot locate specified Dockerfile: {name}")
    if node.size > MAX_DOCKERFILE:
        raise InvalidArgument(f"the Dockerfile is larger than {MAX_DOCKERFILE} bytes")
    with node.open() as file:
        return _decoded(file.read())


def _decoded(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _relative(name: str) -> str:
    names = tree.parts_of(name)
    if ".." in names:
        raise InvalidArgument(f"the Dockerfile ({name}) must be within the build context")
    return "/".join(names)


def _leave_out(root: Node, dockerfile: str) -> None:
    """A client applies .dockerignore before it sends, but must send that file and the Dockerfile:
    these two are left out here if they are ignored."""
    node = root.entries.get(IGNORE)
    if node is None or node.kind is not Kind.FILE or node.size > MAX_DOCKERFILE:
        return
    with node.open() as file:
        ignored = ignore.Ignore(ignore.parse(_decoded(file.read())))
    for name in (IGNORE, _relative(dockerfile)):
        parent = tree.find(root, name.rpartition("/")[0])
        if ignored.matches(name) and parent is not None:
            parent.entries.pop(name.rpartition("/")[2], None)


# Sending -----------------------------------------------------------------------------------------


def sent(source: BinaryIO | Path, dockerfile: str = "") -> tuple[BinaryIO, str]:
    """A context as it is sent to a daemon: a tar, and the Dockerfile's name in it. A directory's
    ignore file is applied; a Dockerfile from elsewhere gets a name of its own, which no COPY
    sees. Raises as :func:`opened`."""
    if not isinstance(source, Path):
        return source, dockerfile
    root, text = _of_directory(source, dockerfile or DOCKERFILE)
    name = _UNSEEN
    if (source / name).exists():
        raise InvalidArgument(f"{source / name} is in the way: the Dockerfile is sent as that")
    known = root.entries.get(IGNORE)
    patterns = b"" if known is None else known.open().read() + b"\n"
    hidden = f"{IGNORE}\n{name}\n" if known is None else f"{name}\n"
    root.entries[IGNORE] = tree.file(patterns + hidden.encode())
    root.entries[name] = tree.file(text.encode())
    files = copying.place([copying.Source("", root)], "", "", copying.Wish())
    return copying.reader(copying.packed(files)), name
