from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any, BinaryIO

import pytest

from cellbox.errors import InvalidArgument, NotFound, PermissionDenied
from cellbox.model.container import Container, FileStat

FACTS = FileStat("f", 3, 0o100644, 1_700_000_000.0)


@pytest.fixture
def files(scripted: Any, container: Callable[..., Container]) -> Any:
    scripted.containers.answers["get"] = container()
    scripted.files.answers["stat"] = FACTS
    return scripted.files


def test_a_stat_is_in_the_header(files: Any, ask: Any) -> None:
    answer = ask("HEAD", "/containers/web/archive?path=/a%20b")
    assert answer.status == 200
    told = json.loads(base64.b64decode(answer.headers["X-Docker-Container-Path-Stat"]))
    assert (told["name"], told["size"], told["mode"]) == ("f", 3, 0o644)
    assert files.calls == [("stat", "web", "/a b")]


def test_a_tar_comes_out(files: Any, ask: Any) -> None:
    def get(ref: str, path: str, out: BinaryIO) -> FileStat:
        out.write(b"tar of ")
        out.write(path.encode())
        return FACTS

    files.answers["get"] = get
    answer = ask("GET", "/containers/web/archive?path=/f")
    assert answer.body == b"tar of /f"
    assert answer.headers["Content-Type"] == "application/x-tar"
    assert answer.headers["X-Docker-Container-Path-Stat"]


@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_a_path_that_is_not_there(files: Any, ask: Any, method: str) -> None:
    files.answers["stat"] = NotFound("path in the container", "/nope")
    answer = ask(method, "/containers/web/archive?path=/nope")
    assert answer.status == 404
    if method == "GET":
        assert answer.json["message"] == "Could not find the file /nope in container"


@pytest.mark.parametrize("method", ["HEAD", "GET", "PUT"])
def test_a_path_is_needed(files: Any, ask: Any, method: str) -> None:
    assert ask(method, "/containers/web/archive").status == 400


@pytest.mark.parametrize(("query", "keep"), [("", False), ("&noOverwriteDirNonDir=true", True)])
def test_a_tar_goes_in(files: Any, ask: Any, query: str, keep: bool) -> None:
    received = []

    def put(ref: str, path: str, source: BinaryIO, *, keep_kinds: bool) -> None:
        received.append((ref, path, source.read(), keep_kinds))

    files.answers["put"] = put
    body = b"x" * 300_000
    assert ask("PUT", f"/containers/web/archive?path=/tmp{query}", body).status == 200
    assert received == [("web", "/tmp", body, keep)]


@pytest.mark.parametrize(
    ("error", "status"), [(PermissionDenied("read-only"), 403), (InvalidArgument("no tar"), 400)]
)
def test_a_tar_that_is_refused(files: Any, ask: Any, error: Exception, status: int) -> None:
    files.answers["put"] = error
    answer = ask("PUT", "/containers/web/archive?path=/tmp", b"tar")
    assert (answer.status, answer.json) == (status, {"message": str(error)})


def test_an_export(files: Any, ask: Any) -> None:
    files.answers["export"] = lambda ref, out: out.write(ref[:3].encode())
    answer = ask("GET", "/containers/web/export")
    assert answer.body == b"ccc"
