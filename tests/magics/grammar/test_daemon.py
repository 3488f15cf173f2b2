"""The verbs of the daemon: what they ask for, and what they refuse."""

from __future__ import annotations

from pathlib import Path

import pytest

import cellbox
from cellbox_magics import command
from cellbox_magics.terminal import Terminal


@pytest.fixture
def asked(monkeypatch):
    """What the verbs ask of the engine's public functions."""
    calls = []
    for name in ("serve", "dial_stdio"):

        def record(*words, name=name, **named):
            named.pop("tell", lambda line: None)("listening")
            calls.append((name, words, named))

        monkeypatch.setattr(cellbox, name, record, raising=False)
    return calls


def do(*words: str) -> int:
    return command.answer(Terminal(), words)


def test_serve_passes_on_what_it_is_told(asked, capfd):
    assert do("serve") == 0
    gates = ("--authorization-plugin", "a", "--authorization-plugin", "b")
    assert do("serve", "-H", "unix:///a", "-H", "tcp://[::1]:7", "--group", "wheel", *gates) == 0
    told = {"group": "wheel", "certificates": [], "authorization": ("a", "b")}
    assert asked == [
        ("serve", ((),), {"group": None, "certificates": [], "authorization": ()}),
        ("serve", (("unix:///a", "tcp://[::1]:7"),), told),
    ]
    assert capfd.readouterr().out == "listening\n" * 2


def test_certificates_come_together(asked, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    words = ("--tlsverify", "--tlscacert", "ca", "--tlscert=/c", "--tlskey", "k")
    assert do("serve", *words) == 0
    assert asked[0][2]["certificates"] == [tmp_path / "ca", Path("/c"), tmp_path / "k"]
    assert do("serve", "--tlscert", "c") == 1
    assert "name all three" in capfd.readouterr().err


def test_no_verification_is_refused(asked, capfd):
    assert do("serve", "--tlsverify=false") == 1
    assert "whoever reached the port" in capfd.readouterr().err
    assert do("-H", "unix:///a", "serve") == 125
    assert "cellbox serve -H" in capfd.readouterr().err
    assert not asked


def test_dial_stdio_goes_to_one_host(asked, capfd):
    assert do("system", "dial-stdio") == 0
    assert do("-H", "unix:///a", "system", "dial-stdio") == 0
    assert asked == [("dial_stdio", (), {}), ("dial_stdio", ("unix:///a",), {})]
    assert do("-H", "a,b", "system", "dial-stdio") == 1
    assert "one engine" in capfd.readouterr().err


def test_tls_init_says_what_to_type(tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("CELLBOX_TLS", str(tmp_path / "usual"))
    assert do("tls", "init", "--name", "box.example") == 0
    shown = capfd.readouterr().out
    assert "  cellbox serve -H tcp://0.0.0.0:2376\n" in shown
    assert (
        "export DOCKER_HOST=tcp://box.example:2376 DOCKER_TLS_VERIFY=1 "
        f"DOCKER_CERT_PATH={tmp_path}/usual/client\n"
    ) in shown
    assert do("tls", "init") == 1
    assert "holds certificates already" in capfd.readouterr().err
    assert do("tls", "init", "--force", "--days", "3") == 0
    assert do("tls", "init", "--dir", str(tmp_path / "other"), "--days", "0") == 1
    assert do("tls", "init", "--dir", str(tmp_path / "a b")) == 0
    assert f"--tlskey '{tmp_path}/a b/server/key.pem'" in capfd.readouterr().out
