"""Docker's contexts, as its command line writes them."""

from __future__ import annotations

import hashlib
import json

import pytest

from cellbox.errors import InvalidArgument, NotFound, PermissionDenied
from cellbox.remote.address import Address, Tls
from cellbox.remote.contexts import (
    Context,
    address_of,
    check_context,
    contexts,
    current_context,
    use_context,
)


@pytest.fixture
def context(tmp_path, monkeypatch):
    """``context(name, **endpoint)`` writes a context; the directory of its certificates."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    (tmp_path / "config.json").write_text("{}")

    def make(name, **endpoint):
        id = hashlib.sha256(name.encode()).hexdigest()
        folder = tmp_path / "contexts/meta" / id
        folder.mkdir(parents=True)
        meta = {"Name": name, "Metadata": {}, "Endpoints": {"docker": endpoint}}
        (folder / "meta.json").write_text(json.dumps(meta))
        certs = tmp_path / "contexts/tls" / id / "docker"
        certs.mkdir(parents=True)
        return certs

    return make


def test_a_context_by_name(context):
    context("far", Host="ssh://me@box")
    assert address_of("far") == Address("ssh", "box", user="me")


def test_the_current_one(context, tmp_path):
    assert address_of() == address_of("default") == Address("unix", path="/var/run/docker.sock")
    context("here", Host="unix:///run/other.sock")
    (tmp_path / "config.json").write_text('{"currentContext": "here"}')
    assert address_of() == Address("unix", path="/run/other.sock")
    assert address_of("default").path == "/var/run/docker.sock"


@pytest.mark.parametrize("names", [("ca",), ("ca", "cert", "key")])
def test_its_certificates(context, names):
    certs = context("safe", Host="tcp://box:2376", SkipTLSVerify=False)
    files = {name: str(certs / f"{name}.pem") for name in names}
    for path in files.values():
        open(path, "w").close()
    assert address_of("safe") == Address("tcp", "box", 2376, tls=Tls(**files))


def test_one_that_believes_anybody(context):
    certs = context("any", Host="tcp://box:2376", SkipTLSVerify=True)
    (certs / "ca.pem").touch()
    assert address_of("any").tls == Tls(str(certs / "ca.pem"), verify=False)


def test_what_is_not_there_or_not_usable(context, tmp_path):
    with pytest.raises(NotFound, match="No such context: nosuch .*docker context ls"):
        address_of("nosuch")
    context("empty", Host="")
    with pytest.raises(InvalidArgument, match="names no Docker endpoint"):
        address_of("empty")
    context("torn", Host="unix:///x")
    (meta,) = tmp_path.glob(f"contexts/meta/{hashlib.sha256(b'torn').hexdigest()}/meta.json")
    meta.write_text("{")
    with pytest.raises(InvalidArgument, match="context torn cannot be read"):
        address_of("torn")


# All of them, and the one of the command ---------------------------------------------------------


def test_all_are_listed_with_what_is_wrong_with_them(context, tmp_path):
    context("near", Host="tcp://127.0.0.1:2375")
    context("far", Host="ssh://me@box")
    context("void")
    found = contexts()
    assert [one.name for one in found] == ["embedded", "default", "far", "near", "void"]
    assert found[2] == Context("far", "", "ssh://me@box")
    assert found[-1].url == "" and "names no Docker endpoint" in found[-1].error
    for path in tmp_path.glob("contexts/meta/*/meta.json"):
        path.write_text("{")
    assert all("cannot be read" in one.error for one in contexts()[2:])


def test_with_no_contexts_two_are_there(context):
    assert [one.name for one in contexts()] == ["embedded", "default"]


@pytest.fixture
def settings(tmp_path, monkeypatch):
    """Where settings of ours go."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "settings"))
    return tmp_path / "settings" / "cellbox"


def test_the_commands_context_is_kept_in_a_file_of_ours(context, settings, tmp_path):
    context("far", Host="ssh://me@box")
    assert current_context() == "embedded"
    use_context("far")
    assert current_context() == "far"
    assert (tmp_path / "config.json").read_text() == "{}"
    use_context("embedded")
    assert current_context() == "embedded"
    assert list(settings.iterdir()) == []


def test_one_that_is_not_there_is_not_chosen(context, settings):
    for attempt in (use_context, check_context):
        with pytest.raises(NotFound, match="No such context: nowhere"):
            attempt("nowhere")
    assert current_context() == "embedded"


def test_settings_that_cannot_be_written(context, settings):
    settings.parent.touch()
    with pytest.raises(PermissionDenied, match="cannot write"):
        use_context("default")
