"""Requests and answers of a shim, with one that only notes what it is asked for."""

from __future__ import annotations

import json
import os
import signal
import socket
from types import SimpleNamespace

import pytest

from cellbox.containers import control, records, worker
from cellbox.containers.messages import SAMPLE, Failure
from cellbox.errors import InvalidArgument, WrongState
from cellbox.model.codec import to_json


class Main:
    """The first process."""

    def __init__(self):
        self.channel = None
        self.signals = []
        self.streams = SimpleNamespace(clients=[])
        self.streams.add = self.streams.clients.append

    def signal(self, number):
        self.signals.append(number)


class Shim:
    """Notes what it is asked for."""

    def __init__(self):
        self.name = "box"
        self.main = Main()
        self.state = SimpleNamespace(paused=False)
        self.facts = {}
        self.group = None
        self.asked_to_stop = False
        self.newcomers, self.waiting, self.calls = [], [], []

    def __getattr__(self, name):
        return lambda *arguments: self.calls.append((name, *arguments))


@pytest.fixture
def shim():
    return Shim()


def ask(shim, request, fds=()):
    """What :func:`control.handle` answers; None while it keeps the connection."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    with ours:
        socket.send_fds(ours, [json.dumps(request).encode()], fds)
        control.handle(shim, theirs)
        if theirs.fileno() >= 0:
            theirs.close()
            return None
        return worker.receive(ours)


@pytest.fixture
def stream():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        yield theirs.fileno()


def descriptors():
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize(
    ("facts", "request_", "call"),
    [
        ({}, {}, ("stop", 15, 10.0)),
        ({}, {"signal": 2, "timeout": 3}, ("stop", 2, 3.0)),
        ({}, {"timeout": 0}, ("stop", 15, 0.0)),
        ({}, {"timeout": -1}, ("stop", 15, -1.0)),
        ({"stop_signal": "USR1", "stop_timeout": 4.0}, {}, ("stop", int(signal.SIGUSR1), 4.0)),
        ({"stop_timeout": 4.0}, {"timeout": None}, ("stop", 15, 4.0)),
    ],
)
def test_stop(shim, facts, request_, call):
    shim.facts = facts
    assert ask(shim, {"op": "stop", **request_}) == {}
    assert shim.calls == [call]


def test_kill(shim):
    assert ask(shim, {"op": "kill", "signal": 1}) == {}
    assert shim.main.signals == [1] and shim.asked_to_stop
    assert ask(shim, {"op": "kill", "signal": 9}) == {}
    assert shim.calls == [("stop", 9, 0)]  # as it must reach what is paused or waits to restart


def test_what_needs_a_process_that_runs(shim):
    shim.main = None
    for request in (
        {"op": "kill", "signal": 15},
        {"op": "exec", "process": to_json(SAMPLE.process)},
        {"op": "work", "job": "x", "args": {}},
    ):
        with pytest.raises(WrongState, match="Container box is not running"):
            ask(shim, request)


def test_exec_while_it_is_starting_or_paused(shim):
    request = {"op": "exec", "process": to_json(SAMPLE.process)}
    shim.main.channel = object()
    with pytest.raises(WrongState, match="is not running"):
        ask(shim, request)
    shim.main.channel = None
    shim.state.paused = True
    with pytest.raises(WrongState, match="is paused, unpause"):
        ask(shim, request)


def test_exec(shim, stream):
    request = {"op": "exec", "process": to_json(SAMPLE.process)}
    assert ask(shim, request) == {}
    assert ask(shim, request, [stream]) == {}
    (_, process, nobody), (_, _, client) = shim.calls
    assert process == SAMPLE.process and nobody is None and client.stdin is False


def test_attach(shim, stream):
    assert ask(shim, {"op": "attach", "stdin": True}, [stream]) == {}
    assert [client.stdin for client in shim.main.streams.clients] == [True]
    assert ask(shim, {"op": "attach", "stdin": False, "logs": True}, [stream]) == {}
    assert shim.calls[0][0] == "replay"


def test_attach_while_it_waits_to_be_restarted(shim, stream):
    shim.main = None
    assert ask(shim, {"op": "attach", "stdin": False}, [stream]) == {}
    assert len(shim.newcomers) == 1


def test_pause_and_update(shim):
    assert ask(shim, {"op": "pause", "paused": True}) == {}
    changes = {"restart": {"name": "always"}, "name": "new"}
    assert ask(shim, {"op": "update", **changes, "other": 1}) == {}
    assert shim.calls == [("pause", True), ("change", changes)]
    with pytest.raises(InvalidArgument, match="has no cgroup"):
        ask(shim, {"op": "update", "limits": {"memory": 1}})


def test_update_sets_limits(shim):
    limits = []
    shim.group = SimpleNamespace(set=limits.append)
    ask(shim, {"op": "update", "limits": {"memory": 1 << 20}})
    assert limits[0].memory == 1 << 20
    assert shim.calls == [("change", {"limits": {"memory": 1 << 20}})]


def test_wait_keeps_the_connection(shim):
    assert ask(shim, {"op": "wait"}) is None
    assert len(shim.waiting) == 1


@pytest.mark.parametrize("op", ["attach", "exec", "kill", "wait", "nope", 5, None, ["x"], {}])
def test_descriptors_that_nobody_wanted_are_closed(shim, op, tmp_path):
    file = os.open(tmp_path, os.O_RDONLY)
    before = descriptors()
    try:
        ask(shim, {"op": op, "stdin": True, "signal": 1}, [file, file])
    except Exception:
        pass
    for connection in shim.waiting:
        connection.close()
    assert descriptors() == before
    os.close(file)


def test_one_who_has_gone_before_he_said_anything(shim):
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.close()
    control.handle(shim, theirs)
    assert theirs.fileno() == -1 and not shim.calls


def test_one_who_has_gone_before_the_answer(shim):
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.send(b'{"op": "stop"}')
    ours.close()
    control.handle(shim, theirs)
    assert shim.calls == [("stop", 15, 10.0)]


def test_one_who_reads_nothing_holds_nobody_up():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    theirs.setblocking(False)
    with ours, theirs:
        for _ in range(2000):
            control.reply(theirs, {"x": "y" * 1000}, keep=True)


def test_a_socket_takes_the_place_of_one_left_behind(tmp_path):
    for _ in range(2):
        control.listen(str(tmp_path / "run")).close()
    listener = control.listen(str(tmp_path / "run"))
    assert (tmp_path / "run").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "run" / records.SOCKET).is_socket()
    listener.close()


def test_a_failure_in_words():
    assert control.failure_text(None) == ""
    text = control.failure_text(Failure("exec", 2, 'exec: "x"', 127))
    assert text == 'exec: "x": No such file or directory'
