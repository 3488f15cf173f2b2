"""Reading JSON as Go would."""

from __future__ import annotations

import pytest

from cellbox.errors import InvalidArgument
from cellbox.wire.fields import Fields


def fields(**members: object) -> Fields:
    return Fields(members, "HostConfig", "HostConfig")


def test_absent_and_null_are_the_zero_value():
    for found in (fields(), fields(A=None)):
        assert not found.given("A")
        assert (found.text("A"), found.flag("A"), found.whole("A")) == ("", False, 0)
        assert (found.texts("A"), found.words("A"), found.text_map("A")) == ((), None, {})
        assert (found.names("A"), found.items("A", "X"), found.members("A", "X")) == ((), [], {})
        assert found.lists("A", "X") == {}
        assert found.inner("A", "X").text("B") == ""


def test_null_within_a_collection_is_the_zero_value_too():
    assert fields(A=["x", None]).texts("A") == ("x", "")
    assert fields(A={"k": None}).text_map("A") == {"k": ""}
    assert fields(A=[None]).items("A", "X")[0].text("B") == ""
    assert fields(A={"k": None}).members("A", "X")["k"].text("B") == ""
    assert fields(A={"k": None}).lists("A", "X") == {"k": []}


def test_names_match_in_any_case():
    assert fields(shmsize=5).whole("ShmSize") == 5


def test_a_command_is_a_list_or_one_string():
    assert fields(A="ls -l").words("A") == ("ls -l",)
    assert fields(A=["ls", "-l"]).words("A") == ("ls", "-l")
    assert fields(A=[]).words("A") == ()


def test_nested_objects():
    found = fields(A={"B": [{"C": "x"}]}, P={"80": [{"H": "1"}, None]}, S={"/a": {}, "/b": None})
    assert found.inner("A", "A").items("B", "B")[0].text("C") == "x"
    assert [one.text("H") for one in found.lists("P", "P")["80"]] == ["1", ""]
    assert found.names("S") == ("/a", "/b")


@pytest.mark.parametrize(
    ("read", "value", "kind", "wanted"),
    [
        (lambda f: f.text("A"), 5, "number 5", "string"),
        (lambda f: f.text("A"), [], "array", "string"),
        (lambda f: f.whole("A"), "64m", "string", "int64"),
        (lambda f: f.whole("A"), 1.5, "number 1.5", "int64"),
        (lambda f: f.whole("A"), True, "bool", "int64"),
        (lambda f: f.whole("A"), 1 << 63, f"number {1 << 63}", "int64"),
        (lambda f: f.flag("A"), 1, "number 1", "bool"),
        (lambda f: f.texts("A"), "x", "string", "string"),
        (lambda f: f.texts("A"), ["x", {}], "object", "string"),
        (lambda f: f.text_map("A"), {"k": 1}, "number 1", "string"),
        (lambda f: f.inner("A", "X"), [], "array", "*X"),
        (lambda f: f.items("A", "X"), ["x"], "string", "X"),
        (lambda f: f.members("A", "X"), {"k": "x"}, "string", "X"),
        (lambda f: f.lists("A", "X"), {"k": {}}, "object", "X"),
    ],
)
def test_another_type_is_refused_in_gos_words(read, value, kind, wanted):
    with pytest.raises(InvalidArgument) as caught:
        read(fields(A=value))
    assert str(caught.value) == (
        f"json: cannot unmarshal {kind} into Go struct field HostConfig.HostConfig.A "
        f"of type {wanted}"
    )


def test_a_body_is_an_object():
    with pytest.raises(InvalidArgument, match="cannot unmarshal array into Go value of type X"):
        Fields([], "X")
    assert Fields(None, "X").text("A") == ""
