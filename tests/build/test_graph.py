"""Stages, and which of them a target needs."""

from __future__ import annotations

import pytest

from cellbox.build import graph, scope, syntax
from cellbox.build.graph import Graph
from cellbox.build.parser import parse
from cellbox.errors import DockerfileError, InvalidArgument

FILE = """ARG V=9
FROM base:$V AS one
FROM one AS two
COPY --from=0 /a /b
FROM unused
FROM scratch AS four
COPY --from=TWO /a /b
COPY --from=other/image /a /b
"""


def made(text: str, target: str = "", **labels: str) -> Graph:
    dockerfile = syntax.read(parse(text))
    arguments = scope.arguments(dockerfile.arguments, {}, {}, "\\")
    return graph.graph(dockerfile, arguments, target, labels)


def test_stages_come_after_what_they_need():
    found = made(FILE)
    assert [vertex.base for vertex in found.vertices] == ["base:9", 0, "unused", "scratch"]
    assert [vertex.index for vertex in found.order()] == [0, 1, 3]
    assert graph.steps(found.order(), 1) == 1 + 1 + 2 + 3
    assert found.origin("two", found.vertices[3]) == 1
    assert found.origin("2", found.vertices[3]) == 2
    assert found.origin("other/image", found.vertices[3]) == "other/image"


@pytest.mark.parametrize(("target", "order"), [("TWO", [0, 1]), ("2", [2]), ("four", [0, 1, 3])])
def test_a_target(target, order):
    assert [vertex.index for vertex in made(FILE, target).order()] == order


def test_labels_are_the_last_step_of_the_target():
    found = made(FILE, "one", b="2", a="1")
    (step,) = found.vertices[0].stage.instructions
    assert step.node.original == "LABEL a=1 b=2"
    assert found.vertices[1].stage.instructions[0].node.word == "copy"


def test_of_two_stages_of_one_name_the_last_one_is_meant():
    found = made("FROM a AS x\nFROM b AS x\nFROM x\n")
    assert found.vertices[2].base == 1


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        ("ARG A\n", InvalidArgument, "no build stage"),
        ("FROM $NO\n", DockerfileError, r"line 1: base name \(\$NO\) should not be blank"),
        ("FROM x\nCOPY --from=0 a b\n", DockerfileError, "line 2: invalid from flag value 0"),
        ("FROM x AS y\nCOPY --from=y a b\n", DockerfileError, "circular dependency"),
        (
            "FROM x\nCOPY --from=y a b\nFROM x AS y\n",
            DockerfileError,
            "line 2: stage y comes later",
        ),
    ],
)
def test_what_is_wrong(text, error, said):
    with pytest.raises(error, match=said):
        made(text)


def test_a_target_that_is_not_there():
    with pytest.raises(InvalidArgument, match=r'"fuor" could not be found \(did you mean four\?\)'):
        made(FILE, "fuor")
