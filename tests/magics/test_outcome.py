"""How commands end."""

from __future__ import annotations

import pytest

from cellbox.errors import NotFound, StartError
from cellbox_magics.outcome import CommandFailed, Interrupted, calm, debugging, exit_code, sentence


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (CommandFailed(3, "x"), 3),
        (Interrupted("x"), 130),
        (StartError("exec", 2, "x", 127), 127),
        (NotFound("image", "x"), 1),
    ],
)
def test_exit_codes_are_dockers(error, code):
    assert exit_code(error) == code


def test_one_line_is_shown(monkeypatch):
    monkeypatch.delenv("CELLBOX_DEBUG", raising=False)
    assert sentence(ValueError()) == "cellbox: ValueError"
    assert CommandFailed(3, "x")._render_traceback_() == ["cellbox: x"]
    assert Interrupted("x")._render_traceback_() == ["cellbox: x"]
    error = calm(NotFound("image", "x"))
    assert error._render_traceback_() == ["cellbox: No such image: x"]


def test_a_traceback_can_be_asked_for(monkeypatch):
    monkeypatch.setenv("CELLBOX_DEBUG", "1")
    assert debugging()
    assert not hasattr(calm(NotFound("image", "x")), "_render_traceback_")
    monkeypatch.setenv("CELLBOX_DEBUG", "0")
    assert not debugging()
