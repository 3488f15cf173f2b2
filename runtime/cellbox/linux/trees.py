"""Deleting directory trees that somebody else has filled."""

from __future__ import annotations

import contextlib
import errno
import os
import stat

_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove_tree(path: str | bytes, *, dir_fd: int | None = None) -> None:
    """Delete ``path`` and all below it, whatever its shape; a missing one is no error, nor is
    another process that deletes it too.

    Works by descriptor and never follows a symbolic link; holds six descriptors at most, however
    deep the tree is, since a subdirectory that is not empty is first moved up to the tree's top,
    where an interrupted deletion leaves it too. Raises OSError.
    """
    parent, name = os.path.split(os.fsencode(path).rstrip(b"/"))
    try:
        above = os.open(parent or b".", _OPEN & ~os.O_NOFOLLOW, dir_fd=dir_fd)
    except FileNotFoundError:
        return
    try:
        while not _unlink(above, name):
            top = _open(above, name)
            try:
                _empty_top(top)
            finally:
                os.close(top)
            if _rmdir(above, name):
                break
    except FileNotFoundError:
        pass
    finally:
        os.close(above)


def _empty_top(top: int) -> None:
    prefix, count = b".removing-" + os.urandom(8).hex().encode(), 0
    while below := _empty(top):
        for entry in below:
            with contextlib.suppress(FileNotFoundError):
                fd = _open(top, entry)
                try:
                    for inner in _empty(fd):
                        count += 1
                        if not _lift(fd, inner, top, prefix + b"-%d" % count):
                            _remove_in_place(fd, inner)
                finally:
                    os.close(fd)
                _rmdir(top, entry)


def _empty(fd: int) -> list[bytes]:
    """Delete what goes at once; the names of the directories that are left."""
    names = [os.fsencode(name) for name in os.listdir(fd)]
    return [name for name in names if not (_unlink(fd, name) or _rmdir(fd, name))]


def _open(parent: int, name: bytes) -> int:
    """A directory that can be emptied; one that its owner has closed is opened."""
    try:
        fd = os.open(name, _OPEN, dir_fd=parent)
    except PermissionError:
        _unlock(parent, name)
        fd = os.open(name, _OPEN, dir_fd=parent)
    if os.fstat(fd).st_mode & stat.S_IRWXU != stat.S_IRWXU:
        _unlock(parent, name)
    return fd


def _unlock(parent: int, name: bytes) -> None:
    """chmod(2) of a directory; by descriptor, as by name it would follow a symbolic link."""
    fd = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        os.chmod(f"/proc/self/fd/{fd}", 0o700)
    except PermissionError:  # somebody else's; the deletion will tell if that matters
        pass
    finally:
        os.close(fd)


def _unlink(parent: int, name: bytes) -> bool:
    """Unlink what is no directory; True when it is gone."""
    try:
        os.unlink(name, dir_fd=parent)
    except FileNotFoundError:
        pass
    except IsADirectoryError:
        return False
    return True


def _rmdir(parent: int, name: bytes) -> bool:
    """Remove an empty directory; False when something is in it."""
    try:
        os.rmdir(name, dir_fd=parent)
    except FileNotFoundError:
        pass
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        return False
    return True


def _lift(parent: int, name: bytes, top: int, lifted: bytes) -> bool:
    """Move a directory to ``top``; False where it is of an overlay's lower layer (EXDEV)."""
    try:
        try:
            os.rename(name, lifted, src_dir_fd=parent, dst_dir_fd=top)
        except PermissionError:  # its ".." is to be changed, so it must be writable itself
            _unlock(parent, name)
            os.rename(name, lifted, src_dir_fd=parent, dst_dir_fd=top)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        return False
    return True


def _remove_in_place(parent: int, name: bytes) -> None:
    """Delete a directory and move nothing: down by name, and up again by "..".

    Ends early where ".." is not where it came from, as another process has moved that; what is
    left then is seen by the caller's next look.
    """
    fd = _open(parent, name)
    try:
        trail = [(os.fstat(parent), name, _empty(fd))]
        while trail:
            above, name, below = trail[-1]
            if below:
                inner, here = below.pop(), os.fstat(fd)
                fd = _step(fd, _open(fd, inner))
                trail.append((here, inner, _empty(fd)))
                continue
            fd = _step(fd, os.open("..", _OPEN, dir_fd=fd))
            if not os.path.samestat(os.fstat(fd), above):
                break
            _rmdir(fd, name)
            trail.pop()
    finally:
        os.close(fd)


def _step(fd: int, following: int) -> int:
    os.close(fd)
    return following
