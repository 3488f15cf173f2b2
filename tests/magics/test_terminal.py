"""The command's surface over real pipes and pseudo-terminals."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import struct
import termios
import threading

import pytest

from cellbox.errors import InvalidArgument
from cellbox.model.container import RunSpec
from cellbox.model.image import Progress
from cellbox_magics.session import Session
from cellbox_magics.surface import Talking
from cellbox_magics.terminal import DetachKeys, Terminal, raw_mode, show


class Pipes:
    """Standard streams that a test holds the other ends of."""

    def __init__(self, engine):
        (self.stdin_read, self.stdin), (self.out, self.out_write) = os.pipe(), os.pipe()
        self.err, self.err_write = os.pipe()
        self.open = {
            self.stdin_read,
            self.stdin,
            self.out,
            self.out_write,
            self.err,
            self.err_write,
        }
        fds = (self.stdin_read, self.out_write, self.err_write)
        self.terminal = Terminal(Session(connect=lambda url: engine), fds)

    def close(self, fd):
        self.open.discard(fd)
        os.close(fd)

    def written(self, fd=None):
        """All that was written; nothing can be written afterwards."""
        out, write = (self.out, self.out_write) if fd is None else (self.err, self.err_write)
        self.close(write)
        with open(out, "rb", closefd=False) as file:
            return file.read()


@pytest.fixture
def pipes(engine):
    made = Pipes(engine)
    yield made
    for fd in list(made.open):
        made.close(fd)


@pytest.fixture
def started(engine):
    """The stream of a running program."""

    def start(program, **spec):
        engine.programs["program"] = program
        facts = engine.containers.create(RunSpec("ubuntu", ("program",), **spec))
        stream = engine.containers.attach(facts.id)
        engine.containers.start(facts.id)
        return stream

    return start


def test_bytes_go_through_as_they_are(pipes, started):
    def program(process):
        process.out(b"\xff\x00raw")
        process.err("err")
        return 7

    assert pipes.terminal.talk(started(program), Talking("x")) == 7
    assert pipes.written() == b"\xff\x00raw"
    assert pipes.written("err") == b"err"


def test_input_is_passed_on_until_its_end(pipes, started):
    os.write(pipes.stdin, b"some input")
    pipes.close(pipes.stdin)

    def program(process):
        process.out(process.read_all())
        return 0

    assert pipes.terminal.talk(started(program), Talking("x", stdin=True)) == 0
    assert pipes.written() == b"some input"


def test_a_program_that_ends_does_not_wait_for_input(pipes, started):
    assert pipes.terminal.talk(started(lambda process: 3), Talking("x", stdin=True)) == 3


def test_the_detach_keys_let_go(pipes, started, until):
    def program(process):
        process.read()
        process.signal()
        return 0

    stream = started(program)
    os.write(pipes.stdin, b"text\x10\x11")
    assert pipes.terminal.talk(stream, Talking("x", tty=True, stdin=True)) is None
    assert stream.process.typed == b"text"
    stream.signal("TERM")
    assert stream.process.ended.wait(20)


def test_signals_are_passed_on(pipes, started):
    def program(process):
        process.out("ready")
        os.kill(os.getpid(), signal.SIGUSR1)
        process.out(process.signal())
        return 0

    before = signal.getsignal(signal.SIGUSR1)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    engine_talk = Talking("x")
    gate = threading.Event()

    def gated(process):
        gate.wait(20)
        return program(process)

    stream = started(gated)
    original = type(stream).__iter__

    def iterate(self):
        gate.set()  # the handlers are in place when the talk begins to read
        return original(self)

    try:
        type(stream).__iter__ = iterate
        assert pipes.terminal.talk(stream, engine_talk) == 0
    finally:
        type(stream).__iter__ = original
        signal.signal(signal.SIGUSR1, before)
    assert pipes.written() == b"readyUSR1"


def test_a_terminal_is_raw_and_tells_its_size(engine, started, until):
    main, replica = pty.openpty()
    fcntl.ioctl(replica, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 99, 0, 0))
    terminal = Terminal(Session(connect=lambda url: engine), (replica, replica, replica))
    modes = []

    def program(process):
        until(lambda: bool(process.sizes))
        modes.append(termios.tcgetattr(replica)[3] & termios.ECHO)
        os.write(main, b"\x03")
        assert process.read() == b"\x03"
        return 0

    stream = started(program)
    assert terminal.talk(stream, Talking("x", tty=True, stdin=True)) == 0
    assert stream.process.sizes[0] == (33, 99)
    assert modes == [0]
    assert termios.tcgetattr(replica)[3] & termios.ECHO
    os.close(main)
    os.close(replica)


def test_raw_mode_keeps_what_was_typed_ahead():
    main, replica = pty.openpty()
    os.write(main, b"early\n")
    with raw_mode(replica):
        assert os.read(replica, 100) == b"early\n"
    os.close(main)
    os.close(replica)


def test_raw_mode_ends_with_its_block():
    main, replica = pty.openpty()
    before = termios.tcgetattr(replica)
    with pytest.raises(ZeroDivisionError), raw_mode(replica):
        assert termios.tcgetattr(replica) != before
        raise ZeroDivisionError
    assert termios.tcgetattr(replica) == before
    os.close(main)
    os.close(replica)


@pytest.mark.parametrize(
    ("pieces", "passed", "detached"),
    [
        ([b"abc"], b"abc", False),
        ([b"\x10\x11"], b"", True),
        ([b"a\x10", b"\x11b"], b"a", True),
        ([b"a\x10", b"b"], b"a\x10b", False),
        ([b"\x10\x10\x11"], b"\x10", True),
    ],
)
def test_detach_keys_are_found_across_pieces(pieces, passed, detached):
    keys = DetachKeys(b"\x10\x11")
    results = [keys.feed(piece) for piece in pieces]
    assert b"".join(data for data, _ in results) == passed
    assert results[-1][1] is detached
    assert DetachKeys(b"").feed(b"\x10\x11") == (b"\x10\x11", False)


def test_tars_need_a_file_or_a_pipe(engine):
    main, replica = pty.openpty()
    terminal = Terminal(Session(connect=lambda url: engine), (replica, replica, replica))
    with pytest.raises(InvalidArgument, match="< FILE"):
        terminal.source()
    with pytest.raises(InvalidArgument, match="> FILE"):
        terminal.sink()
    os.close(main)
    os.close(replica)


def test_pipes_take_and_give_bytes(pipes):
    os.write(pipes.stdin, b"tar")
    pipes.close(pipes.stdin)
    with pipes.terminal.source() as source:
        assert source.read() == b"tar"
    with pipes.terminal.sink() as sink:
        sink.write(b"out")
    assert pipes.written() == b"out"


def test_a_question_is_asked_on_standard_error(pipes):
    os.write(pipes.stdin, b"y\n")
    assert pipes.terminal.ask("sure? ") == "y\n"
    assert pipes.written("err") == b"sure? "


def test_progress_is_lines_in_a_pipe_and_live_on_a_terminal(pipes, engine):
    with pipes.terminal.watch("Pulling") as watch:
        watch(Progress("a", "Downloading", 1, 2))
        watch(Progress("a", "Downloading", 2, 2))
        watch(Progress("a", "Pull complete"))
    assert pipes.written("err") == b"a: Downloading\na: Pull complete\n"
    main, replica = pty.openpty()
    terminal = Terminal(Session(connect=lambda url: engine), (replica, replica, replica))
    with terminal.watch("Pulling") as watch:
        watch(Progress("a", "Downloading", 1, 2))
    drawn = b""
    while b"Downloading" not in drawn:
        drawn += os.read(main, 1 << 16)
    os.close(replica)
    os.close(main)


def test_results_as_text(engine):
    from cellbox.handles import ContainerHandle, ImageHandle
    from cellbox_magics.tables import Lines, Table

    assert show(None) == ""
    assert show(0) == ""
    assert show(Lines(["a"])) == "a"
    assert show(ImageHandle(engine, engine.images.get("ubuntu"))) == "ubuntu:latest"
    facts = engine.containers.create(RunSpec("ubuntu"))
    assert show(ContainerHandle(engine, facts)) == facts.id
    read, write = os.pipe()
    main, replica = pty.openpty()
    table = Table(("ID",), [("a\x1b[2Jb",)])
    assert show(table, write) == "ID\na [2Jb"
    assert show(table, replica).split() == ["ID", "a", "[2Jb"]
    for fd in (read, write, main, replica):
        os.close(fd)
