from __future__ import annotations

import io
from typing import Any

import pytest

from cellbox.api.http import MAX_JSON, Request, Response
from cellbox.errors import InvalidArgument


def request(query: str = "", body: bytes = b"", kind: str = "application/json") -> Request:
    return Request(
        method="POST",
        path="/x",
        query_string=query,
        version=(1, 45),
        headers={"content-type": kind} if kind else {},
        params={},
        raw_body=io.BytesIO(body),  # type: ignore[arg-type]
        gone=lambda: False,
    )


def test_a_query_keeps_every_value() -> None:
    asked = request("a=1&a=2&b=&c=x%2Fy+z")
    assert asked.query == {"a": ["1", "2"], "b": [""], "c": ["x/y z"]}
    assert asked.one("a") == "1"
    assert asked.one("d", "e") == "e"


def test_flags_are_read_as_docker_reads_them() -> None:
    asked = request("a=1&b=0&c=false&d=&e=True&f=yes&g=None")
    assert [name for name in "abcdefgh" if asked.flag(name)] == ["a", "e", "f"]
    assert asked.flag("h", True)


def test_numbers() -> None:
    asked = request("a=5&b=-1&c=x&d=")
    assert (asked.number("a"), asked.number("b"), asked.number("d")) == (5, -1, None)
    assert asked.number("z") is None
    with pytest.raises(InvalidArgument, match="invalid value for c"):
        asked.number("c")


def test_more_parameters_than_anybody_sends_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="query parameters"):
        request("&".join(f"a{n}=1" for n in range(2000))).one("a")


@pytest.mark.parametrize("text", ['{"label":{"a":true}}', '{"label":["a"]}'])
def test_filters_in_either_form(text: str) -> None:
    assert request(f"filters={text}").filters() == {"label": ["a"]}


def test_a_body_of_json() -> None:
    assert request(body=b'{"a": [1]}').json() == {"a": [1]}
    assert request(body=b"null").json() == {}
    assert request(body=b"").json() == {}
    assert request(body=b"", kind="").json() == {}
    assert request(body=b'{"a":1}', kind="application/json; charset=utf-8").json() == {"a": 1}


@pytest.mark.parametrize(
    ("body", "kind", "message"),
    [
        (b"{", "application/json", "invalid JSON"),
        (b"[1]", "application/json", "must be an object"),
        (b"{}", "text/plain", "unsupported Content-Type header"),
        (b"{}", "", "unsupported Content-Type header"),
        (b'{"a":"\xff"}', "application/json", "invalid JSON"),
        (b"[" * 200_000, "application/json", "invalid JSON: too deep"),
        (b" " * (MAX_JSON + 1), "application/json", "larger than"),
    ],
)
def test_what_is_no_json_is_refused(body: bytes, kind: str, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        request(body=body, kind=kind).json()


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (Response(json={"a": "ü"}), '{"a":"ü"}\n'.encode()),
        (Response(json=None), b"null\n"),
        (Response(json="\udc80"), b'"?"\n'),
        (Response(body=b"OK"), b"OK"),
        (Response(), b""),
    ],
)
def test_the_content_of_an_answer(answer: Response, body: bytes) -> None:
    found, headers = answer.content()
    assert found == body
    told: Any = dict(headers)
    assert told == ({"Content-Type": "application/json"} if body.endswith(b"\n") else {})
