"""What a process lends to its words."""

from __future__ import annotations

import os

from cellbox_magics.surface import Talking, caller


def test_the_caller_is_this_process(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/ada")
    (tmp_path / "env").write_text("é", "utf-8")
    who = caller()
    assert (who.cwd, who.home, who.environ) == (str(tmp_path), "/home/ada", os.environ)
    assert who.read("env") == "é"


def test_the_usual_talk_owns_its_program_and_detaches_as_docker():
    how = Talking("web")
    assert (how.owns, how.proxy, how.detach_keys) == (True, True, b"\x10\x11")
