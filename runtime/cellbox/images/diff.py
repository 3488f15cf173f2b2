"""What a writable directory changed, in Docker's letters: ``C`` changed, ``A`` added, ``D`` gone.

Two ways, by what the snapshotter gives. An overlay's upper directory holds the changes only, with
whiteouts and opaque directories (:func:`upper_changes`). A plain copy holds everything and is
compared with the layers it was made from (:func:`copy_changes`). A directory above a change is told
as changed.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence

from cellbox.images.extract import OPAQUE_XATTR
from cellbox.images.trees import is_whiteout, listing, open_inside, walk

Changes = dict[bytes, str]
_HIDDEN = (errno.ENOTDIR, errno.ELOOP)


class Merged:
    """Layers as one tree, read without mounting; ``lowers`` are descriptors, the topmost first."""

    def __init__(self, lowers: Sequence[int]) -> None:
        self._lowers = lowers
        self._opaque: dict[tuple[int, bytes], bool] = {}

    def stat(self, path: bytes) -> os.stat_result | None:
        """The facts of ``path``, None where the layers show nothing."""
        for lower in self._lowers:
            try:
                fd = open_inside(lower, path, os.O_PATH)
            except FileNotFoundError:
                if self._hides(lower, path.rpartition(b"/")[0]):
                    return None
                continue
            except OSError as error:
                if error.errno in _HIDDEN:
                    return None
                raise
            facts = os.fstat(fd)
            os.close(fd)
            return None if is_whiteout(facts) else facts
        return None

    def _hides(self, lower: int, path: bytes) -> bool:
        """Does ``lower`` have ``path`` or a directory above it as opaque?"""
        while True:
            key = (lower, path)
            if key not in self._opaque:
                self._opaque[key] = is_opaque(lower, path)
            if self._opaque[key] or not path:
                return self._opaque[key]
            path = path.rpartition(b"/")[0]

    def children(self, path: bytes) -> list[bytes]:
        """The paths that the directory ``path`` shows, sorted."""
        found: set[bytes] = set()
        for lower in self._lowers:
            try:
                found.update(name for name, _ in listing(lower, path))
            except FileNotFoundError:
                pass
            except OSError as error:
                if error.errno not in _HIDDEN:
                    raise
                break
            if self._hides(lower, path):
                break
        return sorted(name for name in found if self.stat(name) is not None)

    def walk(self, path: bytes = b"") -> Iterator[bytes]:
        """Every path that the layers show below ``path``."""
        pending = self.children(path)[::-1]
        while pending:
            path = pending.pop()
            yield path
            facts = self.stat(path)
            if facts is not None and stat.S_ISDIR(facts.st_mode):
                pending += self.children(path)[::-1]


def is_opaque(root: int, path: bytes) -> bool:
    """Is there a directory ``path`` below ``root`` that hides what is below it in lower layers?"""
    try:
        fd = open_inside(root, path, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return False
    try:
        return os.getxattr(fd, OPAQUE_XATTR) == b"y"
    except OSError:
        return False
    finally:
        os.close(fd)


def upper_changes(upper: int, lowers: Sequence[int]) -> Changes:
    """The changes in an overlay's upper directory, by path."""
    merged = Merged(lowers)
    changes: Changes = {}
    for path, facts in walk(upper):
        before = merged.stat(path)
        if is_whiteout(facts):
            if before is not None:
                changes[path] = "D"
        elif before is None:
            changes[path] = "A"
        elif not (_both_directories(before, facts) and _same(before, facts)):
            changes[path] = "C"
        if before is not None and stat.S_ISDIR(facts.st_mode) and is_opaque(upper, path):
            _replaced(upper, path, merged, changes)
    return _with_parents(changes)


def _replaced(upper: int, path: bytes, merged: Merged, changes: Changes) -> None:
    """An opaque directory: what the layers had there, and it has not, is deleted."""
    there = {name for name, _ in listing(upper, path)}
    for name in merged.children(path):
        if name not in there:
            changes[name] = "D"


def copy_changes(root: int, lowers: Sequence[int]) -> Changes:
    """The changes in a plain copy of ``lowers``, by path; times are compared in whole seconds."""
    merged = Merged(lowers)
    changes: Changes = {}
    there = set()
    for path, facts in walk(root):
        there.add(path)
        before = merged.stat(path)
        if before is None:
            changes[path] = "A"
        elif not _same(before, facts):
            changes[path] = "C"
    gone = b"\0"
    for path in merged.walk():
        if path not in there and not path.startswith(gone):
            changes[path] = "D"
            gone = path + b"/"
    return _with_parents(changes)


def take_points(
    changes: Changes, points: Sequence[bytes], upper: int, lowers: Sequence[int]
) -> list[bytes]:
    """Take out of ``changes`` what was made in ``upper`` for mounts on ``points``; those paths.

    A mount needs a name to be on. Where the layers have none, an empty file or directory is made,
    with the directories above it; that is no change of the container's. Neither is the new time of
    the directory that holds such a name, where nothing else in it has changed.
    """
    merged = Merged(lowers)
    taken: list[bytes] = []
    for path in _deepest_first(points):
        below = path + b"/"
        if path not in changes or any(other.startswith(below) for other in changes):
            continue
        if changes[path] == "C" and not any(other.startswith(below) for other in taken):
            continue
        if _is_bare(upper, path, merged.stat(path)):
            del changes[path]
            taken.append(path)
    return taken


def _deepest_first(points: Sequence[bytes]) -> list[bytes]:
    """``points`` and all directories above them."""
    found: set[bytes] = set()
    for path in points:
        while path:
            found.add(path)
            path = path.rpartition(b"/")[0]
    return sorted(found, key=lambda path: (-path.count(b"/"), path))


def _is_bare(upper: int, path: bytes, before: os.stat_result | None) -> bool:
    """Is ``path`` as a mount leaves it: new and empty, or a directory with another time?"""
    fd = open_inside(upper, path, os.O_PATH)
    try:
        now = os.fstat(fd)
    finally:
        os.close(fd)
    if before is None:
        return stat.S_ISDIR(now.st_mode) or (stat.S_ISREG(now.st_mode) and not now.st_size)
    return _both_directories(before, now) and _facts(before)[:-1] == _facts(now)[:-1]


def _both_directories(one: os.stat_result, other: os.stat_result) -> bool:
    return stat.S_ISDIR(one.st_mode) and stat.S_ISDIR(other.st_mode)


def _same(one: os.stat_result, other: os.stat_result) -> bool:
    return _facts(one) == _facts(other)


def _facts(facts: os.stat_result) -> tuple[int, ...]:
    size = 0 if stat.S_ISDIR(facts.st_mode) else facts.st_size
    seconds = facts.st_mtime_ns // 1_000_000_000
    return facts.st_mode, facts.st_uid, facts.st_gid, size, facts.st_rdev, seconds


def _with_parents(changes: Changes) -> Changes:
    for path in list(changes):
        above = path.rpartition(b"/")[0]
        while above and above not in changes:
            changes[above] = "C"
            above = above.rpartition(b"/")[0]
    return dict(sorted(changes.items()))
