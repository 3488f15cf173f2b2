"""The verbs of plugins."""

from __future__ import annotations

import io
import json
import tarfile

import pytest
from IPython.core.error import UsageError

from cellbox.errors import CellboxError, InvalidArgument, NotFound
from cellbox.model.plugin import Privilege


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "rootfs").mkdir()
    (tmp_path / "rootfs" / "it").write_text("program")
    (tmp_path / "config.json").write_text("{}")
    return tmp_path


def test_create_packs_a_folder(engine, say, folder):
    assert say(f"%container plugin create lab/x {folder}") == ["lab/x"]
    ((_, name, data),) = engine.named("plugin create")
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert (name, tar.getnames()) == ("lab/x", ["config.json", "rootfs", "rootfs/it"])
    packed = folder / "x.tar"
    packed.write_bytes(data)
    say(f"%container plugin create lab/y {packed}")
    assert engine.named("plugin create")[-1] == ("plugin create", "lab/y", data)
    (folder / "config.json").unlink()
    with pytest.raises(InvalidArgument, match=r"there is no config\.json in it"):
        say(f"%container plugin create lab/z {folder}")


def test_ls_and_inspect(engine, say, folder):
    say(f"%container plugin create lab/x {folder}")
    found = say("%container plugin ls --filter enabled=false")
    assert found.titles == ("ID", "NAME", "DESCRIPTION", "ENABLED", "ORIGIN")
    assert engine.named("plugin ls")[-1] == ("plugin ls", {"enabled": ["false"]})
    assert say("%container plugin ls -q") == ["ab" * 6]
    assert say("%container plugin ls -q --no-trunc") == ["ab" * 32]
    row = say("%container plugin ls --format '{{.Name}} {{.Enabled}} {{.Description}}'")
    assert row == ["lab/x false Shelves"]
    (told,) = say("%container plugin inspect lab/x")
    assert told["Config"]["Interface"]["Socket"] == "it.sock"
    assert json.loads(say("%container plugin inspect -f '{{json .Enabled}}' lab/x")[0]) is False


def test_install_sets_and_enables(engine, say):
    told = say("%container plugin install --alias mine lab/x A=1 B=2")
    assert told == ["Installed plugin lab/x"]
    calls = [call for call in engine.calls if call[0].startswith("plugin ")]
    assert calls == [
        ("plugin install", "lab/x", "mine", []),
        ("plugin set", "mine", "A=1", "B=2"),
        ("plugin enable", "mine", 0),
    ]
    say("%container plugin install --disable lab/y")
    assert engine.named("plugin enable")[1:] == []
    with pytest.raises(InvalidArgument):
        say("%container plugin install lab/z bad")
    assert "lab/z" not in engine.plugins.facts


def test_what_it_wants_is_asked(engine, say, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda question="": "n")
    engine.plugins.wanted = [Privilege("mount", "host path to mount", ("/srv",))]
    with pytest.raises(UsageError, match="nothing was installed"):
        say("%container plugin install lab/x")
    assert engine.named("plugin install") == []
    say("%container plugin install --grant-all-permissions lab/x")
    assert engine.named("plugin install") == [
        ("plugin install", "lab/x", "", engine.plugins.wanted)
    ]
    say("%container plugin upgrade --grant-all-permissions lab/x")
    assert engine.named("plugin upgrade")[-1][1:3] == ("lab/x", "lab/x")


def test_the_others(engine, say, folder):
    say(f"%container plugin create lab/x {folder}")
    assert say("%container plugin enable --timeout 7 lab/x") == ["lab/x"]
    assert say("%container plugin disable -f lab/x") == ["lab/x"]
    say("%container plugin set lab/x A=1")
    assert engine.named("plugin enable") == [("plugin enable", "lab/x", 7.0)]
    assert engine.named("plugin disable") == [("plugin disable", "lab/x", True)]
    assert engine.named("plugin set") == [("plugin set", "lab/x", "A=1")]
    with pytest.raises(InvalidArgument, match="made here"):
        say("%container plugin upgrade lab/x")
    assert say("%container plugin remove -f lab/x") == ["lab/x"]
    with pytest.raises((NotFound, CellboxError)):
        say("%container plugin enable lab/x")
