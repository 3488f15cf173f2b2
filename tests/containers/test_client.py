"""What the engine calls: a stream from the client's end, and errors from there."""

from __future__ import annotations

import json
import os
import socket
import threading

import pytest

from cellbox.containers import client, control
from cellbox.containers.client import Launcher, ProcessStream, Shim, start_error
from cellbox.containers.messages import MAX_PAYLOAD, Failure, Kind, packet, unpack
from cellbox.errors import EngineError, NotSupported, StartError
from cellbox.linux import sockets
from cellbox.model.codec import to_json


@pytest.fixture
def ends():
    """A stream, and the shim's end of it."""
    ours, theirs = sockets.pair()
    stream = ProcessStream(ours)
    yield stream, theirs
    stream.close()
    theirs.close()


def test_output_comes_as_it_was_sent(ends):
    stream, shim = ends
    for kind, data in ((Kind.STARTED, b"42"), (Kind.STDOUT, b"out"), (Kind.STDERR, b"err")):
        shim.send(packet(kind, data))
    shim.send(packet(Kind.EXITED, b"3"))
    assert list(stream) == [("stdout", b"out"), ("stderr", b"err")]
    assert (stream.pid, stream.wait(), stream.read()) == (42, 3, None)


def test_a_failure_is_raised_when_it_is_waited_for(ends):
    stream, shim = ends
    failure = Failure("exec", 2, 'exec: "x"', 127)
    shim.send(packet(Kind.FAILED, json.dumps(to_json(failure)).encode()))
    shim.send(packet(Kind.EXITED, b"127"))
    assert list(stream) == []
    with pytest.raises(StartError) as caught:
        stream.wait()
    assert (caught.value.stage, caught.value.errno, caught.value.exit_code) == ("exec", 2, 127)


def test_a_shim_that_ends_without_a_word(ends):
    stream, shim = ends
    shim.send(packet(Kind.STDOUT, b"last"))
    shim.close()
    assert list(stream) == [("stdout", b"last")]
    assert stream.wait() == 137


def test_the_exit_code_may_be_had_from_elsewhere():
    ours, theirs = sockets.pair()
    theirs.close()
    with ProcessStream(ours, lambda: 9) as stream:
        assert stream.wait() == 9


def test_time_outs(ends):
    stream, shim = ends
    for call in (stream.read, stream.wait):
        for timeout in (0.0, 0.01, -1.0):
            with pytest.raises(TimeoutError):
                call(timeout)
    shim.send(packet(Kind.STDOUT, b"x"))
    assert stream.read(20) == ("stdout", b"x")


def test_input_is_cut_into_packets(ends):
    stream, shim = ends
    data = os.urandom(MAX_PAYLOAD * 2 + 1)
    thread = threading.Thread(target=stream.write, args=(data,))
    thread.start()
    got = [unpack(shim.recv(MAX_PAYLOAD + 1)) for _ in range(3)]
    thread.join()
    assert b"".join(payload for _, payload in got) == data
    assert {kind for kind, _ in got} == {Kind.STDIN}


def test_no_input_is_no_packet(ends):
    stream, shim = ends
    stream.write(b"")
    stream.close_stdin()
    assert unpack(shim.recv(100)) == (Kind.STDIN_END, b"")


def test_what_else_can_be_told(ends):
    stream, shim = ends
    stream.resize(24, 80)
    stream.signal("SIGTERM")
    assert unpack(shim.recv(100)) == (Kind.RESIZE, b"\0\x18\0\x50")
    assert unpack(shim.recv(100)) == (Kind.SIGNAL, b"\x0f")
    with pytest.raises(ValueError):
        stream.signal("NOPE")


def test_writing_to_a_process_that_is_gone(ends):
    stream, shim = ends
    shim.close()
    with pytest.raises(BrokenPipeError):
        stream.write(b"x")
    stream.close_stdin()
    stream.resize(1, 1)
    stream.signal("TERM")


def test_closing_wakes_one_who_reads(ends):
    stream, _ = ends
    found = []
    thread = threading.Thread(target=lambda: found.append(stream.read()))
    thread.start()
    stream.close()
    thread.join(20)
    assert found == [None]
    stream.close()


def test_a_failure_as_an_error():
    error = start_error(Failure("mounts", 13, "proc on /proc", 125))
    assert (error.stage, error.errno, error.exit_code) == ("mounts", 13, 125)
    assert "proc on /proc" in str(error)


def test_a_socket_with_a_path_that_is_too_long(tmp_path):
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    listener = control.listen(str(deep))
    with listener:
        connection = client._ask(deep / "shim.sock", {"op": "x"}, ())
        accepted, _ = listener.accept()
        with connection, accepted:
            assert json.loads(accepted.recv(100)) == {"op": "x"}


def test_a_shim_that_is_not_there(tmp_path):
    for call in (lambda one: one.ask({"op": "x"}), lambda one: one.wait(1)):
        before = os.listdir("/proc/self/fd")
        with pytest.raises(FileNotFoundError):
            call(Shim(tmp_path))
        assert os.listdir("/proc/self/fd") == before


def test_a_shim_that_hangs_up(tmp_path):
    with control.listen(str(tmp_path)) as listener:

        def answer():
            for _ in range(2):
                connection, _ = listener.accept()
                connection.recv(1000)
                connection.close()

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(EngineError, match="ended without an answer"):
            Shim(tmp_path).ask({"op": "x"})
        assert Shim(tmp_path).wait(20) is None
        thread.join()


def test_a_launcher_that_was_ending_is_asked_again(tmp_path, monkeypatch):
    """It had the request in its queue and never read it, which the kernel tells as a reset."""
    tries, threads = [], []

    def spawn(self):
        tries.append(1)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        listener.bind(str(tmp_path / f"{len(tries)}.sock"))
        listener.listen()
        os.rename(tmp_path / f"{len(tries)}.sock", tmp_path / "launcher.sock")
        threads.append(threading.Thread(target=serve, args=(listener, len(tries))))
        threads[-1].start()

    def serve(listener, number):
        connection, _ = listener.accept()
        if number == 1:  # ends with the request unread
            while not connection.recv(1, socket.MSG_PEEK):
                pass
            listener.close()
            connection.close()
            return
        connection.recv(1000)
        connection.send(b'{"result": {"good": true}}')
        connection.close()
        listener.close()

    monkeypatch.setattr(Launcher, "_spawn", spawn)
    assert Launcher(tmp_path, tmp_path).work("job", {}) == {"good": True}
    assert len(tries) == 2
    for thread in threads:
        thread.join()


def test_a_launcher_that_cannot_be_started(tmp_path, monkeypatch):
    before = os.listdir("/proc/self/fd")
    monkeypatch.setattr(client.launcher, "bootstrap", lambda _: "raise SystemExit('no luck')")
    with pytest.raises(EngineError, match="the launcher did not start: no luck"):
        Launcher(tmp_path, tmp_path).ensure()
    text = """print('{"error": {"errno": 1, "path": "unshare"}}')"""
    monkeypatch.setattr(client.launcher, "bootstrap", lambda _: text)
    with pytest.raises(NotSupported, match="does not let cellbox make namespaces"):
        Launcher(tmp_path, tmp_path).ensure()
    assert os.listdir("/proc/self/fd") == before


def test_a_launcher_that_says_nothing_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(client, "_START_SECONDS", 0.3)
    path = str(tmp_path / "pid")
    text = f"import os, time; open({path!r}, 'w').write(str(os.getpid())); time.sleep(1000)"
    monkeypatch.setattr(client.launcher, "bootstrap", lambda _: text)
    with pytest.raises(EngineError, match="no answer"):
        Launcher(tmp_path, tmp_path).ensure()
    if (tmp_path / "pid").exists():
        assert not os.path.exists(f"/proc/{(tmp_path / 'pid').read_text()}")


def test_jobs_and_their_errors(store, tmp_path):
    tree = tmp_path / "tree"
    (tree / "a").mkdir(parents=True)
    store.launcher.work("remove", {"path": str(tree)})
    assert not tree.exists()
    with pytest.raises(FileNotFoundError):
        store.launcher.work("usage", {"path": str(tree), "paths": [str(tree)]})
    with pytest.raises(EngineError, match="KeyError"):
        store.launcher.work("no-such-job", {})
