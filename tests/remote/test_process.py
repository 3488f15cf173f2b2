"""The process behind a stream: exit codes, sizes, signals."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from cellbox.errors import EngineError, InvalidArgument, NotFound, Unavailable
from cellbox.remote.process import ContainerProcess, ExecProcess, Wait

ID = "c" * 64


def reply(**body):
    return lambda asked: asked.reply(200, json.dumps(body).encode())


def test_a_wait_has_begun_when_it_is_made(daemon, transport):
    def answer(asked):
        asked.begin()
        told.append(asked)

    told = []
    daemon.answers[f"POST /containers/{ID}/wait"] = answer
    with Wait(transport, ID, "next-exit") as waiting:
        assert daemon.asked[0].target.endswith("/wait?condition=next-exit")
        with pytest.raises(TimeoutError):
            waiting.exit_code(0.01)
        told[0].chunk(b'{"StatusCode": 7,')
        with pytest.raises(TimeoutError):
            waiting.exit_code(0.01)
        told[0].chunk(b' "Error": null}\n')
        told[0].chunk(b"")
        assert waiting.exit_code(10) == 7


@pytest.mark.parametrize("body", [b"", b"[]", b"{}"])
def test_a_wait_that_comes_to_nothing(daemon, transport, body):
    daemon.answers[f"POST /containers/{ID}/wait"] = lambda asked: asked.reply(200, body)
    with Wait(transport, ID, "removed") as waiting, pytest.raises(Unavailable):
        waiting.exit_code()


def test_a_wait_that_fails(daemon, transport):
    failure = {"StatusCode": -1, "Error": {"Message": "the disk is full"}}
    daemon.answers[f"POST /containers/{ID}/wait"] = reply(**failure)
    with Wait(transport, ID, "removed") as waiting, pytest.raises(EngineError, match="full"):
        waiting.exit_code()


def test_what_a_container_is_told(daemon, transport):
    daemon.answers |= {
        f"POST /containers/{ID}/wait": lambda asked: asked.begin(),
        f"POST /containers/{ID}/resize": lambda asked: asked.reply(200),
        f"POST /containers/{ID}/kill": lambda asked: asked.reply(409, b'{"message": "over"}'),
    }
    process = ContainerProcess(transport, ID, Wait(transport, ID, "not-running"))
    process.resize(3, 4)
    process.signal("INT")
    process.close()
    targets = [asked.target.partition("v1.41")[2] for asked in daemon.asked[1:]]
    assert targets == [
        f"/containers/{ID}/resize?h=3&w=4",
        f"/containers/{ID}/kill?signal=INT",
    ]


def test_the_code_of_an_exec_is_asked_for_until_it_is_there(daemon, transport):
    answers = [reply(Running=True, ExitCode=None)] * 2 + [reply(Running=False, ExitCode=3)]
    daemon.answers["GET /exec/e/json"] = lambda asked: answers[len(daemon.asked) - 1](asked)
    assert ExecProcess(transport, "e").exit_code(10) == 3


def test_an_exec_that_went_with_its_container(daemon, transport):
    daemon.answers["GET /exec/e/json"] = lambda asked: asked.reply(
        404, b'{"message": "No such exec instance: e"}'
    )
    assert ExecProcess(transport, "e").exit_code(10) == 137
    ExecProcess(transport, "e").signal("KILL")


def test_an_exec_that_goes_on(daemon, transport):
    daemon.answers["GET /exec/e/json"] = reply(Running=True)
    with pytest.raises(TimeoutError):
        ExecProcess(transport, "e").exit_code(0.03)


# Signals ----------------------------------------------------------------------------------------


@pytest.fixture
def sleeper():
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        yield process
        process.kill()


def test_what_is_not_in_the_container_is_left_alone(daemon, transport, sleeper):
    """Another machine may be behind the socket: our processes are none of its containers'."""
    daemon.answers["GET /exec/e/json"] = reply(Running=True, Pid=sleeper.pid, ContainerID=ID)
    daemon.answers[f"GET /containers/{ID}/json"] = reply(State={"Pid": os.getpid()})
    ExecProcess(transport, "e").signal("KILL")
    assert len(daemon.asked) > 2 and sleeper.poll() is None


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to make a pid namespace")
def test_one_of_the_container_is_signalled(daemon, transport, until):
    script = "import os, time; os.fork(); time.sleep(60)"
    words = ["unshare", "--fork", "--pid", "--kill-child", sys.executable, "-c", script]
    with subprocess.Popen(words) as outer:
        until(lambda: _children(outer.pid) and _children(_children(outer.pid)[0]))
        (first,) = _children(outer.pid)
        (second,) = _children(first)
        daemon.answers["GET /exec/e/json"] = reply(Running=True, Pid=second, ContainerID=ID)
        daemon.answers[f"GET /containers/{ID}/json"] = reply(State={"Pid": first})
        ExecProcess(transport, "e").signal("SIGKILL")
        until(lambda: _state(second) in "ZX")
        assert outer.poll() is None
        outer.kill()


def test_what_is_no_signal(transport):
    with pytest.raises(InvalidArgument, match="Invalid signal: NOSUCH"):
        ExecProcess(transport, "e").signal("NOSUCH")


def _children(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as found:
        return [int(word) for word in found.read().split()]


def _state(pid):
    try:
        with open(f"/proc/{pid}/stat") as found:
            return found.read().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return "X"


def test_a_container_that_is_not_there(daemon, transport):
    daemon.answers[f"POST /containers/{ID}/wait"] = lambda asked: asked.reply(
        404, b'{"message": "No such container: c"}'
    )
    with pytest.raises(NotFound):
        Wait(transport, ID, "removed")
