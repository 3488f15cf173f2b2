"""Mounts as data, and the calls that make them real.

A :class:`Mount` says what is to be seen where; it holds paths and options and does nothing. The
snapshotter and ``containers.spec`` produce lists of them, the first one being the root.

They become real in two halves, because no one process may do all of it. The side that holds the
privileges and sees the host's paths (the shim) opens the sources: :func:`open_sources` gives
detached copies of mounts as file descriptors, ID-mapped to the container's user namespace. The side
that lives in the new namespaces (init) attaches them: :func:`build_root`, then :func:`attach` for
the rest. No path inside the container is ever looked up but from the new root's descriptor, with
openat2(2), so that an image cannot lead a mount astray by symbolic links (CVE-2021-30465,
CVE-2019-19921).

The overlay is mounted by init, inside the container's user namespace: its superblock then belongs
to that namespace and device nodes in it are dead for good, whatever the container remounts.
"""

from __future__ import annotations

import errno
import os
import re
import socket
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from cellbox.linux import sockets
from cellbox.linux import syscalls as sys

MAX_LAYERS = 120
"""Layers below one overlay: their descriptors must fit one message (SCM_MAX_FD is 253)."""

_ATTRIBUTES = {
    "ro": sys.MOUNT_ATTR_RDONLY,
    "nosuid": sys.MOUNT_ATTR_NOSUID,
    "nodev": sys.MOUNT_ATTR_NODEV,
    "noexec": sys.MOUNT_ATTR_NOEXEC,
}
_PROPAGATIONS = {"private": sys.MS_PRIVATE, "slave": sys.MS_SLAVE}
# What mount_setattr(2) says where a file system, or the caller, cannot have ID-mapped mounts.
_NO_IDMAP = {errno.EINVAL, errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS}
# Below these nothing of the image may stand in the way, so a symbolic link there is refused.
_KERNEL_OWNED = ("/proc/", "/sys/", "/dev/")


@dataclass(frozen=True)
class Mount:
    """One mount of a container.

    ``kind`` is ``overlay``, ``bind`` or a file system type of the kernel (``tmpfs``, ``proc``,
    ...). ``target`` is the absolute path inside the container, ``/`` for its root. ``lowers``
    (topmost first), ``upper`` and ``work`` are host paths and belong to an overlay; ``upper`` and
    ``work`` are siblings in one directory; an overlay without them is read-only; with ``data``
    ``volatile`` it never waits for the disk, for a layer that nobody keeps. ``source`` is the host
    path of a bind. ``idmap`` asks that owners be shown through the container's own map of ids (ID 0
    on disk is the container's root), where the kernel can. ``flags`` are words of mount(8): ``ro``,
    ``nosuid``, ``nodev``, ``noexec``; ``data`` the file system's own options; ``recursive`` takes a
    bind's submounts along, to which ``ro`` does not apply where it is ``shallow``. ``propagation``
    is ``private`` or ``slave`` (what the host mounts there later arrives), with an ``r`` before it
    for submounts too. ``subpath`` is where in a bind's source to look, whose links lead nowhere
    outside of it.
    """

    kind: str
    target: str
    source: str = ""
    lowers: tuple[str, ...] = ()
    upper: str = ""
    work: str = ""
    flags: tuple[str, ...] = ()
    data: str = ""
    idmap: bool = False
    recursive: bool = False
    shallow: bool = False
    propagation: str = ""
    subpath: str = ""


_ELSEWHERE = re.compile(r"/proc/([1-9][0-9]*)/root(/.+)")
"""A path as another process sees it."""

# The privileged half -------------------------------------------------------------------------


def source_paths(mount: Mount) -> list[str]:
    """The host directories (or files) that ``mount`` shows, in the order init wants them."""
    if mount.kind == "bind":
        return [mount.source]
    if mount.kind == "overlay":
        return [*mount.lowers, *([os.path.dirname(mount.upper)] if mount.upper else [])]
    return []


def open_sources(mounts: Sequence[Mount], userns: int) -> list[int]:
    """Detached copies of all that ``mounts`` show, one descriptor each.

    ``userns`` is a descriptor of the container's user namespace, -1 where ids are not mapped.
    Raises OSError naming the path that cannot be opened, with nothing left open.
    """
    fds: list[int] = []
    try:
        for mount in mounts:
            for path in source_paths(mount):
                fds.append(_open_source(mount, path, userns))
    except BaseException:
        for fd in fds:
            os.close(fd)
        raise
    return fds


def renew_volatile(mount: Mount) -> None:
    """Let a ``volatile`` overlay be mounted once more: the kernel refuses a working directory that
    was used for one, as what was not written out may be lost (overlayfs, "Volatile mount")."""
    if mount.data == "volatile":
        mark = f"{mount.work}/work/incompat/volatile"
        with suppress(FileNotFoundError):
            os.unlink(f"{mark}/dirty")
        with suppress(FileNotFoundError):
            os.rmdir(mark)


def _open_source(mount: Mount, path: str, userns: int) -> int:
    deep = sys.AT_RECURSIVE if mount.recursive else 0
    if mount.subpath:
        fd = _clone_below(path, mount.subpath, recursive=mount.recursive)
    elif elsewhere := _ELSEWHERE.fullmatch(path):
        fd = _clone_elsewhere(int(elsewhere[1]), elsewhere[2], recursive=mount.recursive)
    else:
        fd = clone_tree(sys.AT_FDCWD, path, recursive=mount.recursive)
    try:
        if mount.kind == "bind":
            _restrict(fd, mount, deep)
        if mount.idmap and userns >= 0:
            _map_ids(fd, deep, userns)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _restrict(fd: int, mount: Mount, deep: int) -> None:
    shallow = [flag for flag in mount.flags if flag == "ro" and mount.shallow]
    attributes = _attributes([flag for flag in mount.flags if flag not in shallow])
    propagation = _PROPAGATIONS.get(mount.propagation.removeprefix("r"), 0)
    alone = 0 if mount.propagation.startswith("r") else propagation
    if alone:  # where it is for submounts too, it goes with the rest
        sys.mount_setattr(fd, "", sys.AT_EMPTY_PATH, propagation=alone)
    if attributes or propagation:
        below = 0 if alone else propagation
        sys.mount_setattr(fd, "", sys.AT_EMPTY_PATH | deep, set=attributes, propagation=below)
    if shallow:
        sys.mount_setattr(fd, "", sys.AT_EMPTY_PATH, set=_attributes(shallow))


def _clone_below(path: str, subpath: str, *, recursive: bool) -> int:
    """A detached copy of what is at ``subpath`` in the directory ``path``, and nowhere else: who
    filled that may have put links in it (CVE-2017-1002101)."""
    top = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        inside = open_inside(top, subpath)
    finally:
        os.close(top)
    try:
        flags = sys.OPEN_TREE_CLONE | sys.AT_EMPTY_PATH
        return sys.open_tree(inside, "", flags | (sys.AT_RECURSIVE if recursive else 0))
    finally:
        os.close(inside)


def _clone_elsewhere(pid: int, path: str, *, recursive: bool) -> int:
    """A detached copy of the mount at ``path`` as the process ``pid`` sees it, by a child that goes
    there: the kernel copies only what is in the caller's mount namespace (open_tree(2), EINVAL).
    """
    pidfd = os.pidfd_open(pid)
    ours, theirs = sockets.pair()
    child = os.fork()
    if child == 0:
        try:
            sys.setns(pidfd, sys.CLONE_NEWNS)
            fd = clone_tree(sys.AT_FDCWD, path, recursive=recursive)
            socket.send_fds(theirs, [b"0"], [fd])
        except OSError as error:
            theirs.send(str(error.errno).encode())
        finally:
            os._exit(0)
    os.close(pidfd)
    theirs.close()
    data, fds = sockets.receive(ours, 16)
    ours.close()
    with suppress(ChildProcessError):  # who ignores SIGCHLD has none to wait for
        os.waitpid(child, 0)
    if not fds:
        number = int(data or errno.ESRCH)
        raise OSError(number, os.strerror(number), f"/proc/{pid}/root{path}")
    return fds[0]


def clone_tree(dirfd: int, path: str | bytes, *, recursive: bool = False) -> int:
    """A detached copy of the mount at ``path``.

    In a user namespace the kernel refuses to uncover what is mounted below (EINVAL); then the copy
    takes the submounts along.
    """
    if not recursive:
        try:
            return sys.open_tree(dirfd, path, sys.OPEN_TREE_CLONE)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
    return sys.open_tree(dirfd, path, sys.OPEN_TREE_CLONE | sys.AT_RECURSIVE)


def _map_ids(fd: int, deep: int, userns: int) -> None:
    """ID-map a detached mount where the file system can; elsewhere its files show as nobody's."""
    try:
        sys.mount_setattr(fd, "", sys.AT_EMPTY_PATH | deep, set=sys.MOUNT_ATTR_IDMAP, userns=userns)
    except OSError as error:
        if error.errno not in _NO_IDMAP:
            raise


# The half inside -----------------------------------------------------------------------------


def make_scratch() -> int:
    """Mount a small tmpfs on the current directory, where layers can be attached; a descriptor of
    it.

    Runs in a mount namespace of its own whose mounts are private. The current directory is
    inherited, as root of a new user namespace may not be able to walk to it from ``/``.
    """
    fd = make_filesystem("tmpfs", "mode=700,size=1m")
    sys.move_mount(fd, sys.AT_FDCWD, ".")
    return fd


def build_root(mount: Mount, sources: Iterator[int], scratch: int, name: str = "root") -> int:
    """Mount the root file system of a new container out of sight, as ``name`` in ``scratch``; a
    descriptor of it.

    The kernel clones only layers that are mounted in the caller's namespace (clone_private_mount),
    so they are attached in ``scratch`` first.
    """
    os.fchdir(scratch)
    os.mkdir(name)
    if mount.kind == "bind":
        sys.move_mount(next(sources), sys.AT_FDCWD, name)
    else:
        _mount_overlay(mount, sources, name)
    return os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def _mount_overlay(mount: Mount, sources: Iterator[int], target: str) -> None:
    """Mount an overlay on ``target`` with relative names for its layers, which keeps the option
    string of 120 of them far below the page that mount(2) takes."""
    base = f"{target}.layers"
    os.mkdir(base)
    names = [f"{base}/{index}" for index in range(len(mount.lowers))]
    for name in names:
        _attach_at(next(sources), name)
    options = ["userxattr", "lowerdir=" + ":".join(names)]
    if mount.upper:
        _attach_at(next(sources), f"{base}/w")
        upper, work = os.path.basename(mount.upper), os.path.basename(mount.work)
        options += [f"upperdir={base}/w/{upper}", f"workdir={base}/w/{work}"]
    elif len(names) == 1:  # the kernel wants two at least
        os.mkdir(f"{base}/none")
        options[-1] += f":{base}/none"
    if mount.data:
        options.append(mount.data)
    # Never read-only yet: places for other mounts must be made in it first (see seal).
    flags = sum({"ro": 0, "nosuid": 2, "nodev": 4, "noexec": 8}[flag] for flag in mount.flags)
    sys.mount("overlay", target, "overlay", flags, ",".join(options))


def _attach_at(fd: int, name: str) -> None:
    os.mkdir(name)
    sys.move_mount(fd, sys.AT_FDCWD, name)
    os.close(fd)


def attach(root: int, mount: Mount, sources: Iterator[int], scratch: int) -> None:
    """Make ``mount`` in the root ``root`` (a descriptor); what is missing of its target is made."""
    if mount.kind == "bind":
        source = next(sources)
    elif mount.kind == "overlay":
        source = _detached_overlay(mount, sources, scratch)
    else:
        source = make_filesystem(mount.kind, mount.data, mount.flags)
    try:
        target = make_target(root, mount.target, stat.S_ISDIR(os.fstat(source).st_mode))
        try:
            sys.move_mount(source, target)
        finally:
            os.close(target)
    finally:
        os.close(source)


def move(from_dir: int, path: str, root: int, target: str) -> None:
    """Move the mount at ``path`` below ``from_dir``, with all below it, to ``target`` in
    ``root``."""
    source = os.open(path, os.O_PATH | os.O_CLOEXEC, dir_fd=from_dir)
    place = make_target(root, target, True)
    try:
        sys.move_mount(source, place)
    finally:
        os.close(place)
        os.close(source)


def _detached_overlay(mount: Mount, sources: Iterator[int], scratch: int) -> int:
    os.fchdir(scratch)
    name = f"t{len(os.listdir('.'))}"
    os.mkdir(name)
    _mount_overlay(mount, sources, name)
    return sys.open_tree(sys.AT_FDCWD, name, sys.OPEN_TREE_CLONE)


def make_filesystem(kind: str, data: str = "", flags: Sequence[str] = ()) -> int:
    """A detached mount of a new file system; ``data`` holds its options, comma-separated. What it
    is mounted from is called as its kind, as mount(8) does."""
    context = sys.fsopen(kind)
    try:
        sys.fsconfig(context, sys.FSCONFIG_SET_STRING, "source", kind)
        for option in filter(None, data.split(",")):
            key, equals, value = option.partition("=")
            if equals:
                sys.fsconfig(context, sys.FSCONFIG_SET_STRING, key, value)
            else:
                sys.fsconfig(context, sys.FSCONFIG_SET_FLAG, key)
        sys.fsconfig(context, sys.FSCONFIG_CMD_CREATE)
        return sys.fsmount(context, _attributes(flags))
    finally:
        os.close(context)


def _attributes(flags: Sequence[str]) -> int:
    return sum(_ATTRIBUTES[flag] for flag in flags)


def open_inside(root: int, path: str, flags: int = os.O_PATH) -> int:
    """Open ``path`` as a process with the root ``root`` would, and never outside of it."""
    resolve = sys.RESOLVE_IN_ROOT | sys.RESOLVE_NO_MAGICLINKS
    if f"{os.path.normpath('/' + path.lstrip('/'))}/".startswith(_KERNEL_OWNED):
        resolve |= sys.RESOLVE_NO_SYMLINKS
    return sys.openat2(root, path, flags, resolve=resolve)


def make_target(root: int, path: str, directory: bool) -> int:
    """A descriptor of ``path`` in ``root``, made where it is missing, component by component.

    Raises OSError: ELOOP where an image has a symbolic link in place of /proc, /sys or /dev,
    ENOTDIR or EISDIR where a file and a directory meet.
    """
    try:
        fd = open_inside(root, path)
    except FileNotFoundError:
        parent, name = os.path.split(path.rstrip("/"))
        above = make_target(root, parent or "/", True)
        try:
            _make(above, name, directory)
        finally:
            os.close(above)
        fd = open_inside(root, path)
    if stat.S_ISDIR(os.fstat(fd).st_mode) == directory:
        return fd
    os.close(fd)
    number = errno.ENOTDIR if directory else errno.EISDIR
    raise OSError(number, os.strerror(number), path)


def _make(parent: int, name: str, directory: bool) -> None:
    umask = os.umask(0o022)  # the launcher's is for its own files
    try:
        if directory:
            os.mkdir(name, 0o755, dir_fd=parent)
        else:
            flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
            os.close(os.open(name, flags, 0o644, dir_fd=parent))
    except FileExistsError:  # a dangling symbolic link: the look-up that follows says so
        pass
    finally:
        os.umask(umask)


def mask(root: int, paths: Sequence[str], null: int) -> None:
    """Hide ``paths``: files below a copy of the device ``null``, directories below an empty
    tmpfs."""
    empty = -1
    for path in paths:
        try:
            target = open_inside(root, path)
        except (FileNotFoundError, NotADirectoryError):
            continue
        if not stat.S_ISDIR(os.fstat(target).st_mode):
            cover = sys.open_tree(null, "", sys.OPEN_TREE_CLONE | sys.AT_EMPTY_PATH)
        elif empty < 0:
            cover = empty = make_filesystem("tmpfs", "size=0k,mode=755", ("ro",))
        else:
            cover = sys.open_tree(empty, "", sys.OPEN_TREE_CLONE | sys.AT_EMPTY_PATH)
        sys.move_mount(cover, target)
        os.close(target)
        if cover != empty:
            os.close(cover)
    if empty >= 0:
        os.close(empty)


def make_read_only(root: int, paths: Sequence[str]) -> None:
    """Let ``paths`` be read only, with all that is mounted below them."""
    for path in paths:
        try:
            target = open_inside(root, path)
        except (FileNotFoundError, NotADirectoryError):
            continue
        copy = sys.open_tree(target, "", sys.OPEN_TREE_CLONE | sys.AT_RECURSIVE | sys.AT_EMPTY_PATH)
        flags = sys.AT_EMPTY_PATH | sys.AT_RECURSIVE
        sys.mount_setattr(copy, "", flags, set=sys.MOUNT_ATTR_RDONLY)
        sys.move_mount(copy, target)
        os.close(copy)
        os.close(target)


def seal(root: int) -> None:
    """Make the root file system itself read-only, not what is mounted in it."""
    sys.mount_setattr(root, "", sys.AT_EMPTY_PATH, set=sys.MOUNT_ATTR_RDONLY)


def pivot(root: int, *, above: int = 0) -> None:
    """Let the mount behind ``root`` be the root of this mount namespace, and let go of the old one,
    with as many mounts as are stacked on it, ``above``."""
    os.fchdir(root)
    # With both names the same the old root is stacked on the new one (pivot_root(2), NOTES); what
    # is found by that name is the topmost. Who enters the namespace would find it, too.
    sys.pivot_root(".", ".")
    for _ in range(1 + above):
        sys.umount(".")
    os.chdir("/")
