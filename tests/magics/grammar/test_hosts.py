"""--host, and listings of several engines."""

from __future__ import annotations

import pytest

from cellbox.errors import InvalidArgument, Unavailable
from cellbox.model.volume import VolumeSpec
from cellbox_magics.magics import load
from cellbox_magics.outcome import CommandFailed
from cellbox_magics.session import Session


@pytest.fixture
def engines(shell, engine):
    """Engines by URL, as they are asked for; one at ``unix:///gone`` does not answer."""
    found = {}

    def connect(url):
        if url == "unix:///gone":
            raise Unavailable("nobody is there")
        return found.setdefault(url, type(engine)() if url else engine)

    load(shell, Session(connect=connect))
    return found


def test_a_line_speaks_to_the_host_that_it_names(engines, engine, say):
    engine.images.add("ubuntu")
    assert len(say("%container images")) == 2
    assert len(say("%container --host unix:///a images")) == 1
    assert len(say("%container images -H unix:///a")) == 1
    assert len(say("%container images")) == 2
    assert set(engines) == {"", "unix:///a"}


def test_a_cell_does_too(engines, shell, capsys):
    from tests.magics.conftest import cat

    shell.run_cell("%container -H far images")
    engines["context:far"].programs = {"cat": cat}
    capsys.readouterr()
    shell.run_cell_magic("container", "--host far run host cat", "typed")
    assert capsys.readouterr().out == "typed"
    assert engines["context:far"].named("create")


@pytest.mark.parametrize(
    "words", ["--host unix:///a,unix:///b ps -a", "-H unix:///a --host unix:///b ps -a",
              "ps -a -H unix:///a,unix:///b", "-H unix:///b ps -aH unix:///a -H unix:///b"],
)  # fmt: skip
def test_rows_of_several_are_put_together(engines, say, words):
    for url in ("unix:///a", "unix:///b"):
        say(f"%container -H {url} images")
        engines[url].images.add("ubuntu")
        say(f"_ = %container -H {url} create --name at-{url[-1]} ubuntu")
    table = say(f"%container {words}")
    assert table.titles[:2] == ("HOST", "CONTAINER ID")
    assert [(row[0], row[-1]) for row in table.rows] == [
        ("unix:///a", "at-a"), ("unix:///b", "at-b"),
    ]  # fmt: skip
    assert [one.name for one in table] == ["at-a", "at-b"]
    assert say("%container -H unix:///a,unix:///b ps -a --format '{{.Names}}'") == ["at-a", "at-b"]


def test_all_kinds_of_listings(engines, say):
    for url in ("unix:///a", "unix:///b"):
        say(f"%container -H {url} images")
        engines[url].volumes.create(VolumeSpec("data"))
    hosts = "unix:///a,unix:///b"
    assert [row[0] for row in say(f"%container -H {hosts} volume ls").rows] == hosts.split(",")
    assert len(say(f"%container -H {hosts} network ls")) == 6
    assert len(say(f"%container -H {hosts} images")) == 2
    assert say(f"%container -H {hosts} volume ls -q") == ["data", "data"]


def test_other_verbs_want_one(engines, say):
    with pytest.raises(InvalidArgument, match="ask several at once: name one"):
        say("%container --host a,b rm web")
    assert len(say("%container --host a,a images")) == 1


def test_those_that_answer_are_shown(engines, say, capsys):
    with pytest.raises(CommandFailed, match="1 of 2 failed"):
        say("%container --host unix:///gone,unix:///a images")
    shown = capsys.readouterr()
    assert "unix:///a" in shown.out and "nobody is there" in shown.err
