"""Files of an image as sources of COPY: brought out of a container that was made for it."""

from __future__ import annotations

import stat
import tempfile
from contextlib import ExitStack
from posixpath import dirname
from typing import BinaryIO, cast

from cellbox.build import copying, tree
from cellbox.build.copying import Source
from cellbox.build.tree import Kind, Node
from cellbox.engine import Files
from cellbox.errors import InvalidArgument, NotFound

_MAX_LINKS = 40


class ImageFiles:
    """The files of ``container``; what is brought is kept until ``held`` ends."""

    def __init__(self, files: Files, container: str, held: ExitStack) -> None:
        self._files = files
        self._container = container
        self._held = held

    def select(self, source: str) -> list[Source]:
        """As :func:`copying.select` for a tree; links lead to where they do in the image."""
        names = tree.parts_of(source)
        if not copying.is_pattern(source):
            return [Source(names[-1] if names else "", self._bring("/" + "/".join(names)))]
        fixed = next(count for count, name in enumerate(names) if copying.is_pattern(name))
        above = "/" + "/".join(names[:fixed])
        root = self._bring(above)
        found = []
        for path in copying.matching(root, "/".join(names[fixed:])):
            node = tree.find(root, path, follow=False)
            if node is not None and node.kind is Kind.LINK:
                node = self._bring(f"{above}/{path}")
            if node is not None:
                found.append(Source(path.rpartition("/")[2], node))
        return found

    def with_parents(self, source: str) -> list[Source]:
        """As :func:`copying.with_parents` for a tree."""
        return [copying.with_parents(self._bring("/"), source)]

    def _bring(self, path: str) -> Node:
        try:
            place = followed(self._files, self._container, path)
        except NotFound:
            raise InvalidArgument(f"COPY failed: stat {path}: file does not exist") from None
        archive = self._held.enter_context(tempfile.TemporaryFile(prefix="cellbox-build-"))
        self._files.get(self._container, place, cast(BinaryIO, archive))
        root = tree.of_tar(cast(BinaryIO, archive))
        names = tree.parts_of(place)
        return root.entries[names[-1]] if names else root


def followed(files: Files, container: str, path: str) -> str:
    """Where ``path`` of a container is when links at its end are followed. Raises NotFound, and
    InvalidArgument for links without end."""
    place = path
    for _ in range(_MAX_LINKS):
        found = files.stat(container, place)
        if not stat.S_ISLNK(found.mode):
            return place
        target = found.target
        place = target if target.startswith("/") else f"{dirname(place)}/{target}"
    raise InvalidArgument(f"COPY failed: {path}: too many levels of symbolic links")
