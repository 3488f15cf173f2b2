"""Names for engines."""

from __future__ import annotations

import hashlib
import json

import pytest

import cellbox
from cellbox.errors import NotFound
from cellbox_magics import command
from cellbox_magics.session import Session
from cellbox_magics.terminal import Terminal


@pytest.fixture(autouse=True)
def far(tmp_path, monkeypatch):
    """A context of Docker's, and nothing that was said before."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "settings"))
    for name in ("CELLBOX_HOST", "CELLBOX_CONTEXT", "DOCKER_CONTEXT"):
        monkeypatch.delenv(name, raising=False)
    id = hashlib.sha256(b"far").hexdigest()
    folder = tmp_path / "docker" / "contexts" / "meta" / id
    folder.mkdir(parents=True)
    facts = {"Description": "Behind the hills"}
    meta = {"Name": "far", "Metadata": facts, "Endpoints": {"docker": {"Host": "ssh://me@box"}}}
    (folder / "meta.json").write_text(json.dumps(meta))


def test_they_are_listed(say):
    table = say("%container context ls")
    assert table.titles == ("NAME", "DESCRIPTION", "DOCKER ENDPOINT", "ERROR")
    assert [row[0] for row in table.rows] == ["embedded *", "default", "far"]
    assert table.rows[2] == ("far", "Behind the hills", "ssh://me@box", "")
    assert say("%container context list -q") == ["embedded", "default", "far"]
    line = say("%container context ls --format '{{.Name}} {{.Current}}'")[0]
    assert line == "embedded * true"


def test_a_notebook_uses_one_from_then_on(say, engine):
    assert say("%container context show") == ["embedded"]
    assert say("%container context use far") == ["far"]
    assert say("%container context show") == ["far"]
    assert [row[0] for row in say("%container context ls").rows] == ["embedded", "default", "far *"]
    assert cellbox.current_context() == "embedded"
    say("%container context use embedded")
    assert say("%container context show") == ["embedded"]


def test_its_engine_is_another(shell, engine, say):
    from cellbox_magics.magics import load

    urls = []
    load(shell, Session(connect=lambda url: urls.append(url) or engine))
    say("%container images")
    say("%container context use far")
    say("%container images")
    say("%container images")
    assert urls == ["", "context:far"]


def test_one_that_is_not_there(say):
    with pytest.raises(NotFound, match="No such context: nowhere"):
        say("%container context use nowhere")
    assert say("%container context show") == ["embedded"]


def cellbox_command(*words: str) -> int:
    return command.answer(Terminal(Session(command._url())), words)


def test_the_command_remembers_it(capfd, monkeypatch):
    assert cellbox_command("context", "use", "far") == 0
    assert cellbox_command("context", "show") == 0
    assert capfd.readouterr().out == "far\nfar\n"
    monkeypatch.setenv("CELLBOX_CONTEXT", "default")
    cellbox_command("context", "show")
    assert capfd.readouterr().out == "default\n"
    monkeypatch.setenv("CELLBOX_HOST", "unix:///x")
    cellbox_command("context", "show")
    assert capfd.readouterr().out == "unix:///x\n"
    cellbox_command("context", "use", "embedded")
    assert "CELLBOX_HOST or CELLBOX_CONTEXT says unix:///x" in capfd.readouterr().err
