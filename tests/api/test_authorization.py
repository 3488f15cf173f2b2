"""Requests and answers that plugins decide about."""

from __future__ import annotations

import json

import pytest

from cellbox.api import authorization
from cellbox.api.server import Daemon
from cellbox.errors import EngineError, PermissionDenied
from cellbox.model.volume import Volume


class Gate:
    """Notes what it is asked, and raises what it is told to."""

    names = ("gate",)

    def __init__(self):
        self.asked, self.answered = [], []
        self.no = self.later = None

    def admit(self, asked):
        self.asked.append(asked)
        if self.no:
            raise self.no

    def release(self, asked, status, headers, body):
        self.answered.append((asked.uri, status, body))
        if self.later:
            raise self.later


@pytest.fixture
def gate():
    return Gate()


@pytest.fixture
def daemon(scripted, gate):
    scripted.volumes.answers["create"] = Volume("data", "local", "/v", 1.0)
    scripted.volumes.answers["list"] = []
    return Daemon(scripted, gate)


DENIED = PermissionDenied("authorization denied by plugin gate: no")


def test_what_is_allowed_is_done(ask, gate, scripted):
    assert ask("POST", "/v1.45/volumes/create?a=b", {"Name": "data"}).status == 201
    assert scripted.volumes.calls[0][1].name == "data"
    (asked,) = gate.asked
    assert (asked.method, asked.uri) == ("POST", "/v1.45/volumes/create?a=b")
    assert json.loads(asked.body) == {"Name": "data"}
    assert (asked.user, asked.certificate) == ("", b"")
    ((uri, status, body),) = gate.answered
    assert (uri, status, json.loads(body)["Name"]) == (asked.uri, 201, "data")


def test_what_is_denied_is_not_done(ask, gate, scripted):
    gate.no = DENIED
    answer = ask("POST", "/volumes/create", {"Name": "data"})
    assert (answer.status, answer.json) == (403, {"message": str(DENIED)})
    assert scripted.volumes.calls == []
    gate.no = EngineError("plugin gate failed with error: x")
    assert ask("GET", "/volumes").status == 500


def test_an_answer_may_be_held_back(ask, gate):
    gate.later = DENIED
    answer = ask("GET", "/volumes")
    assert (answer.status, answer.json) == (403, {"message": str(DENIED)})


def test_a_path_has_one_spelling(ask, gate):
    ask("GET", "/v%6Flumes")
    assert gate.asked[0].uri == "/volumes"


def test_bodies_that_are_no_json_are_not_held(ask, gate):
    ask("POST", "/volumes/create", b"x" * 100, Content_Type="text/plain")
    assert gate.asked[0].body == b""


def test_what_is_too_large_to_show_is_refused(ask, gate, scripted, monkeypatch):
    monkeypatch.setattr(authorization, "LARGEST", 100)
    answer = ask("POST", "/volumes/create", {"Name": "data", "Labels": {"a": "b" * 200}})
    assert answer.status == 403
    assert gate.asked == [] and scripted.volumes.calls == []


def test_passwords_are_not_shown(ask, gate):
    ask("POST", "/v1.45/auth", {"username": "ada", "password": "secret"})
    assert gate.asked[0].body == b""


def test_info_names_them(ask, daemon):
    daemon.engine.info = lambda: None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cellbox.api.system.info_json", lambda *_, **__: {"Plugins": {}})
        assert ask("GET", "/info").json["Plugins"]["Authorization"] == ["gate"]
