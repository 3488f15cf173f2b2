"""Which variables an instruction sees."""

from __future__ import annotations

import pytest

from cellbox.build import scope, syntax
from cellbox.build.instructions import Arg
from cellbox.build.parser import parse
from cellbox.build.scope import Arguments, StageScope
from cellbox.errors import DockerfileError
from cellbox.model.image import Platform


def outer(text: str, platforms: dict[str, str] | None = None, **given: str) -> Arguments:
    lines = syntax.read(parse(f"{text}\nFROM x\n")).arguments
    return scope.arguments(lines, given, platforms or {}, "\\")


def inner(arguments: Arguments, text: str, **env: str) -> dict[str, str]:
    """The ARGs of a stage after these lines."""
    found = StageScope(arguments, "\\")
    for step in syntax.read(parse(f"FROM x\n{text}\n")).stages[0].instructions:
        bound = scope.expanded(step, found.variables(env))
        assert isinstance(bound, Arg)
        found.declare(bound)
    return found.values


def test_global_arguments_see_those_before_them():
    assert outer("ARG A=1 B=${A}2\nARG C=${B:-x} D").outer == {"A": "1", "B": "2", "C": "2"}
    assert outer("ARG A=1\nARG B=$A", A="9").outer == {"A": "9", "B": "9"}
    with pytest.raises(DockerfileError, match="line 2: .*A: must be set"):
        outer('ARG A\nARG B="${A:?must be set}"')


def test_a_stage_sees_what_it_declares():
    known = outer("ARG A=1 B=2\nARG C", given="x", B="3")
    assert inner(known, "ARG A\nARG B\nARG C\nARG D=4") == {"A": "1", "B": "3", "D": "4"}
    assert inner(known, "ARG A=own\nARG E=$A") == {"A": "own", "E": "own"}
    assert inner(known, "ARG given=default") == {"given": "x"}
    assert inner(known, "ARG F=$H", H="env") == {"F": "env"}


def test_platform_arguments_need_to_be_declared_in_a_stage():
    platforms = scope.platform_arguments(Platform(), Platform("linux", "arm64", "v8"), "one")
    assert platforms["TARGETPLATFORM"] == "linux/arm64/v8"
    assert (platforms["BUILDARCH"], platforms["TARGETSTAGE"]) == ("amd64", "one")
    known = outer("ARG A=$TARGETARCH", platforms, TARGETOS="plan9")
    assert known.for_from["A"] == "arm64"
    assert inner(known, "ARG TARGETARCH\nARG TARGETOS") == {
        "TARGETARCH": "arm64",
        "TARGETOS": "plan9",
    }


def test_env_goes_before_arg():
    found = StageScope(outer("", A="arg"), "\\", {"A": "arg", "B": "arg", "C": None})
    assert found.variables({"A": "env"}).many("$A $B $C") == ("env", "arg")


def test_proxies_are_given_without_being_declared():
    assert outer("", http_proxy="p", other="x").proxies == {"http_proxy": "p"}
