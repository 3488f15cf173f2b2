"""The tree of commands."""

from __future__ import annotations

import click
import pytest

from cellbox_magics.grammar import Place, contents, tree
from cellbox_magics.grammar.tree import load


@pytest.mark.parametrize("key", contents.ENTRIES)
@pytest.mark.parametrize("place", Place)
def test_every_command_is_where_the_contents_say(key, place):
    command = load(key, place)
    assert command.help == contents.ENTRIES[key].summary
    assert command.name == key.rpartition(" ")[2] or key in ("image ls",)
    context = click.Context(command, info_name=command.name)
    assert "--help" in command.get_help(context)


def test_every_entry_is_in_a_group():
    shown = {
        key
        for group in (
            contents.ROOT,
            contents.CONTAINER,
            contents.IMAGE,
            contents.NETWORK,
            contents.VOLUME,
            contents.PLUGIN,
            contents.BUILDER,
            contents.SYSTEM,
            contents.CONTEXT,
            contents.SHELL,
            contents.SHELL_SYSTEM,
            contents.TLS,
        )
        for key in group.values()
    }
    assert shown == set(contents.ENTRIES)


def test_groups_know_aliases():
    line = tree(Place.LINE)
    container = line.get_command(None, "container")
    assert container.get_command(None, "ls").name == "ps"
    assert line.get_command(None, "image").get_command(None, "list").name == "images"
    assert container.get_command(None, "nothing") is None


def test_the_command_has_a_version_and_a_host():
    names = {name for option in tree(Place.COMMAND).params for name in option.opts}
    assert {"--host", "--version"} <= names
    assert [option.name for option in tree(Place.LINE).params] == ["host"]


def test_the_daemon_is_for_a_shell():
    def has(place, *words):
        command = tree(place)
        for word in words:
            command = command and command.get_command(None, word)
        return command is not None

    for words in (("serve",), ("tls", "init"), ("system", "dial-stdio")):
        assert has(Place.COMMAND, *words)
        assert not has(Place.LINE, *words) and not has(Place.CELL, *words)
    assert has(Place.LINE, "context", "use") and has(Place.COMMAND, "context", "list")


def test_place_decides_about_i():
    def opts(place, verb):
        return {name for option in load(verb, place).params for name in option.opts}

    assert "--interactive" in opts(Place.COMMAND, "run")
    assert "--bg" not in opts(Place.COMMAND, "run")
    assert {"--interactive", "--bg"} <= opts(Place.LINE, "run")
    assert "--in" in opts(Place.CELL, "run")
    assert "--interactive" not in opts(Place.CELL, "exec")
