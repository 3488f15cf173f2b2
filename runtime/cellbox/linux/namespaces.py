"""The namespaces that the launcher itself lives in.

As root it needs only a mount namespace of its own, so that nothing it mounts is seen by the host.
An ordinary user gets a user namespace too, in which the launcher is root over the user's own id and
those that /etc/subuid lends; all that is done to layers and containers happens in there, which
makes the rest of the engine the same for both.
"""

from __future__ import annotations

import errno
import os
from typing import NoReturn

from cellbox.linux import idmap, syscalls


def enter_private(beside: int = -1) -> None:
    """Enter a mount namespace of our own, and where it takes that a user namespace in which we are
    root: that of the process whose pidfd ``beside`` is, else a new one. For a process of one
    thread.

    Mounts that the host makes later still arrive here; ours never leave. Raises OSError: EPERM or
    ENOSPC where this machine forbids user namespaces.
    """
    try:
        syscalls.unshare(syscalls.CLONE_NEWNS)
    except PermissionError:
        if not _join_user_namespace(beside):
            _enter_user_namespace()
    syscalls.mount("", "/", "", syscalls.MS_REC | syscalls.MS_SLAVE)


def _join_user_namespace(pidfd: int) -> bool:
    """Enter the user namespace of a process, and a new mount namespace; False where there is none
    to be entered. Its owner may (user_namespaces(7))."""
    try:
        syscalls.setns(pidfd, syscalls.CLONE_NEWUSER)
    except OSError:  # it has ended, or is another user's
        return False
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    syscalls.unshare(syscalls.CLONE_NEWNS)
    return True


def _enter_user_namespace() -> None:
    """unshare(2), with the maps written from outside by a child that stays there."""
    uid, gid = os.geteuid(), os.getegid()
    ready_read, ready_write = os.pipe2(os.O_CLOEXEC)
    parent, child = os.getpid(), os.fork()
    if child == 0:
        os.close(ready_write)
        os.read(ready_read, 1)
        _map_parent(parent, uid, gid)
    os.close(ready_read)
    try:
        syscalls.unshare(syscalls.CLONE_NEWUSER | syscalls.CLONE_NEWNS)
    finally:
        os.close(ready_write)
        _, status = os.waitpid(child, 0)
    if status:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM), "uid_map")
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)


def _map_parent(pid: int, uid: int, gid: int) -> NoReturn:
    """In the child: write the maps of ``pid`` with ranges if they can be had, else with one id."""
    try:
        if not _map_ranges(pid, uid, gid):
            idmap.deny_setgroups(pid)
            idmap.write_maps(pid, [(0, uid, 1)], [(0, gid, 1)])
        os._exit(0)
    except OSError:
        os._exit(1)


def _map_ranges(pid: int, uid: int, gid: int) -> bool:
    helpers = idmap.helpers()
    uids = idmap.subordinate(uid, "/etc/subuid")
    gids = idmap.subordinate(uid, "/etc/subgid")
    if not (helpers and uids and gids):
        return False
    maps = (idmap.rootless_map(uid, uids), idmap.rootless_map(gid, gids))
    return all(_run(tool, pid, lines) for tool, lines in zip(helpers, maps, strict=True))


def _run(tool: str, pid: int, lines: list[idmap.Line]) -> bool:
    words = [str(number) for line in lines for number in line]
    child = os.posix_spawn(tool, [tool, str(pid), *words], {"PATH": "/usr/bin:/bin"})
    return os.waitpid(child, 0)[1] == 0


def protect_executable(path: str, store: str) -> None:
    """Make the directory of the interpreter ``path`` read-only in this mount namespace.

    What is started from it then shows a file on a read-only mount as /proc/PID/exe, which a
    container cannot open for writing whatever it is (CVE-2019-5736). Left alone where the store
    lies below it.
    """
    directory = os.path.dirname(os.path.realpath(path))
    if os.path.realpath(store).startswith(directory + "/"):
        return
    copy = syscalls.open_tree(syscalls.AT_FDCWD, directory, syscalls.OPEN_TREE_CLONE)
    syscalls.mount_setattr(copy, "", syscalls.AT_EMPTY_PATH, set=syscalls.MOUNT_ATTR_RDONLY)
    syscalls.move_mount(copy, syscalls.AT_FDCWD, directory)
    os.close(copy)
