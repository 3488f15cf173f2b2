from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from cellbox.api import containers
from cellbox.errors import AlreadyExists, NotFound, StartError, WrongState
from cellbox.model.container import (
    Container,
    FileChange,
    Limits,
    ProcessTable,
    RestartPolicy,
    Stats,
    Status,
)
from cellbox.model.event import Event

ID = "c" * 64


@pytest.fixture
def known(scripted: Any, container: Callable[..., Container]) -> Any:
    """``known(status)``: the one container that there is; the recorder of containers."""

    def make(status: Status = Status.RUNNING, **spec: Any) -> Any:
        facts = container(status, **spec)
        scripted.containers.answers.update(get=facts, list=[facts], create=facts)
        scripted.images.answers["get"] = NotFound("image", "gone")
        scripted.files.answers["size"] = (5, 105)
        return scripted.containers

    return make


# Looking -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "asked"),
    [
        ("", {"all": False, "filters": {}}),
        ("?all=1", {"all": True, "filters": {}}),
        ("?limit=1", {"all": True, "filters": {}}),
        ("?limit=0", {"all": False, "filters": {}}),
        ("?before=x", {"all": False, "filters": {"before": ["x"]}}),
        ('?filters={"status":["exited"]}', {"all": False, "filters": {"status": ["exited"]}}),
        ('?filters={"label":{"a%3Db":true}}', {"all": False, "filters": {"label": ["a=b"]}}),
    ],
)
def test_a_list(known: Any, ask: Any, query: str, asked: dict[str, Any]) -> None:
    recorder = known()
    answer = ask("GET", f"/containers/json{query}")
    assert [one["Id"] for one in answer.json] == [ID]
    assert answer.json[0]["Names"] == ["/web"]
    assert recorder.calls[0] == ("list", asked)


def test_a_list_is_cut_to_its_limit(known: Any, ask: Any) -> None:
    recorder = known()
    recorder.answers["list"] = [replace(recorder.answers["get"], id=str(n) * 64) for n in range(5)]
    found = ask("GET", "/containers/json?limit=2").json
    assert [one["Id"][0] for one in found] == ["0", "1"]


def test_a_limit_that_is_no_number(known: Any, ask: Any) -> None:
    known()
    assert ask("GET", "/containers/json?limit=x").status == 400


def test_sizes_where_they_are_asked_for(known: Any, ask: Any) -> None:
    known()
    assert "SizeRw" not in ask("GET", "/containers/json").json[0]
    assert ask("GET", "/containers/json?size=1").json[0]["SizeRw"] == 5
    assert "SizeRw" not in ask("GET", "/containers/web/json").json
    assert ask("GET", "/containers/web/json?size=1").json["SizeRootFs"] == 105


def test_one_that_goes_meanwhile_is_left_out(known: Any, ask: Any, scripted: Any) -> None:
    known()
    scripted.files.answers["size"] = NotFound("container", "web")
    assert ask("GET", "/containers/json?size=1").json == []


def test_an_inspect(known: Any, ask: Any) -> None:
    known()
    told = ask("GET", "/containers/web/json").json
    assert (told["Id"], told["Name"], told["ExecIDs"]) == (ID, "/web", None)


def test_one_that_is_not_there(known: Any, ask: Any) -> None:
    known().answers["get"] = NotFound("container", "web")
    answer = ask("GET", "/containers/web/json")
    assert (answer.status, answer.json) == (404, {"message": "No such container: web"})


def test_processes(known: Any, ask: Any, scripted: Any) -> None:
    known()
    scripted.files.answers["processes"] = ProcessTable(("PID", "CMD"), (("1", "sh"),))
    told = ask("GET", "/containers/web/top").json
    assert told == {"Titles": ["PID", "CMD"], "Processes": [["1", "sh"]]}
    ask("GET", "/containers/web/top?ps_args=aux")
    assert [call[-1]["ps_args"] for call in scripted.files.calls] == ["-ef", "aux"]


@pytest.mark.parametrize(
    ("found", "told"), [([], None), ([FileChange("A", "/x")], [{"Path": "/x", "Kind": 1}])]
)
def test_changes(known: Any, ask: Any, scripted: Any, found: Any, told: Any) -> None:
    scripted.files.answers["diff"] = found
    assert ask("GET", "/containers/web/changes").json == told


# Life --------------------------------------------------------------------------------------------


def test_creating(known: Any, ask: Any) -> None:
    recorder = known()
    body = {"Image": "busybox", "Cmd": ["true"], "HostConfig": {"AutoRemove": True}}
    answer = ask("POST", "/containers/create?name=web&platform=linux/amd64", body)
    assert (answer.status, answer.json) == (201, {"Id": ID, "Warnings": []})
    _, spec, named = recorder.calls[-1]
    assert named == {"name": "web"}
    assert (spec.image, spec.command, spec.auto_remove) == ("busybox", ("true",), True)
    assert spec.detach, "a container of the daemon's outlives it"
    assert spec.platform == "linux/amd64"


@pytest.mark.parametrize(
    ("ref", "told"),
    [
        ("nosuch", "nosuch:latest"),
        ("docker.io/library/x:1", "x:1"),
        ("127.0.0.1:5000/a/b", "127.0.0.1:5000/a/b:latest"),
        ("A", "A"),
    ],
)
def test_a_missing_image_is_named_as_clients_look_for_it(
    known: Any, ask: Any, ref: str, told: str
) -> None:
    known().answers["create"] = NotFound("image", ref)
    answer = ask("POST", "/containers/create", {"Image": ref})
    assert (answer.status, answer.json) == (404, {"message": f"No such image: {told}"})


def test_other_things_that_are_missing(known: Any, ask: Any) -> None:
    known().answers["create"] = NotFound("network", "n")
    answer = ask("POST", "/containers/create", {"Image": "x"})
    assert (answer.status, answer.json) == (404, {"message": "network n not found"})


def test_a_name_that_is_taken(known: Any, ask: Any) -> None:
    known().answers["create"] = AlreadyExists("Conflict. The container name is already in use")
    assert ask("POST", "/containers/create", {"Image": "x"}).status == 409


@pytest.mark.parametrize("body", [b"", b"null", b"{}"])
def test_a_container_of_nothing(known: Any, ask: Any, body: bytes) -> None:
    known()
    kind = {"Content_Type": "application/json"}
    assert ask("POST", "/containers/create", body, **kind).status == 400


@pytest.mark.parametrize(
    ("verb", "status", "code", "asked"),
    [
        ("start", Status.CREATED, 204, ("start", ID)),
        ("start", Status.RUNNING, 304, None),
        ("start", Status.RESTARTING, 304, None),
        ("stop", Status.RUNNING, 204, ("stop", ID, {"timeout": None, "signal": ""})),
        ("stop?t=0&signal=INT", Status.PAUSED, 204, ("stop", ID, {"timeout": 0, "signal": "INT"})),
        ("stop?t=-1", Status.RUNNING, 204, ("stop", ID, {"timeout": -1, "signal": ""})),
        ("stop", Status.EXITED, 304, None),
        ("restart?t=3", Status.EXITED, 204, ("restart", "web", {"timeout": 3, "signal": ""})),
        ("kill", Status.RUNNING, 204, ("kill", "web", {"signal": "KILL"})),
        ("kill?signal=9", Status.RUNNING, 204, ("kill", "web", {"signal": "9"})),
        ("pause", Status.RUNNING, 204, ("pause", "web")),
        ("unpause", Status.PAUSED, 204, ("unpause", "web")),
        ("rename?name=new", Status.RUNNING, 204, ("update", "web", {"name": "new"})),
        ("rename", Status.RUNNING, 400, None),
        ("stop?t=x", Status.RUNNING, 400, None),
    ],
)
def test_verbs(known: Any, ask: Any, verb: str, status: Status, code: int, asked: Any) -> None:
    recorder = known(status)
    assert ask("POST", f"/containers/web/{verb}").status == code
    done = [call for call in recorder.calls if call[0] != "get"]
    assert done == ([asked] if asked else [])


def test_a_start_that_fails_carries_the_words_of_127(known: Any, ask: Any) -> None:
    detail = 'exec: "x": executable file not found in $PATH'
    known(Status.CREATED).answers["start"] = StartError("exec", 2, detail, 127)
    answer = ask("POST", "/containers/web/start")
    assert answer.status == 400
    assert "executable file not found in $PATH" in answer.json["message"]


def test_killing_one_that_does_not_run(known: Any, ask: Any) -> None:
    known().answers["kill"] = WrongState("Container web is not running")
    answer = ask("POST", "/containers/web/kill")
    assert answer.status == 409
    assert answer.json["message"] == "cannot kill container: web: Container web is not running"


def test_an_update(known: Any, ask: Any) -> None:
    recorder = known()
    policy = {"Name": "always", "MaximumRetryCount": 0}
    answer = ask("POST", "/containers/web/update", {"Memory": 1 << 26, "RestartPolicy": policy})
    assert answer.status == 200 and "Warnings" in answer.json
    asked = {"limits": Limits(memory=1 << 26), "restart": RestartPolicy("always")}
    assert recorder.calls == [("update", "web", asked)]


@pytest.mark.parametrize(
    ("query", "asked"),
    [("", {"force": False, "volumes": False}), ("?force=1&v=1", {"force": True, "volumes": True})],
)
def test_removing(known: Any, ask: Any, query: str, asked: dict[str, bool]) -> None:
    recorder = known()
    assert ask("DELETE", f"/containers/web{query}").status == 204
    assert recorder.calls == [("remove", "web", asked)]


def test_a_link_cannot_be_removed(known: Any, ask: Any) -> None:
    assert ask("DELETE", "/containers/web?link=1").status == 409


def test_pruning(known: Any, ask: Any) -> None:
    recorder = known(Status.EXITED)
    answer = ask("POST", "/containers/prune")
    assert answer.json == {"ContainersDeleted": [ID], "SpaceReclaimed": 0}
    recorder.answers["list"] = []
    assert ask("POST", "/containers/prune").json["ContainersDeleted"] is None


# Waiting -----------------------------------------------------------------------------------------


def test_the_head_of_a_wait_comes_before_the_start(known: Any, raw: Any) -> None:
    ended = threading.Event()

    def wait(ref: str, *, timeout: float, condition: str) -> int:
        assert condition == "next-exit"
        if ended.wait(timeout):
            return 7
        raise TimeoutError

    known(Status.CREATED).answers["wait"] = wait
    client = raw()
    client.send(
        b"POST /containers/web/wait?condition=next-exit HTTP/1.1\r\n"
        b"Host: d\r\nConnection: close\r\n\r\n"
    )
    assert client.head().startswith(b"HTTP/1.1 200 ")
    ended.set()
    assert b'{"StatusCode": 7}\n' in client.rest()


def test_an_old_client_gets_the_head_with_the_answer(known: Any, ask: Any) -> None:
    known().answers["wait"] = 3
    assert ask("POST", "/v1.29/containers/web/wait").json == {"StatusCode": 3}


def test_a_wait_for_nothing_that_there_is(known: Any, ask: Any) -> None:
    known()
    answer = ask("POST", "/containers/web/wait?condition=never")
    assert (answer.status, answer.json) == (400, {"message": 'invalid condition: "never"'})


def test_a_wait_whose_client_goes_is_given_up(
    known: Any, raw: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    known().answers["wait"] = TimeoutError()
    client = raw()
    client.send(b"POST /containers/web/wait HTTP/1.1\r\nHost: d\r\n\r\n")
    client.head()
    client.socket.close()
    client.done()


def test_an_end_between_two_looks_is_not_missed(known: Any, ask: Any) -> None:
    recorder = known(Status.CREATED)
    before = recorder.answers["get"]
    after = replace(before, status=Status.EXITED, exit_code=4, started=1.0, finished=2.0)
    found = iter([before])
    recorder.answers["get"] = lambda ref: next(found, after)
    recorder.answers["wait"] = TimeoutError()
    told = ask("POST", "/containers/web/wait?condition=next-exit").json
    assert told == {"StatusCode": 4}


def test_of_one_that_is_gone_the_event_log_knows_the_code(
    known: Any, ask: Any, scripted: Any
) -> None:
    known().answers["wait"] = NotFound("container", ID)

    def events(**asked: Any) -> Any:
        assert asked["filters"] == {"container": [ID], "event": ["die"]}
        return iter([Event(1.0, "container", "die", ID, {"exitCode": "9"})])

    scripted.events = events
    told = ask("POST", "/containers/web/wait?condition=removed").json
    assert told == {"StatusCode": 9}


def test_what_goes_wrong_in_a_wait_is_in_its_answer(known: Any, ask: Any) -> None:
    known().answers["wait"] = WrongState("lost")
    told = ask("POST", "/containers/web/wait").json
    assert told == {"StatusCode": -1, "Error": {"Message": "lost"}}


# Resources ---------------------------------------------------------------------------------------


@pytest.fixture
def measured(known: Any, scripted: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A container with a reading a hundredth of a second apart."""
    monkeypatch.setattr(containers, "_TICK", 0.01)
    known()
    readings = iter(Stats(read=1_700_000_000.0 + n, cpu=n * 100) for n in range(1, 1000))
    scripted.files.answers["stats"] = lambda ref: next(readings)
    scripted.info = lambda: type("Info", (), {"memory": 1 << 30})()
    return scripted


def test_one_answer_of_two_readings(measured: Any, ask: Any) -> None:
    told = ask("GET", "/containers/web/stats?stream=0").json
    assert told["cpu_stats"]["cpu_usage"]["total_usage"] == 200
    assert told["precpu_stats"]["cpu_usage"]["total_usage"] == 100
    assert told["memory_stats"]["limit"] == 1 << 30


def test_one_shot_is_one_reading(measured: Any, ask: Any) -> None:
    told = ask("GET", "/containers/web/stats?stream=0&one-shot=1").json
    assert told["cpu_stats"]["cpu_usage"]["total_usage"] == 100
    assert told["precpu_stats"]["cpu_usage"]["total_usage"] == 0


def test_one_that_does_not_run_uses_nothing(measured: Any, ask: Any) -> None:
    measured.files.answers["stats"] = WrongState("Container web is not running")
    told = ask("GET", "/containers/web/stats?stream=0").json
    assert (told["id"], told["pids_stats"]["current"]) == (ID, 0)


def test_readings_go_on_until_the_client_goes(measured: Any, raw: Any) -> None:
    client = raw()
    client.send(b"GET /containers/web/stats HTTP/1.0\r\n\r\n")
    client.head()
    data = b""
    while data.count(b"\n") < 3:
        data += client.socket.recv(4096)
    first, second = (json.loads(line) for line in data.splitlines()[:2])
    assert second["precpu_stats"] == first["cpu_stats"]
    client.socket.close()
    client.done()


def test_readings_end_with_the_container(measured: Any, ask: Any) -> None:
    measured.files.answers["stats"] = NotFound("container", "web")
    assert ask("GET", "/containers/web/stats").body == b""
