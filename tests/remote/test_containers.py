"""Containers behind the API: what is sent, and what is not Docker's to do."""

from __future__ import annotations

import json

import pytest

from cellbox.errors import InvalidArgument, NotFound, NotSupported, StartError, WrongState
from cellbox.model.container import (
    Container,
    ExecSpec,
    Limits,
    PortSpec,
    RestartPolicy,
    RunSpec,
    Status,
)
from cellbox.wire.containers import container_json
from cellbox.wire.streams import frame

ID = "a1" * 32


def facts(status=Status.RUNNING, **more):
    spec = RunSpec("busybox", ("sleep", "9"), **more.pop("spec", {}))
    return Container(ID, "web", "sha256:" + "0" * 64, spec, ("sleep", "9"), status, 1e9, **more)


@pytest.fixture
def web(tells):
    """``web(status, **facts)``: a container under its name and its id."""

    def make(status=Status.RUNNING, **more):
        for ref in ("web", ID):
            tells(f"GET /containers/{ref}/json", container_json(facts(status, **more)))

    make()
    return make


def test_create_asks_for_what_is_wanted(engine, tells, daemon, web):
    tells("POST /containers/create", {"Id": ID}, 201)
    spec = RunSpec("busybox", ("ls",), env=("A=1",), platform="linux/arm64")
    assert engine.containers.create(spec, name="web").id == ID
    asked = daemon.asked[0]
    assert asked.target.endswith("/containers/create?name=web&platform=linux%2Farm64")
    assert json.loads(asked.body)["Env"] == ["A=1"]


def test_verbs(engine, tells, told):
    daemon_verbs = {
        "stop": (dict(timeout=1.2), {"t": ["2"]}),
        "restart": (dict(timeout=-1), {"t": ["-1"]}),
        "kill": (dict(signal="HUP"), {"signal": ["HUP"]}),
        "pause": ({}, {}),
        "unpause": ({}, {}),
    }
    for verb, (arguments, query) in daemon_verbs.items():
        tells(f"POST /containers/web/{verb}", None, 204)
        getattr(engine.containers, verb)("/web", **arguments)
        assert told() == (f"POST /containers/web/{verb}", query, None)
    tells("DELETE /containers/web", None, 204)
    engine.containers.remove("web", force=True, volumes=True)
    assert told()[1] == {"force": ["1"], "v": ["1"]}


def test_a_signal_to_stop_with_is_new(engine, tells, told, daemon):
    with pytest.raises(NotSupported, match="kill"):
        engine.containers.stop("web", signal="INT")
    assert daemon.asked == []


def test_a_signal_to_stop_with(engine, tells, told, daemon):
    daemon.version = "1.42"
    tells("POST /containers/web/stop", None, 204)
    engine.containers.stop("web", signal="INT")
    assert told()[1] == {"signal": ["INT"]}


def test_update(engine, tells, daemon):
    tells("POST /containers/web/update", {"Warnings": []})
    tells("POST /containers/web/rename", None, 204)
    engine.containers.update(
        "web", name="front", limits=Limits(memory=1 << 25), restart=RestartPolicy("always")
    )
    first, second = daemon.asked
    body = json.loads(first.body)
    assert (body["Memory"], body["RestartPolicy"]["Name"]) == (1 << 25, "always")
    assert second.target.endswith("/rename?name=front")


def test_update_of_what_only_we_can_change(engine, tells, daemon):
    for more in (dict(env=()), dict(ports=(PortSpec(1),)), dict(mounts=())):
        with pytest.raises(NotSupported, match="cannot change ports, mounts or environment"):
            engine.containers.update("web", name="x", **more)
    assert len(daemon.asked) == 3
    tells("POST /containers/web/remake", None, 204)
    engine.containers.update("web", env=("A=1",), mounts=())
    body = json.loads(daemon.asked[-1].body)
    assert (body["Env"], body["Mounts"], "PortBindings" in body) == (["A=1"], [], False)


def test_a_list_is_of_whole_facts(engine, tells, daemon, web):
    tells("GET /containers/json", [{"Id": ID}, {"Id": "b" * 64}])
    tells(f"GET /containers/{'b' * 64}/json", {"message": "No such container: b"}, 404)
    (found,) = engine.containers.list(filters={"exited": ["0"]})
    assert found.name == "web" and found.spec.command == ("sleep", "9")
    assert "all=1" in daemon.asked[0].target and "exited" in daemon.asked[0].target


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ('OCI runtime create failed: exec: "x": executable file not found in $PATH: unknown', 127),
        ("driver failed programming external connectivity on endpoint web", 128),
    ],
)
def test_what_could_not_be_started(engine, tells, web, words, code):
    tells("POST /containers/web/start", {"message": words}, 500)
    web(Status.CREATED, exit_code=code, error=words)
    with pytest.raises(StartError, match="found|external connectivity") as caught:
        engine.containers.start("web")
    assert caught.value.exit_code == code


def test_other_errors_of_a_start_are_what_they_are(engine, tells, web):
    tells("POST /containers/web/start", {"message": "cannot start a paused container"}, 409)
    web(Status.PAUSED)
    with pytest.raises(WrongState, match="paused"):
        engine.containers.start("web")
    tells("POST /containers/nosuch/start", {"message": "No such container: nosuch"}, 404)
    with pytest.raises(NotFound):
        engine.containers.start("nosuch")


# Waiting ----------------------------------------------------------------------------------------


def targets(daemon):
    return [asked.target.partition(f"v{daemon.version}")[2] for asked in daemon.asked]


def test_wait(engine, tells, daemon, web):
    tells("POST /containers/web/wait", {"StatusCode": 5})
    assert engine.containers.wait("web", condition="next-exit") == 5
    assert targets(daemon)[0] == "/containers/web/wait?condition=next-exit"
    with pytest.raises(InvalidArgument, match="condition"):
        engine.containers.wait("web", condition="some-day")


def test_one_that_removes_itself_is_waited_for_until_it_is_gone(engine, tells, daemon, web):
    web(spec=dict(auto_remove=True))
    tells("POST /containers/web/wait", {"StatusCode": 5})
    tells(f"POST /containers/{ID}/wait", {"StatusCode": 0})
    assert engine.containers.wait("web") == 5
    assert f"/containers/{ID}/wait?condition=removed" in targets(daemon)


def test_one_that_is_gone_already_has_told_its_code(engine, tells):
    tells("POST /containers/web/wait", {"StatusCode": 5})
    tells("GET /containers/web/json", {"message": "No such container: web"}, 404)
    assert engine.containers.wait("web") == 5


def test_an_end_before_the_next_start_is_not_the_end(engine, daemon, web):
    codes = iter([1, 2])

    def answer(asked):
        code = next(codes)
        web(Status.RESTARTING if code == 1 else Status.EXITED, spec=restarts)
        asked.reply(200, json.dumps({"StatusCode": code}).encode())

    restarts = dict(restart=RestartPolicy("on-failure"))
    daemon.answers["POST /containers/web/wait"] = answer
    assert engine.containers.wait("web") == 2


# Streams ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "removes", "condition"),
    [
        (Status.CREATED, False, "next-exit"),
        (Status.RUNNING, False, "not-running"),
        (Status.CREATED, True, "removed"),
    ],
)
def test_attach_waits_before_anything_can_end(
    engine, daemon, tells, web, status, removes, condition
):
    def attach(asked):
        asked.switch(frame("stdout", b"hi"))
        asked.connection.close()

    web(status, spec=dict(auto_remove=removes))
    tells(f"POST /containers/{ID}/wait", {"StatusCode": 4})
    daemon.answers[f"POST /containers/{ID}/attach"] = attach
    with engine.containers.attach("web", logs=True) as stream:
        assert list(stream) == [("stdout", b"hi")] and stream.wait(10) == 4
    _, waited, attached = targets(daemon)
    assert waited.endswith(f"condition={condition}")
    assert attached.endswith("?stream=1&stdin=0&stdout=1&stderr=1&logs=1")


def test_attach_where_nothing_will_come(engine, web, daemon):
    web(Status.EXITED)
    with pytest.raises(WrongState, match="web is exited"):
        engine.containers.attach("web")
    assert len(daemon.asked) == 1


def test_exec(engine, tells, daemon):
    def start(asked):
        asked.switch(frame("stderr", b"no"))
        asked.connection.close()

    tells("POST /containers/web/exec", {"Id": "e"}, 201)
    tells("GET /exec/e/json", {"Running": False, "ExitCode": 1})
    daemon.answers["POST /exec/e/start"] = start
    with engine.containers.exec("web", ExecSpec(("ls",), user="guest")) as stream:
        assert list(stream) == [("stderr", b"no")] and stream.wait(10) == 1
    made = json.loads(daemon.asked[0].body)
    assert (made["Cmd"], made["User"], made["AttachStdout"]) == (["ls"], "guest", True)
    assert json.loads(daemon.asked[1].body) == {"Detach": False, "Tty": False}


def test_logs_between_times_lose_nothing_to_rounding(engine, daemon, web, told):
    daemon.answers[f"GET /containers/{ID}/logs"] = lambda asked: asked.reply(200)
    web()
    found = engine.containers.logs("web", tail=3, since=1.5, until=2.5)
    assert list(found) == []
    query = told()[1]
    assert (query["tail"], query["follow"]) == (["3"], ["0"])
    assert float(query["since"][0]) < 1.5 and float(query["until"][0]) > 2.5
