"""Sockets of packets between processes of one machine, and the descriptors that travel over them
(unix(7), SOCK_SEQPACKET).

None of them is inherited by a program: the library's own ``socket.recv_fds`` cannot say so.
"""

from __future__ import annotations

import array
import select
import socket

_ROOM = socket.CMSG_LEN(253 * array.array("i").itemsize)  # SCM_MAX_FD


def pair() -> tuple[socket.socket, socket.socket]:
    """Two ends of a connection."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)


def blocking(fd: int) -> socket.socket:
    """The socket behind a descriptor that was received."""
    return socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, fd)


def seqpacket(fd: int) -> socket.socket:
    """The same, not blocking."""
    end = blocking(fd)
    end.setblocking(False)
    return end


def bare(fd: int) -> socket.SocketType:
    """As :func:`blocking`, without what the library puts around it: for one who must stay small."""
    return socket.SocketType(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, fd)


def is_left(connection: socket.SocketType) -> bool:
    """Has the other end been closed?"""
    poller = select.poll()
    poller.register(connection.fileno(), 0)
    return bool(poller.poll(0))


def receive(connection: socket.SocketType, size: int) -> tuple[bytes, list[int]]:
    """The next packet, of ``size`` bytes at most, and the descriptors that come with it; no bytes
    when the other side has ended. Raises OSError."""
    data, ancillary, _, _ = connection.recvmsg(size, _ROOM, socket.MSG_CMSG_CLOEXEC)
    fds = array.array("i")
    for _level, _type, sent in ancillary:
        fds.frombytes(sent)
    return data, list(fds)
