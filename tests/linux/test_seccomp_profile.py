"""Reading Docker's JSON, and choosing the rules that apply."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cellbox.errors import InvalidArgument, NotSupported
from cellbox.linux.seccomp_profile import (
    Comparison,
    Condition,
    Profile,
    Rule,
    parse,
)

DOCUMENT: dict[str, Any] = {
    "defaultAction": "SCMP_ACT_ERRNO",
    "defaultErrnoRet": 38,
    "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}],
    "syscalls": [
        {"names": ["read", "write"], "action": "SCMP_ACT_ALLOW"},
        {
            "name": "clone",
            "action": "SCMP_ACT_ERRNO",
            "errnoRet": 22,
            "args": [{"index": 0, "value": 7, "valueTwo": 1, "op": "SCMP_CMP_MASKED_EQ"}],
            "includes": {"caps": ["CAP_SYS_ADMIN"], "minKernel": "4.8"},
            "excludes": {"arches": ["s390x"]},
        },
    ],
}


def test_a_whole_profile() -> None:
    assert parse(json.dumps(DOCUMENT)) == Profile(
        "SCMP_ACT_ERRNO",
        38,
        {"X86_64": ("X86",)},
        (
            Rule(("read", "write")),
            Rule(
                ("clone",),
                "SCMP_ACT_ERRNO",
                22,
                (Comparison(0, 7, "MASKED_EQ", 1),),
                Condition(capabilities=("SYS_ADMIN",), kernel=(4, 8)),
                Condition(machines=("s390x",)),
            ),
        ),
    )


def test_a_flat_list_of_architectures() -> None:
    names = ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]
    profile = parse(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "architectures": names}))
    assert profile.architectures["X86_64"] == ("X86_64", "X86")
    assert profile.rules == ()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"defaultAction": "SCMP_ACT_MAYBE"}, "unknown action"),
        ({"defaultAction": None}, "unknown action"),
        ({"defaultAction": ["x"]}, "unknown action"),
        ({"defaultErrnoRet": -1}, "not a number"),
        ({"defaultErrnoRet": "1"}, "not a number"),
        ({"architectures": ["SCMP_ARCH_X86"]}, "not both"),
        ({"archMap": [{"architecture": "amd64"}]}, "unknown architecture"),
        ({"archMap": [{}]}, "architecture"),
        ({"archMap": 5}, "cannot be read"),
        ({"syscalls": [{"action": "SCMP_ACT_ALLOW"}]}, "name"),
        ({"syscalls": [{"names": ["a"], "name": "b", "action": "SCMP_ACT_ALLOW"}]}, "not both"),
        ({"syscalls": [{"names": [5], "action": "SCMP_ACT_ALLOW"}]}, "not a string"),
        ({"syscalls": [{"names": ["a\0"], "action": "SCMP_ACT_ALLOW"}]}, "not a string"),
        ({"syscalls": [{"names": ["a"]}]}, "unknown action"),
        ({"syscalls": ["read"]}, "cannot be read"),
        ({"syscalls": [{"names": ["a"], "action": "SCMP_ACT_ALLOW", "args": [{"op": "X"}]}]}, "X"),
    ],
)
def test_profiles_that_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        parse(json.dumps({**DOCUMENT, **change}))


@pytest.mark.parametrize(
    "argument",
    [
        {"index": 6, "op": "SCMP_CMP_EQ"},
        {"index": 0, "op": "SCMP_CMP_EQ", "value": 2**64},
        {"index": 0, "op": "SCMP_CMP_EQ", "value": -1},
        {"index": True, "op": "SCMP_CMP_EQ"},
    ],
)
def test_comparisons_that_are_refused(argument: dict[str, Any]) -> None:
    rule = {"names": ["a"], "action": "SCMP_ACT_ALLOW", "args": [argument]}
    with pytest.raises(InvalidArgument, match="not a number"):
        parse(json.dumps({**DOCUMENT, "syscalls": [rule]}))


@pytest.mark.parametrize("text", ["", "[]", "5", "{", "[" * 100_000, " " * (1 << 20) + "{}"])
def test_text_that_is_no_profile(text: str) -> None:
    with pytest.raises(InvalidArgument, match="cannot be read"):
        parse(text)


@pytest.mark.parametrize("version", ["4", "4.", "four.8", "4.8.1"])
def test_kernel_versions_that_are_refused(version: str) -> None:
    rule = {"names": ["a"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": version}}
    with pytest.raises(InvalidArgument, match="kernel version"):
        parse(json.dumps({**DOCUMENT, "syscalls": [rule]}))


def test_a_listener_is_not_supported() -> None:
    with pytest.raises(NotSupported, match="SCMP_ACT_NOTIFY"):
        parse('{"defaultAction": "SCMP_ACT_NOTIFY"}')


@pytest.mark.parametrize(
    ("includes", "excludes", "applies"),
    [
        (Condition(), Condition(), True),
        (Condition(machines=("amd64",)), Condition(), True),
        (Condition(machines=("arm64",)), Condition(), False),
        (Condition(capabilities=("CHOWN",)), Condition(), True),
        (Condition(capabilities=("CHOWN", "BPF")), Condition(), False),
        (Condition(kernel=(6, 1)), Condition(), True),
        (Condition(kernel=(6, 2)), Condition(), False),
        (Condition(), Condition(machines=("amd64",)), False),
        (Condition(), Condition(capabilities=("CHOWN", "BPF")), False),
        (Condition(), Condition(capabilities=("BPF",)), True),
        (Condition(), Condition(kernel=(6, 1)), False),
        (Condition(), Condition(kernel=(10, 0)), True),
    ],
)
def test_which_rules_apply(includes: Condition, excludes: Condition, applies: bool) -> None:
    rule = Rule(("a",), includes=includes, excludes=excludes)
    profile = Profile("SCMP_ACT_ERRNO", 1, {}, (rule,))
    assert list(profile.rules_for("amd64", ["CHOWN", "KILL"], (6, 1))) == (
        [rule] if applies else []
    )
