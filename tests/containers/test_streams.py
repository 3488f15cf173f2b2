"""Standard streams over real pipes, terminals and socket pairs, with no container."""

from __future__ import annotations

import os
import pty
import signal
import socket
import struct
import termios
import tty
from fcntl import ioctl

import pytest

from cellbox.containers import streams
from cellbox.containers.messages import Kind, packet, unpack
from cellbox.containers.streams import Client, Streams


class Peer:
    """A client and the far end of its socket."""

    def __init__(self, stdin=True):
        self.end, near = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.end.settimeout(20)
        self.client = Client(near, stdin)

    def send(self, kind, payload=b""):
        self.end.send(packet(kind, payload))

    def hear(self):
        return unpack(self.end.recv(streams._CHUNK * 2 + 1))

    def close(self):
        self.end.close()


class Pipes:
    """The program's ends of three pipes."""

    def __init__(self, one):
        self.stdin, stdin = os.pipe()
        stdout, self.stdout = os.pipe()
        stderr, self.stderr = os.pipe()
        one.use_pipes(stdin, stdout, stderr)
        self.reads = {"stdout": stdout, "stderr": stderr}
        self.open = {self.stdin, self.stdout, self.stderr}

    def shut(self, fd):
        self.open.discard(fd)
        os.close(fd)

    def close(self):
        for fd in self.open:
            os.close(fd)


@pytest.fixture
def kept():
    return []


@pytest.fixture
def one(kept):
    made = Streams(lambda stream, data: kept.append((stream, data)))
    yield made
    for client in list(made.clients):
        made.drop(client)
    made.close()


@pytest.fixture
def pipes(one):
    made = Pipes(one)
    yield made
    made.close()


@pytest.fixture
def peer(one):
    made = Peer()
    one.add(made.client)
    yield made
    made.close()


@pytest.fixture
def terminal(one):
    master, slave = pty.openpty()
    one.use_terminal(master)
    yield slave
    os.close(slave)


def test_output_goes_to_the_sink_and_to_every_client(one, pipes, peer, kept):
    other = Peer()
    one.add(other.client)
    os.write(pipes.stdout, b"out")
    os.write(pipes.stderr, b"err")
    one.read(pipes.reads["stdout"])
    one.read(pipes.reads["stderr"])
    for who in (peer, other):
        assert [who.hear(), who.hear()] == [(Kind.STDOUT, b"out"), (Kind.STDERR, b"err")]
    assert kept == [("stdout", b"out"), ("stderr", b"err")]
    other.close()


def test_reading_with_nothing_there_is_harmless(one, pipes, kept):
    one.read(pipes.reads["stdout"])
    assert kept == [] and len(one.fds) == 2


def test_a_stream_that_ends_is_closed(one, pipes):
    pipes.shut(pipes.stdout)
    one.read(pipes.reads["stdout"])
    assert list(one.fds.values()) == ["stderr"]


def test_input_and_its_end(one, pipes, peer):
    peer.send(Kind.STDIN, b"some")
    peer.send(Kind.STDIN_END)
    for _ in range(2):
        assert one.receive(peer.client) == 0
    assert os.read(pipes.stdin, 100) == b"some"
    assert os.read(pipes.stdin, 100) == b""
    assert one.stdin == -1


def test_input_waits_for_a_program_that_does_not_read_and_then_goes_on(one, pipes, peer):
    data = os.urandom(65536)
    for _ in range(3):
        peer.send(Kind.STDIN, data)
        one.receive(peer.client)
    peer.send(Kind.STDIN_END)
    one.receive(peer.client)
    assert one.pending and one.stdin >= 0
    got = b""
    while piece := os.read(pipes.stdin, 50_000):
        got += piece
        one.write()
    assert got == data * 3


def test_no_more_input_is_taken_than_may_wait(one, pipes, peer):
    for _ in range(streams._QUEUE + 1):
        peer.send(Kind.STDIN, b"x" * 65536)
        one.receive(peer.client)
    assert one.full


def test_input_for_a_program_that_has_closed_its_end_is_dropped(one, pipes, peer):
    pipes.shut(pipes.stdin)
    for _ in range(streams._QUEUE * 2):
        peer.send(Kind.STDIN, b"x")
        one.receive(peer.client)
    assert not one.full and not one.pending and one.stdin == -1
    peer.send(Kind.SIGNAL, b"\x0f")
    assert one.receive(peer.client) == signal.SIGTERM


def test_input_for_a_program_without_any_is_dropped(one, peer):
    stdout, theirs = os.pipe()
    stderr, also = os.pipe()
    one.use_pipes(-1, stdout, stderr)
    for _ in range(streams._QUEUE * 2):
        peer.send(Kind.STDIN, b"x")
        one.receive(peer.client)
    assert not one.pending
    os.close(theirs)
    os.close(also)


def test_input_of_one_who_may_only_look_is_ignored(one, pipes):
    looker = Peer(stdin=False)
    one.add(looker.client)
    looker.send(Kind.STDIN, b"x")
    looker.send(Kind.STDIN_END)
    for _ in range(2):
        one.receive(looker.client)
    assert not one.pending and one.stdin >= 0
    looker.close()


def test_input_before_there_is_a_terminal_waits_for_it(one, peer):
    peer.send(Kind.STDIN, b"early\n")
    peer.send(Kind.RESIZE, struct.pack("!HH", 5, 6))
    for _ in range(2):
        one.receive(peer.client)
    master, slave = pty.openpty()
    one.use_terminal(master)
    one.write()
    assert os.read(slave, 100) == b"early\n"
    assert struct.unpack("HHHH", ioctl(slave, termios.TIOCGWINSZ, bytes(8)))[:2] == (5, 6)
    os.close(slave)


def test_a_client_that_does_not_read_holds_the_program_up(one, pipes, peer):
    count = 0
    while not one.held_up:
        os.write(pipes.stdout, b"x" * 4096)
        one.read(pipes.reads["stdout"])
        count += 1
        assert count < 10_000
    heard = 0
    while heard < count:
        assert peer.hear() == (Kind.STDOUT, b"x" * 4096)
        heard += 1
        peer.client.flush()
    assert not one.held_up and not peer.client.waiting


def test_a_client_that_has_gone_is_forgotten(one, pipes, peer):
    peer.close()
    os.write(pipes.stdout, b"x")
    one.read(pipes.reads["stdout"])
    assert one.clients == [] and peer.client.socket.fileno() == -1


def test_a_client_that_hangs_up_is_forgotten_and_the_program_goes_on(one, pipes, peer):
    peer.close()
    assert one.receive(peer.client) == 0
    assert one.clients == [] and one.stdin >= 0


def test_dropping_twice_is_harmless(one, peer):
    one.drop(peer.client)
    one.drop(peer.client)


def test_receiving_with_nothing_there_is_harmless(one, peer):
    assert one.receive(peer.client) == 0 and one.clients


@pytest.mark.parametrize("data", [b"\x63", b"\xff" * 100])
def test_nonsense_ends_a_client(one, peer, data):
    peer.end.send(data)
    assert one.receive(peer.client) == 0
    assert one.clients == []


@pytest.mark.parametrize("number", [0, 65, 200, 255])
def test_what_is_no_signal_is_ignored(one, peer, number):
    peer.send(Kind.SIGNAL, bytes((number,)))
    assert one.receive(peer.client) == 0
    assert one.clients


@pytest.mark.parametrize("payload", [b"", b"\0", b"\0\1\0\1\0"])
def test_a_size_of_a_wrong_length_is_ignored(one, peer, terminal, payload):
    peer.send(Kind.RESIZE, payload)
    assert one.receive(peer.client) == 0


def test_the_size_of_a_terminal(one, peer, terminal):
    peer.send(Kind.RESIZE, struct.pack("!HH", 24, 80))
    one.receive(peer.client)
    assert struct.unpack("HHHH", ioctl(terminal, termios.TIOCGWINSZ, bytes(8)))[:2] == (24, 80)


def test_the_end_of_input_of_a_terminal_is_a_character(one, peer, terminal):
    peer.send(Kind.STDIN_END)
    one.receive(peer.client)
    assert os.read(terminal, 100) == b""  # in the terminal's usual mode
    assert one.terminal >= 0


def test_the_end_of_input_waits_for_room_in_the_terminal(one, peer, terminal):
    tty.setraw(terminal)
    for _ in range(4):
        peer.send(Kind.STDIN, b"x" * 10_000)
        one.receive(peer.client)
    peer.send(Kind.STDIN_END)
    one.receive(peer.client)
    assert one.pending
    got = b""
    while not got.endswith(b"\x04"):
        got += os.read(terminal, 5000)
        one.write()
    assert got == b"x" * 40_000 + b"\x04"


def test_a_terminal_that_all_have_left_is_closed(one, peer):
    master, slave = pty.openpty()
    one.use_terminal(master)
    os.close(slave)
    peer.send(Kind.STDIN_END)
    one.receive(peer.client)
    one.read(master)
    assert (one.fds, one.stdin, one.terminal) == ({}, -1, -1)
    peer.send(Kind.STDIN, b"x")
    one.receive(peer.client)
    assert not one.pending


def test_drain_takes_what_is_there(one, pipes, kept):
    os.write(pipes.stdout, b"x" * 50_000)
    os.write(pipes.stderr, b"y")
    one.drain()
    assert sum(len(data) for _, data in kept) == 50_001


def test_drain_ends_though_somebody_goes_on_writing(one, kept):
    read, write = os.pipe()
    os.set_blocking(write, False)
    other_read, other_write = os.pipe()
    one.use_pipes(-1, read, other_read)
    kept_on = one._sink

    def refill(stream, data):
        kept_on(stream, data)
        os.write(write, data)

    one._sink = refill
    os.write(write, b"x" * 1000)
    one.drain()
    assert 0 < len(kept) <= streams._DRAIN
    os.close(write)
    os.close(other_write)


def test_closing_lets_the_program_see_the_end(one, pipes):
    one.close()
    assert os.read(pipes.stdin, 1) == b""
    with pytest.raises(BrokenPipeError):
        os.write(pipes.stdout, b"x")
    one.close()
