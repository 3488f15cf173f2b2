"""System calls that Python does not offer; the only user of ctypes for them.

Each function is one call, named as its man page, and raises :class:`OSError` whose ``filename``
says the call and its main argument. Paths are str or bytes; a directory file descriptor comes
first, as in the \\*at family. Everything is bound at import, so that nothing is looked up after a
process has entered a container's root.
"""

from __future__ import annotations

import ctypes
import errno
import os

AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000

RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10

OPEN_TREE_CLONE = 1
OPEN_TREE_CLOEXEC = os.O_CLOEXEC
MOVE_MOUNT_F_EMPTY_PATH = 0x04
MOVE_MOUNT_T_EMPTY_PATH = 0x40
FSOPEN_CLOEXEC = 1
FSMOUNT_CLOEXEC = 1
FSCONFIG_SET_FLAG = 0
FSCONFIG_SET_STRING = 1
FSCONFIG_CMD_CREATE = 6

MOUNT_ATTR_RDONLY = 0x01
MOUNT_ATTR_NOSUID = 0x02
MOUNT_ATTR_NODEV = 0x04
MOUNT_ATTR_NOEXEC = 0x08
MOUNT_ATTR_IDMAP = 0x100000

MS_REC = 0x4000
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MNT_DETACH = 2

PR_SET_DUMPABLE = 4
PR_SET_KEEPCAPS = 8
PR_SET_NAME = 15
PR_CAPBSET_DROP = 24
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_CLEAR_ALL = 4

CLONE_PIDFD = 0x1000
CLONE_PARENT = 0x8000
CLONE_NEWNS = 0x20000
CLONE_NEWCGROUP = 0x2000000
CLONE_NEWUTS = 0x4000000
CLONE_NEWIPC = 0x8000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

_OPEN_TREE, _MOVE_MOUNT, _FSOPEN, _FSCONFIG, _FSMOUNT = 428, 429, 430, 431, 432
_OPENAT2_TRIES = 1000
_CLONE3, _CLOSE_RANGE, _OPENAT2, _MOUNT_SETATTR = 435, 436, 437, 442
# The calls above have one number on every architecture; these older ones do not.
_PIVOT_ROOT, _SECCOMP, _KEYCTL, _RENAMEAT2 = {
    "x86_64": (155, 317, 250, 316),
    "aarch64": (41, 277, 219, 276),
    "riscv64": (41, 277, 219, 276),
    "ppc64le": (203, 358, 271, 357),
    "s390x": (217, 348, 280, 347),
}.get(os.uname().machine, (-1, -1, -1, -1))
_RENAME_EXCHANGE = 2

_libc = ctypes.CDLL(None, use_errno=True)
_syscall = _libc.syscall
_syscall.restype = ctypes.c_long
_mount = _libc.mount
_mount.argtypes = (
    ctypes.c_char_p,
    ctypes.c_char_p,
    ctypes.c_char_p,
    ctypes.c_ulong,
    ctypes.c_char_p,
)
_prctl = _libc.prctl
_prctl.argtypes = (ctypes.c_int, *[ctypes.c_ulong] * 4)
_set_name = _libc["prctl"]
_signal = _libc.signal
_signal.argtypes = (ctypes.c_int, ctypes.c_void_p)
_umount2, _setns, _unshare, _syncfs = _libc.umount2, _libc.setns, _libc.unshare, _libc.syncfs
_capset, _setdomainname = _libc.capset, _libc.setdomainname


class _OpenHow(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("flags", "mode", "resolve")]


class _MountAttr(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "userns")]


class _CloneArgs(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_uint64)
        for name in (
            "flags",
            "pidfd",
            "child_tid",
            "parent_tid",
            "exit_signal",
            "stack",
            "stack_size",
            "tls",
            "set_tid",
            "set_tid_size",
            "cgroup",
        )
    ]


# Made once: what a shim makes for its only call would stay for as long as its container.
_pidfd = ctypes.c_int(-1)
_clone_args = _CloneArgs(pidfd=ctypes.addressof(_pidfd))
_clone_args_at, _CLONE_ARGS_SIZE = ctypes.byref(_clone_args), ctypes.sizeof(_clone_args)


class _CapHeader(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


class _SockFprog(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


def _check(result: int, call: str, detail: object = "") -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), f"{call} {detail}".rstrip())
    return result


def _bytes(path: str | bytes) -> bytes:
    return path if isinstance(path, bytes) else os.fsencode(path)


def openat2(
    dirfd: int, path: str | bytes, flags: int, mode: int = 0, resolve: int = RESOLVE_IN_ROOT
) -> int:
    """openat2(2): open ``path`` below ``dirfd`` under the restrictions of ``resolve``.

    A mount or a rename anywhere on the machine can keep the kernel from telling whether a ``..``
    stays inside, which it answers by EAGAIN; then it is asked again, a bounded number of times.
    """
    how = _OpenHow(flags | os.O_CLOEXEC, mode, resolve)
    for _ in range(_OPENAT2_TRIES):
        fd = _syscall(_OPENAT2, dirfd, _bytes(path), ctypes.byref(how), ctypes.sizeof(how))
        if fd >= 0 or ctypes.get_errno() != errno.EAGAIN:
            break
    return _check(fd, "openat2", path)


def open_tree(dirfd: int, path: str | bytes, flags: int) -> int:
    """open_tree(2): a file descriptor of a mount, or with OPEN_TREE_CLONE of a detached copy."""
    flags |= OPEN_TREE_CLOEXEC
    return _check(
        _syscall(_OPEN_TREE, dirfd, _bytes(path), ctypes.c_uint(flags)), "open_tree", path
    )


def move_mount(from_fd: int, to_fd: int, to_path: str | bytes = "") -> None:
    """move_mount(2): attach the detached mount ``from_fd``; an empty path means ``to_fd``
    itself."""
    flags = MOVE_MOUNT_F_EMPTY_PATH | (0 if to_path else MOVE_MOUNT_T_EMPTY_PATH)
    _check(
        _syscall(_MOVE_MOUNT, from_fd, b"", to_fd, _bytes(to_path), ctypes.c_uint(flags)),
        "move_mount",
        to_path,
    )


def fsopen(kind: str) -> int:
    """fsopen(2): a file system context to be configured."""
    return _check(_syscall(_FSOPEN, kind.encode(), FSOPEN_CLOEXEC), "fsopen", kind)


def fsconfig(fd: int, command: int, key: str | None = None, value: str | None = None) -> None:
    """fsconfig(2): one option (``value`` None: a flag), or a command without a key."""
    _check(
        _syscall(
            _FSCONFIG,
            fd,
            command,
            None if key is None else key.encode(),
            None if value is None else os.fsencode(value),
            0,
        ),
        "fsconfig",
        f"{key}={value}" if value is not None else key or "create",
    )


def fsmount(fd: int, attributes: int = 0) -> int:
    """fsmount(2): a detached mount of the configured file system, with MOUNT_ATTR_* set."""
    return _check(_syscall(_FSMOUNT, fd, FSMOUNT_CLOEXEC, ctypes.c_uint(attributes)), "fsmount")


def mount_setattr(
    dirfd: int,
    path: str | bytes,
    flags: int,
    *,
    set: int = 0,
    clear: int = 0,
    propagation: int = 0,
    userns: int = 0,
) -> None:
    """mount_setattr(2) on a mount; ``propagation`` is MS_PRIVATE or MS_SLAVE, 0 leaves it as it is;
    ``userns`` is a file descriptor for MOUNT_ATTR_IDMAP."""
    attributes = _MountAttr(set, clear, propagation, userns)
    _check(
        _syscall(
            _MOUNT_SETATTR,
            dirfd,
            _bytes(path),
            ctypes.c_uint(flags),
            ctypes.byref(attributes),
            ctypes.sizeof(attributes),
        ),
        "mount_setattr",
        path,
    )


def mount(source: str, target: str, kind: str, flags: int = 0, data: str = "") -> None:
    """mount(2), the classic call; empty strings are passed as null."""
    arguments = [os.fsencode(part) if part else None for part in (source, target, kind)]
    _check(_mount(*arguments, flags, os.fsencode(data) if data else None), "mount", target)


def umount(target: str, flags: int = MNT_DETACH) -> None:
    """umount2(2)."""
    _check(_umount2(os.fsencode(target), flags), "umount2", target)


def pivot_root(new: str, old: str) -> None:
    """pivot_root(2)."""
    _check(_syscall(_PIVOT_ROOT, os.fsencode(new), os.fsencode(old)), "pivot_root", new)


def exchange(one: str, other: str) -> None:
    """renameat2(2) with RENAME_EXCHANGE: let two names change places, both at once."""
    names = os.fsencode(one), os.fsencode(other)
    result = _syscall(_RENAMEAT2, AT_FDCWD, names[0], AT_FDCWD, names[1], _RENAME_EXCHANGE)
    _check(result, "renameat2", one)


def clone3(flags: int, exit_signal: int = 17, cgroup: int = -1) -> tuple[int, int]:
    """clone3(2) as a fork: (0, -1) in the child, (pid, pidfd) in the parent.

    With ``cgroup``, a directory descriptor of a cgroup v2, the child is born there. Only for a
    process of one thread: Python's at-fork handlers do not run.
    """
    _clone_args.flags = flags | CLONE_PIDFD
    _clone_args.exit_signal = exit_signal
    if cgroup >= 0:
        _clone_args.flags |= 0x200000000  # CLONE_INTO_CGROUP
        _clone_args.cgroup = cgroup
    pid = _syscall(_CLONE3, _clone_args_at, _CLONE_ARGS_SIZE)
    if pid < 0:
        _check(pid, "clone3", hex(flags))
    return (pid, _pidfd.value) if pid else (0, -1)


def setns(fd: int, flags: int) -> None:
    """setns(2): enter a namespace, or with a pidfd all of a process's namespaces in ``flags``."""
    _check(_setns(fd, flags), "setns", hex(flags))


def unshare(flags: int) -> None:
    """unshare(2)."""
    _check(_unshare(flags), "unshare", hex(flags))


def setdomainname(name: str) -> None:
    """setdomainname(2): the NIS domain name of this UTS namespace."""
    text = name.encode()
    _check(_setdomainname(text, len(text)), "setdomainname", name)


def syncfs(fd: int) -> None:
    """syncfs(2): write out the whole file system that ``fd`` is on."""
    _check(_syncfs(fd), "syncfs")


def prctl(option: int, a2: int = 0, a3: int = 0, a4: int = 0, a5: int = 0) -> int:
    """prctl(2)."""
    return _check(_prctl(option, a2, a3, a4, a5), "prctl", option)


def set_name(name: str) -> None:
    """prctl(PR_SET_NAME): what ps(1) shows for this process, 15 bytes at most."""
    if _set_name(PR_SET_NAME, name.encode()) < 0:
        _check(-1, "prctl", PR_SET_NAME)


def default_signal(number: int) -> None:
    """signal(2) with SIG_DFL, as the kernel sees it: Python's own table stays as it was."""
    _signal(number, None)


def capset(effective: int, permitted: int, inheritable: int) -> None:
    """capset(2) on this thread, with masks of 64 bits."""
    header = _CapHeader(0x20080522, 0)
    words = (ctypes.c_uint32 * 6)(
        *(
            mask >> shift & 0xFFFFFFFF
            for shift in (0, 32)
            for mask in (effective, permitted, inheritable)
        )
    )
    _check(_capset(ctypes.byref(header), words), "capset", hex(permitted))


def seccomp_load(program: bytes) -> None:
    """seccomp(2) SECCOMP_SET_MODE_FILTER with ``program``, an array of struct sock_filter."""
    filters = _SockFprog(len(program) // 8, program)
    _check(_syscall(_SECCOMP, 1, 0, ctypes.byref(filters)), "seccomp")


def join_new_session_keyring() -> None:
    """keyctl(KEYCTL_JOIN_SESSION_KEYRING): leave the session keyring that was inherited."""
    _check(_syscall(_KEYCTL, 1, None), "keyctl")


def close_range(first: int, last: int = 0xFFFFFFFF) -> None:
    """close_range(2)."""
    _check(_syscall(_CLOSE_RANGE, ctypes.c_uint(first), ctypes.c_uint(last), 0), "close_range")
