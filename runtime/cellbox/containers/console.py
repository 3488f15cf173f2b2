"""Terminals: a pseudoterminal of the container's own devpts, and what is done with its two ends.

The caller's terminal is never handed in: a program could push input into it that outlives the
container (TIOCSTI). The inner end is taken from the master itself (TIOCGPTPEER), not by its path,
which an image or a running container could have replaced (CVE-2025-52565).
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
import termios

_TIOCGPTPEER = 0x5441
_TIOCSPTLCK = 0x40045431
_PTMX = (5, 2)


def open_pty(root: int) -> tuple[int, int]:
    """A new terminal of the devpts that is mounted in the root ``root``: (master, slave).

    Raises OSError, ENXIO where /dev/pts/ptmx is not the device it should be.
    """
    flags = os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC | os.O_NOFOLLOW
    master = os.open("dev/pts/ptmx", flags, dir_fd=root)
    status = os.fstat(master)
    device = (os.major(status.st_rdev), os.minor(status.st_rdev))
    if not stat.S_ISCHR(status.st_mode) or device != _PTMX:
        os.close(master)
        raise OSError(errno.ENXIO, os.strerror(errno.ENXIO), "/dev/pts/ptmx")
    fcntl.ioctl(master, _TIOCSPTLCK, struct.pack("i", 0))
    slave = fcntl.ioctl(master, _TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    return master, slave


def take(slave: int) -> None:
    """Make ``slave`` the controlling terminal and the standard streams of this session leader."""
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    for fd in range(3):
        os.dup2(slave, fd)


def set_size(fd: int, rows: int, columns: int) -> None:
    """Tell a terminal its size; its foreground processes get SIGWINCH."""
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
