"""Names of a network: what is published is found, however it is spelt, until it is withdrawn."""

from __future__ import annotations

import json
import os
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellbox.networks.names import Names, publish, withdraw

ONE, TWO, THREE = ("1" * 64, "2" * 64, "3" * 64)


@pytest.fixture
def network(tmp_path):
    return str(tmp_path / "networks" / "net")


@pytest.fixture
def names(network):
    return Names({"Front": network})


def test_every_spelling_of_a_name_is_found(network, names):
    publish(network, ONE, "c" * 64, ["Web", "db", "c" * 12], "10.0.0.2", "fd00::2")
    for name in ("web", "WEB", "web.", "web.front", "Web.FRONT.", "db", "c" * 12, "c" * 64):
        assert names.lookup(name) == ["10.0.0.2"], name
        assert names.lookup(name, 6) == ["fd00::2"], name
    for name in ("", ".", "we", "web.back", "web..", "front", ".front", "x.web"):
        assert names.lookup(name) is None, name


def test_a_name_without_an_address_of_a_kind_is_known_all_the_same(network, names):
    publish(network, ONE, "c", ["web"], "10.0.0.2")
    assert names.lookup("web", 6) == []


def test_what_is_withdrawn_is_forgotten_at_once(network, names):
    assert names.lookup("web") is None  # there is no directory yet
    publish(network, ONE, "c", ["web"], "10.0.0.2")
    assert names.lookup("web") == ["10.0.0.2"]
    publish(network, ONE, "c", ["api"], "10.0.0.3")
    assert names.lookup("web") is None and names.lookup("api") == ["10.0.0.3"]
    withdraw(network, ONE)
    withdraw(network, ONE)
    assert names.lookup("api") is None
    assert os.listdir(network) == []


@pytest.mark.parametrize("grain", [1, 20_000_000])
def test_changes_are_seen_however_fast_they_follow_each_other(network, names, monkeypatch, grain):
    """Also where the clock of the file system stands still for 20 ms."""
    real = os.stat

    def coarse(path, **how):
        found = real(path, **how)
        if path != network:
            return found
        return SimpleNamespace(
            st_mtime_ns=found.st_mtime_ns // grain * grain, st_mode=found.st_mode
        )

    monkeypatch.setattr(os, "stat", coarse)
    for number in range(200):
        publish(network, ONE, "c", [f"n{number}"], "10.0.0.2")
        assert names.lookup(f"n{number}") == ["10.0.0.2"]
        assert names.lookup(f"n{number - 1}") is None


def test_a_directory_that_rests_is_not_read_again(network, names, monkeypatch):
    publish(network, ONE, "c", ["web"], "10.0.0.2")
    os.utime(network, (1, 1))
    assert names.lookup("web") == ["10.0.0.2"]
    monkeypatch.setattr(os, "listdir", lambda _: pytest.fail("read again"))
    assert names.lookup("web") == ["10.0.0.2"]


def test_those_who_share_a_name_take_turns(network, names):
    for number, endpoint in enumerate((ONE, TWO, THREE)):
        publish(network, endpoint, endpoint, ["web"], f"10.0.0.{number}", f"fd00::{number + 1}")
    answers = []
    for _ in range(3):
        answers.append(names.lookup("web"))
        names.lookup("web", 6)  # as a client does that asks for both
    assert {answer[0] for answer in answers} == {"10.0.0.0", "10.0.0.1", "10.0.0.2"}
    assert all(len(answer) == 3 for answer in answers)


def test_several_networks(tmp_path):
    front, back = str(tmp_path / "f"), str(tmp_path / "b")
    publish(front, ONE, "c", ["web"], "10.0.0.2")
    publish(back, TWO, "c", ["web"], "10.1.0.2")
    names = Names({"front": front, "back": back})
    assert sorted(names.lookup("web")) == ["10.0.0.2", "10.1.0.2"]
    assert names.lookup("web.front") == ["10.0.0.2"]
    assert names.lookup("web.back") == ["10.1.0.2"]
    assert names.reverse("10.0.0.2") == "web.front" and names.reverse("10.1.0.2") == "web.back"
    assert names.reverse("10.2.0.2") == ""


def test_aliases_are_for_an_address_or_a_container(network):
    publish(network, ONE, "c" * 64, ["web"], "10.0.0.2", "fd00::2")
    aliases = {"Site": "web", "old": "c" * 64, "far": "192.0.2.7", "six": "fd00::7", "gone": "api"}
    names = Names({"net": network}, aliases)
    assert names.lookup("site.") == names.lookup("old") == ["10.0.0.2"]
    assert names.lookup("site", 6) == ["fd00::2"]
    assert names.lookup("far") == ["192.0.2.7"] and names.lookup("far", 6) == []
    assert names.lookup("six") == [] and names.lookup("six", 6) == ["fd00::7"]
    assert names.lookup("gone") is None


def test_files_that_are_none_of_ours_or_damaged_are_passed_over(network, names):
    publish(network, ONE, "c", ["web"], "10.0.0.2")
    for name, text in {
        "half.json": '{"container": "c", "na',
        "list.json": "[]",
        "null.json": '{"container": "x", "names": null, "ip": "", "ip6": ""}',
        "few.json": "{}",
        "bytes.json": "\x00",
        ".2.tmp": json.dumps({"container": "x", "names": ["api"], "ip": "1.1.1.1", "ip6": ""}),
    }.items():
        with open(os.path.join(network, name), "w") as file:
            file.write(text)
    os.mkdir(os.path.join(network, "folder.json"))
    assert names.lookup("web") == ["10.0.0.2"] and names.lookup("api") is None


def test_what_cannot_be_published_leaves_nothing(network, monkeypatch):
    publish(network, ONE, "c", ["web"], "10.0.0.2")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "rename", full)
    with pytest.raises(OSError, match="No space"):
        publish(network, TWO, "c", ["api"], "10.0.0.3")
    assert os.listdir(network) == [f"{ONE}.json"]


def test_nobody_else_may_look_into_it(network):
    publish(network, ONE, "c", ["web"], "10.0.0.2")
    assert os.stat(network).st_mode & 0o077 == 0


def test_a_turn_is_fair_whatever_else_is_asked(network, names):
    publish(network, ONE, "c", ["web"], "10.0.0.2")
    publish(network, TWO, "d", ["web"], "10.0.0.2")
    assert names.lookup("web") == ["10.0.0.2"]  # one address, however many have it


@given(st.text(max_size=80))
def test_no_name_is_too_strange_to_be_asked_for(name):
    names = Names({"net": "/nonexistent"}, {"a": "b"})
    assert names.lookup(name) is None
    assert names.reverse(name) == ""
