"""The streams of a process over there: pieces, ends, exit codes, failures to start, logs."""

from __future__ import annotations

import threading

import pytest

from cellbox.errors import EngineError, StartError
from cellbox.remote.streams import RemoteStream, log_entries, not_started
from cellbox.wire.streams import frame

FAILED = b'OCI runtime exec failed: exec failed: exec: "nosuch": executable file not found in $PATH'


class Process:
    """Writes down what it is told."""

    def __init__(self, code=0):
        self.code = code
        self.told = []

    def resize(self, rows, columns):
        self.told.append((rows, columns))
        raise EngineError("it has not started")

    def signal(self, name):
        self.told.append(name)

    def exit_code(self, timeout):
        if self.code is None:
            raise TimeoutError
        return self.code

    def close(self):
        self.told.append("close")


@pytest.fixture
def stream(daemon, transport):
    """``stream(answer, tty=True)``: a stream to what ``answer`` does with the switched connection;
    its process is ``.process``."""
    made = []

    def open(answer, *, process=None, **more):
        def switched(asked):
            asked.switch()
            answer(asked)

        daemon.answers["POST /attach"] = switched
        exchange = transport.open("POST", "/attach", switch=True)
        options = {"tty": False, "stdin": False, **more}
        process = process or Process()
        one = RemoteStream(exchange, process, **options)
        one.process = process
        made.append(one)
        return one

    yield open
    for one in made:
        one.close()


def say(*data):
    def answer(asked):
        for piece in data:
            asked.send(piece)
        asked.connection.close()

    return answer


def test_frames_are_told_apart_however_they_are_cut(stream):
    data = frame("stdout", b"out") + frame("stderr", b"err") + frame("stdout", b"")
    found = list(stream(say(*(bytes([byte]) for byte in data))))
    assert found == [("stdout", b"out"), ("stderr", b"err")]


def test_a_terminal_has_no_frames(stream):
    data = frame("stderr", b"x")
    pieces = list(stream(say(data), tty=True))
    assert b"".join(piece for _, piece in pieces) == data
    assert {name for name, _ in pieces} == {"stdout"}


def test_the_exit_code_is_asked_for_when_all_is_read(stream):
    one = stream(say(frame("stdout", b"x" * 100)), process=Process(7))
    assert one.wait(10) == 7
    assert one.read() is None
    assert one.wait() == 7


def test_patience_has_an_end(stream):
    gate = threading.Event()
    one = stream(lambda asked: gate.wait(10), process=Process(None))
    for verb in (one.read, one.wait):
        with pytest.raises(TimeoutError):
            verb(0.01)
    gate.set()


def test_a_process_that_goes_on_without_output(stream):
    one = stream(say(), process=Process(None))
    with pytest.raises(TimeoutError):
        one.wait(5)
    one.process.code = 3
    assert one.wait(5) == 3


def test_input_and_its_end(stream):
    def count(asked):
        data = b""
        while piece := asked.connection.recv(65536):
            data += piece
        asked.send(frame("stdout", str(len(data)).encode()))
        asked.connection.close()

    one = stream(count, stdin=True)
    one.write(b"x" * 300_000)
    one.close_stdin()
    one.close_stdin()
    assert list(one) == [("stdout", b"300000")]
    with pytest.raises(BrokenPipeError):
        one.write(b"more")


def test_a_terminal_ends_its_input_by_a_character(stream):
    def read(asked):
        asked.send(asked.connection.recv(10))
        asked.connection.close()

    one = stream(read, stdin=True, tty=True)
    one.close_stdin()
    assert list(one) == [("stdout", b"\x04")]


def test_without_stdin_there_is_nobody_to_write_to(stream):
    one = stream(say())
    with pytest.raises(BrokenPipeError):
        one.write(b"x")
    one.close_stdin()


def test_size_and_signals_go_to_the_process(stream):
    plain, terminal = stream(say()), stream(say(), tty=True)
    plain.resize(1, 2)
    terminal.resize(3, 4)
    terminal.signal("INT")
    assert (plain.process.told, terminal.process.told) == ([], [(3, 4), "INT"])


def test_close_lets_go_of_everything(stream):
    gate = threading.Event()
    one = stream(lambda asked: gate.wait(10))
    seen = []
    reader = threading.Thread(target=lambda: seen.append(one.read()))
    reader.start()
    with one:
        pass
    reader.join(10)
    gate.set()
    assert seen == [None] and "close" in one.process.told


# What was not started ---------------------------------------------------------------------------


def test_words_in_place_of_a_program_are_a_start_error(stream):
    one = stream(say(frame("stdout", FAILED + b"\r\n")), process=Process(126), executed=True)
    assert list(one) == []
    with pytest.raises(StartError, match="not found") as caught:
        one.wait()
    assert caught.value.exit_code == 127


@pytest.mark.parametrize(("code", "more"), [(0, b""), (126, b"x" * 5000)])
def test_a_program_that_writes_the_same_words(stream, code, more):
    data = FAILED + more
    one = stream(say(frame("stdout", data)), process=Process(code), executed=True)
    assert list(one) == [("stdout", data)]
    assert one.wait(10) == code


def test_such_words_later_on_are_output(stream):
    data = frame("stdout", b"first\n") + frame("stdout", FAILED)
    one = stream(say(data), process=Process(127), executed=True)
    assert len(list(one)) == 2 and one.wait(10) == 127


@pytest.mark.parametrize(
    ("words", "code", "expected"),
    [
        ('exec: "/x": permission denied: unknown', 127, 126),
        ('exec: "x": executable file not found in $PATH', 126, 127),
        ("driver failed programming external connectivity", 128, 128),
        ("something else", 0, 125),
    ],
)
def test_dockers_codes_by_its_words(words, code, expected):
    assert not_started(words, code).exit_code == expected


# Logs -------------------------------------------------------------------------------------------

TIME = b"2026-01-31T12:00:00.500000000Z "


def test_log_entries(daemon, transport):
    data = frame("stdout", TIME + b"a b\n") + frame("stderr", TIME + b"\n")
    daemon.answers["GET /logs"] = lambda asked: asked.reply(200, data)
    found = list(log_entries(transport.open("GET", "/logs"), tty=False, stop=None))
    assert [(name, text) for _, name, text in found] == [("stdout", b"a b\n"), ("stderr", b"\n")]
    assert found[0][0] % 60 == 0.5


def test_log_entries_of_a_terminal_are_lines(daemon, transport):
    daemon.answers["GET /logs"] = lambda asked: asked.reply(200, TIME + b"a\r\n" + TIME + b"b\n")
    found = list(log_entries(transport.open("GET", "/logs"), tty=True, stop=None))
    assert [text for _, _, text in found] == [b"a\r\n", b"b\n"]


def test_following_stops_when_told(daemon, transport):
    daemon.answers["GET /logs"] = lambda asked: asked.begin()
    stopped = threading.Event()
    threading.Timer(0.05, stopped.set).start()
    assert list(log_entries(transport.open("GET", "/logs"), tty=False, stop=stopped.is_set)) == []
