"""Builds: what is asked of the engine, and what is told of it."""

from __future__ import annotations

import threading

import pytest

from cellbox.errors import DockerfileError, StepFailed
from cellbox.model.build import BuildSpec
from cellbox.model.image import Image, ImageConfig, Platform, Progress

BOX = Image("sha256:" + "ab" * 32, ("box:1",), (), (), ImageConfig(), Platform(), 0)
TAR = {"Content_Type": "application/x-tar"}


@pytest.fixture
def builds(scripted):
    """``builds(outcome, *pieces)``: the next build tells these pieces, and ends so; what it was
    asked for is in ``builds.asked``."""

    def make(outcome, *pieces):
        def build(context, spec, *, tell, stop):
            make.asked.append((context.read(), spec, stop()))
            for piece in pieces:
                tell(piece)
            if isinstance(outcome, Exception):
                raise outcome
            return outcome

        scripted.images.answers["build"] = build

    make.asked = []
    return make


def test_a_build_is_told_as_it_goes(ask, builds):
    builds(
        BOX, "Step 1/1 : FROM x\n", Progress("a1", "Downloading", 1, 2), "Successfully built ab\n"
    )
    answer = ask("POST", "/build?t=box:1&t=b&dockerfile=D&version=1", b"tar" * 100_000, **TAR)
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/json"
    first, pulling, last, aux = answer.lines
    assert (first, last) == (
        {"stream": "Step 1/1 : FROM x\n"},
        {"stream": "Successfully built ab\n"},
    )
    assert (pulling["status"], pulling["id"]) == ("Downloading", "a1")
    assert aux == {"aux": {"ID": BOX.id}}
    assert builds.asked == [
        (b"tar" * 100_000, BuildSpec(dockerfile="D", tags=("box:1", "b")), False)
    ]


def test_quietly_only_the_id_is_told(ask, builds):
    builds(BOX, "Step 1/1 : FROM x\n")
    assert ask("POST", "/build?q=1", b"tar", **TAR).lines == [
        {"aux": {"ID": BOX.id}},
        {"stream": f"{BOX.id}\n"},
    ]


@pytest.mark.parametrize("query", ["", "?q=1"])
def test_a_step_that_fails_has_its_code(ask, builds, query):
    builds(StepFailed("/bin/sh -c exit 3", 3), "Step 1/2 : FROM x\n")
    message = "The command '/bin/sh -c exit 3' returned a non-zero code: 3"
    assert ask("POST", f"/build{query}", b"tar", **TAR).lines == [
        {"stream": "Step 1/2 : FROM x\n"},
        {"errorDetail": {"code": 3, "message": message}, "error": message},
    ]


def test_what_is_wrong_before_the_first_step_is_an_error_of_its_own(ask, builds):
    builds(DockerfileError("unknown instruction: BOGUS", 2))
    answer = ask("POST", "/build", b"tar", **TAR)
    assert (answer.status, answer.json) == (
        400,
        {"message": "dockerfile parse error line 2: unknown instruction: BOGUS"},
    )


@pytest.mark.parametrize("query", ["remote=https://x.test/c.git", "version=2", "outputs=[{}]"])
def test_what_this_engine_cannot_do_is_refused_in_one_sentence(ask, query):
    answer = ask("POST", f"/build?{query}", b"a tar" * 100_000, **TAR)
    assert answer.status == 501
    assert ": " in answer.json["message"]


def test_a_client_that_hangs_up_gives_the_build_up(raw, scripted):
    stopped = threading.Event()

    def build(context, spec, *, tell, stop):
        context.read()
        tell("Step 1/1 : FROM x\n")
        while not stop():
            pass
        stopped.set()
        return BOX

    scripted.images.answers["build"] = build
    client = raw()
    client.send(b"POST /build HTTP/1.1\r\nHost: d\r\nContent-Length: 3\r\n\r\ntar")
    assert client.head().startswith(b"HTTP/1.1 200")
    client.done()
    assert stopped.wait(20.0)


def test_the_caches_of_steps_are_pruned(ask, scripted):
    scripted.prune_build_cache = lambda: {"a1": 5, "b2": 6}
    answer = ask("POST", "/build/prune?all=1")
    assert answer.json == {"CachesDeleted": ["a1", "b2"], "SpaceReclaimed": 11}
    scripted.prune_build_cache = dict
    answer = ask("POST", "/build/prune")
    assert answer.json == {"CachesDeleted": None, "SpaceReclaimed": 0}


@pytest.mark.parametrize("path", ["/session", "/grpc", "/build/cancel?id=1"])
def test_buildkit_is_told_what_to_do(ask, path):
    answer = ask("POST", path, Connection="Upgrade", Upgrade="h2c")
    assert answer.status == 501
    assert "DOCKER_BUILDKIT=0" in answer.json["message"]
