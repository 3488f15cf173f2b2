"""What several verbs do with their results."""

from __future__ import annotations

from types import SimpleNamespace

import click
import pytest

from cellbox.errors import NotFound
from cellbox.handles import Pruned
from cellbox_magics.grammar.answers import confirmed, over, pruned
from cellbox_magics.outcome import CommandFailed


@pytest.fixture
def surface():
    """Records what is written, and answers with ``answer``."""
    made = SimpleNamespace(said=[], answer="")
    made.write = lambda name, data: made.said.append((name, data))
    made.note = lambda text: made.said.append(("note", text))
    made.ask = lambda question: made.answer
    return made


def fail_for_b(ref):
    if ref == "b":
        raise NotFound("container", ref)


def test_names_that_worked_are_the_answer(surface):
    assert over(surface, ["a", "c"], fail_for_b) == ["a", "c"]
    assert surface.said == []


def test_a_single_failure_is_the_error_itself(surface):
    with pytest.raises(NotFound):
        over(surface, ["b"], fail_for_b)


def test_a_failure_among_others_is_told_after_them(surface):
    with pytest.raises(CommandFailed, match="1 of 2 failed"):
        over(surface, ["a", "b"], fail_for_b)
    assert surface.said == [
        ("stdout", b"a\n"), ("note", "cellbox: No such container: b"),
    ]  # fmt: skip


@pytest.mark.parametrize(("answer", "force"), [("y\n", False), ("YES", False), ("", True)])
def test_yes_or_force_goes_on(surface, answer, force):
    surface.answer = answer
    confirmed(surface, "All goes.", force)
    assert bool(surface.said) is not force


def test_anything_else_removes_nothing(surface):
    with pytest.raises(click.UsageError, match="nothing was removed"):
        confirmed(surface, "All goes.", False)


def test_a_prune_says_what_and_how_much():
    assert pruned("Images", Pruned((), 0)) == ["Total reclaimed space: 0B"]
    assert pruned("Images", Pruned(("a",), 5))[:2] == ["Deleted Images:", "a"]
