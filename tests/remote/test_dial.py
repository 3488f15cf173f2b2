"""Connections to a daemon over a socket, TCP, TLS and ssh, and what is said when they fail."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import sys
import threading

import pytest
from tests.remote.certificates import Authority

from cellbox.errors import InvalidArgument, NotSupported, PermissionDenied, Unavailable
from cellbox.remote.address import Address, Tls, from_folder
from cellbox.remote.dial import Dialer, ssh_command
from cellbox.remote.transport import Transport

SSH = """#!{python}
import json, os, socket, sys, threading
open({said!r}, "w").write(json.dumps(sys.argv[1:]))
if {fails!r}:
    sys.exit("box: Permission denied (publickey).")
there = socket.socket(socket.AF_UNIX)
there.connect({path!r})
def back():
    while data := there.recv(65536):
        os.write(1, data)
    os._exit(0)
threading.Thread(target=back, daemon=True).start()
while data := os.read(0, 65536):
    there.sendall(data)
there.shutdown(socket.SHUT_WR)
threading.Event().wait(10)
"""


@pytest.fixture
def ssh(tmp_path, daemon, monkeypatch):
    """``ssh(fails=False)`` puts a program into the place of ssh that leads to ``daemon``; the file
    in which it leaves its words."""

    def install(fails=False):
        said = tmp_path / "said.json"
        program = tmp_path / "bin" / "ssh"
        program.parent.mkdir()
        text = SSH.format(python=sys.executable, said=str(said), path=str(daemon.path), fails=fails)
        program.write_text(text)
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(program.parent))
        return said

    return install


@contextlib.contextmanager
def asking(address):
    made = Transport(address)
    try:
        yield made
    finally:
        made.close()


# Plain ------------------------------------------------------------------------------------------


def test_nobody_listens(tmp_path):
    dialer = Dialer(Address("unix", path=str(tmp_path / "absent")))
    with pytest.raises(Unavailable, match="Cannot connect .*No such file.*cellbox serve"):
        dialer.dial()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        dialer = Dialer(Address("tcp", "127.0.0.1", taken.getsockname()[1]))
        with pytest.raises(Unavailable, match="Connection refused"):
            dialer.dial()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become somebody else")
def test_a_socket_of_others(daemon, tmp_path):
    os.chmod(daemon.path, 0o600)
    for parent in [tmp_path, *tmp_path.parents[:2]]:
        os.chmod(parent, 0o755)
    os.seteuid(65534)
    try:
        with pytest.raises(PermissionDenied, match="permission denied .*group"):
            Dialer(Address("unix", path=str(daemon.path))).dial()
    finally:
        os.seteuid(0)


def test_a_name_that_is_nobodys(monkeypatch):
    def unknown(*args):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "create_connection", unknown)
    with pytest.raises(Unavailable, match="there is no host nosuch"):
        Dialer(Address("tcp", "nosuch", 1)).dial()


def test_tcp(daemon):
    port = forward(daemon)
    daemon.answers["GET /info"] = lambda asked: asked.reply(200, b'{"a": 1}')
    with asking(Address("tcp", "127.0.0.1", port)) as transport:
        assert transport.json("GET", "/info") == {"a": 1}
        assert transport.open("GET", "/info").read(10) == b'{"a": 1}'
    assert {asked.headers["host"] for asked in daemon.asked} >= {"127.0.0.1"}


# TLS --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    made = Authority(tmp_path_factory.mktemp("authority"))
    made.sign("cert")
    return made


def forward(daemon, context=None):
    """A TCP port that leads to ``daemon``, with TLS where ``context`` is given."""
    listener = socket.create_server(("127.0.0.1", 0))

    def accept():
        while True:
            raw, _ = listener.accept()
            threading.Thread(target=serve, args=(raw,), daemon=True).start()

    def serve(raw):
        with contextlib.suppress(OSError):
            if context is not None:
                raw = context.wrap_socket(raw, server_side=True)
            daemon._serve(raw)

    threading.Thread(target=accept, daemon=True).start()
    return listener.getsockname()[1]


def server_context(authority, *, ask=False):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.sign("server"))
    if ask:
        context.load_verify_locations(str(authority.folder / "ca.pem"))
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def test_mutual_tls(daemon, authority):
    port = forward(daemon, server_context(authority, ask=True))
    daemon.answers["GET /info"] = lambda asked: asked.reply(200, b'{"a": 1}')
    daemon.answers["POST /attach"] = lambda asked: asked.switch(b"hi")
    tls = from_folder(str(authority.folder))
    with asking(Address("tcp", "127.0.0.1", port, tls=tls)) as transport:
        assert transport.json("GET", "/info") == {"a": 1}
        with transport.open("POST", "/attach", switch=True) as exchange:
            assert exchange.read(10) == b"hi"


def test_who_shows_no_certificate_is_told_what_to_do(daemon, authority):
    port = forward(daemon, server_context(authority, ask=True))
    tls = Tls(str(authority.folder / "ca.pem"))
    with asking(Address("tcp", "127.0.0.1", port, tls=tls)) as transport:
        with pytest.raises(PermissionDenied, match="may want a certificate of ours"):
            transport.json("GET", "/info")


def test_a_certificate_of_another_authority_is_one_sentence(daemon, authority, tmp_path):
    port = forward(daemon, server_context(Authority(tmp_path / "other")))
    daemon.answers["GET /info"] = lambda asked: asked.reply(200, b"{}")
    ca = str(authority.folder / "ca.pem")
    for tls, expected in ((Tls(ca), pytest.raises(PermissionDenied, match=f"{ca} did not sign")),):
        with asking(Address("tcp", "127.0.0.1", port, tls=tls)) as transport:
            with expected:
                transport.json("GET", "/info")
            with pytest.raises(PermissionDenied, match="did not sign"):
                transport._channel()
    with asking(Address("tcp", "127.0.0.1", port, tls=Tls(verify=False))) as transport:
        assert transport.json("GET", "/info") == {}


def test_files_that_are_no_certificates(tmp_path):
    (tmp_path / "ca.pem").write_text("no")
    dialer = Dialer(Address("tcp", "127.0.0.1", 1, tls=Tls(str(tmp_path / "ca.pem"))))
    with pytest.raises(InvalidArgument, match="cannot be used"):
        dialer.tls_context()


def test_a_port_that_speaks_no_tls(daemon, authority):
    port = forward(daemon)
    tls = Tls(str(authority.folder / "ca.pem"))
    with asking(Address("tcp", "127.0.0.1", port, tls=tls)) as transport:
        with pytest.raises((PermissionDenied, Unavailable), match="TLS|lost|reset"):
            transport.json("GET", "/info")


# ssh --------------------------------------------------------------------------------------------


def test_ssh_is_told_where_and_tries_both_ways_in():
    words = ssh_command(Address("ssh", "box", 2222, "me"))
    assert words[0] == "ssh" and words[-2:] == [
        "box",
        "docker system dial-stdio || cellbox system dial-stdio",
    ]
    assert words[words.index("-l") + 1] == "me" and words[words.index("-p") + 1] == "2222"
    assert words[-3] == "--"
    assert "unix:///a b" in ssh_command(Address("ssh", "box", path="/a b"))[-1]


def test_requests_and_streams_over_ssh(daemon, ssh):
    said = ssh()

    def echo(asked):
        asked.switch()
        while data := asked.connection.recv(100):
            asked.send(data)
        asked.connection.close()

    daemon.answers["GET /info"] = lambda asked: asked.reply(200, b'{"a": 1}')
    daemon.answers["POST /attach"] = echo
    with asking(Address("ssh", "box", user="me")) as transport:
        for _ in range(3):
            assert transport.json("GET", "/info") == {"a": 1}
        assert daemon.connections == 1
        with transport.open("POST", "/attach", switch=True) as exchange:
            exchange.write(b"hi")
            exchange.end()
            assert b"".join(exchange) == b"hi"
        children = list(transport._dialer._ssh)
    assert '"me", "--", "box"' in said.read_text()
    assert not [child for child in children if child.alive]


def test_what_ssh_says_is_the_error(ssh):
    ssh(fails=True)
    with asking(Address("ssh", "box")) as transport:
        with pytest.raises(Unavailable, match="ssh to box failed: .*Permission denied"):
            transport.json("GET", "/info")


def test_without_ssh(monkeypatch):
    monkeypatch.setenv("PATH", "/nosuch")
    with pytest.raises(NotSupported, match="openssh"):
        Dialer(Address("ssh", "box")).dial()
