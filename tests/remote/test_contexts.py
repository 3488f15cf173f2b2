"""Docker's contexts, as its command line writes them."""

from __future__ import annotations

import hashlib
import json

import pytest

from cellbox.errors import InvalidArgument, NotFound
from cellbox.remote.address import Address, Tls
from cellbox.remote.contexts import address_of


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
