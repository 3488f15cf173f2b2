"""Calls to programs that answer, lie, hang, or are not there."""

from __future__ import annotations

import os
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest
from tests.drivers.programs import Answers, Handler
from tests.remote.certificates import Authority

from cellbox.drivers import client as module
from cellbox.drivers.client import Client
from cellbox.drivers.places import Place, Tls
from cellbox.errors import EngineError, InvalidArgument, NotSupported, Unavailable


def at(path: Path) -> Client:
    return Client(Place("odd", f"unix://{path}", str(path)))


@pytest.fixture
def raw(tmp_path):
    """``raw(act)``: a socket on which each connection is given to ``act``; a client of it."""
    ends, threads = [], []

    def start(act):
        path = tmp_path / "odd.sock"
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        listener.listen()
        ends.append(listener)

        def serve():
            try:
                while True:
                    one, _ = listener.accept()
                    ends.append(one)
                    act(one)
            except OSError:
                pass

        threads.append(threading.Thread(target=serve, daemon=True))
        threads[-1].start()
        return at(path)

    yield start
    for end in ends:
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        end.close()
    for thread in threads:
        thread.join(5)
        assert not thread.is_alive()


def test_a_call_and_its_answer(served):
    client = served({"Plugin.Activate": {"Implements": ["authz"]}, "X.Say": {"Word": "yes"}})
    assert client.implements() == {"authz"}
    assert client.implements() == {"authz"}
    assert client.call("X.Say", {"Name": "é"}) == {"Word": "yes"}
    assert client.calls == [("Plugin.Activate", {}), ("X.Say", {"Name": "é"})]


@pytest.mark.parametrize(
    ("answer", "error", "told"),
    [
        ({"Err": "no\nspace \x1b[31m"}, EngineError, r"X\.Say: no space \[31m$"),
        ((500, {"Err": "broken"}), EngineError, r"the plugin shelf: X\.Say: broken$"),
        ((500, b"<html>"), EngineError, "X.Say: <html>$"),
        ((503, b""), EngineError, "HTTP status 503$"),
        ((404, b"page not found"), NotSupported, "has no X.Say$"),
        (b"not json", EngineError, "does not answer X.Say with JSON$"),
        (b"[" * 100_000, EngineError, "with JSON$"),
        (b"[1]", EngineError, "with an object$"),
    ],
)
def test_failures_and_lies_are_one_sentence(served, answer, error, told):
    with pytest.raises(error, match=told):
        served({"X.Say": answer}).call("X.Say")


@pytest.mark.parametrize("answer", [{}, {"Implements": "VolumeDriver"}, {"Implements": [1]}])
def test_a_program_that_does_not_say_what_it_is(served, answer):
    with pytest.raises(EngineError, match=r"Plugin\.Activate with a list of what it implements"):
        served({"Plugin.Activate": answer}).implements()


def test_too_large_an_answer(served, monkeypatch):
    monkeypatch.setattr(module, "LARGEST", 1000)
    with pytest.raises(EngineError, match="with over 1000 bytes"):
        served({"X.Say": b" " * 5000}).call("X.Say")


def drip(one: socket.socket) -> None:
    """Answer a byte at a time, for ever."""

    def go():
        try:
            one.sendall(b"HTTP/1.1 200 OK\r\nX: ")
            while True:
                one.sendall(b"x")
                time.sleep(0.02)
        except OSError:
            pass

    threading.Thread(target=go, daemon=True).start()


@pytest.mark.parametrize("act", [lambda one: None, drip], ids=["silent", "dripping"])
def test_one_that_hangs_is_given_up_and_leaves_nothing(raw, act):
    client = raw(act)
    before = len(os.listdir("/proc/self/fd"))
    start = time.monotonic()
    with pytest.raises(Unavailable, match=r"has not answered X\.Say in 0\.3 s"):
        client.call("X.Say", patience=0.3)
    assert time.monotonic() - start < 2
    left = len(os.listdir("/proc/self/fd")) - before
    assert left <= 1  # the test's own end
    assert not [one for one in threading.enumerate() if isinstance(one, threading.Timer)]


def test_one_that_hangs_up(raw):
    with pytest.raises((EngineError, Unavailable), match="plugin odd (gives no HTTP|cannot)"):
        raw(lambda one: one.close()).call("X.Say")


def test_noise_is_no_answer(raw):
    with pytest.raises(EngineError, match="gives no HTTP answer"):
        raw(lambda one: one.sendall(b"SSH-2\r\n")).call("X.Say")


def test_one_that_is_not_there_is_tried_a_few_times(tmp_path, monkeypatch):
    slept = []
    monkeypatch.setattr(module.time, "sleep", slept.append)
    with pytest.raises(Unavailable, match=r"cannot be reached at unix://.*\(No such file"):
        at(tmp_path / "none.sock").call("X.Say")
    assert tuple(slept) == module.PAUSES


def test_one_that_comes_late_is_waited_for(served, tmp_path, monkeypatch):
    made = []

    def sleep(seconds):
        if not made:
            made.append(served({"X.Say": {"Word": "late"}}, "late"))

    monkeypatch.setattr(module.time, "sleep", sleep)
    assert at(tmp_path / "late.sock").call("X.Say") == {"Word": "late"}


@contextmanager
def on_tcp(answers: Answers, tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """The port of a program on 127.0.0.1."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.answers, server.calls = answers, []
        if tls:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join(5)


def test_tcp():
    with on_tcp({"X.Say": {"Word": "far"}}) as port:
        client = Client(Place("far", f"tcp://127.0.0.1:{port}", "x"))
        assert client.call("X.Say") == {"Word": "far"}


def test_tls_shows_and_asks_for_certificates(tmp_path):
    authority, other = Authority(tmp_path / "ours"), Authority(tmp_path / "other")
    cert, key = authority.sign("cert")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    context.load_verify_locations(authority.folder / "ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED

    def client(port: int, tls: Tls) -> Client:
        return Client(Place("far", f"tcp://127.0.0.1:{port}", "far.json", tls))

    with on_tcp({"X.Say": {"Word": "secret"}}, context) as port:
        ours = Tls(str(authority.folder / "ca.pem"), *authority.sign("client"))
        assert client(port, ours).call("X.Say") == {"Word": "secret"}
        unchecked = Tls("", ours.cert, ours.key, verify=False)
        assert client(port, unchecked).call("X.Say") == {"Word": "secret"}
        theirs = Tls(str(other.folder / "ca.pem"), ours.cert, ours.key)
        with pytest.raises(Unavailable, match="far cannot be reached .*certificate verify failed"):
            client(port, theirs).call("X.Say")
        with pytest.raises(InvalidArgument, match="the certificates in far.json cannot be used"):
            client(port, Tls("/none.pem")).call("X.Say")
