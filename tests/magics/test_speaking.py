"""Words to a verb's result."""

from __future__ import annotations

import click
import pytest

from cellbox_magics.grammar import Place
from cellbox_magics.notebook import Notebook
from cellbox_magics.session import Session
from cellbox_magics.speaking import speak


@pytest.fixture
def notebook(engine):
    return Notebook(None, Session(connect=lambda url: engine))


def test_the_result_of_the_verb_comes_back(notebook):
    assert len(speak(Place.LINE, ["images"], notebook)) == 2


def test_help_is_no_result(notebook, capsys):
    assert speak(Place.LINE, ["images", "--help"], notebook) is None
    assert "Usage: %container images" in capsys.readouterr().out


def test_words_that_make_no_command_are_an_error(notebook):
    with pytest.raises(click.UsageError, match="there is no command 'xyz'"):
        speak(Place.LINE, ["xyz"], notebook)


def test_an_interrupt_stays_an_interrupt(engine, notebook):
    def interrupted(**how):
        raise KeyboardInterrupt

    engine.images.list = interrupted
    with pytest.raises(KeyboardInterrupt):
        speak(Place.LINE, ["images"], notebook)
