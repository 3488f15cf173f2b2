"""Deleting directory trees that somebody else has filled."""

from __future__ import annotations

import os

_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove_tree(path: str | bytes, *, dir_fd: int | None = None) -> None:
    """Delete ``path`` and all below it, whatever its shape; a missing one is no error.

    Works by descriptor and never follows a symbolic link; holds two descriptors however deep the
    tree is, since a subdirectory is first moved up beside the one that is being emptied. Raises
    OSError.
    """
    parent, name = os.path.split(os.fsencode(path))
    top = os.open(parent or b".", _OPEN & ~os.O_NOFOLLOW, dir_fd=dir_fd)
    try:
        _remove(top, name)
    finally:
        os.close(top)


def _remove(top: int, name: bytes) -> None:
    if _unlink(top, name):
        return
    pending, count = [name], 0
    while pending:
        current = pending.pop()
        fd = _open(top, current)
        below = [entry for entry in os.listdir(fd) if not _unlink(fd, os.fsencode(entry))]
        for entry in below:
            if _rmdir(fd, os.fsencode(entry)):
                continue
            count += 1
            lifted = name + b".%d.removing" % count
            _lift(fd, os.fsencode(entry), top, lifted)
            pending.append(lifted)
        os.close(fd)
        os.rmdir(current, dir_fd=top)


def _open(top: int, name: bytes) -> int:
    try:
        return os.open(name, _OPEN, dir_fd=top)
    except PermissionError:  # a directory that its owner closed; we are root over it
        os.chmod(name, 0o700, dir_fd=top)
        return os.open(name, _OPEN, dir_fd=top)


def _unlink(parent: int, name: bytes) -> bool:
    """Unlink what is no directory; True when it is gone."""
    try:
        os.unlink(name, dir_fd=parent)
    except FileNotFoundError:
        pass
    except (IsADirectoryError, PermissionError):
        return False
    return True


def _rmdir(parent: int, name: bytes) -> bool:
    try:
        os.rmdir(name, dir_fd=parent)
        return True
    except OSError:
        return False


def _lift(parent: int, name: bytes, top: int, lifted: bytes) -> None:
    try:
        os.rename(name, lifted, src_dir_fd=parent, dst_dir_fd=top)
    except PermissionError:
        os.chmod(name, 0o700, dir_fd=parent)
        os.rename(name, lifted, src_dir_fd=parent, dst_dir_fd=top)
