"""Terminals, out of a container."""

from __future__ import annotations

import fcntl
import os
import struct
import termios

import pytest

from cellbox.containers import console

_TIOCGPTN = 0x80045430


def test_a_terminal_of_the_devpts_that_is_mounted_there():
    root = os.open("/", os.O_PATH)
    master, slave = console.open_pty(root)
    os.close(root)
    try:
        assert not os.get_inheritable(master) and not os.get_inheritable(slave)
        os.write(master, b"hello\n")
        assert os.read(slave, 100) == b"hello\n"
        number = struct.unpack("i", fcntl.ioctl(master, _TIOCGPTN, bytes(4)))[0]
        assert os.ttyname(slave) == f"/dev/pts/{number}"
        console.set_size(master, 12, 34)
        assert struct.unpack("HHHH", fcntl.ioctl(slave, termios.TIOCGWINSZ, bytes(8)))[:2] == (
            *(12, 34),
        )
    finally:
        os.close(master)
        os.close(slave)


@pytest.mark.parametrize("kind", ["file", "fifo", "link", "none", "directory"])
def test_what_is_no_ptmx_is_refused(tmp_path, kind):
    """CVE-2025-52565: an image or a running container may have put anything there."""
    path = tmp_path / "dev/pts/ptmx"
    path.parent.mkdir(parents=True)
    if kind == "file":
        path.write_text("x")
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "link":
        path.symlink_to("/dev/ptmx")
    elif kind == "directory":
        path.mkdir()
    root = os.open(tmp_path, os.O_PATH)
    before = os.listdir("/proc/self/fd")
    with pytest.raises(OSError):
        console.open_pty(root)
    assert os.listdir("/proc/self/fd") == before
    os.close(root)


def test_another_device_is_refused(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("needs root to make a device")
    path = tmp_path / "dev/pts"
    path.mkdir(parents=True)
    os.mknod(path / "ptmx", 0o20666, os.makedev(1, 3))
    root = os.open(tmp_path, os.O_PATH)
    with pytest.raises(OSError):
        console.open_pty(root)
    os.close(root)


def test_the_controlling_terminal_of_a_session():
    root = os.open("/", os.O_PATH)
    master, slave = console.open_pty(root)
    os.close(root)
    pid = os.fork()
    if pid == 0:
        os.setsid()
        console.take(slave)
        tty = os.open("/dev/tty", os.O_RDWR)
        good = os.tcgetpgrp(tty) == os.getpid() and all(map(os.isatty, range(3)))
        os.write(1, b"taken\n")
        os._exit(0 if good else 1)
    assert os.read(master, 100) == b"taken\r\n"
    assert os.waitpid(pid, 0)[1] == 0
    os.close(slave)
    os.close(master)
