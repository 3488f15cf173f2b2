"""Putting tar entries into a directory that they must not leave.

Every path is resolved by openat2(2) with RESOLVE_IN_ROOT below one root descriptor, so ``..`` and
symbolic links, absolute or not, end inside, whoever made them. The last component is never
followed: files are made with O_EXCL, and owners, modes and times are set through the new descriptor
or with NOFOLLOW. Descriptors of directories are kept, and all forgotten when a directory or link
goes away.

What stands in the way of an entry is removed, but a directory that meets a directory stays. Of
extended attributes only ``security.capability`` and ``user.*`` pass, without overlayfs's own. What
an unprivileged user namespace may not do (owners outside its map, device nodes) is counted in
:class:`Outcome` and does not fail the layer.

A name ``.wh.NAME`` deletes NAME of the layers below (image-spec layer.md, *Whiteouts*), which
:class:`Whiteouts` turns into what a directory of its own kind needs.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from cellbox.errors import InvalidArgument
from cellbox.images import tar
from cellbox.images.trees import is_whiteout
from cellbox.linux import syscalls
from cellbox.linux.trees import remove_tree

PREFIX = b".wh."
OPAQUE = b".wh..wh..opq"
OPAQUE_XATTR = b"user.overlay.opaque"
_OVERLAY_XATTRS = b"user.overlay."
_CAPABILITY = b"security.capability"
NAME_LIMIT = 4095
LINK_DEPTH = 40
_CACHE_SIZE = 64
_TIME_LIMIT = 1 << 62
_UNCLEAN = re.compile(rb"(?:^|/)\.{0,2}(?:/|$)").search
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_IN_ROOT = syscalls.RESOLVE_IN_ROOT | syscalls.RESOLVE_NO_MAGICLINKS
_MISSING = (errno.ENOENT, errno.ENOTDIR)
_UNPRIVILEGED = frozenset({errno.EPERM, errno.EINVAL})
_NO_XATTR = frozenset(
    {errno.EPERM, errno.ENOTSUP, errno.EACCES, errno.E2BIG, errno.ENOSPC, errno.ERANGE}
)


class Whiteouts(StrEnum):
    """What a ``.wh.`` name does: ``OVERLAY`` leaves overlayfs's marks in a layer of its own,
    ``REMOVE`` deletes from a tree that holds the layers below, ``LITERAL`` is a name as any."""

    OVERLAY = "overlay"
    REMOVE = "remove"
    LITERAL = "literal"


@dataclass
class Outcome:
    """What was put there: ``size`` bytes of files, number of ``entries``; what could not be done as
    asked: owners not mapped here, device nodes made as empty files, attributes left out.
    ``opaque`` says that the root itself hides all layers below, which overlayfs does not heed."""

    size: int = 0
    entries: int = 0
    owners: int = 0
    devices: int = 0
    xattrs: int = 0
    opaque: bool = False


class Extractor:
    """Puts entries below ``root``, a directory descriptor; ``base`` is a path in it that all names
    are relative to. To be closed; :meth:`finish` sets the times of directories.

    ``owner`` replaces the owners that the entries name. With ``keep_kinds``, a directory that would
    replace something else, or be replaced, is an error (Docker's ``noOverwriteDirNonDir``).
    """

    def __init__(
        self,
        root: int,
        *,
        base: bytes = b"",
        whiteouts: Whiteouts = Whiteouts.OVERLAY,
        owner: tuple[int, int] | None = None,
        keep_kinds: bool = False,
    ) -> None:
        self.outcome = Outcome()
        self._root = root
        self._base = base
        self._whiteouts = whiteouts
        self._owner = owner
        self._keep_kinds = keep_kinds
        self._directories: dict[bytes, int] = {}
        self._stale = False
        self._times: list[tuple[bytes, int]] = []

    def __enter__(self) -> Extractor:
        self._umask = os.umask(0)  # modes are given to mkdir(2) and mknod(2) as they shall be
        return self

    def __exit__(self, *_: object) -> None:
        os.umask(self._umask)
        self._forget()

    def finish(self) -> Outcome:
        """Set the times of directories, which every entry below them has changed."""
        for path, mtime in reversed(self._times):
            try:
                fd = self._open(path, _DIRECTORY)
            except OSError as error:
                if error.errno not in (*_MISSING, errno.ELOOP):
                    raise
                continue  # something else is there by now
            try:
                os.utime(fd, ns=_times(mtime))
            finally:
                os.close(fd)
        return self.outcome

    def add(self, entry: tar.Entry, stream: tar.Stream) -> None:
        """Put one entry there, taking its data from ``stream``. Raises InvalidArgument, OSError."""
        self.outcome.entries += 1
        path = clean(entry.name)
        if entry.kind not in _MAKERS:
            stream.skip(entry.stored)
            return
        if not path:
            self._root_entry(entry, stream)
            return
        parent, _, base = path.rpartition(b"/")
        if base.startswith(PREFIX) and self._whiteouts is not Whiteouts.LITERAL:
            stream.skip(entry.stored)
            self._whiteout(parent, base)
            return
        _MAKERS[entry.kind](self, self._directory(parent), base, entry, stream)
        if entry.kind == tar.DIRECTORY:
            self._times.append((path, entry.mtime))

    def _root_entry(self, entry: tar.Entry, stream: tar.Stream) -> None:
        """An entry for the root itself: only a directory makes sense, and only its facts count."""
        stream.skip(entry.stored)
        if entry.kind == tar.DIRECTORY and not self._base:
            fd = os.open(b".", _DIRECTORY | os.O_CLOEXEC, dir_fd=self._root)
            try:
                self._facts(fd, entry)
            finally:
                os.close(fd)
            self._times.append((b"", entry.mtime))

    # Directories.

    def _directory(self, path: bytes) -> int:
        """A descriptor of the directory ``path``, made where it is missing; kept by the cache."""
        if self._stale or len(self._directories) >= _CACHE_SIZE:
            self._forget()
        fd = self._directories.get(path)
        if fd is None:
            fd = self._directories[path] = self._open_or_make(path)
        return fd

    def _forget(self) -> None:
        for fd in self._directories.values():
            os.close(fd)
        self._directories.clear()
        self._stale = False

    def _open(self, path: bytes, flags: int) -> int:
        full = b"/".join(part for part in (self._base, path) if part) or b"."
        return syscalls.openat2(self._root, full, flags, 0, _IN_ROOT)

    def _open_or_make(self, path: bytes) -> int:
        try:
            return self._open(path, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            if error.errno not in _MISSING or not path:
                raise
        done, todo, links = b"", path.split(b"/"), LINK_DEPTH
        while todo:
            part = todo.pop(0)
            target = self._ensure(done, part)
            if target is None:
                done = _join(done, part)
                continue
            if not (links := links - 1):
                raise InvalidArgument("too many symbolic links in the archive")
            # A link to what is not there (a lower layer may have it): make its target instead.
            start = b"" if target.startswith(b"/") else done
            todo = [*filter(None, clean(start + b"/" + target).split(b"/")), *todo]
            done = b""
        return self._open(done, os.O_RDONLY | os.O_DIRECTORY)

    def _ensure(self, parent: bytes, base: bytes) -> bytes | None:
        """Make sure ``base`` in ``parent`` leads to a directory; else the target of its link."""
        try:
            os.close(self._open(_join(parent, base), os.O_PATH | os.O_DIRECTORY))
            return None
        except OSError as error:
            if error.errno not in _MISSING:
                raise
        above = self._open(parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            return self._make_parent(above, base)
        finally:
            os.close(above)

    def _make_parent(self, above: int, base: bytes) -> bytes | None:
        """Make the directory that an entry needs; the target if a symbolic link stands there."""
        try:
            os.mkdir(base, 0o755, dir_fd=above)
            return None
        except FileExistsError:
            there = os.stat(base, dir_fd=above, follow_symlinks=False)
        if stat.S_ISLNK(there.st_mode):
            return os.readlink(base, dir_fd=above)
        if is_whiteout(there):
            self._replace_whiteout(above, base, 0o755)
            return None
        name = base.decode("utf-8", "replace")
        raise InvalidArgument(f"the archive uses the file {name} as a directory")

    def _replace_whiteout(self, above: int, base: bytes, mode: int) -> None:
        """A directory where the layers below had one that was deleted: it must not show theirs."""
        os.unlink(base, dir_fd=above)
        os.mkdir(base, mode, dir_fd=above)
        self._mark_opaque(above, base)

    def _mark_opaque(self, above: int, base: bytes) -> None:
        fd = os.open(base or b".", _DIRECTORY | os.O_CLOEXEC, dir_fd=above)
        try:
            os.setxattr(fd, OPAQUE_XATTR, b"y")
        finally:
            os.close(fd)

    # Whiteouts.

    def _whiteout(self, parent: bytes, base: bytes) -> None:
        target = base[len(PREFIX) :]
        if base == OPAQUE:
            self._opaque(parent)
        elif base.startswith(PREFIX + PREFIX):
            return  # names of aufs's own
        elif target in (b"", b".", b".."):
            raise InvalidArgument("the archive deletes what is not a name")
        elif self._whiteouts is Whiteouts.REMOVE:
            self._clear(self._directory(parent), target)
        else:
            self._leave_whiteout(self._directory(parent), target)

    def _opaque(self, parent: bytes) -> None:
        above = self._directory(parent)
        if self._whiteouts is Whiteouts.REMOVE:
            self._stale = True
            for name in os.listdir(above):
                remove_tree(name, dir_fd=above)
        else:
            self._mark_opaque(above, b"")
            self.outcome.opaque |= not parent

    def _leave_whiteout(self, above: int, target: bytes) -> None:
        try:
            os.mknod(target, stat.S_IFCHR, 0, dir_fd=above)
        except FileExistsError:
            # A whiteout deletes from the layers below only; what this layer put there stays.
            there = os.stat(target, dir_fd=above, follow_symlinks=False)
            if stat.S_ISDIR(there.st_mode):
                self._mark_opaque(above, target)

    # Entries. Each maker finds nothing but perhaps an obstacle at ``base`` in ``above``.

    def _make_directory(
        self, above: int, base: bytes, entry: tar.Entry, stream: tar.Stream
    ) -> None:
        try:
            os.mkdir(base, 0o700, dir_fd=above)
        except FileExistsError:
            there = os.stat(base, dir_fd=above, follow_symlinks=False)
            if is_whiteout(there) and self._whiteouts is Whiteouts.OVERLAY:
                self._replace_whiteout(above, base, 0o700)
            elif not stat.S_ISDIR(there.st_mode):
                self._check_kinds(base)
                self._clear(above, base)
                os.mkdir(base, 0o700, dir_fd=above)
        fd = os.open(base, _DIRECTORY | os.O_CLOEXEC, dir_fd=above)
        try:
            self._facts(fd, entry)
        finally:
            os.close(fd)

    def _make_file(self, above: int, base: bytes, entry: tar.Entry, stream: tar.Stream) -> None:
        self._check_space(entry)
        try:
            fd = os.open(base, _NEW_FILE, 0o600, dir_fd=above)
        except FileExistsError:
            self._clear(above, base)
            fd = os.open(base, _NEW_FILE, 0o600, dir_fd=above)
        try:
            if entry.sparse is None:
                stream.copy(entry.size, fd)
            else:
                _write_sparse(fd, entry, stream)
            self._facts(fd, entry)
            os.utime(fd, ns=_times(entry.mtime))
        finally:
            os.close(fd)
        self.outcome.size += entry.size

    def _check_space(self, entry: tar.Entry) -> None:
        if entry.size < 1 << 24:
            return
        space = os.fstatvfs(self._root)
        if max(entry.size, entry.stored) > space.f_bavail * space.f_frsize:
            name = os.fsdecode(entry.name)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), f"{name}, {entry.size} bytes")

    def _make_symlink(self, above: int, base: bytes, entry: tar.Entry, stream: tar.Stream) -> None:
        if not 0 < len(entry.link) <= NAME_LIMIT:
            raise InvalidArgument("a symbolic link in the archive is empty or too long")
        self._create(above, base, lambda: os.symlink(entry.link, base, dir_fd=above))
        self._named_facts(above, base, entry)

    def _make_link(self, above: int, base: bytes, entry: tar.Entry, stream: tar.Stream) -> None:
        parent, _, source = clean(entry.link).rpartition(b"/")
        try:
            origin = self._open(parent, os.O_PATH | os.O_DIRECTORY)
        except OSError as error:
            raise InvalidArgument(f"a hard link to what is not there: {entry.link!r}") from error
        try:
            there = os.stat(source, dir_fd=origin, follow_symlinks=False)
            if stat.S_ISDIR(there.st_mode):
                raise InvalidArgument("a hard link to a directory in the archive")
            if self._is_same(above, base, there):
                return
            self._create(
                above,
                base,
                lambda: os.link(
                    source, base, src_dir_fd=origin, dst_dir_fd=above, follow_symlinks=False
                ),
            )
        except FileNotFoundError as error:
            raise InvalidArgument(f"a hard link to what is not there: {entry.link!r}") from error
        finally:
            os.close(origin)

    def _is_same(self, above: int, base: bytes, there: os.stat_result) -> bool:
        """Whether the name to be made is the link's origin already: it must not be cleared."""
        with contextlib.suppress(FileNotFoundError):
            here = os.stat(base, dir_fd=above, follow_symlinks=False)
            return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)
        return False

    def _make_node(self, above: int, base: bytes, entry: tar.Entry, stream: tar.Stream) -> None:
        kind = {tar.CHARACTER: stat.S_IFCHR, tar.DEVICE: stat.S_IFBLK, tar.FIFO: stat.S_IFIFO}
        device = os.makedev(entry.major, entry.minor)
        mode = kind[entry.kind] | entry.mode

        def make() -> None:
            try:
                os.mknod(base, mode, device, dir_fd=above)
            except PermissionError:
                self.outcome.devices += 1
                os.mknod(base, stat.S_IFREG | entry.mode & 0o777, dir_fd=above)

        self._create(above, base, make)
        self._named_facts(above, base, entry)

    # Obstacles and facts.

    def _create(self, above: int, base: bytes, make: Callable[[], None]) -> None:
        try:
            make()
        except FileExistsError:
            self._clear(above, base)
            make()

    def _check_kinds(self, base: bytes) -> None:
        if self._keep_kinds:
            name = base.decode("utf-8", "replace")
            raise InvalidArgument(f"cannot overwrite {name}: one is a directory, the other is not")

    def _clear(self, above: int, base: bytes) -> None:
        """Remove what is at ``base``."""
        try:
            there = os.stat(base, dir_fd=above, follow_symlinks=False)
        except FileNotFoundError:
            return
        if stat.S_ISDIR(there.st_mode):
            self._check_kinds(base)
        # Kept descriptors may be of directories below this one, or were reached through this link.
        self._stale |= stat.S_ISDIR(there.st_mode) or stat.S_ISLNK(there.st_mode)
        remove_tree(base, dir_fd=above)

    def _facts(self, fd: int, entry: tar.Entry) -> None:
        """Owner, attributes and mode, in this order: chown(2) takes both of the others away."""
        mode = entry.mode
        uid, gid = self._owner or (entry.uid, entry.gid)
        try:
            os.fchown(fd, uid, gid)
        except OSError as error:
            if error.errno not in _UNPRIVILEGED:
                raise
            self.outcome.owners += 1
            mode &= ~(stat.S_ISUID | stat.S_ISGID)  # it would be for root now
        if entry.xattrs:
            self._attributes(fd, entry.xattrs)
        os.fchmod(fd, mode)

    def _named_facts(self, above: int, base: bytes, entry: tar.Entry) -> None:
        uid, gid = self._owner or (entry.uid, entry.gid)
        try:
            os.chown(base, uid, gid, dir_fd=above, follow_symlinks=False)
        except OSError as error:
            if error.errno not in _UNPRIVILEGED:
                raise
            self.outcome.owners += 1
        os.utime(base, ns=_times(entry.mtime), dir_fd=above, follow_symlinks=False)

    def _attributes(self, fd: int, attributes: dict[bytes, bytes]) -> None:
        for name, value in attributes.items():
            allowed = allowed_attribute(name, value)
            if allowed is None:
                self.outcome.xattrs += 1
                continue
            try:
                os.setxattr(fd, name, allowed)
            except OSError as error:
                if error.errno not in _NO_XATTR:
                    raise
                self.outcome.xattrs += 1


_MAKERS = {
    tar.FILE: Extractor._make_file,
    tar.LINK: Extractor._make_link,
    tar.SYMLINK: Extractor._make_symlink,
    tar.CHARACTER: Extractor._make_node,
    tar.DEVICE: Extractor._make_node,
    tar.DIRECTORY: Extractor._make_directory,
    tar.FIFO: Extractor._make_node,
}


def clean(name: bytes) -> bytes:
    """``name`` without empty parts, ``.`` and ``..``, relative to the root; ``..`` of the root is
    the root. Raises InvalidArgument for over 4095 bytes."""
    if len(name) > NAME_LIMIT:
        raise InvalidArgument("a name in the archive is too long")
    if not _UNCLEAN(name):
        return name
    parts: list[bytes] = []
    for part in name.split(b"/"):
        if part == b"..":
            del parts[-1:]
        elif part not in (b"", b"."):
            parts.append(part)
    return b"/".join(parts)


def _join(parent: bytes, base: bytes) -> bytes:
    return parent + b"/" + base if parent else base


def allowed_attribute(name: bytes, value: bytes) -> bytes | None:
    """The value under which an extended attribute may pass, None if it may not.

    File capabilities (capabilities(7), *File capabilities*) of revision 3 are those of one user
    namespace's root; ours are of revision 2, to which the kernel adds the root where it must.
    """
    if name == _CAPABILITY:
        revision, root = value[3:4], value[20:24]
        if len(value) == 20 and revision == b"\x02":
            return value
        if len(value) == 24 and revision == b"\x03" and root == bytes(4):
            return value[:3] + b"\x02" + value[4:20]
        return None
    plain = name.startswith(b"user.") and not name.startswith(_OVERLAY_XATTRS)
    return value if plain and 5 < len(name) <= 255 and len(value) <= 1 << 16 else None


def _times(mtime: int) -> tuple[int, int]:
    bounded = min(max(mtime, -_TIME_LIMIT), _TIME_LIMIT)
    return bounded, bounded


def _write_sparse(fd: int, entry: tar.Entry, stream: tar.Stream) -> None:
    """The pieces of a sparse file at their places; what lies between stays a hole."""
    os.ftruncate(fd, entry.size)
    for offset, size in entry.sparse or ():
        os.lseek(fd, offset, os.SEEK_SET)
        stream.copy(size, fd)
