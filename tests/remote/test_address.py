"""Where an engine is, by its URL and Docker's environment."""

from __future__ import annotations

import pytest

from cellbox.errors import InvalidArgument
from cellbox.remote.address import Address, Tls, from_folder, parse


@pytest.fixture
def certs(tmp_path):
    """A directory with the three files."""
    for name in ("ca", "cert", "key"):
        (tmp_path / f"{name}.pem").touch()
    return tmp_path


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("unix:///run/docker.sock", Address("unix", path="/run/docker.sock")),
        ("unix://run/docker.sock", Address("unix", path="/run/docker.sock")),
        ("unix:/run/docker.sock", Address("unix", path="/run/docker.sock")),
        ("unix:///a%20b", Address("unix", path="/a b")),
        ("tcp://127.0.0.1", Address("tcp", "127.0.0.1", 2375)),
        ("tcp://box:99/", Address("tcp", "box", 99)),
        ("http://box:99", Address("tcp", "box", 99)),
        ("https://box", Address("tcp", "box", 2376, tls=Tls())),
        ("tcp://box?verify=0", Address("tcp", "box", 2376, tls=Tls(verify=False))),
        ("tcp://[::1]:2375", Address("tcp", "::1", 2375)),
        ("ssh://me@box:22", Address("ssh", "box", 22, "me")),
        ("ssh://box", Address("ssh", "box")),
        ("ssh://box/run/d.sock", Address("ssh", "box", path="/run/d.sock")),
    ],
)
def test_urls(url, address):
    assert parse(url, environ={}) == address


@pytest.mark.parametrize(
    "url",
    [
        *("unix://", "unix:///", "unix:", "unix:x", "tcp://", "tcp://box:x", "tcp://box:99999"),
        *("ssh://", "ssh://-oProxyCommand=x", "ssh://-x@box", "ssh://me:secret@box", "ftp://box"),
        *("tcp://box/path", "tcp://box?x=1", "tcp://box#x", "tcp://[::1", "box", "", "/run/d.sock"),
        "unix:///" + "x" * 107,
    ],
)
def test_what_is_no_address(url):
    with pytest.raises(InvalidArgument):
        parse(url, environ={})


@pytest.mark.parametrize(
    "address",
    [
        Address("unix", path="/run/docker.sock"),
        Address("tcp", "::1", 2375),
        Address("ssh", "box", 22, "me", "/run/d.sock"),
    ],
)
def test_an_address_is_written_as_it_is_read(address):
    assert parse(str(address), environ={}) == address


# TLS --------------------------------------------------------------------------------------------


def test_tls_by_argument_query_and_environment(certs):
    whole = Tls(f"{certs}/ca.pem", f"{certs}/cert.pem", f"{certs}/key.pem")
    variables = {"DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(certs)}
    assert parse("tcp://box", certs=str(certs), environ={}).tls == whole
    assert parse(f"tcp://box?certs={certs}", environ={}).tls == whole
    assert parse("tcp://box", environ=variables) == Address("tcp", "box", 2376, tls=whole)
    assert parse("tcp://box", environ={"DOCKER_CERT_PATH": str(certs)}).tls is None
    in_config = {"DOCKER_TLS_VERIFY": "1", "DOCKER_CONFIG": str(certs)}
    assert parse("tcp://box", environ=in_config).tls == whole
    assert parse("unix:///x", environ=variables).tls is None
    assert parse("ssh://box", environ=variables).tls is None


def test_not_all_files_are_needed(certs):
    (certs / "cert.pem").unlink()
    with pytest.raises(InvalidArgument, match="must hold"):
        from_folder(str(certs))
    (certs / "key.pem").unlink()
    assert from_folder(str(certs)) == Tls(f"{certs}/ca.pem")
    with pytest.raises(InvalidArgument, match="must hold"):
        parse("tcp://box?certs=/nosuch", environ={})


@pytest.mark.parametrize(
    ("url", "clear"),
    [
        *(("tcp://box", True), ("tcp://10.0.0.1:1", True), ("tcp://127.0.0.1", False)),
        *(("tcp://localhost", False), ("tcp://[::1]", False), ("https://box", False)),
        *(("unix:///x", False), ("ssh://box", False)),
    ],
)
def test_who_can_be_overheard(url, clear):
    assert parse(url, environ={}).in_the_clear is clear
