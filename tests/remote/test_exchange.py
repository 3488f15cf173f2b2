"""One request on its own connection: answers, streams, ends, and giving up."""

from __future__ import annotations

import threading

import pytest

from cellbox.errors import Conflict, NotSupported, Unavailable
from cellbox.remote.exchange import Lines


def test_an_answer_in_pieces(daemon, transport):
    def answer(asked):
        asked.begin()
        for piece in (b"one", b"two", b""):
            asked.chunk(piece)

    daemon.answers["GET /logs"] = answer
    assert b"".join(transport.open("GET", "/logs", {"follow": True})) == b"onetwo"
    assert daemon.asked[0].target == "/v1.41/logs?follow=1"
    assert daemon.asked[0].headers["host"] == "engine"


def test_what_the_daemon_refuses(daemon, transport):
    daemon.answers["POST /x"] = lambda asked: asked.reply(409, b'{"message": "not now"}')
    with pytest.raises(Conflict, match="not now"):
        transport.open("POST", "/x", switch=True)
    with pytest.raises(NotSupported, match="page not found"):
        transport.open("GET", "/nosuch")


def test_a_stream_begins_with_what_came_with_the_head(daemon, transport):
    def echo(asked):
        asked.switch(b"hello ")
        while data := asked.connection.recv(100):
            asked.send(data)
        asked.send(b"end")
        asked.connection.close()

    daemon.answers["POST /attach"] = echo
    with transport.open("POST", "/attach", {"stdin": True}, switch=True) as exchange:
        exchange.write(b"world ")
        assert exchange.read(10) + exchange.read(10) == b"hello world "
        exchange.end()
        exchange.end()
        assert b"".join(exchange) == b"end"
        with pytest.raises(BrokenPipeError):
            for _ in range(1000):
                exchange.write(b"x" * 1000)
    asked = daemon.asked[0]
    assert (asked.headers["upgrade"], asked.headers["connection"]) == ("tcp", "Upgrade")


def test_a_body_is_sent_with_the_request(daemon, transport):
    daemon.answers["POST /exec"] = lambda asked: asked.switch(asked.body)
    exchange = transport.open("POST", "/exec", json={"Tty": True}, switch=True)
    assert exchange.read(10) == b'{"Tty": true}'
    assert daemon.asked[0].headers["content-type"] == "application/json"
    exchange.close()


def test_reading_can_be_given_up_and_taken_up_again(daemon, transport):
    go = threading.Event()

    def answer(asked):
        asked.begin()
        go.wait(10)
        asked.chunk(b"late")
        asked.chunk(b"")

    daemon.answers["GET /events"] = answer
    exchange = transport.open("GET", "/events")
    with pytest.raises(TimeoutError):
        exchange.read(0.01)
    go.set()
    assert exchange.read(10) == b"late"
    assert exchange.read(10) == b""
    exchange.close()


@pytest.mark.parametrize("switch", [False, True])
def test_close_ends_a_reader_in_another_thread(daemon, transport, switch):
    daemon.answers["POST /x"] = lambda asked: asked.switch() if switch else asked.begin()
    exchange = transport.open("POST", "/x", switch=switch)
    seen = []
    thread = threading.Thread(target=lambda: seen.append(exchange.read()))
    thread.start()
    exchange.close()
    thread.join(10)
    assert seen == [b""]


def test_a_daemon_that_dies_in_the_middle(daemon, transport):
    def die(asked):
        asked.begin()
        asked.chunk(b"one")
        asked.connection.close()

    daemon.answers["GET /x"] = die
    exchange = transport.open("GET", "/x")
    assert exchange.read(10) == b"one"
    with pytest.raises(Unavailable, match="is the daemon running"):
        exchange.read(10)
    daemon.answers["GET /y"] = lambda asked: asked.connection.close()
    with pytest.raises(Unavailable, match="is the daemon running"):
        transport.open("GET", "/y")


def test_documents_as_they_come(daemon, transport):
    def answer(asked):
        asked.begin()
        for piece in (b'{"a": 1}\n{"a"', b": 2}\r\n\n", b""):
            asked.chunk(piece)

    daemon.answers["GET /events"] = answer
    assert list(transport.documents("GET", "/events")) == [{"a": 1}, {"a": 2}]


def test_a_flow_that_never_ends_is_stopped(daemon, transport):
    def flow(asked):
        asked.begin()
        while True:
            asked.chunk(b"x")

    daemon.answers["GET /logs"] = flow
    with transport.open("GET", "/logs") as exchange:
        assert set(b"".join(exchange.pieces(lambda: True))) == set(b"x")


def test_what_was_sent_before_the_stop_still_comes(daemon, transport):
    def answer(asked):
        asked.begin()
        asked.chunk(b"one")

    daemon.answers["GET /logs"] = answer
    with transport.open("GET", "/logs") as exchange:
        assert list(exchange.pieces(lambda: True)) == [b"one"]


def test_lines_are_put_together():
    lines = Lines()
    assert lines.feed(b'{"a"') == []
    assert lines.feed(b":1}\n\n[2]\n3") == [{"a": 1}, [2]]
    assert lines.feed(b"\n") == [3]
