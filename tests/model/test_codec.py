"""Facts to JSON and back."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellbox.containers.messages import Bundle, IdMap, Process, RunState
from cellbox.linux.mounts import Mount
from cellbox.model.codec import dumps, from_json, loads, to_json
from cellbox.model.container import (
    Container,
    Health,
    HealthCheck,
    Limits,
    MountKind,
    MountSpec,
    RunSpec,
    Status,
    Ulimit,
)
from cellbox.model.event import Event
from cellbox.model.image import Descriptor, HistoryEntry, Image, ImageConfig, Layer, Platform
from cellbox.model.plugin import Plugin, PluginKind


class Colour(StrEnum):
    RED = "red"


class Level(IntEnum):
    HIGH = 3


@dataclass(frozen=True)
class Leaf:
    number: int
    ratio: float = 0.5
    name: str | None = None
    colour: Colour = Colour.RED
    level: Level | None = None


@dataclass(frozen=True)
class Tree:
    leaves: tuple[Leaf, ...] = ()
    by_name: Mapping[str, Leaf] = field(default_factory=dict)
    words: tuple[tuple[str, ...], ...] = ()
    branch: "Tree | None" = None
    anything: object = None


FACTS = [
    RunSpec("ubuntu"),
    RunSpec(
        "ubuntu",
        ("ls", "-l"),
        entrypoint=(),
        env=("A=b",),
        labels={"a": "b"},
        stop_timeout=0.0,
        mounts=(MountSpec(MountKind.TMPFS, "/t", size=5), MountSpec(MountKind.BIND, "/b", "/s")),
        limits=Limits(memory=1 << 40, cpus=0.5),
        ulimits=(Ulimit("nofile", 5, -1),),
        health=HealthCheck(("CMD", "true"), interval=1.5),
    ),
    Container(
        "c" * 64,
        "web",
        "sha256:" + "a" * 64,
        RunSpec("ubuntu"),
        ("ls",),
        Status.EXITED,
        1.5,
        health=Health("healthy", log=({"start": 1.0, "output": "ok", "exit_code": 0},)),
    ),
    Image(
        "sha256:" + "a" * 64,
        ("ubuntu:latest",),
        (),
        (Layer("sha256:" + "b" * 64, 5, Descriptor("layer", "sha256:" + "c" * 64, 3)),),
        ImageConfig(volumes=("/v",), labels={"ü": "é"}),
        Platform(variant="v8"),
        5,
        history=(HistoryEntry(None, "RUN x", empty_layer=True),),
    ),
    Bundle(
        "c" * 64,
        "web",
        "/d",
        Process(("sh",), rlimits=(Ulimit("core", 0, 0),), oom_score_adj=0),
        (Mount("overlay", "/", lowers=("/l",), idmap=True),),
        id_map=(IdMap(0, 5, 65536),),
    ),
    RunState(1, 2, paused=True),
    Event(1.5, "container", "die", "c" * 64, {"exitCode": "0"}),
    Plugin(PluginKind.LOG, "json-file", "built in", "a:b"),
    Tree(branch=Tree((Leaf(1, level=Level.HIGH),)), words=(("a",), ()), anything=[1, {"a": None}]),
]


@pytest.mark.parametrize("fact", FACTS, ids=lambda fact: type(fact).__name__)
def test_a_fact_comes_back_as_it_was(fact):
    assert from_json(type(fact), json.loads(json.dumps(to_json(fact)))) == fact
    assert loads(type(fact), dumps(fact)) == fact
    assert " " not in dumps([1, {"a": None}])


def test_what_equals_its_default_is_left_out():
    assert to_json(RunSpec("ubuntu")) == {"image": "ubuntu"}
    assert to_json(Tree()) == {}
    assert to_json(RunSpec("ubuntu", labels={"a": "b"}))["labels"] == {"a": "b"}
    assert to_json(Leaf(1, ratio=0.0, name="")) == {"number": 1, "ratio": 0.0, "name": ""}


def test_defaults_of_a_factory_are_not_shared():
    first, second = from_json(Tree, {}), from_json(Tree, {})
    assert first == second and first.by_name is not second.by_name


def test_an_optional_value_may_be_told_as_none():
    assert from_json(Leaf, {"number": 1, "name": None, "level": None}) == Leaf(1)


def test_unknown_keys_are_dropped():
    assert from_json(Leaf, {"number": 1, "shape": "oval"}) == Leaf(1)


def test_a_missing_key_without_default_is_an_error():
    with pytest.raises(TypeError, match="number"):
        from_json(Leaf, {})


def test_a_value_that_is_no_member_is_an_error():
    with pytest.raises(ValueError, match="green"):
        from_json(Leaf, {"number": 1, "colour": "green"})


@pytest.mark.parametrize("value", [b"bytes", {1, 2}, object(), Leaf, 1j])
def test_what_json_cannot_tell_is_refused(value):
    with pytest.raises(TypeError):
        to_json({"key": value})


@pytest.mark.parametrize("kind", [bytes, set, list, complex])
def test_a_field_of_another_type_is_refused(kind):
    strange = dataclasses.make_dataclass("Strange", [("field", kind)])
    with pytest.raises(TypeError, match="does not travel as JSON"):
        from_json(strange, {"field": None})


@pytest.mark.parametrize("value", [None, True, 1, 1.5, "x", [1, [2]], {"a": {"b": None}}])
def test_plain_values_are_themselves(value):
    assert to_json(value) == value


def test_enums_are_told_by_their_value():
    told = to_json({"colour": Colour.RED, "level": Level.HIGH})
    assert told == {"colour": "red", "level": 3}
    assert [type(value) for value in told.values()] == [str, int]


leaves = st.builds(
    Leaf,
    st.integers(),
    st.floats(allow_nan=False),
    st.none() | st.text(),
    st.sampled_from(Colour),
    st.none() | st.sampled_from(Level),
)
trees = st.recursive(
    st.builds(Tree),
    lambda inner: st.builds(
        Tree,
        st.lists(leaves, max_size=3).map(tuple),
        st.dictionaries(st.text(), leaves, max_size=3),
        st.just(()),
        st.none() | inner,
    ),
)


@given(trees)
def test_any_fact_comes_back(tree):
    assert from_json(Tree, json.loads(json.dumps(to_json(tree)))) == tree
