"""What this kernel lets us do, found out by doing it.

Sysctls, versions and configuration files say what ought to work; security modules and outer
containers have the last word. :func:`probe` is for a process of one thread, as unshare(2) asks:
a worker, or :func:`main` in an interpreter of its own. It gives the errno of each attempt, 0 for
success:

``userns``  a user and a mount namespace, with one id mapped
``overlay`` an overlay on the directory given, mounted in there, and a file renamed in it
``proc``    a new proc in new pid namespace there
``idmap``   a copy of the directory's mount with ids mapped through that user namespace
"""

from __future__ import annotations

import errno
import json
import os
import stat
import sys
from collections.abc import Callable

from cellbox.linux import idmap, syscalls

NAMES = ("userns", "overlay", "proc", "idmap")


def main(directory: str) -> None:
    """Probe in the empty directory ``directory`` and print the results as JSON."""
    json.dump(probe(directory), sys.stdout)


def probe(directory: str) -> dict[str, int]:
    """The errno of each of :data:`NAMES`, tried in the empty directory ``directory``; what could
    not be tried has that of ``userns``. Raises OSError where the directory cannot be filled."""
    for name in ("lower", "upper", "work", "merged", "proc"):
        os.mkdir(f"{directory}/{name}")
    with open(f"{directory}/lower/file", "wb") as file:
        file.write(b"x")
    result_read, result_write = os.pipe2(os.O_CLOEXEC)
    hold_read, hold_write = os.pipe2(os.O_CLOEXEC)
    uid, gid = os.geteuid(), os.getegid()
    child = os.fork()
    if child == 0:
        os.close(hold_write)
        try:
            os.write(result_write, json.dumps(_inside(directory, uid, gid)).encode())
            os.close(result_write)
            os.read(hold_read, 1)
        finally:
            os._exit(0)
    os.close(result_write)
    try:
        found: dict[str, int] = json.loads(os.read(result_read, 4096) or "{}")
        if found.get("userns") == 0:
            found["idmap"] = _try(_map_ids, directory, child)
    finally:
        os.close(hold_write)
        os.waitpid(child, 0)
    return {name: found.get(name, found.get("userns") or errno.EIO) for name in NAMES}


def _inside(directory: str, uid: int, gid: int) -> dict[str, int]:
    found = {"userns": _try(_enter, uid, gid)}
    if found["userns"] == 0:
        found["overlay"] = _try(_overlay, directory)
        found["proc"] = _try(_proc, f"{directory}/proc")
    return found


def _try(action: Callable[..., object], *arguments: object) -> int:
    try:
        action(*arguments)
    except OSError as error:
        return error.errno or errno.EIO
    return 0


def _enter(uid: int, gid: int) -> None:
    syscalls.unshare(syscalls.CLONE_NEWUSER | syscalls.CLONE_NEWNS)
    idmap.deny_setgroups(os.getpid())
    idmap.write_maps(os.getpid(), [(0, uid, 1)], [(0, gid, 1)])
    syscalls.mount("", "/", "", syscalls.MS_REC | syscalls.MS_PRIVATE)


def _overlay(directory: str) -> None:
    parts = ("lowerdir=lower", "upperdir=upper", "workdir=work")
    os.chdir(directory)
    syscalls.mount("overlay", "merged", "overlay", 0, ",".join(("userxattr", *parts)))
    os.rename("merged/file", "merged/other")
    syscalls.umount("merged")
    if not stat.S_ISCHR(os.lstat("upper/file").st_mode):
        raise OSError(errno.EOPNOTSUPP, "renaming a file left no whiteout", directory)


def _proc(target: str) -> None:
    """Outer containers mask parts of /proc, and the kernel then refuses a new one that is whole."""
    syscalls.unshare(syscalls.CLONE_NEWPID)
    pid = os.fork()
    if pid == 0:
        os._exit(_try(syscalls.mount, "proc", target, "proc"))
    number = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if number:
        raise OSError(number, os.strerror(number), "proc")


def _map_ids(directory: str, child: int) -> None:
    userns = os.open(f"/proc/{child}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    try:
        fd = syscalls.open_tree(syscalls.AT_FDCWD, directory, syscalls.OPEN_TREE_CLONE)
        try:
            flags = syscalls.AT_EMPTY_PATH
            syscalls.mount_setattr(fd, "", flags, set=syscalls.MOUNT_ATTR_IDMAP, userns=userns)
        finally:
            os.close(fd)
    finally:
        os.close(userns)
