"""Nodes to instructions, and what is refused."""

from __future__ import annotations

import re

import pytest

from cellbox.build import syntax
from cellbox.build.instructions import Copy, Healthcheck, Instruction, OnBuild, Run
from cellbox.build.parser import parse
from cellbox.errors import DockerfileError
from cellbox.model.container import HealthCheck


def second(text: str) -> Instruction:
    """The instruction after a FROM."""
    return syntax.read(parse(f"FROM x\n{text}\n")).stages[0].instructions[0]


def test_every_case_of_the_reference_implementation_agrees(cases):
    told = [case for case in cases("parse")["cases"] if "nodes" in case]
    for case in told:
        if "refused" in case:
            with pytest.raises(DockerfileError) as caught:
                syntax.read(parse(case["text"]))
            where = re.fullmatch(r"dockerfile parse error on (line \d+: .*)", case["refused"])
            said = str(caught.value)
            assert said == where[1] if where else said.endswith(case["refused"])
            continue
        found = syntax.read(parse(case["text"]))
        assert [
            [stage.start.base, stage.start.name, stage.start.platform,
             [step.node.word.upper() for step in stage.instructions]]
            for stage in found.stages
        ] == case["stages"]  # fmt: skip
        assert [
            name if value is None else f"{name}={value}"
            for line in found.arguments
            for name, value in line.names
        ] == case.get("arguments", [])


def test_a_health_check():
    step = second("HEALTHCHECK --interval=1m30s --timeout=500ms --retries=2 CMD curl x")
    assert isinstance(step, Healthcheck)
    assert step.health == HealthCheck(("CMD-SHELL", "curl x"), 90.0, 0.5, retries=2)
    for wrong in ("--interval=1us CMD a", "--retries=x CMD a", "--interval=soon CMD a", "CMD"):
        with pytest.raises(DockerfileError, match="line 2"):
            second(f"HEALTHCHECK {wrong}")


def test_a_copy_with_documents():
    step = second("COPY --chown=1:2 --chmod=600 f <<A <<'B' /d/\n$x\nA\ny\nB")
    assert isinstance(step, Copy)
    assert (step.sources, step.destination, step.owner, step.mode) == (("f",), "/d/", "1:2", "600")
    assert [(one.name, one.content, one.expand) for one in step.inline] == [
        ("A", "$x\n", True),
        ("B", "y\n", False),
    ]
    with pytest.raises(DockerfileError, match="cannot accept a heredoc as a destination"):
        second("COPY f <<A\nx\nA")
    with pytest.raises(DockerfileError, match="has a variable"):
        second("COPY --from=$A f /")


def test_what_only_buildkit_does_is_kept_for_who_refuses_it():
    step = second("RUN --mount=from=a,target=/x --security=insecure --device=d make")
    assert isinstance(step, Run)
    assert (step.options, step.insecure, step.origins) == (("--device",), True, ("a",))
    copy = second("COPY --link --parents --exclude=*.o a b")
    assert isinstance(copy, Copy) and (copy.parents, copy.exclude) == (True, ("*.o",))


def test_a_trigger_keeps_its_documents():
    step = second("ONBUILD RUN <<E\na\nE")
    assert isinstance(step, OnBuild) and step.text == "RUN <<E\na\nE"


@pytest.mark.parametrize(
    ("word", "known", "said"),
    [
        ("COPPY", ("copy", "cmd"), " (did you mean COPY?)"),
        ("mout", ("mount", "network"), " (did you mean mount?)"),
        ("x", ("copy",), ""),
        ("", ("a",), ""),
        ("x", (), ""),
    ],
)
def test_suggestions(word, known, said):
    assert syntax.suggestion(word, known) == said
