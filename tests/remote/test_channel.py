"""Bytes both ways, each way with an end of its own, with and without TLS."""

from __future__ import annotations

import socket
import ssl
import threading

import pytest
from tests.remote.certificates import Authority

from cellbox.remote.channel import PlainChannel, TlsChannel


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


class TheirChannel(TlsChannel):
    """The daemon's side."""

    def _agree(self, context, hostname):
        return context.wrap_bio(self._in, self._out, server_side=True)


@pytest.fixture(params=["plain", "tls"])
def ends(request, authority):
    """A channel, and the other side: another channel of the same kind."""
    ours, theirs = socket.socketpair()
    if request.param == "plain":
        pair = PlainChannel(ours), PlainChannel(theirs)
    else:
        pair = _secured(ours, theirs, authority)
    yield pair
    for channel in pair:
        channel.close()


def _secured(ours, theirs, authority):
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(*authority.sign("server"))
    other = TheirChannel(theirs, server, "")
    thread = threading.Thread(target=other.handshake, args=(10,))
    thread.start()
    client = ssl.create_default_context(cafile=str(authority.folder / "ca.pem"))
    channel = TlsChannel(ours, client, "127.0.0.1")
    channel.handshake(10)
    thread.join(10)
    return channel, other


def drain(channel):
    data = b""
    while piece := channel.receive(10):
        data += piece
    return data


def test_both_ways(ends):
    ours, theirs = ends
    ours.send(b"ping")
    assert theirs.receive(10) == b"ping"
    theirs.send(b"pong")
    assert ours.receive(10) == b"pong"


def test_our_end_is_not_theirs(ends):
    ours, theirs = ends
    ours.send(b"all")
    ours.end()
    assert drain(theirs) == b"all"
    theirs.send(b"x" * 30_000)
    theirs.end()
    assert drain(ours) == b"x" * 30_000


def test_nobody_waits_for_the_other(ends):
    """Both send more than fits between them before either reads: a reader is never kept back."""
    ours, theirs = ends
    data = b"x" * 3_000_000
    seen = {}

    def read(name, channel):
        seen[name] = drain(channel)

    threads = [threading.Thread(target=read, args=(n, c)) for n, c in enumerate(ends)]
    threads += [threading.Thread(target=lambda c=c: (c.send(data), c.end())) for c in ends]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert seen == {0: data, 1: data}


def test_receiving_can_be_given_up(ends):
    ours, theirs = ends
    with pytest.raises(TimeoutError):
        ours.receive(0.01)
    theirs.send(b"late")
    assert ours.receive(10) == b"late"


def test_close_wakes_who_receives(ends):
    ours, _ = ends
    seen = []

    def read():
        try:
            seen.append(ours.receive())
        except (OSError, ValueError):
            seen.append(b"")

    thread = threading.Thread(target=read)
    thread.start()
    ours.close()
    ours.close()
    thread.join(10)
    assert seen == [b""]


def test_a_stranger_is_not_believed(authority, tmp_path):
    ours, theirs = socket.socketpair()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(*Authority(tmp_path / "other").sign("server"))
    other = TheirChannel(theirs, server, "")
    told = []

    def shake():
        try:
            other.handshake(10)
        except OSError as error:
            told.append(error)

    thread = threading.Thread(target=shake)
    thread.start()
    client = ssl.create_default_context(cafile=str(authority.folder / "ca.pem"))
    with pytest.raises(ssl.SSLCertVerificationError):
        TlsChannel(ours, client, "127.0.0.1").handshake(10)
    thread.join(10)
    assert "UNKNOWN_CA" in str(told[0]) or "unknown ca" in str(told[0])
    ours.close()
    theirs.close()
