from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from cellbox.api import execs
from cellbox.errors import StartError, WrongState
from cellbox.model.container import Container, ExecSpec, Status
from cellbox.wire.streams import frame

Until = Callable[..., None]


@pytest.fixture
def running(scripted: Any, process: Any, container: Callable[..., Container]) -> Any:
    """The container that there is, with ``process`` as what is run in it."""
    scripted.containers.answers["get"] = container()
    scripted.containers.answers["list"] = [container()]
    scripted.containers.answers["exec"] = process
    return scripted.containers


@pytest.fixture
def session(running: Any, ask: Any) -> Callable[..., str]:
    """``session(Tty=True)``: the id of a new session."""

    def make(**fields: Any) -> str:
        body = {"Cmd": ["sh", "-c", "x"], "AttachStdout": True, "AttachStderr": True, **fields}
        answer = ask("POST", "/containers/web/exec", body)
        assert answer.status == 201
        return str(answer.json["Id"])

    return make


def begin(client: Any, id: str, body: bytes = b"{}") -> bytes:
    client.send(
        b"POST /exec/%b/start HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
        b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
        % (id.encode(), len(body), body)
    )
    return bytes(client.head())


def test_from_making_to_the_exit_code(
    session: Any, ask: Any, raw: Any, process: Any, running: Any
) -> None:
    id = session(AttachStdin=True, User="guest")
    assert len(id) == 64
    before = ask("GET", f"/exec/{id}/json").json
    assert (before["Running"], before["ExitCode"]) == (False, None)
    assert before["ProcessConfig"] == {
        "tty": False,
        "entrypoint": "sh",
        "arguments": ["-c", "x"],
        "privileged": False,
        "user": "guest",
    }
    client = raw()
    head = begin(client, id)
    assert b"Content-Type: application/vnd.docker.multiplexed-stream\r\n" in head
    spec = ExecSpec(("sh", "-c", "x"), user="guest", interactive=True)
    assert running.calls[-1] == ("exec", "c" * 64, spec)
    during = ask("GET", f"/exec/{id}/json").json
    assert (during["Running"], during["ExitCode"]) == (True, None)
    process.out(b"o")
    process.out(b"e", "stderr")
    process.end(7)
    assert client.rest() == frame("stdout", b"o") + frame("stderr", b"e")
    after = ask("GET", f"/exec/{id}/json").json  # at once: the end of the output was the signal
    assert (after["Running"], after["ExitCode"], after["ContainerID"]) == (False, 7, "c" * 64)


def test_it_is_started_once(session: Any, ask: Any, raw: Any, process: Any) -> None:
    id = session()
    client = raw()
    begin(client, id)
    for _ in range(2):
        assert ask("POST", f"/exec/{id}/start", {}).status == 409
        process.end()
    client.rest()


def test_one_that_could_not_be_started_may_be_started_again(
    session: Any, ask: Any, raw: Any, process: Any, running: Any
) -> None:
    id = session()
    running.answers["exec"] = WrongState("not now")
    assert ask("POST", f"/exec/{id}/start", {}).status == 409
    running.answers["exec"] = process
    client = raw()
    assert begin(client, id).startswith(b"HTTP/1.1 101 ")
    process.end()
    client.rest()


def test_a_program_that_is_not_there_is_told_in_the_stream(
    session: Any, ask: Any, raw: Any, process: Any
) -> None:
    detail = 'exec: "nosuch": executable file not found in $PATH'
    process.end(StartError("exec", 2, detail, 127))
    id = session()
    client = raw()
    begin(client, id)
    assert detail.encode() in client.rest()
    assert ask("GET", f"/exec/{id}/json").json["ExitCode"] == 127


def test_detached_it_answers_at_once(session: Any, ask: Any, process: Any, until: Until) -> None:
    id = session()
    answer = ask("POST", f"/exec/{id}/start", {"Detach": True})
    assert (answer.status, answer.body) == (200, b"")
    process.out(b"nobody reads this")
    process.end(3)
    until(lambda: ask("GET", f"/exec/{id}/json").json["ExitCode"] == 3)
    assert process.closed.is_set()


def test_a_client_that_goes_leaves_the_process_running(
    session: Any, ask: Any, raw: Any, process: Any, until: Until
) -> None:
    id = session()
    client = raw()
    begin(client, id)
    client.socket.close()
    for _ in range(10):
        process.out(b"x" * 1000)
    assert ask("GET", f"/exec/{id}/json").json["Running"]
    process.end(5)
    until(lambda: ask("GET", f"/exec/{id}/json").json["ExitCode"] == 5)
    client.done()


def test_the_end_of_input_is_passed_on(session: Any, raw: Any, process: Any, running: Any) -> None:
    client = raw()
    begin(client, session(AttachStdin=True))
    client.send(b"typed")
    client.socket.shutdown(1)
    assert process.input_ended.wait(20)
    assert process.typed == b"typed"
    process.end()
    client.rest()


def test_sizes_before_and_after_the_start(session: Any, ask: Any, raw: Any, process: Any) -> None:
    id = session(Tty=True)
    assert ask("POST", f"/exec/{id}/resize?h=3&w=9").status == 200
    client = raw()
    head = begin(client, id, b'{"Tty":true}')
    assert b"Content-Type: application/vnd.docker.raw-stream\r\n" in head
    assert ask("POST", f"/exec/{id}/resize?h=4&w=9").status == 200
    assert process.sizes == [(3, 9), (4, 9)]
    process.out(b"bare")
    process.end()
    assert client.rest() == b"bare"


def test_a_size_may_come_with_the_start(session: Any, raw: Any, process: Any) -> None:
    client = raw()
    begin(client, session(Tty=True), b'{"Tty":true,"ConsoleSize":[33,99]}')
    process.end()
    client.rest()
    assert process.sizes == [(33, 99)]


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (Status.PAUSED, "Container web is paused, unpause the container before exec"),
        (Status.EXITED, f"container {'c' * 64} is not running"),
        (Status.CREATED, f"container {'c' * 64} is not running"),
        (Status.RESTARTING, "is restarting, wait until the container is running"),
    ],
)
def test_only_one_that_runs_can_be_executed_in(
    running: Any, ask: Any, container: Any, status: Status, words: str
) -> None:
    running.answers["get"] = container(status)
    answer = ask("POST", "/containers/web/exec", {"Cmd": ["true"]})
    assert answer.status == 409
    assert words in answer.json["message"]


def test_a_command_is_needed(running: Any, ask: Any) -> None:
    assert ask("POST", "/containers/web/exec", {"Cmd": []}).status == 400


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "json"), ("POST", "start"), ("POST", "resize?h=1&w=1")]
)
def test_an_unknown_session(running: Any, ask: Any, method: str, path: str) -> None:
    answer = ask(method, f"/exec/nosuch/{path}")
    assert (answer.status, answer.json) == (404, {"message": "No such exec instance: nosuch"})


def test_an_inspect_of_the_container_names_what_runs(
    session: Any, daemon: Any, raw: Any, process: Any
) -> None:
    id = session()
    assert daemon.sessions.of("c" * 64) == []
    client = raw()
    begin(client, id)
    assert daemon.sessions.of("c" * 64) == [id]
    process.end()
    client.rest()
    assert daemon.sessions.of("c" * 64) == []


def test_old_sessions_and_those_of_removed_containers_are_forgotten(
    session: Any, ask: Any, daemon: Any, running: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = session()
    daemon.sessions.sweep()
    assert ask("GET", f"/exec/{id}/json").status == 200
    monkeypatch.setattr(execs, "KEPT", -1.0)
    daemon.sessions.sweep()
    assert ask("GET", f"/exec/{id}/json").status == 404
    monkeypatch.undo()
    id = session()
    running.answers["list"] = []
    daemon.sessions.sweep()
    assert ask("GET", f"/exec/{id}/json").status == 404
