from __future__ import annotations

from typing import Any

import pytest

from cellbox.api import routing
from cellbox.api.routing import PageNotFound, find, route
from cellbox.errors import InvalidArgument


@pytest.fixture(autouse=True)
def table(monkeypatch: pytest.MonkeyPatch) -> None:
    """A table of the test's own."""
    monkeypatch.setattr(routing, "_literal", {})
    monkeypatch.setattr(routing, "_patterns", {})
    for method, pattern in (
        ("GET", "/info"),
        ("GET", "/images/json"),
        ("GET", "/images/{name:path}/json"),
        ("GET", "/things/{id}/json"),
        ("POST", "/things/{id}/parts/{part}"),
        ("DELETE", "/images/{name:path}"),
    ):
        route(method, pattern)(_named(f"{method} {pattern}"))


def _named(name: str) -> Any:
    def handler(daemon: Any, request: Any) -> Any:
        raise AssertionError(name)

    handler.__name__ = name
    return handler


@pytest.mark.parametrize(
    ("method", "path", "pattern", "params"),
    [
        ("GET", "/info", "GET /info", {}),
        ("GET", "/images/json", "GET /images/json", {}),
        ("GET", "/images/a/json", "GET /images/{name:path}/json", {"name": "a"}),
        (
            "GET",
            "/images/127.0.0.1:5000/a/b:t/json",
            "GET /images/{name:path}/json",
            {"name": "127.0.0.1:5000/a/b:t"},
        ),
        ("DELETE", "/images/a/b", "DELETE /images/{name:path}", {"name": "a/b"}),
        ("GET", "/things/x/json", "GET /things/{id}/json", {"id": "x"}),
        ("GET", "/things//x/json", "GET /things/{id}/json", {"id": "x"}),
        ("POST", "/things/x/parts/y", "POST /things/{id}/parts/{part}", {"id": "x", "part": "y"}),
        ("GET", "/things/a\nb/json", "GET /things/{id}/json", {"id": "a\nb"}),
    ],
)
def test_a_path_finds_its_handler(
    method: str, path: str, pattern: str, params: dict[str, str]
) -> None:
    match = find(method, path)
    assert match.handler.__name__ == pattern
    assert match.params == params
    assert match.version == (1, 45)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", ""),
        ("GET", "/nothing"),
        ("POST", "/info"),
        ("GET", "/info/"),
        ("GET", "/v1.44"),
        ("GET", "/v1.44info"),
        ("GET", "/vx.y/info"),
        ("GET", "/things/a/b/json"),
        ("GET", "/things//json"),
        ("GET", "/v1.40/v1.40/info"),
    ],
)
def test_what_is_not_there_is_not_found(method: str, path: str) -> None:
    with pytest.raises(PageNotFound, match="page not found"):
        find(method, path)


@pytest.mark.parametrize("version", ["1.12", "1.24", "1.45"])
def test_every_version_between_the_oldest_and_the_newest_is_served(version: str) -> None:
    assert find("GET", f"/v{version}/info").version == tuple(map(int, version.split(".")))


def test_a_newer_version_is_refused_in_mobys_words() -> None:
    with pytest.raises(
        InvalidArgument,
        match=r"client version 9\.99 is too new. Maximum supported API version is 1\.45",
    ):
        find("GET", "/v9.99/info")


def test_an_older_version_is_refused_in_mobys_words() -> None:
    with pytest.raises(
        InvalidArgument,
        match=r"client version 1\.11 is too old. Minimum supported API version is 1\.12",
    ):
        find("GET", "/v1.11/info")


def test_a_version_is_judged_after_the_path() -> None:
    with pytest.raises(PageNotFound):
        find("GET", "/v9.99/nothing")
