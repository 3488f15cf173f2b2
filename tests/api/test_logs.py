from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cellbox.errors import NotSupported
from cellbox.model.container import Container
from cellbox.wire.filters import moment
from cellbox.wire.streams import frame, stamp

FIRST, SECOND = 1_700_000_000.25, 1_700_000_001.5


@pytest.fixture
def written(scripted: Any, container: Callable[..., Container]) -> Any:
    """``written(tty=True)``: a container that has written two lines; its recorder."""

    def make(**spec: Any) -> Any:
        entries = [(FIRST, "stdout", b"one\n"), (SECOND, "stderr", b"two\n")]
        scripted.containers.answers["get"] = container(**spec)
        scripted.containers.answers["logs"] = lambda *_, **__: iter(entries)
        return scripted.containers

    return make


@pytest.mark.parametrize(
    ("query", "body"),
    [
        ("stdout=1&stderr=1", frame("stdout", b"one\n") + frame("stderr", b"two\n")),
        ("stdout=1", frame("stdout", b"one\n")),
        ("stderr=true", frame("stderr", b"two\n")),
        ("stdout=1&timestamps=1", frame("stdout", b"2023-11-14T22:13:20.250000000Z one\n")),
        ("stdout=1&details=1", frame("stdout", b" one\n")),
    ],
)
def test_lines_come_in_frames(written: Any, ask: Any, query: str, body: bytes) -> None:
    written()
    answer = ask("GET", f"/containers/web/logs?{query}")
    assert answer.body == body
    assert answer.headers["Content-Type"] == "application/vnd.docker.multiplexed-stream"


def test_a_terminals_lines_are_bare(written: Any, ask: Any) -> None:
    written(tty=True)
    answer = ask("GET", "/containers/web/logs?stdout=1")
    assert answer.body == b"one\n"
    assert answer.headers["Content-Type"] == "application/vnd.docker.raw-stream"


def test_an_old_version_knows_one_type_only(written: Any, ask: Any) -> None:
    written()
    answer = ask("GET", "/v1.41/containers/web/logs?stdout=1")
    assert answer.headers["Content-Type"] == "application/vnd.docker.raw-stream"


@pytest.mark.parametrize(
    ("query", "asked"),
    [
        ("", {}),
        ("&tail=all&since=0&until=", {}),
        ("&tail=2", {"tail": 2}),
        ("&tail=0", {"tail": 0}),
        ("&tail=-1", {}),
        ("&since=1700000000", {"since": 1_700_000_000.0}),
        ("&since=1700000000.25", {"since": FIRST}),
        ("&until=2023-11-14T22:13:20.25Z", {"until": FIRST}),
    ],
)
def test_what_is_asked_of_the_engine(
    written: Any, ask: Any, query: str, asked: dict[str, Any]
) -> None:
    containers = written()
    ask("GET", f"/containers/web/logs?stdout=1{query}")
    nothing = {"follow": False, "tail": None, "since": None, "until": None, "stop": None}
    assert containers.calls[-1] == ("logs", "c" * 64, {**nothing, **asked})


def test_one_stream_at_least_must_be_chosen(written: Any, ask: Any) -> None:
    written()
    answer = ask("GET", "/containers/web/logs")
    assert answer.status == 400
    assert answer.json["message"] == "Bad parameters: you must choose at least one stream"


def test_a_driver_that_keeps_nothing(written: Any, ask: Any) -> None:
    text = "configured logging driver does not support reading"
    written().answers["logs"] = NotSupported(text)
    answer = ask("GET", "/containers/web/logs?stdout=1&follow=1")
    assert (answer.status, answer.json) == (501, {"message": text})


def test_who_follows_gets_the_head_at_once_and_each_line_as_it_comes(
    written: Any, raw: Any
) -> None:
    go_on, stopped = threading.Event(), threading.Event()

    def entries(*_: Any, stop: Callable[[], bool], **__: Any) -> Iterator[Any]:
        assert go_on.wait(20)
        yield FIRST, "stdout", b"one\n"
        while not stop():
            pass
        stopped.set()

    written().answers["logs"] = entries
    client = raw()
    client.send(b"GET /containers/web/logs?stdout=1&follow=1 HTTP/1.1\r\nHost: d\r\n\r\n")
    assert client.head().startswith(b"HTTP/1.1 200 ")
    go_on.set()
    assert client.take(17) == b"c\r\n" + frame("stdout", b"one\n") + b"\r\n"
    client.socket.close()
    assert stopped.wait(20)
    client.done()


@pytest.mark.parametrize("instant", [FIRST, 1_700_000_000.123456789, 1_764_000_000.999999, 0.0])
def test_a_time_that_is_told_finds_its_line_again(instant: float) -> None:
    text = stamp(instant).decode().strip()
    assert len(text) == len("2023-11-14T22:13:20.250000000Z")
    assert instant - 1e-6 < moment(text) <= instant


def test_logs_are_cleared(scripted: Any, ask: Any) -> None:
    assert ask("DELETE", "/containers/web/logs").status == 204
    assert scripted.files.calls == [("clear_logs", "web")]
