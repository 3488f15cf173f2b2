"""Our kinds of click command."""

from __future__ import annotations

from types import SimpleNamespace

import click
import pytest

from cellbox.errors import NotFound
from cellbox.model.network import NetworkSpec
from cellbox_magics.grammar import Place
from cellbox_magics.grammar.commands import DASHED, ProgramVerb, Refusing, Verb, completer
from cellbox_magics.grammar.tree import load


def made(kind, **more):
    params = [
        click.Option(["--rm"], is_flag=True),
        click.Option(["--name"]),
        click.Argument(["words"], nargs=-1, type=click.UNPROCESSED),
    ]
    return kind("x", params=params, **more)


def test_a_verb_takes_options_anywhere():
    context = made(Verb).make_context("x", ["a", "--rm=true", "b", "--name", "n"])
    assert context.params == {"rm": True, "name": "n", "words": ("a", "b")}


def test_a_programs_options_are_its_own():
    context = made(ProgramVerb).make_context("x", ["--rm", "a", "--name", "n", "--", "-x"])
    assert context.params == {"rm": True, "name": None, "words": ("a", "--name", "n", "--", "-x")}
    assert context.meta[DASHED] is False
    assert made(ProgramVerb).make_context("x", ["--", "a"]).meta[DASHED] is True


def test_what_the_engine_refuses_is_125():
    def refuse(**params):
        raise NotFound("image", "x")

    command = made(Refusing, callback=refuse)
    with pytest.raises(NotFound) as caught:
        command.invoke(command.make_context("x", []))
    assert caught.value.exit_code == 125


def test_a_completion_that_fails_is_empty():
    context = click.Context(made(Verb), obj=object())
    names = completer(lambda surface: ["web", "work", "db"])
    assert [item.value for item in names(context, context.command.params[0], "w")] == [
        "web", "work",
    ]  # fmt: skip
    assert completer(lambda surface: surface.nothing)(context, context.command.params[0], "") == []


def test_a_network_is_completed_where_one_is_named(engine):
    engine.networks.create(NetworkSpec("shop"))
    surface = SimpleNamespace(engine=engine)
    for verb, name in (("run", "network"), ("network rm", "networks")):
        command = load(verb, Place.COMMAND)
        context = click.Context(command, obj=surface)
        (option,) = [one for one in command.params if one.name == name]
        found = option.shell_complete(context, "s")
        assert [one.value for one in found] == ["shop"]
