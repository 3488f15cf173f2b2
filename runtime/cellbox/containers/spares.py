"""Root file systems that are mounted before it is known for which container.

Most of a start is spent on its overlay: mounting it, and letting go of what was the root before.
Who starts two containers from one image may well start a third, so init is given such an overlay
while it waits in reserve, over a writable directory of nobody's, a :class:`Spare`. If the guess was
right the container's own directory, as long as nothing was written to it, changes places with the
spare one (renameat2(2), RENAME_EXCHANGE), which overlayfs does not notice; what comes back is the
next spare. If it was wrong the spare is thrown away.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from cellbox.containers import etc
from cellbox.containers.messages import Preparation
from cellbox.linux import syscalls, trees
from cellbox.linux.mounts import Mount

FOLDER = "spare"
"""Below the store, beside the containers, so that one can be renamed to the other."""

Facts = tuple[tuple[int, int, int, tuple[tuple[str, bytes], ...]], ...]
"""Mode, owner, group and extended attributes, of a writable directory and the two in it."""


@dataclass(frozen=True)
class Wanted:
    """A root that the next container may want too: the overlay, its upper and working directory
    without their folder, what that looks like before anything was written there, and the
    ``places`` of the files that the engine will mount in it."""

    mount: Mount
    facts: Facts
    places: tuple[str, ...] = ()


def wanted(mounts: Sequence[Mount]) -> Wanted | None:
    """What is to be prepared for containers like the one with ``mounts``, which was not started
    yet; None where it can't be, as with several writable parts, or was written to before."""
    root = mounts[0]
    if not root.upper or any(one.kind == "overlay" for one in mounts[1:]):
        return None
    facts = _unused(root)
    nobodys = replace(root, upper=os.path.basename(root.upper), work=os.path.basename(root.work))
    return Wanted(nobodys, facts, _places(mounts)) if facts else None


def _places(mounts: Sequence[Mount]) -> tuple[str, ...]:
    if any(one.target == "/etc" for one in mounts):
        return ()  # they will be in there
    given = etc.sources(os.path.dirname(os.path.dirname(mounts[0].upper)))
    return tuple(one.target for one in mounts if one.source and given.get(one.target) == one.source)


def possible(prepared: Preparation) -> bool:
    """Can another root be built after one with these mounts? The kernel gives nobody a new /proc or
    /sys who does not see one already (mount_too_revealing)."""
    return {"/proc", "/sys"} <= {mount.target for mount in prepared.mounts}


def _unused(root: Mount) -> Facts | None:
    folder = os.path.dirname(root.upper)
    try:
        if sorted(os.listdir(folder)) != sorted(map(os.path.basename, (root.upper, root.work))):
            return None
        if os.listdir(root.upper) or os.listdir(root.work):
            return None
        return tuple(_facts(path) for path in (folder, root.upper, root.work))
    except OSError:
        return None


def _facts(path: str) -> tuple[int, int, int, tuple[tuple[str, bytes], ...]]:
    status = os.stat(path, follow_symlinks=False)
    extended = tuple((name, os.getxattr(path, name)) for name in sorted(os.listxattr(path)))
    return status.st_mode, status.st_uid, status.st_gid, extended


def _identity(paths: Sequence[str]) -> list[tuple[int, int]]:
    """Which directories these are, whatever has their names later."""
    return [(status.st_dev, status.st_ino) for status in map(os.stat, paths)]


class Spare:
    """A writable directory of nobody's, and the root that is mounted over it."""

    def __init__(self, folder: str, prepared: Wanted) -> None:
        self.folder = folder
        self.prepared = prepared
        names = prepared.mount.upper, prepared.mount.work
        upper, work = (os.path.join(folder, name) for name in names)
        self.mount = replace(prepared.mount, upper=upper, work=work)
        self.lowers = _identity(prepared.mount.lowers)

    def give(self, root: Mount, looks: Wanted | None) -> bool:
        """Let the container with ``root``, which ``looks`` so, have ours as its own writable
        directory; False where it must not, or the file system cannot."""
        try:
            if looks != self.prepared or _identity(root.lowers) != self.lowers:
                return False
            self.change_places(root)
        except OSError:
            return False
        return True

    def change_places(self, root: Mount) -> None:
        """Exchange the writable directory of ``root`` and ours; done again it is undone. Raises
        OSError."""
        syscalls.exchange(self.folder, os.path.dirname(root.upper))


class Spares:
    """The spare directories of a store, in ``place``."""

    def __init__(self, place: str) -> None:
        self._place = place
        self._count = 0
        self._unused: dict[str, Facts] = {}

    def sweep(self) -> None:
        """Take away what another one has left."""
        with suppress(OSError):
            trees.remove_tree(self._place)

    def make(self, prepared: Wanted) -> Spare | None:
        """A spare with nothing in it; None where one cannot be made."""
        for folder, facts in self._unused.items():
            if facts == prepared.facts:
                del self._unused[folder]
                break
        else:
            folder = os.path.join(self._place, str(self._count))
            self._count += 1
        try:
            if not os.path.exists(folder):
                self._make(folder, prepared)
            return Spare(folder, prepared)
        except OSError:
            return None

    def _make(self, folder: str, prepared: Wanted) -> None:
        os.makedirs(self._place, mode=0o700, exist_ok=True)
        names = prepared.mount.upper, prepared.mount.work
        paths = [folder, *(f"{folder}/{name}" for name in names)]
        for path, (mode, uid, gid, extended) in zip(paths, prepared.facts, strict=True):
            os.mkdir(path)
            os.chown(path, uid, gid)
            os.chmod(path, stat.S_IMODE(mode))
            for name, value in extended:
                os.setxattr(path, name, value)
        if tuple(map(_facts, paths)) != prepared.facts:
            raise OSError(errno.EPERM, "not as it should be", folder)

    def back(self, spare: Spare) -> None:
        """The container's own directory, in exchange for ours: nothing was written there."""
        self._unused[spare.folder] = spare.prepared.facts

    def discard(self, spare: Spare | None) -> None:
        """Nobody wanted it, if there was one, and a working directory serves only once."""
        if spare:
            with suppress(OSError):
                trees.remove_tree(spare.folder)
