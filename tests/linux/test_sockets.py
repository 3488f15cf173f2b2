"""Packets between processes, and the descriptors that come with them."""

from __future__ import annotations

import os
import socket

import pytest

from cellbox.linux import sockets


@pytest.fixture
def ends():
    ours, theirs = sockets.pair()
    with ours, theirs:
        yield ours, theirs


def test_a_packet_comes_whole_and_alone(ends):
    ours, theirs = ends
    ours.send(b"one")
    ours.send(b"two")
    assert sockets.receive(theirs, 100) == (b"one", [])
    assert sockets.receive(theirs, 100) == (b"two", [])


def test_no_descriptor_is_inherited(ends):
    ours, theirs = ends
    socket.send_fds(ours, [b"x"], [0, 1, 2])
    data, fds = sockets.receive(theirs, 100)
    assert data == b"x"
    for number, fd in enumerate(fds):
        assert os.path.sameopenfile(number, fd)
        assert not os.get_inheritable(fd)
        os.close(fd)
    assert len(fds) == 3
    assert not any(end.get_inheritable() for end in ends)


def test_the_end_is_an_empty_packet(ends):
    ours, theirs = ends
    ours.close()
    assert sockets.receive(theirs, 100) == (b"", [])


def test_an_end_that_went_with_words_unread_is_an_error(ends):
    ours, theirs = ends
    theirs.send(b"never read")
    ours.close()
    with pytest.raises(ConnectionResetError):
        sockets.receive(theirs, 100)


@pytest.mark.parametrize("kind", [sockets.blocking, sockets.seqpacket, sockets.bare])
def test_a_socket_is_what_is_behind_a_descriptor(ends, kind):
    ours, theirs = ends
    end = kind(theirs.detach())
    assert os.get_blocking(end.fileno()) == (kind is not sockets.seqpacket)
    ours.send(b"word")
    assert sockets.receive(end, 100) == (b"word", [])
    end.close()
    assert ours.recv(1) == b""


def test_an_end_tells_whether_the_other_one_was_closed(ends):
    ours, theirs = ends
    assert not sockets.is_left(ours)
    theirs.send(b"word")
    assert not sockets.is_left(ours)
    theirs.close()
    assert sockets.is_left(ours)
