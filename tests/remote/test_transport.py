"""Requests and answers: versions, queries, bodies, errors, long tasks."""

from __future__ import annotations

import io
import json
import threading

import pytest

from cellbox.errors import (
    Conflict,
    EngineError,
    InvalidArgument,
    NotFound,
    NotSupported,
    Unavailable,
)
from cellbox.remote.address import Address
from cellbox.remote.transport import Transport


@pytest.mark.parametrize(
    ("theirs", "spoken"), [("1.41", (1, 41)), ("1.99", (1, 45)), ("1.24", (1, 24))]
)
def test_the_older_version_of_both_is_spoken(daemon, transport, theirs, spoken):
    daemon.version = theirs
    daemon.answers["GET /info"] = lambda asked: asked.reply(200, b"{}")
    assert transport.api_version() == spoken
    assert transport.json("GET", "/info") == {}
    assert daemon.asked[0].target == "/v{}.{}/info".format(*spoken)


@pytest.mark.parametrize(("version", "error"), [("1.12", NotSupported), ("", Unavailable)])
def test_what_cannot_be_spoken_to(daemon, transport, version, error):
    daemon.version = version
    with pytest.raises(error):
        transport.json("GET", "/info")


def test_nothing_is_sent_before_the_first_request(daemon, transport):
    assert daemon.connections == 0


def test_a_query_as_docker_wants_it(daemon, transport):
    daemon.answers["GET /x"] = lambda asked: asked.reply(200, b"[]")
    query = {"a": True, "b": None, "names": ["x/y", "z"], "filters": {"label": ["a=b"]}, "n": 3}
    assert transport.json("GET", "/x", query) == []
    told = daemon.asked[0].target.partition("?")[2]
    assert told.startswith("a=1&names=x%2Fy&names=z&filters=%7B%22label%22") and "n=3" in told


def test_a_body_is_json_or_a_stream(daemon, transport):
    daemon.answers["POST /x"] = lambda asked: asked.reply(201)
    assert transport.json("POST", "/x", json={"a": None}) is None
    transport.request("POST", "/x", body=io.BytesIO(b"tar" * 100_000), headers={"X-A": "b"})
    first, second = daemon.asked
    assert (json.loads(first.body), first.headers["content-type"]) == (
        {"a": None},
        "application/json",
    )
    assert second.body == b"tar" * 100_000
    assert second.headers["transfer-encoding"] == "chunked"
    assert (second.headers["content-type"], second.headers["x-a"]) == ("application/x-tar", "b")


@pytest.mark.parametrize(
    ("status", "body", "error", "words"),
    [
        (404, b'{"message": "No such container: web"}', NotFound, "No such container: web"),
        (409, b'{"message": "busy"}', Conflict, "busy"),
        (500, b"<html>", EngineError, "<html>"),
        (500, b"", EngineError, "status 500"),
        (500, b"[1]", EngineError, "1"),
        (301, b"", Exception, "status 301"),
    ],
)
def test_what_the_daemon_refuses(daemon, transport, status, body, error, words):
    daemon.answers["GET /x"] = lambda asked: asked.reply(status, body)
    with pytest.raises(error, match=words):
        transport.json("GET", "/x")


def test_what_is_so_already_is_no_error(daemon, transport):
    daemon.answers["POST /start"] = lambda asked: asked.send(b"HTTP/1.1 304 Not Modified\r\n\r\n")
    assert transport.request("POST", "/start").status_code == 304


def test_what_answers_is_something_else(daemon, transport):
    daemon.answers["GET /info"] = lambda asked: asked.reply(200, b"hello")
    with pytest.raises(Unavailable, match="no container engine"):
        transport.json("GET", "/info")


def test_proxies_and_passwords_of_the_web_are_left_alone(daemon, transport, monkeypatch, tmp_path):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    (tmp_path / "netrc").write_text("default login me password secret")
    daemon.answers["GET /info"] = lambda asked: asked.reply(200, b"{}")
    transport.json("GET", "/info")
    assert "authorization" not in daemon.asked[0].headers


@pytest.mark.parametrize("text", ["[1]", '{"auths": 3}', '{"auths": {"x": {"auth": "!"}}}'])
def test_a_config_that_is_not_as_it_should_be(monkeypatch, tmp_path, text):
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(InvalidArgument, match="config.json"):
        Transport(Address("unix", path="/x"))


# Long answers -----------------------------------------------------------------------------------


def steps(*lines):
    def answer(asked):
        asked.begin()
        for line in (*lines, b""):
            asked.chunk(line)

    return answer


def test_steps_come_one_by_one(daemon, transport):
    daemon.answers["POST /x"] = steps(b'{"status": "a"}\r\n{"sta', b'tus": "b"}\r\n{"c": 1}')
    found = list(transport.steps("POST", "/x"))
    assert found == [{"status": "a"}, {"status": "b"}, {"c": 1}]


def test_an_error_among_the_steps_is_raised(daemon, transport):
    failure = {"error": "no", "errorDetail": {"code": 404, "message": "no"}}
    daemon.answers["POST /x"] = steps(b'{"status": "a"}\n', json.dumps(failure).encode() + b"\n")
    told = transport.steps("POST", "/x")
    assert next(told) == {"status": "a"}
    with pytest.raises(Exception, match="no") as caught:
        next(told)
    assert caught.value.status == 404


def test_a_download_goes_through(daemon, transport):
    daemon.answers["GET /x"] = steps(b"x" * 70_000, b"y")
    daemon.answers["GET /y"] = lambda asked: asked.reply(200, b"z" * 200_000, X_A="b")
    out = io.BytesIO()
    with transport.download("/x") as found:
        found.write_to(out)
    assert out.getvalue() == b"x" * 70_000 + b"y"
    with transport.download("/y") as found:
        assert sum(map(len, found.pieces())) == 200_000
        assert found.headers["x-a"] == "b"


def test_a_download_that_is_cut_is_an_error(daemon, transport):
    def cut(asked):
        asked.begin()
        asked.chunk(b"x" * 10)
        asked.connection.close()

    daemon.answers["GET /x"] = cut
    with pytest.raises(Unavailable, match="is the daemon running"):
        with transport.download("/x") as found:
            found.write_to(io.BytesIO())


# Connections ------------------------------------------------------------------------------------


def test_a_connection_is_used_again(daemon, transport):
    daemon.answers["GET /info"] = lambda asked: asked.reply(200, b"{}")
    for _ in range(5):
        transport.json("GET", "/info")
    assert daemon.connections == 1


def test_after_close_it_connects_anew(daemon, transport):
    daemon.answers["GET /info"] = lambda asked: asked.reply(200, b"{}")
    transport.json("GET", "/info")
    transport.close()
    assert transport.json("GET", "/info") == {}
    assert daemon.connections == 2


def test_from_many_threads_at_once(daemon, transport):
    barrier = threading.Barrier(8)

    def answer(asked):
        barrier.wait(10)  # all eight are under way at the same time
        asked.reply(200, asked.target.encode().join([b'"', b'"']))

    daemon.answers |= {f"GET /{n}": answer for n in range(8)}
    seen = {}
    threads = [
        threading.Thread(target=lambda n=n: seen.update({n: transport.json("GET", f"/{n}")}))
        for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert seen == {n: f"/v1.41/{n}" for n in range(8)}


def test_a_daemon_that_goes_away(daemon, transport):
    daemon.answers["GET /info"] = lambda asked: asked.connection.close()
    with pytest.raises(Unavailable, match="is the daemon running"):
        transport.json("GET", "/info")


def test_an_address_is_needed_for_nothing_but_connecting(tmp_path):
    made = Transport(Address("unix", path=str(tmp_path / "absent")))
    with pytest.raises(Unavailable, match="Cannot connect"):
        made.json("GET", "/info")
    with pytest.raises(Unavailable, match="Cannot connect"):
        made.open("GET", "/events")
    made.close()
